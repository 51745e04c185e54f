"""Wakes the main loop: from other threads and from signal handlers alike."""

from __future__ import annotations

import contextlib
import os
import select


class Waker:
    """An eventfd and not a threading.Event: setting an Event inside a signal handler can deadlock."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)

    def wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # the counter is full: it wakes as well
            os.eventfd_write(self._fd, 1)

    def wait(self, seconds: float) -> bool:
        """Until woken, or `seconds` have passed: False. All calls of wake() since the last wait() count as one."""
        woken = bool(self._poll.poll(max(seconds, 0) * 1000))
        if woken:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._fd)
        return woken
