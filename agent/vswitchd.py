"""The control socket of ovs-vswitchd: what ovs-appctl(8) does, with an end to waiting and to what is read.

Not by the ovs package's own client, which waits for ever for a switch that hangs.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

_RUN_DIRECTORY = "/run/openvswitch"
_TIMEOUT_S = 2.0
_CHUNK = 65536
MOST = 1 << 20
"""Bytes of a reply."""

DATAPATHS: Mapping[str, str] = MappingProxyType({"netdev": "netdev@ovs-netdev", "system": "system@ovs-system"})
"""What its commands call the datapath of each `datapath_type` (ovs-dpctl(8))."""


class CommandFailed(Exception):
    """The switch did not answer, or refused; the text says which."""


def command(path: Path, method: str, *arguments: str, timeout: float = _TIMEOUT_S, most: int = MOST) -> str:
    """One JSON-RPC request at a control socket, answered within `timeout` seconds by at most `most` bytes. Raises
    CommandFailed.
    """
    request = json.dumps({"id": 0, "method": method, "params": arguments})
    until = time.monotonic() + timeout
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(str(path))
            connection.sendall(request.encode())
            reply = _reply(connection, until, most)
    except (OSError, ValueError) as error:
        raise CommandFailed(f"{path}: {error}") from error
    if reply.get("error") is not None:
        raise CommandFailed(" ".join(str(reply["error"]).split()))
    return str(reply.get("result"))


def _reply(connection: socket.socket, until: float, most: int) -> dict[str, object]:
    """Raises ValueError when the connection ends before there is a whole one, or there is too much of it, and
    TimeoutError.
    """
    data = b""
    while True:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        connection.settimeout(left)
        part = connection.recv(_CHUNK)
        if not part:
            raise ValueError("no reply")
        data += part
        if len(data) > most:
            raise ValueError(f"a reply of more than {most} bytes")
        if not data.rstrip().endswith(b"}"):
            continue
        try:
            found = json.loads(data)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
        raise ValueError("no reply")


def directories(ovsdb: str) -> list[Path]:
    """Where the socket may be: beside that of the database, and where Open vSwitch usually has it."""
    kind, _, path = ovsdb.partition(":")
    beside = [Path(path).parent] if kind == "unix" else []
    return [*beside, Path(os.environ.get("OVS_RUNDIR", _RUN_DIRECTORY))]


def control_socket(places: Sequence[Path]) -> Path | None:
    """The switch's own, which is named for its process; the newest if it is not said which."""
    for directory in places:
        try:
            pid = (directory / "ovs-vswitchd.pid").read_text().strip()
        except OSError:
            pid = ""
        if pid and (path := directory / f"ovs-vswitchd.{pid}.ctl").exists():
            return path
        found = [(known, path) for path in directory.glob("*vswitchd*.ctl") if (known := identity(path))]
        if found:
            return max(found)[1]
    return None


def runs(places: Sequence[Path]) -> bool:
    """True if ovs-vswitchd listens at its control socket: one that was killed leaves the file there."""
    path = control_socket(places)
    if path is None:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_TIMEOUT_S)
        try:
            connection.connect(str(path))
        except (TimeoutError, BlockingIOError):  # it hangs; the latter where many wait already
            return True
        except OSError:
            return False
    return True


def identity(path: Path) -> tuple[int, int] | None:
    """Another one, and a later one, whenever ovs-vswitchd has started."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino
