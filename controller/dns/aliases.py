"""What stands behind an alias of a zone's with its target elsewhere: the chain in one answer (RFC 1034, 4.3.2)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final

from controller.dns.message import HEADER_SIZE, MAX_NAME, Kind, Query, Record, Sections, sections

_RECORD = struct.Struct(">HHIH")
_POINTER: Final = 0xC0
# whose data is no name; of others that an upstream gives for an alias there is none that a client asks for
_PLAIN: Final = frozenset({Kind.A, Kind.AAAA, Kind.TXT})


def about(query: Query, target: bytes) -> Query:
    """The question about the target."""
    return query._replace(name=target, asked=target + query.asked[-4:])


def chained(aliases: Sequence[Record], asked: Query, there: Sections) -> Sections:
    """The aliases, and what an upstream has answered about the target, whose names point into its own message."""
    try:
        return sections((*aliases, *_answers(asked, there)))
    except (ValueError, IndexError, struct.error):  # nobody has followed the pointers of that message yet
        return sections(aliases)


def _answers(asked: Query, there: Sections) -> Iterator[Record]:
    message = bytes(HEADER_SIZE) + asked.asked + there.data
    at = HEADER_SIZE + len(asked.asked)
    for _ in range(there.answers):
        owner, at = _name(message, at)
        kind, _, ttl, length = _RECORD.unpack_from(message, at)
        at += _RECORD.size
        if kind == Kind.CNAME:
            yield Record(kind, ttl, _name(message, at)[0], owner)
        elif kind in _PLAIN:
            yield Record(kind, ttl, message[at : at + length], owner)
        at += length


def _name(message: bytes, at: int) -> tuple[bytes, int]:
    """The name at a place, without pointers, and where it has ended. Raises ValueError when it does not end."""
    found, end = b"", 0
    for _ in range(MAX_NAME):
        length = message[at]
        if length >= _POINTER:
            end = end or at + 2
            at = (length & ~_POINTER) << 8 | message[at + 1]
            continue
        found += message[at : at + length + 1]
        at += length + 1
        if not length:
            return found, end or at
        if len(found) > MAX_NAME:
            break
    raise ValueError("a name that does not end")
