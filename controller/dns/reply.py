"""What an upstream answered: checked against the question, and kept so that it can be given to several who ask."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from controller.dns.message import HEADER_SIZE, Kind, Query, Rcode, Sections

MOST_TTL: Final = 86400
MOST_NEGATIVE_TTL: Final = 3600
"""Seconds (RFC 2308, 5: one to three hours have been found to work)."""

MOST_RECORDS: Final = 256
"""In all sections. What anybody's zone says is walked through for each who asks; BIND takes 100 of one type."""

_HEADER = struct.Struct(">2sHHHHH")
_RECORD = struct.Struct(">HHIH")
_TTL = struct.Struct(">I")
_RESPONSE = 0x8000
_OPCODE = 0x7800
_TRUNCATED = 0x0200
_POINTER = 0xC0
_SOA_MINIMUM = 4
_RCODES = range(24)  # all that mean something (IANA); each is a label of the metrics


class Reply(NamedTuple):
    """`data` is what stands behind the question, without OPT; `ttls` are the places of the TTLs in it. `lifetime` in
    seconds, 0: not to be kept.
    """

    rcode: int
    data: bytes
    answers: int
    authority: int
    additional: int
    ttls: tuple[int, ...]
    lifetime: int

    def sections(self, age: int = 0) -> Sections:
        """After `age` seconds. No TTL of an answer that is still kept is below that but in records that only help."""
        if not age or not self.ttls:
            return Sections(self.data, self.answers, self.authority, self.additional)
        data = bytearray(self.data)
        for at in self.ttls:
            _TTL.pack_into(data, at, max(_TTL.unpack_from(data, at)[0] - age, 0))
        return Sections(bytes(data), self.answers, self.authority, self.additional)


class Unusable(Exception):
    """It is no answer to the question, or not sound. The text says why."""


class Truncated(Exception):
    """The whole answer is to be had by TCP."""


def belongs(message: bytes, id_: bytes, query: Query) -> bool:
    """Whether a datagram is the answer to the question that was sent with this id: not somebody else's guess."""
    if len(message) < HEADER_SIZE + len(query.asked):
        return False
    got, flags, questions, *_ = _HEADER.unpack_from(message)
    if got != id_ or not flags & _RESPONSE or flags & _OPCODE or questions != 1:
        return False
    asked = message[HEADER_SIZE : HEADER_SIZE + len(query.asked)]
    return asked[:-4].lower() == query.name and asked[-4:] == query.asked[-4:]


def parse(message: bytes, query: Query) -> Reply:
    """Of a message that `belongs`; SERVFAIL, of one with too many records. Raises Truncated, Unusable."""
    _, flags, _, answers, authority, additional = _HEADER.unpack_from(message)
    if flags & _TRUNCATED:
        raise Truncated
    if answers + authority + additional > MOST_RECORDS:
        return Reply(Rcode.SERVFAIL, b"", 0, 0, 0, (), 0)
    start = at = HEADER_SIZE + len(query.asked)
    ttls: list[int] = []
    times: list[int] = []
    negative: int | None = None
    kept, end = [0, 0, 0], start
    rcode = flags & 0xF
    for section, count in enumerate((answers, authority, additional)):
        for _ in range(count):
            at = _after_name(message, at)
            if at + _RECORD.size > len(message):
                raise Unusable("cut short")
            kind, _, ttl, length = _RECORD.unpack_from(message, at)
            place = at + 4
            at += _RECORD.size + length
            if at > len(message):
                raise Unusable("cut short")
            if kind == Kind.OPT:
                # pointers lead backwards: what is behind it would lose its place, and only helps
                rcode |= ttl >> 24 << 4
                return _made(message, rcode, start, end, kept, ttls, times, negative)
            if ttl > 0x7FFFFFFF:  # RFC 2181, 8
                ttl = 0
            ttls.append(place - start)
            if section == 0:
                times.append(ttl)
            elif section == 1 and kind == Kind.SOA and length > _SOA_MINIMUM:
                negative = min(ttl, _TTL.unpack_from(message, at - _SOA_MINIMUM)[0])
            kept[section] += 1
            end = at
    return _made(message, rcode, start, end, kept, ttls, times, negative)


def _made(
    message: bytes,
    rcode: int,
    start: int,
    end: int,
    kept: list[int],
    ttls: list[int],
    times: list[int],
    negative: int | None,
) -> Reply:
    lifetime = 0
    if rcode not in _RCODES:
        rcode = int(Rcode.SERVFAIL)
    if rcode == Rcode.NXDOMAIN or (rcode == Rcode.NOERROR and not times):
        lifetime = 0 if negative is None else min(negative, MOST_NEGATIVE_TTL, *times)
    elif rcode == Rcode.NOERROR:
        # only an alias: that what it stands for is not there is no longer true than the SOA says
        lifetime = min(*times, MOST_TTL, MOST_TTL if negative is None else negative)
    return Reply(rcode, message[start:end], kept[0], kept[1], kept[2], tuple(ttls), lifetime)


def _after_name(message: bytes, at: int) -> int:
    """Where the rest of a record begins. A pointer is not followed, so nothing can go round in circles."""
    size = len(message)
    while at < size:
        length = message[at]
        if not length:
            return at + 1
        if length >= _POINTER:
            return at + 2
        if length & _POINTER:
            break
        at += length + 1
    raise Unusable("no name where one should be")
