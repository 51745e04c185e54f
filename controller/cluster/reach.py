"""Which switches a controller can reach: a connection may be open for long after the last byte has come through it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from controller import receive

ASK: Final = 1.0
"""Seconds of silence after which a switch is asked for a sign of life, at each look."""

SILENT: Final = 3.0
"""Seconds of silence after which it counts as out of reach."""

LATE: Final = 1.5
"""Seconds between two looks from which on this controller itself was held up: what came meanwhile is yet unread."""

_ECHO: Final = receive.HEADER.pack(receive.VERSION, receive.ECHO_REQUEST, receive.HEADER_SIZE, 0)


class Connection(Protocol):
    heard_at: float

    def send(self, buf: bytes) -> Any: ...


class Session(Protocol):
    @property
    def node(self) -> str | None: ...

    @property
    def connection(self) -> Connection: ...


class Reach:
    """`sessions` are the connected switches. Nothing here waits."""

    def __init__(
        self, sessions: Callable[[], Iterable[Session]], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._sessions = sessions
        self._monotonic = monotonic
        self._looked_at = self._reliable_from = monotonic()

    def nodes(self) -> frozenset[str]:
        """The nodes that answer. Asks those that have not said anything for a while."""
        now = self._monotonic()
        if now - self._looked_at > LATE:
            self._reliable_from = now
        self._looked_at = now
        found = set()
        for session in self._sessions():
            if session.node is None:
                continue
            silence = now - max(session.connection.heard_at, self._reliable_from)
            if now - session.connection.heard_at >= ASK:
                session.connection.send(_ECHO)
            if silence < SILENT:
                found.add(session.node)
        return frozenset(found)
