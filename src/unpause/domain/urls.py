"""The URLs of other servers that a client may name, and which IP addresses are public."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

from unpause.errors import InvalidInput

IPAddress: TypeAlias = IPv4Address | IPv6Address

LONGEST_URL = 2083

# RFC 3986's characters only: parsers disagree about spaces, backslashes and control characters.
_URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<authority>[A-Za-z0-9\-._~%!$&'()*+,;=:@\[\]]*)"
    r"(?P<path>(?:/[A-Za-z0-9\-._~%!$&'()*+,;=:@/]*)?)"
    r"(?P<query>(?:\?[A-Za-z0-9\-._~%!$&'()*+,;=:@/?\[\]]*)?)"
    r"(?:#[A-Za-z0-9\-._~%!$&'()*+,;=:@/?]*)?",
    re.IGNORECASE,
)
_HOST = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9\-._]+))(?::(?P<port>[0-9]{1,5}))?")
_LONGEST_NAME = 253
_LONGEST_LABEL = 63
_LARGEST_PORT = 65535
_DEFAULT_PORTS = {"http": 80, "https": 443}

# Ranges of special use (the registries of RFC 6890): Python's own table depends on its version.
_NOT_PUBLIC_FOUR = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # behind a provider's NAT
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # answers inside of Azure's machines only
        "169.254.0.0/16",  # link-local, with the metadata of clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocols: all of it, though a few of these addresses are public
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4, RFC 7526
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
# Global addresses, but for the ranges below.
_GLOBAL_SIX = IPv6Network("2000::/3")
_NOT_PUBLIC_SIX = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocols, Teredo with an IPv4 address inside among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address inside, RFC 3056
        "3fff::/20",  # documentation, RFC 9637
    )
)
# Translation to IPv4, RFC 6052: in a network that has it, public names resolve to this range.
_TRANSLATED = IPv6Network("64:ff9b::/96")
_FOUR_BYTES = 0xFFFF_FFFF
# The prefixes of an embedded IPv4 address, RFC 5214.
_INSIDE_NETWORKS = frozenset({0x0000_5EFE, 0x0200_5EFE})


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """A checked ``http`` or ``https`` URL in its parts.

    ``host`` is lower case and without brackets; ``literal`` is the IP address where the host is one in any notation;
    ``resource`` is the path with the query.
    """

    scheme: str
    host: str
    port: int
    resource: str
    literal: IPAddress | None

    @property
    def host_header(self) -> str:
        """Return the value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def read_url(text: str) -> ServerUrl:
    """Return the URL's parts; raise InvalidInput for a URL that a client may not name."""
    if len(text) > LONGEST_URL:
        raise InvalidInput(f"The webhook URL is longer than {LONGEST_URL} characters")
    found = _URL.fullmatch(text)
    if found is None:
        raise InvalidInput("The webhook URL is not an http:// or https:// URL of ASCII characters")
    if "@" in found["authority"]:
        raise InvalidInput("The webhook URL must not contain credentials")
    scheme = found["scheme"].lower()
    host = _HOST.fullmatch(found["authority"])
    if host is None:
        raise InvalidInput("The webhook URL has no valid host and port")
    port = int(host["port"]) if host["port"] else _DEFAULT_PORTS[scheme]
    if not 1 <= port <= _LARGEST_PORT:
        raise InvalidInput("The webhook URL has no valid host and port")
    resource = (found["path"] or "/") + found["query"]
    literal = _read_six(host["six"]) if host["six"] else _read_four(host["name"].removesuffix("."))
    name = str(literal) if literal is not None else _read_name(host["name"])
    return ServerUrl(scheme, name, port, resource, literal)


def refuse_private(url: ServerUrl) -> None:
    """Raise InvalidInput for a private address; what a name resolves to is checked when it is used."""
    local = url.host == "localhost" or url.host.endswith(".localhost")
    if local or (url.literal is not None and not is_public(url.literal)):
        raise InvalidInput("The webhook URL leads to a private address or to this machine")


def is_public(address: IPAddress) -> bool:
    """Whether the address is public; an embedded IPv4 address has to be, too."""
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in network for network in _NOT_PUBLIC_FOUR)
    if address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    hidden = IPv4Address(int(address) & _FOUR_BYTES)
    if address in _TRANSLATED:
        return is_public(hidden)
    is_inside = (int(address) >> 32) & _FOUR_BYTES in _INSIDE_NETWORKS
    if address not in _GLOBAL_SIX or (is_inside and not is_public(hidden)):
        return False
    return address.is_global and not any(address in network for network in _NOT_PUBLIC_SIX)


def _read_six(text: str) -> IPAddress:
    try:
        return ip_address(text)
    except ValueError:
        raise InvalidInput("The webhook URL has no valid host and port") from None


def _read_four(text: str) -> IPAddress | None:
    """Return the address as a resolver reads the text: `127.1` and `2130706433` are 127.0.0.1, too."""
    try:
        return IPv4Address(socket.inet_aton(text))
    except OSError:
        return None


def _read_name(text: str) -> str:
    name = text.lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > _LONGEST_NAME or not all(1 <= len(label) <= _LONGEST_LABEL for label in labels):
        raise InvalidInput("The webhook URL has no valid host and port")
    return name
