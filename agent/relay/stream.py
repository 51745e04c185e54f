"""A VM's connection, with deadlines on all that the VM has to do."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

_CHUNK = 65536
_MOST_UNREAD = 1 << 18  # bytes that are thrown away so that a last answer is still read
_LAST_WORD_S = 1.0


class Stream:
    """Of an accepted connection; all times in seconds. What has not been asked for stays in the kernel. Raises
    TimeoutError when the other end is too slow.
    """

    def __init__(self, accepted: socket.socket) -> None:
        """`accepted` does not block; it is closed with the stream."""
        self._socket = accepted
        self._loop = asyncio.get_running_loop()
        self._ahead = b""  # read, and not asked for yet

    async def read(self) -> bytes:
        """What there is; nothing at the end."""
        if self._ahead:
            ahead, self._ahead = self._ahead, b""
            return ahead
        return await self._loop.sock_recv(self._socket, _CHUNK)

    async def read_exactly(self, size: int) -> bytes:
        """Raises asyncio.IncompleteReadError."""
        while len(self._ahead) < size:
            more = await self._loop.sock_recv(self._socket, _CHUNK)
            if not more:
                raise asyncio.IncompleteReadError(self._ahead, size)
            self._ahead += more
        asked, self._ahead = self._ahead[:size], self._ahead[size:]
        return asked

    async def write(self, data: bytes, deadline: float) -> None:
        """Until the kernel has all of it."""
        async with asyncio.timeout(deadline):
            await self._loop.sock_sendall(self._socket, data)

    async def finish(self) -> None:
        """Says that nothing more comes, and lets the other end read what was said: data unread would reset it."""
        with suppress(TimeoutError, OSError):
            self._socket.shutdown(socket.SHUT_WR)
            unread = 0
            async with asyncio.timeout(_LAST_WORD_S):
                while unread < _MOST_UNREAD and (more := await self.read()):
                    unread += len(more)

    def close(self) -> None:
        """At once."""
        self._socket.close()
