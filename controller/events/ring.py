"""The latest events of this controller, and who waits for the next one. No database: packets make events, too."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Final

import eventlet

from controller.green import Signal

CAPACITY: Final = 4000
"""Events that are remembered."""

MAX_WAITING: Final = 256
MAX_WAITING_OF_ONE: Final = 32
"""Questions that may wait at once, of all and of one caller."""


REST: Final = 0.1
"""Seconds until somebody looks again who was woken by what is not wanted: many may wait while much happens."""


class Kind(StrEnum):
    LEASE = "lease"
    PORT = "port"
    FLOATING_IP = "floating_ip"
    NETWORK = "network"
    NODE = "node"
    CONTROLLER = "controller"
    CHANGE = "change"
    QUARANTINE = "quarantine"
    MUTE = "mute"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Event:
    """`at`: seconds since the epoch. `text` is for people. `project_id`: whose it is; None: for operators alone."""

    id: int
    at: float
    kind: Kind
    text: str
    project_id: str | None = None
    port_id: str | None = None
    network_id: str | None = None
    node: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """`last`: where to go on. `missed`: not all that has happened since is in it, or anywhere any more."""

    events: tuple[Event, ...]
    last: int
    missed: bool = False


class TooManyWaiting(Exception):
    """The text says of whom."""


class Events:
    """A ring. Numbers begin with the time, so that those of a controller that ran before are all lower."""

    def __init__(self, capacity: int = CAPACITY, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._begin = int(clock()) * 1000
        self._last = self._begin
        self._ring: deque[Event] = deque(maxlen=capacity)
        self._waiting: Counter[str] = Counter()
        self._noted = Signal()

    @property
    def last(self) -> int:
        return self._last

    def note(
        self,
        kind: Kind,
        text: str,
        *,
        project_id: str | None = None,
        port_id: str | None = None,
        network_id: str | None = None,
        node: str | None = None,
    ) -> None:
        """Never waits: the packet path may call it."""
        self._last += 1
        self._ring.append(Event(self._last, self._clock(), kind, text, project_id, port_id, network_id, node))
        self._noted.send()

    def latest(self, limit: int, wanted: Callable[[Event], bool]) -> Page:
        """The latest that are `wanted`, the oldest of these first."""
        found = list(islice((event for event in reversed(self._ring) if wanted(event)), limit))
        return Page(tuple(reversed(found)), self._last)

    def since(self, after: int, limit: int, wanted: Callable[[Event], bool]) -> Page:
        """What comes after an event's number (0: all), the oldest first."""
        missed = not self._knows(after or self._begin)
        found = tuple(islice((event for event in self._after(0 if missed else after) if wanted(event)), limit))
        return Page(found, found[-1].id if len(found) == limit else self._last, missed)

    def wait(self, after: int, limit: int, wanted: Callable[[Event], bool], timeout_s: float, who: str) -> Page:
        """`since`, as soon as there is something, or after `timeout_s` seconds. Raises TooManyWaiting."""
        page = self.since(after, limit, wanted)
        if page.events or page.missed or timeout_s <= 0:
            return page
        if self._waiting.total() >= MAX_WAITING:
            raise TooManyWaiting("too many wait for events")
        if self._waiting[who] >= MAX_WAITING_OF_ONE:
            raise TooManyWaiting("this token waits for events too often at once")
        self._waiting[who] += 1
        deadline = time.monotonic() + timeout_s
        try:
            while not page.events and not page.missed and (left := deadline - time.monotonic()) > 0:
                self._noted.wait(left)
                page = self.since(page.last, limit, wanted)
                if not page.events and not page.missed:
                    eventlet.sleep(REST)
                    page = self.since(page.last, limit, wanted)
            return page
        finally:
            self._waiting[who] -= 1
            self._waiting += Counter()  # without those that wait for nothing any more

    def _knows(self, number: int) -> bool:
        """All that came after this one is still here."""
        oldest = self._ring[0].id - 1 if self._ring else self._last
        return oldest <= number <= self._last

    def _after(self, number: int) -> Iterable[Event]:
        """From the new end: who waits has seen all but the last few."""
        found: list[Event] = []
        for event in reversed(self._ring):
            if event.id <= number:
                break
            found.append(event)
        return reversed(found)
