"""Answers of upstreams, for as long as they are true (RFC 1035, 7.4; RFC 2308)."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from controller.dns.message import Sections
from controller.dns.reply import Reply

_OVERHEAD: Final = 600
"""Bytes that an entry takes beside its data, about."""

_BYTES_PER_ENTRY: Final = 2048


class Cache:
    """At most `capacity` answers, and as much memory as these usually take; the one that was used least lately goes.

    `now` is in seconds of a clock that only goes forward.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._room = capacity * _BYTES_PER_ENTRY
        self._entries: dict[Hashable, tuple[Reply, float]] = {}
        self._size = 0

    def get(self, key: Hashable, now: float) -> tuple[int, Sections] | None:
        """Rcode and sections, whose TTLs have been counted down."""
        found = self._entries.pop(key, None)
        if found is None:
            return None
        reply, since = found
        age = int(now - since)
        if age >= reply.lifetime:
            self._size -= _cost(reply)
            return None
        self._entries[key] = found
        return reply.rcode, reply.sections(age)

    def put(self, key: Hashable, reply: Reply, now: float) -> None:
        cost = _cost(reply)
        if not reply.lifetime or cost > self._room:
            return
        old = self._entries.pop(key, None)
        if old is not None:
            self._size -= _cost(old[0])
        self._entries[key] = reply, now
        self._size += cost
        while len(self._entries) > self._capacity or self._size > self._room:
            oldest, _ = self._entries.pop(next(iter(self._entries)))
            self._size -= _cost(oldest)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size(self) -> int:
        """Bytes, about."""
        return self._size


def _cost(reply: Reply) -> int:
    return len(reply.data) + 8 * len(reply.ttls) + _OVERHEAD
