"""A VM's connection, with deadlines on all that the VM has to do."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

_CHUNK = 65536
_MOST_UNREAD = 1 << 18  # bytes that are thrown away so that a last answer is still read
_LAST_WORD_S = 1.0


class Stream:
    """Of an accepted connection; all times in seconds. Raises TimeoutError when the other end is too slow."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        writer.transport.set_write_buffer_limits(0)  # drain() then waits until all has gone

    @staticmethod
    async def over(accepted: socket.socket) -> Stream:
        return Stream(*await asyncio.open_connection(sock=accepted, limit=_CHUNK))

    async def read(self) -> bytes:
        """What there is; nothing at the end."""
        return await self._reader.read(_CHUNK)

    async def read_exactly(self, size: int) -> bytes:
        """Raises asyncio.IncompleteReadError."""
        return await self._reader.readexactly(size)

    async def write(self, data: bytes, deadline: float) -> None:
        self._writer.write(data)
        async with asyncio.timeout(deadline):
            await self._writer.drain()

    async def finish(self) -> None:
        """Says that nothing more comes, and lets the other end read what was said: data unread would reset it."""
        with suppress(TimeoutError, OSError):
            self._writer.write_eof()
            unread = 0
            async with asyncio.timeout(_LAST_WORD_S):
                while unread < _MOST_UNREAD and (more := await self.read()):
                    unread += len(more)

    def close(self) -> None:
        """At once, whatever has not been sent."""
        self._writer.transport.abort()
