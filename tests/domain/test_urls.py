"""Which URLs a webhook may have, and which IP addresses count as public."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unpause.domain.urls import LONGEST_URL, ServerUrl, is_public, read_url, refuse_private
from unpause.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("http://example.org", ServerUrl("http", "example.org", 80, "/", None)),
        ("HTTPS://Example.ORG./A?b=%20#c", ServerUrl("https", "example.org", 443, "/A?b=%20", None)),
        ("https://my_service:8443?x", ServerUrl("https", "my_service", 8443, "/?x", None)),
        ("http://8.8.8.8:80/", ServerUrl("http", "8.8.8.8", 80, "/", ip_address("8.8.8.8"))),
        ("http://[2606:4700::1111]:81/", ServerUrl("http", "2606:4700::1111", 81, "/", ip_address("2606:4700::1111"))),
        ("http://2130706433/", ServerUrl("http", "127.0.0.1", 80, "/", ip_address("127.0.0.1"))),
    ],
)
def test_a_url_is_read_into_what_is_connected_to(text: str, read: ServerUrl) -> None:
    assert read_url(text) == read


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("http://example.org:80", "example.org"),
        ("https://example.org:80", "example.org:80"),
        ("https://[::1]", "[::1]"),
        ("http://[::1]:1", "[::1]:1"),
    ],
)
def test_the_host_header_names_the_port_unless_it_is_the_usual_one(text: str, header: str) -> None:
    assert read_url(text).host_header == header


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.org",
        "//example.org",
        "ftp://example.org",
        "file:///etc/passwd",
        "gopher://example.org",
        "javascript:alert(1)",
        "http://",
        "http:///path",
        "http://:80",
        "http://user@example.org",
        "http://user:password@example.org",
        "http://@example.org",
        "http://example.org:0",
        "http://example.org:65536",
        "http://example.org:",
        "http://example.org:8a",
        "http://exa mple.org",
        " http://example.org",
        "http://example.org\n",
        "http://example.org/\r\nHost: other",
        "http://example.org\\@other.org",
        "http://example.org/\x00",
        "http://exämple.org",
        "http://example.org/ä",
        "http://ex%61mple.org",
        "http://..",
        "http://a..b",
        "http://[::1",
        "http://[::1%25eth0]",
        "http://[example.org]",
        "http://" + "a" * 64 + ".org",
        "http://" + ".".join(["a" * 50] * 6),
    ],
)
def test_what_names_no_server_clearly_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_url(text)
    assert "password" not in refused.value.message


def test_a_url_has_at_most_2083_characters() -> None:
    longest = "http://example.org/".ljust(LONGEST_URL, "a")
    assert LONGEST_URL == 2083
    assert read_url(longest).host == "example.org"
    with pytest.raises(InvalidInput):
        read_url(f"{longest}a")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.8.9.10",
        "127.1",
        "0x7f.1",
        "0177.0.0.1",
        "2130706433",
        "0",
        "0.0.0.0",  # noqa: S104 - to be refused
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::ffff:10.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b:1::1]",
        "[2002:7f00:1::]",
        "[2001::1]",
        "[fe80::1]",
        "[fec0::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[ff02::1]",
        "[ff0e::1]",
        "[2001:db8::1]",
        "[3fff::1]",
        "[100::1]",
        "localhost",
        "LOCALHOST.",
        "deep.localhost",
    ],
)
def test_what_is_private_or_of_this_machine_is_refused_in_every_notation(host: str) -> None:
    with pytest.raises(InvalidInput):
        refuse_private(read_url(f"http://{host}/"))


@pytest.mark.parametrize(
    "host",
    [
        "8.8.8.8",
        "172.32.0.1",
        "[2606:4700::1111]",
        "[::ffff:8.8.8.8]",
        "[64:ff9b::808:808]",
        "example.org",
        "localhost.example.org",
    ],
)
def test_what_is_public_or_a_name_is_not_refused(host: str) -> None:
    refuse_private(read_url(f"http://{host}/"))


@given(st.ip_addresses())
def test_what_python_calls_not_global_is_never_public(address: object) -> None:
    found = ip_address(str(address))
    hidden = getattr(found, "ipv4_mapped", None)
    if is_public(found) and hidden is None:
        assert found.is_global
        assert not found.is_private
        assert not found.is_multicast


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_as_public_inside_of_an_ipv6_address(address: object) -> None:
    four = ip_address(str(address))
    assert is_public(ip_address(f"::ffff:{four}")) == is_public(four)
    assert is_public(ip_address(f"64:ff9b::{four}")) == is_public(four)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for url in (text, f"http://{text}"):
        try:
            read = read_url(url)
        except InvalidInput:
            continue
        assert read.host.isascii()
        assert 1 <= read.port <= 65535


# The registries of special addresses, as IANA has them at the end of 2025, without those that are reached globally in
# whole; and what else is no public machine.
SPECIAL = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
    *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
    *("224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32", "168.63.129.16/32"),
    *("::/128", "::1/128", "::/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "2001::/23", "2001::/32"),
    *("2001:1::1/128", "2001:1::2/128", "2001:1::3/128", "2001:2::/48", "2001:3::/32", "2001:4:112::/48"),
    *("2001:10::/28", "2001:20::/28", "2001:30::/28", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16"),
    *("fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8", "4000::/2", "1000::/4", "::ffff:192.0.0.0/120"),
    *("64:ff9b::c000:0/120", "2606:4700::5efe:c0a8:0/112"),
)


@pytest.mark.parametrize("is_global", [None, True], ids=["this Python", "a Python that knows of none"])
@pytest.mark.parametrize("text", SPECIAL)
def test_a_special_range_is_public_nowhere_on_any_python(
    text: str, is_global: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = ip_network(text)
    if is_global is not None:
        # As far as an old table may be wrong, and farther.
        for kind in (IPv4Address, IPv6Address):
            monkeypatch.setattr(kind, "is_global", property(lambda _: True))
    for place in {0, 1, 8, 170, network.num_addresses // 2, network.num_addresses - 1}:
        address = network[min(place, network.num_addresses - 1)]
        assert not is_public(address), address


@pytest.mark.parametrize("text", ["192.0.1.0", "191.255.255.255", "8.8.8.8", "2001:200::", "2600::", "2620:4f:8000::1"])
def test_what_lies_beside_a_special_range_is_public(text: str) -> None:
    assert is_public(ip_address(text))
