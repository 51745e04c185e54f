"""The data of zones' records in wire form (RFC 1035, 3.2), without pointers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from controller.dns import domain
from flows.model import RecordType

MAX_CHUNK: Final = 255
"""Octets of one character-string (RFC 1035, 3.3)."""


def rdata(type_: RecordType, data: str) -> bytes:
    """Of what flows.model.DnsRecord holds."""
    return _DATA[type_](data)


def _numbers(text: str) -> bytes:
    """Numbers, then a name."""
    *numbers, target = text.split(" ")
    return b"".join(int(number).to_bytes(2) for number in numbers) + domain.wire(target)


def _text(text: str) -> bytes:
    octets = text.encode("ascii")
    chunks = (octets[at : at + MAX_CHUNK] for at in range(0, len(octets), MAX_CHUNK))
    return b"".join(bytes((len(chunk),)) + chunk for chunk in chunks)


_DATA: Final[Mapping[RecordType, Callable[[str], bytes]]] = {
    RecordType.A: lambda text: IPv4Address(text).packed,
    RecordType.AAAA: lambda text: IPv6Address(text).packed,
    RecordType.CNAME: domain.wire,
    RecordType.MX: _numbers,
    RecordType.PTR: domain.wire,
    RecordType.SRV: _numbers,
    RecordType.TXT: _text,
}
