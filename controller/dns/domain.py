"""Domain names in wire form (RFC 1035, 3.1), always in lower case and without pointers, and what they stand for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from controller.dns.message import MAX_LABEL, MAX_NAME, ROOT

_IN_ADDR: Final = b"\x07in-addr\x04arpa\0"
_IP6: Final = b"\x03ip6\x04arpa\0"
_NIBBLES: Final = 32
_PLAIN: Final = frozenset(range(0x21, 0x7F)) - frozenset(b".\\")
_HEX: Final = b"0123456789abcdef"


@lru_cache(4096)
def wire(text: str) -> bytes:
    """`text` as a name; the root where it is empty. Raises ValueError when it is no name."""
    labels = [label.encode("ascii") for label in text.lower().rstrip(".").split(".")] if text.strip(".") else []
    if not all(0 < len(label) <= MAX_LABEL for label in labels):
        raise ValueError(f"not a domain name: {text}")
    name = b"".join(bytes((len(label),)) + label for label in labels) + ROOT
    if len(name) > MAX_NAME:
        raise ValueError(f"longer than a domain name may be: {text}")
    return name


def text(name: bytes) -> str:
    """For people: without the last dot; what is no printable ASCII, or means something in such a text, as \\DDD
    (RFC 1035, 5.1).
    """
    labels = ("".join(chr(c) if c in _PLAIN else f"\\{c:03d}" for c in label) for label in labels_of(name))
    return ".".join(labels) or "."


def labels_of(name: bytes) -> Iterator[bytes]:
    at = 0
    while name[at]:
        yield name[at + 1 : at + 1 + name[at]]
        at += 1 + name[at]


def suffixes(name: bytes) -> Iterator[bytes]:
    """The name itself and all above it, the root last."""
    at = 0
    while name[at]:
        yield name[at:]
        at += 1 + name[at]
    yield ROOT


def before(name: bytes, zone: bytes) -> bytes | None:
    """The labels, still in wire form, that a name has in front of a zone; None when it is not in there."""
    end = len(name) - len(zone)
    if end < 0 or not name.endswith(zone):
        return None
    at = 0
    while at < end:
        at += 1 + name[at]
    return name[:end] if at == end else None


def host(front: bytes) -> str | None:
    """The text of labels in wire form without the root; None when it is no host's."""
    if not front:
        return None
    if front[0] + 1 == len(front):
        label = front[1:]
        return label.decode() if label.isascii() and b"." not in label else None
    labels = list(labels_of(front + ROOT))
    return b".".join(labels).decode() if all(label.isascii() and b"." not in label for label in labels) else None


def reversed_range(name: bytes) -> IPv4Network | IPv6Network | None:
    """What a name below in-addr.arpa (RFC 1035, 3.5) or ip6.arpa (RFC 3596, 2.5) stands for: an address, as a range of
    one, or the range of all whose names are below it.
    """
    front = before(name, _IN_ADDR)
    if front is not None:
        return _reversed_ipv4(front)
    front = before(name, _IP6)
    return None if front is None else _reversed_ipv6(front)


def _reversed_ipv4(front: bytes) -> IPv4Network | None:
    octets = [label for label in labels_of(front + ROOT)][::-1]
    if len(octets) > 4:
        return None
    value = 0
    for octet in octets:
        if not octet.isdigit() or len(octet) > 3 or int(octet) > 255 or (octet[:1] == b"0" and octet != b"0"):
            return None
        value = value << 8 | int(octet)
    bits = 8 * len(octets)
    return IPv4Network((value << 32 - bits, bits))


def _reversed_ipv6(front: bytes) -> IPv6Network | None:
    if len(front) > 2 * _NIBBLES or len(front) % 2:
        return None
    value = 0
    for at in range(len(front) - 2, -1, -2):
        if front[at] != 1 or front[at + 1] not in _HEX:
            return None
        value = value << 4 | _HEX.index(front[at + 1])
    bits = 2 * len(front)
    return IPv6Network((value << 128 - bits, bits))


def reverse(address: IPv4Address | IPv6Address) -> bytes:
    """The name of an address's PTR record."""
    return wire(address.reverse_pointer)


def reverse_zone(address: IPv4Address | IPv6Address, prefix: int) -> bytes:
    """The zone with an address's PTR record that is in a range of this prefix length: the largest that is whole."""
    name = reverse(address)
    length: int = address.max_prefixlen
    bits = 8 if address.version == 4 else 4
    while length - bits >= max(prefix, bits):
        name = name[1 + name[0] :]
        length -= bits
    return name
