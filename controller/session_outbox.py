"""Bytes on their way to one switch: written by many, sent by one green thread in large pieces."""

from __future__ import annotations

from collections import deque

from controller.green import Signal

SEND_SIZE = 60_000
"""Bytes per send at most, unless one message alone is longer."""

HIGH_WATER = 1 << 20
"""Bytes that may wait before writers have to."""


class Outbox:
    """`put` never waits and never refuses while the connection lives; who can wait calls `wait_for_room` first."""

    def __init__(self) -> None:
        self.size = 0
        self.closed = False
        self._chunks: deque[bytes] = deque()
        self._filled = Signal()
        self._drained = Signal()

    def put(self, data: bytes) -> bool:
        """False when the connection is closed and the data went nowhere."""
        if self.closed:
            return False
        self._chunks.append(data)
        self.size += len(data)
        self._filled.send()
        return True

    def wait_for_room(self) -> bool:
        """Waits until less than HIGH_WATER bytes wait. False when the connection is closed."""
        while self.size > HIGH_WATER and not self.closed:
            self._drained.wait()
        return not self.closed

    def take(self) -> bytes:
        """Waits for data; b"" when the connection is closed."""
        while not self._chunks:
            if self.closed:
                return b""
            self._filled.wait()
        chunks = self._chunks
        data = chunks.popleft()
        if chunks and len(data) < SEND_SIZE:
            parts, size = [data], len(data)
            while chunks and size + len(chunks[0]) <= SEND_SIZE:
                part = chunks.popleft()
                parts.append(part)
                size += len(part)
            data = b"".join(parts)
        self.size -= len(data)
        if self.size <= HIGH_WATER:
            self._drained.send()
        return data

    def close(self) -> None:
        """What waits is still sent if the socket takes it; nothing new is accepted."""
        self.closed = True
        self._filled.send()
        self._drained.send()

    def discard(self) -> None:
        self.close()
        self._chunks.clear()
        self.size = 0
