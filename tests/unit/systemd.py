"""A service manager's socket, as systemd would have it."""

from __future__ import annotations

import os
import socket
from pathlib import Path


class NotifySocket:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))

    def environment(self, watchdog_s: float | None = None) -> dict[str, str]:
        limit = {} if watchdog_s is None else {"WATCHDOG_USEC": str(int(watchdog_s * 1e6))}
        return {**os.environ, "NOTIFY_SOCKET": str(self.path), **limit}

    def next(self, seconds: float = 30.0) -> str:
        """Raises TimeoutError."""
        self._socket.settimeout(seconds)
        return self._socket.recv(4096).decode()

    def until(self, wanted: str, seconds: float = 30.0) -> list[str]:
        """What came before it."""
        before: list[str] = []
        while (got := self.next(seconds)) != wanted:
            before.append(got)
        return before

    def close(self) -> None:
        self._socket.close()
