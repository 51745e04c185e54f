"""What systemd is told of a service (sd_notify(3), sd_watchdog_enabled(3)). Nothing happens where systemd is not there.

The controller uses it, too: with green sockets as with native ones it never waits.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from typing import Final

_MICROSECONDS: Final = 1e6


class ServiceManager:
    """`watchdog_s`: after so many seconds without `alive` systemd takes us for hung and restarts us; None: never."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        # an abstract address is written with @ in place of its NUL
        self._address = "\0" + path[1:] if path.startswith("@") else path
        ours = environment.get("WATCHDOG_PID") in (None, "", str(os.getpid()))
        limit = environment.get("WATCHDOG_USEC", "")
        enabled = bool(path) and ours and limit.isdecimal() and int(limit) > 0
        self.watchdog_s = int(limit) / _MICROSECONDS if enabled else None

    def ready(self) -> None:
        self._tell("READY=1")

    def alive(self) -> None:
        if self.watchdog_s is not None:
            self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        self._tell("STOPPING=1")

    def _tell(self, what: str) -> None:
        """It may have gone away, or not read: neither is a reason to do anything but our work."""
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.setblocking(False)
            own.sendto(what.encode(), self._address)
