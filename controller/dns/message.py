"""DNS messages as bytes (RFC 1035, 6891): a question is checked and an answer put together with slices and bounds.

Anybody's VM may send anything here, so nothing is parsed that can loop or grow: a question has one name without
pointers, and nothing behind it but OPT. A general parser follows chains of pointers for a tenth of a second.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple

HEADER_SIZE: Final = 12
MAX_MESSAGE: Final = 65535
PLAIN_UDP: Final = 512
"""Bytes that a client without EDNS takes by UDP (RFC 1035, 2.3.4)."""
UNFRAGMENTED: Final = 1232
"""Bytes that fit into a datagram which is nowhere cut (RFC 9715)."""
MAX_NAME: Final = 255
MAX_LABEL: Final = 63
CLASS_IN: Final = 1
ROOT: Final = b"\0"

_HEADER = struct.Struct(">2sHHHHH")
_QUESTION_TAIL = struct.Struct(">HH")
_RECORD = struct.Struct(">HHIH")  # type, class, TTL, length; of OPT: type, size, extended rcode and flags, length
_SOA_NUMBERS = struct.Struct(">IIIII")
_AT_QUESTION = b"\xc0\x0c"
_RESPONSE = 0x8000
_OPCODE = 0x7800
_AUTHORITATIVE = 0x0400
_TRUNCATED = 0x0200
_RECURSION_AVAILABLE = 0x0080
_COPIED = 0x0110  # recursion desired, checking disabled
_CHECKING_DISABLED = 0x0010
_DNSSEC_OK = 0x8000
_MOST_ADDITIONAL = 2
_REFRESH, _RETRY, _EXPIRE = 1800, 900, 86400  # nobody transfers what these are about


class Kind(IntEnum):
    """Types of records and questions (IANA, "DNS Parameters") that mean something here."""

    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    MX = 15
    TXT = 16
    AAAA = 28
    SRV = 33
    OPT = 41
    TSIG = 250
    IXFR = 251
    AXFR = 252
    MAILB = 253
    MAILA = 254
    ANY = 255


class Rcode(IntEnum):
    """RFC 1035, 4.1.1; BADVERS: RFC 6891, 9."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16


class Query(NamedTuple):
    """A question that has been checked.

    `name` is in wire form and lower case, `asked` the question as it stood. `size` is what the client takes by UDP, 0
    without EDNS.
    """

    id: bytes
    flags: int
    name: bytes
    kind: int
    asked: bytes
    size: int = 0
    dnssec: bool = False
    version: int = 0
    class_: int = CLASS_IN

    @property
    def unchecked(self) -> bool:
        """The client checks signatures itself (RFC 4035, 3.2.2)."""
        return bool(self.flags & _CHECKING_DISABLED)


class Refusal(NamedTuple):
    """What is no question: `reply` says so, where it deserves that."""

    reply: bytes | None


class Record(NamedTuple):
    """Of the name that was asked for, or of `owner`. `data` holds no pointers."""

    kind: int
    ttl: int
    data: bytes
    owner: bytes | None = None

    def encode(self) -> bytes:
        head = _RECORD.pack(self.kind, CLASS_IN, self.ttl, len(self.data))
        return (_AT_QUESTION if self.owner is None else self.owner) + head + self.data


class Sections(NamedTuple):
    """What stands behind the question, and how many records of it are answer, authority and additional."""

    data: bytes
    answers: int
    authority: int = 0
    additional: int = 0


NOTHING: Final = Sections(b"", 0)


def read(message: bytes) -> Query | Refusal:
    """Never raises, and costs microseconds whatever it is given."""
    size = len(message)
    if size < HEADER_SIZE:
        return Refusal(None)
    id_, flags, questions, answers, authority, additional = _HEADER.unpack_from(message)
    if flags & _RESPONSE:
        return Refusal(None)  # an answer to an answer might go on for ever
    if flags & _OPCODE:
        return _refusal(id_, flags, Rcode.NOTIMP)
    end = _name_end(message, HEADER_SIZE, size)
    if questions != 1 or answers or authority or additional > _MOST_ADDITIONAL or not end or end + 4 > size:
        return _refusal(id_, flags, Rcode.FORMERR)
    kind, class_ = _QUESTION_TAIL.unpack_from(message, end)
    asked = message[HEADER_SIZE : end + 4]
    # the length of a label is below that of any letter
    query = Query(id_, flags, message[HEADER_SIZE:end].lower(), kind, asked, class_=class_)
    if not additional:
        return query if end + 4 == size else _refusal(id_, flags, Rcode.FORMERR)
    return _with_options(query, message, end + 4, additional) or _refusal(id_, flags, Rcode.FORMERR)


def _name_end(message: bytes, at: int, size: int) -> int:
    """Where the name at `at` has ended; 0 when it is none, or holds a pointer."""
    last = min(size, at + MAX_NAME)
    while at < last:
        length = message[at]
        if not length:
            return at + 1
        if length > MAX_LABEL:
            return 0
        at += length + 1
    return 0


def _with_options(query: Query, message: bytes, at: int, additional: int) -> Query | None:
    """The question with what OPT says; None when a record behind it is not sound. Others than OPT are skipped."""
    size, found = len(message), None
    for _ in range(additional):
        start, at = at, _name_end(message, at, size)
        if not at or at + _RECORD.size > size:
            return None
        kind, class_, ttl, length = _RECORD.unpack_from(message, at)
        at += _RECORD.size + length
        if at > size:
            return None
        if kind == Kind.OPT:
            if found is not None or message[start]:
                return None
            version, dnssec = ttl >> 16 & 0xFF, bool(ttl & _DNSSEC_OK)
            found = query._replace(size=max(class_, PLAIN_UDP), dnssec=dnssec, version=version)
    return None if at != size else found or query


def _refusal(id_: bytes, flags: int, rcode: Rcode) -> Refusal:
    header = _HEADER.pack(id_, _RESPONSE | flags & (_OPCODE | _COPIED) | _RECURSION_AVAILABLE | rcode, 0, 0, 0, 0)
    return Refusal(header)


def respond(
    query: Query, rcode: int, sections: Sections = NOTHING, *, limit: int = UNFRAGMENTED, authoritative: bool = False
) -> bytes:
    """The answer to a question. `limit`: what may be sent in bytes; a UDP client is never sent more than it takes.

    What is longer becomes an empty answer that says it is truncated, so that the client asks by TCP (RFC 2181, 9).
    """
    flags = _RESPONSE | query.flags & _COPIED | _RECURSION_AVAILABLE | rcode & 0xF
    if authoritative:
        flags |= _AUTHORITATIVE
    options = b""
    if query.size:
        extended = rcode >> 4 << 24 | (_DNSSEC_OK if query.dnssec else 0)
        options = ROOT + _RECORD.pack(Kind.OPT, UNFRAGMENTED, extended, 0)
    data, answers, authority, additional = sections
    if HEADER_SIZE + len(query.asked) + len(data) + len(options) > limit:
        flags |= _TRUNCATED
        data, answers, authority, additional = NOTHING
    header = _HEADER.pack(query.id, flags, 1, answers, authority, additional + (1 if options else 0))
    return b"".join((header, query.asked, data, options))


def udp_limit(query: Query, most: int) -> int:
    """Bytes of an answer by UDP, where the way to the client takes `most`."""
    return min(query.size or PLAIN_UDP, most)


def sections(answers: Sequence[Record], authority: Sequence[Record] = ()) -> Sections:
    data = b"".join([record.encode() for record in (*answers, *authority)])
    return Sections(data, len(answers), len(authority))


def soa(zone: bytes, serial: int, ttl: int) -> Record:
    """A zone's SOA, whose TTL is also how long an absence may be remembered (RFC 2308)."""
    contact = b"\x0ahostmaster" + zone
    data = zone + (contact if len(contact) <= MAX_NAME else zone)
    numbers = _SOA_NUMBERS.pack(serial & 0xFFFFFFFF, _REFRESH, _RETRY, _EXPIRE, ttl)
    return Record(Kind.SOA, ttl, data + numbers, zone)
