from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from controller.dns import domain


@pytest.mark.parametrize(
    ("text", "wire"),
    [("", b"\0"), (".", b"\0"), ("A.b", b"\1a\1b\0"), ("a.b.", b"\1a\1b\0"), ("x" * 63, b"\x3f" + b"x" * 63 + b"\0")],
)
def test_names(text: str, wire: bytes) -> None:
    assert domain.wire(text) == wire
    assert domain.text(wire) == (text.lower().rstrip(".") or ".")


@pytest.mark.parametrize("text", ["a..b", "x" * 64, ("y" * 60 + ".") * 5, "m\u00fcnchen"])
def test_no_names(text: str) -> None:
    with pytest.raises(ValueError, match=".*"):
        domain.wire(text)


def test_for_people_nothing_is_hidden() -> None:
    assert domain.text(b"\x03a\n.\0") == "a\\010\\046"


def test_a_zone_begins_with_a_label() -> None:
    """The octet before "example" is the end of a label here, not a length."""
    assert domain.before(b"\x0cxxxx\x07example\0", domain.wire("example")) is None
    assert domain.before(domain.wire("a.b.example"), domain.wire("example")) == b"\1a\1b"
    assert domain.before(domain.wire("example"), domain.wire("example")) == b""
    assert domain.before(domain.wire("example"), domain.wire("a.example")) is None


@pytest.mark.parametrize(
    ("front", "host"),
    [
        (b"\4web1", "web1"),
        (b"\1a\1b", "a.b"),
        (b"", None),
        (b"\3a.b", None),
        (b"\2\xc3\xbc", None),
        (b"\1a\3b.c", None),
    ],
)
def test_hosts(front: bytes, host: str | None) -> None:
    assert domain.host(front) == host


@pytest.mark.parametrize(
    ("name", "span"),
    [
        ("5.0.20.10.in-addr.arpa", IPv4Network("10.20.0.5/32")),
        ("20.10.in-addr.arpa", IPv4Network("10.20.0.0/16")),
        ("in-addr.arpa", IPv4Network("0.0.0.0/0")),
        ("256.0.20.10.in-addr.arpa", None),
        ("05.0.20.10.in-addr.arpa", None),
        ("x.0.20.10.in-addr.arpa", None),
        ("1.5.0.20.10.in-addr.arpa", None),
        ("a.example", None),
        ("8.b.d.0.1.0.0.2.ip6.arpa", IPv6Network("2001:db8::/32")),
        (IPv6Address("2001:db8::5").reverse_pointer, IPv6Network("2001:db8::5/128")),
        ("0." + IPv6Address("2001:db8::5").reverse_pointer, None),
        ("xx.ip6.arpa", None),
        ("g.ip6.arpa", None),
    ],
)
def test_reverse_names(name: str, span: IPv4Network | IPv6Network | None) -> None:
    assert domain.reversed_range(domain.wire(name)) == span


def test_digits_of_other_scripts_are_no_octets() -> None:
    assert domain.reversed_range(b"\2\xb2\xb3" + domain.wire("0.20.10.in-addr.arpa")) is None


@pytest.mark.parametrize(
    ("address", "prefix", "zone"),
    [
        ("10.20.1.5", 24, "1.20.10.in-addr.arpa"),
        ("10.20.1.5", 22, "1.20.10.in-addr.arpa"),
        ("10.20.1.5", 25, "5.1.20.10.in-addr.arpa"),
        ("10.20.1.5", 16, "20.10.in-addr.arpa"),
        ("10.20.1.5", 4, "10.in-addr.arpa"),
    ],
)
def test_the_zone_of_an_address(address: str, prefix: int, zone: str) -> None:
    assert domain.reverse_zone(IPv4Address(address), prefix) == domain.wire(zone)
    assert domain.text(domain.reverse_zone(IPv6Address("2001:db8::1"), 64)).count(".") == 17
