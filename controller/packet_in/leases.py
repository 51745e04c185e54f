"""What happened to leases, on its way from the packet path to the store."""

from __future__ import annotations

import threading
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple


class LeaseState(StrEnum):
    BOUND = "bound"
    RELEASED = "released"
    DECLINED = "declined"


class LeaseEvent(NamedTuple):
    """`expires` is in seconds since the epoch; of a lease that is given back it is the moment of that."""

    port_key: int
    address: IPv4Address | IPv6Address
    state: LeaseState
    expires: float

    @property
    def about(self) -> tuple[int, int, LeaseState]:
        """Of events about the same only the latest counts. A port's addresses are few, and its own."""
        return self.port_key, int(self.address), self.state


class LeaseLog:
    """A bounded queue: the packet path records, another thread drains in batches.

    Of each address and state only the latest event is kept: a VM that repeats itself fills nothing but its own place.
    """

    def __init__(self, capacity: int = 100_000) -> None:
        self.dropped = 0
        self._capacity = capacity
        self._pending: dict[tuple[int, int, LeaseState], LeaseEvent] = {}
        self._lock = threading.Lock()

    def record(self, event: LeaseEvent) -> bool:
        """True when no event of this address and state was waiting. Over capacity the oldest event is dropped."""
        key = event.about
        with self._lock:
            new = self._pending.pop(key, None) is None
            if new and len(self._pending) >= self._capacity:
                del self._pending[next(iter(self._pending))]
                self.dropped += 1
            self._pending[key] = event
        return new

    def drain(self) -> list[LeaseEvent]:
        """All waiting events in the order of their latest occurrence."""
        with self._lock:
            pending, self._pending = self._pending, {}
        return list(pending.values())

    def __len__(self) -> int:
        return len(self._pending)
