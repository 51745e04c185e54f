"""What a secondary asks: read from bytes, and refused at once when it is anything else."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from controller.dns.message import CLASS_IN, Kind

HEADER: Final = struct.Struct(">HHHHHH")
MAX_REQUEST: Final = 2048
"""Bytes. A question with an SOA, EDNS and a TSIG has less than half of it."""

QUERY: Final = 0
NOTIFY: Final = 4
QR: Final = 0x8000
AA: Final = 0x0400
_OPCODE_SHIFT: Final = 11
_MAX_NAME: Final = 255
_MAX_LABEL: Final = 63
_POINTER: Final = 0xC0
_RECORD: Final = struct.Struct(">HHIH")
_TSIG_TIMES: Final = struct.Struct(">HIHH")  # time (48 bits), fudge, length of the MAC
_TSIG_END: Final = struct.Struct(">HHH")  # original id, error, length of the rest


class Signature(NamedTuple):
    """A TSIG record (RFC 8945, 4.2). Names are in wire form and lower case; `at` is where it begins in the message."""

    key: bytes
    algorithm: bytes
    time: int
    fudge: int
    mac: bytes
    original_id: int
    error: int
    other: bytes
    at: int


class Request(NamedTuple):
    """`name` is in wire form and lower case; `question` as it was asked."""

    id: int
    flags: int
    name: bytes
    code: int
    question: bytes
    signature: Signature | None = None

    @property
    def opcode(self) -> int:
        return self.flags >> _OPCODE_SHIFT & 0xF

    @property
    def is_answer(self) -> bool:
        return bool(self.flags & QR)


class Malformed(Exception):
    """It is no message with one question of class IN."""


def parse(message: bytes) -> Request:
    """Raises Malformed. Costs microseconds whatever it is given: no pointer is followed."""
    if not HEADER.size <= len(message) <= MAX_REQUEST:
        raise Malformed("of no sound length")
    id_, flags, questions, answers, authority, additional = HEADER.unpack_from(message)
    if questions != 1 or answers > 1 or authority > 1 or additional > 2:
        raise Malformed("not one question")
    end = _name_end(message, HEADER.size)
    if end + 4 > len(message):
        raise Malformed("cut short")
    code, class_ = struct.unpack_from(">HH", message, end)
    if class_ != CLASS_IN:
        raise Malformed("not of class IN")
    name, question = message[HEADER.size : end].lower(), message[HEADER.size : end + 4]
    signature = _signature(message, end + 4, answers + authority + additional)
    if signature is not None and not additional:
        raise Malformed("a signature in another section")  # RFC 8945, 5.1
    return Request(id_, flags, name, code, question, signature)


def _name_end(message: bytes, at: int, *, pointers: bool = False) -> int:
    start = at
    while at < len(message) and at - start < _MAX_NAME:
        length = message[at]
        if not length:
            return at + 1
        if length >= _POINTER and pointers:
            return at + 2
        if length > _MAX_LABEL:
            break
        at += length + 1
    raise Malformed("no name where one should be")


def _signature(message: bytes, at: int, records: int) -> Signature | None:
    """The last of the records behind the question, if it is a TSIG; it must be the last one then."""
    for number in range(records):
        start, at = at, _name_end(message, at, pointers=True)
        if at + _RECORD.size > len(message):
            raise Malformed("cut short")
        code, _, _, length = _RECORD.unpack_from(message, at)
        after = at + _RECORD.size + length
        if after > len(message):
            raise Malformed("cut short")
        if code == Kind.TSIG:
            if number + 1 < records:
                raise Malformed("something behind its signature")
            return _read_signature(message, start, at, after)
        at = after
    if at != len(message):
        raise Malformed("something behind its end")
    return None


def _read_signature(message: bytes, start: int, at: int, after: int) -> Signature:
    _name_end(message, start)  # a pointer would be to what the signature is not about
    first = at + _RECORD.size
    end = _name_end(message, first)
    if end + _TSIG_TIMES.size > after:
        raise Malformed("a signature cut short")
    high, low, fudge, size = _TSIG_TIMES.unpack_from(message, end)
    mac_end = end + _TSIG_TIMES.size + size
    if mac_end + _TSIG_END.size > after or after != len(message):
        raise Malformed("a signature cut short")
    original_id, error, rest = _TSIG_END.unpack_from(message, mac_end)
    if mac_end + _TSIG_END.size + rest != after:
        raise Malformed("a signature cut short")
    return Signature(
        key=message[start:at].lower(),
        algorithm=message[first:end].lower(),
        time=high << 32 | low,
        fudge=fudge,
        mac=message[end + _TSIG_TIMES.size : mac_end],
        original_id=original_id,
        error=error,
        other=message[after - rest : after],
        at=start,
    )
