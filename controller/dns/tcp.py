"""Questions that come by TCP, one at a time, from whoever can wait for the answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from eventlet.event import Event

from controller.dns.server import NameServer
from controller.packet_in.limits import TokenBuckets
from flows.model import Port
from flows.snapshot import Snapshot

LONGEST: Final = 15.0
"""Seconds; every upstream has been given up before."""


class TooMany(Exception):
    """The port asks more than it may."""


class Questions:
    """`rate` and `burst` are questions of one port."""

    def __init__(
        self,
        server: NameServer,
        snapshot: Callable[[], Snapshot],
        rate: float,
        burst: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = server
        self._snapshot = snapshot
        self._buckets = TokenBuckets(rate, burst)
        self._clock = clock

    def ask(self, message: bytes, port: Port) -> bytes | None:
        """The answer, as long as it may be (RFC 1035, 4.2.2); None for what deserves none. Raises TooMany.

        The port must be of the snapshot.
        """
        if not self._buckets.allow(port.key, self._clock()):
            raise TooMany
        event = Event()
        answer = self._server.answer(message, port, self._snapshot(), None, event.send)
        if not answer.pending:
            return answer.reply
        reply: bytes | None = event.wait(LONGEST)
        return reply
