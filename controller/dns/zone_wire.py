"""The records of zones in wire form (RFC 1035, 3.2), without pointers."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from enum import IntEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from flows.model import RecordType

CLASS_IN: Final = 1
MAX_CHUNK: Final = 255
"""Octets of one character-string (RFC 1035, 3.3)."""

_HEAD = struct.Struct(">HHIH")


class Code(IntEnum):
    """Types as they go on the wire (IANA, "DNS Parameters"): of records, and what a transfer is asked for with."""

    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    MX = 15
    TXT = 16
    AAAA = 28
    SRV = 33
    TSIG = 250
    IXFR = 251
    AXFR = 252
    ANY = 255


@lru_cache(4096)
def wire_name(text: str) -> bytes:
    """Of a sound name without the last dot; `.` or nothing is the root."""
    if text in ("", "."):
        return b"\0"
    return b"".join(bytes((len(label),)) + label.encode("ascii") for label in text.split(".")) + b"\0"


def rdata(type_: RecordType, data: str) -> bytes:
    """Of what flows.model.DnsRecord holds."""
    return _DATA[type_](data)


def encode(owner: bytes, code: int, ttl: int, data: bytes) -> bytes:
    """A record, whole."""
    return owner + _HEAD.pack(code, CLASS_IN, ttl, len(data)) + data


def _numbers(text: str) -> bytes:
    """Numbers, then a name."""
    *numbers, target = text.split(" ")
    return b"".join(int(number).to_bytes(2) for number in numbers) + wire_name(target)


def _text(text: str) -> bytes:
    octets = text.encode("ascii")
    chunks = (octets[at : at + MAX_CHUNK] for at in range(0, len(octets), MAX_CHUNK))
    return b"".join(bytes((len(chunk),)) + chunk for chunk in chunks)


_DATA: Final[Mapping[RecordType, Callable[[str], bytes]]] = {
    RecordType.A: lambda text: IPv4Address(text).packed,
    RecordType.AAAA: lambda text: IPv6Address(text).packed,
    RecordType.CNAME: wire_name,
    RecordType.MX: _numbers,
    RecordType.PTR: wire_name,
    RecordType.SRV: _numbers,
    RecordType.TXT: _text,
}
