"""What eventlet lacks: a signal that can be sent again and again, and turns for long work."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import eventlet
from eventlet.event import Event

LONGEST_TURN: Final = 0.01
"""Seconds of work after which others get a turn, DHCP above all."""


def _yield() -> None:
    eventlet.sleep(0)


class Turns:
    """Called often by who has much to do: it gives others a turn by `give` after each `longest` seconds of work."""

    def __init__(
        self,
        longest: float = LONGEST_TURN,
        give: Callable[[], None] = _yield,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._longest = longest
        self._give = give
        self._clock = clock
        self._since = clock()

    def __call__(self) -> None:
        if self._clock() - self._since > self._longest:
            self._give()
            self._since = self._clock()


class Signal:
    """Wakes every green thread that waits. It remembers nothing: check the condition, then wait, without a yield."""

    def __init__(self) -> None:
        self._event = Event()
        self._waiting = 0

    def send(self) -> None:
        """Cheap when nobody waits. Never yields."""
        if self._waiting:
            event, self._event = self._event, Event()
            event.send(True)

    def wait(self, timeout_s: float | None = None) -> bool:
        """False when `timeout_s` seconds went by without a signal."""
        self._waiting += 1
        try:
            return bool(self._event.wait(timeout_s))
        finally:
            self._waiting -= 1
