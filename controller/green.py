"""The one thing eventlet lacks: a signal that can be sent again and again."""

from __future__ import annotations

from eventlet.event import Event


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
