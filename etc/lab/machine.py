"""What the laboratory borrows from the machine it runs on: a run directory, and socket buffers that are big enough."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO

HOME = Path("/run/trunkline-lab")
"""Short on purpose: the path of a Unix socket has at most 107 characters."""

RECEIVE_BUFFER = 4 * 1024 * 1024
"""Bytes. Open vSwitch's userspace datapath reads a veth through a packet socket with the default receive buffer: with
the usual 212,992 bytes, bursts are lost and TCP retransmits by the thousand."""

_RMEM_DEFAULT = Path("/proc/sys/net/core/rmem_default")
_BORROWED = HOME / "rmem_default"


class PrefixInUse(RuntimeError):
    """Another laboratory with this prefix is running."""


class RunDirectory:
    """HOME/<prefix>, ours as long as this process lives: the lock goes with the process, however it ends."""

    def __init__(self, prefix: str) -> None:
        self.path = HOME / prefix
        self._lock_path = HOME / f"{prefix}.lock"
        self._lock: IO[str] | None = None

    def claim(self) -> None:
        """Raises PrefixInUse."""
        HOME.mkdir(mode=0o755, exist_ok=True)
        self._lock = self._lock_path.open("a+")
        os.set_inheritable(self._lock.fileno(), False)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            self._lock = None
            raise PrefixInUse(f"a laboratory with the prefix {self.path.name} is running already") from None

    def empty(self) -> None:
        """Make the directory, or what an earlier run left of it, new."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(mode=0o755)

    def release(self, *, keep: bool) -> None:
        """Give the prefix back; with `keep` the files stay for a look at the logs."""
        if self._lock is None:
            return
        if not keep:
            shutil.rmtree(self.path, ignore_errors=True)
        self._lock_path.unlink(missing_ok=True)
        self._lock.close()
        self._lock = None
        restore_receive_buffers()
        with suppress(OSError):
            HOME.rmdir()


def enlarge_receive_buffers() -> None:
    """Raise the machine's default receive buffer, which all namespaces share, until `restore_receive_buffers`."""
    now = int(_RMEM_DEFAULT.read_text())
    if now < RECEIVE_BUFFER:
        with suppress(OSError):
            _RMEM_DEFAULT.write_text(f"{RECEIVE_BUFFER}\n")
            _BORROWED.write_text(f"{now}\n")


def restore_receive_buffers() -> None:
    """Put the default back, unless another laboratory still runs: then that one does it when it ends."""
    if _BORROWED.exists() and not any(_is_held(path) for path in HOME.glob("*.lock")):
        _RMEM_DEFAULT.write_text(_BORROWED.read_text())
        _BORROWED.unlink(missing_ok=True)


def _is_held(lock: Path) -> bool:
    with suppress(OSError), lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
