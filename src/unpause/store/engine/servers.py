"""Which PostgreSQL servers a URL names, and how connections to them are made."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from unpause.store.engine.revisions import session_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import URL

_DRIVER: Final = "postgresql+psycopg"
# As psql, Patroni and hosted databases write it.
_SCHEMES: Final = re.compile(r"postgres(?:ql)?://")
# The hosts of a URL with several, between the last @ before the path and the path.
_HOSTS: Final = re.compile(
    r"(?P<before>[\w+]+://(?:[^/?]*@)?)(?P<hosts>[^/?@]*,[^/?@]*)(?P<after>(?:[/?].*)?)", re.DOTALL
)
_HOST: Final = re.compile(r"\[(?P<ipv6>[^\]]*)\](?::(?P<port6>\d+))?|(?P<host>[^:]*)(?::(?P<port>\d+))?")
# Parts of a query that are as secret as the password before the host.
SECRET_PARAMETERS: Final = ("password", "sslpassword")
# Stands for the hosts while a URL is rendered.
_PLACE: Final = "hosts-of-this-url"
_CONNECT_SECONDS: Final = 5

_CONNECTION: Final[Mapping[str, Any]] = MappingProxyType(
    {
        # None of psycopg's prepared statements: a pooler in transaction mode would hand them to another client.
        "prepare_threshold": None,
        "connect_timeout": _CONNECT_SECONDS,
        "application_name": session_name(),
        # A machine that is gone closes no connection: without these the kernel waits a quarter of an hour for it.
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
    }
)


def split_hosts(text: str) -> tuple[str, dict[str, str]]:
    """Return a URL without its hosts, where it has several, and parameters that name them; raise ValueError.

    libpq's form is ``postgresql://user@one:5432,two:5433/name``, which SQLAlchemy does not know.
    """
    text = _SCHEMES.sub(f"{_DRIVER}://", text, count=1) if _SCHEMES.match(text) else text
    found = _HOSTS.fullmatch(text)
    if found is None or not text.startswith(_DRIVER):
        return text, {}
    hosts = [_HOST.fullmatch(host) for host in found["hosts"].split(",")]
    if not all(hosts):
        raise ValueError
    named = [(host["ipv6"] or host["host"] or "", host["port6"] or host["port"] or "") for host in hosts if host]
    parameters = {"host": ",".join(host for host, _ in named), "port": ",".join(port for _, port in named)}
    return found["before"] + found["after"], parameters


def to_the_primary(url: URL) -> URL:
    """Return the URL with what has libpq take the server that writes, where it names several and says nothing else."""
    hosts = url.query.get("host", url.host or "")
    several = not isinstance(hosts, str) or "," in hosts
    if several and "target_session_attrs" not in url.query:
        return url.update_query_dict({"target_session_attrs": "read-write"})
    return url


def connection_arguments(url: URL, **others: str) -> dict[str, Any]:
    """Return how to connect; what the URL says itself wins, but for the name that other processes look for."""
    arguments = {**_CONNECTION, **others}
    return {name: value for name, value in arguments.items() if name == "application_name" or name not in url.query}


def shown_url(url: URL) -> str:
    """Return the URL for the log, without its secrets, and with several hosts as libpq has them."""
    hidden = {name: "***" for name in SECRET_PARAMETERS if name in url.query}
    hosts, ports = url.query.get("host", ""), url.query.get("port", "")
    shown = url.update_query_dict(hidden)
    if not (isinstance(hosts, str) and isinstance(ports, str) and hosts.count(",") == ports.count(",") > 0):
        return shown.render_as_string(hide_password=True)
    pairs = zip(hosts.split(","), ports.split(","), strict=True)
    named = ",".join(f"{host}:{port}" if port else host for host, port in pairs)
    plain = shown.difference_update_query(("host", "port")).set(host=_PLACE)
    return plain.render_as_string(hide_password=True).replace(_PLACE, named, 1)
