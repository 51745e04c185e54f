"""What stands behind an alias of a zone's with its target elsewhere: the chain in one answer (RFC 1034, 4.3.2)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final

from controller.dns.message import HEADER_SIZE, MAX_NAME, Kind, Query, Record, Sections, sections

_RECORD = struct.Struct(">HHIH")
_POINTER: Final = 0xC0
_MOST_STEPS: Final = 2000
"""Labels and pointers of the names of one message. Those of a sound one are a tenth of it."""
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
    names = _Names(bytes(HEADER_SIZE) + asked.asked + there.data)
    message = names.message
    at = HEADER_SIZE + len(asked.asked)
    for _ in range(there.answers):
        owner, at = names.read(at)
        kind, _, ttl, length = _RECORD.unpack_from(message, at)
        at += _RECORD.size
        if kind == Kind.CNAME:
            yield Record(kind, ttl, names.read(at)[0], owner)
        elif kind in _PLAIN:
            yield Record(kind, ttl, message[at : at + length], owner)
        at += length


class _Names:
    """The names in a message, without pointers. Each is followed once, and all of them not for ever."""

    def __init__(self, message: bytes) -> None:
        self.message = message
        self._known: dict[int, tuple[bytes, int]] = {}
        self._steps = 0

    def read(self, start: int) -> tuple[bytes, int]:
        """The name at a place, and where it has ended. Raises ValueError when it does not end."""
        at = start
        if self.message[at] >= _POINTER:  # most are nothing but a pointer to another
            at = self._target(at)
            return self._at(at)[0], start + 2
        return self._at(at)

    def _at(self, start: int) -> tuple[bytes, int]:
        known = self._known.get(start)
        if known is None:
            known = self._known[start] = self._follow(start)
        return known

    def _target(self, at: int) -> int:
        return (self.message[at] & ~_POINTER) << 8 | self.message[at + 1]

    def _follow(self, at: int) -> tuple[bytes, int]:
        message, found, end = self.message, b"", 0
        while self._steps < _MOST_STEPS:
            self._steps += 1
            length = message[at]
            if length >= _POINTER:
                end = end or at + 2
                at = self._target(at)
                continue
            found += message[at : at + length + 1]
            at += length + 1
            if not length:
                return found, end or at
            if len(found) > MAX_NAME:
                break
        raise ValueError("a name that does not end")
