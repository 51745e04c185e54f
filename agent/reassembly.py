"""Which fragments the userspace datapath of Open vSwitch takes, and for how many it has room until the rest comes.

Its conntrack takes any but the last of a datagram for invalid below 1200 bytes. Fragments that a guest made for its own
MTU, and that were cut again for a smaller one outside, may be smaller. It keeps 1000 of incomplete datagrams, of all
guests together, for some 15 seconds: a guest that sends 67 such a second leaves no room for others. The kernel's
datapath knows neither limit. Both settings are forgotten when ovs-vswitchd ends (ovs-vswitchd(8),
"dpctl/ipf-set-min-frag" and "dpctl/ipf-set-max-nfrags").
"""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

from agent.config import AgentConfig
from agent.state import OvsState, lookup

SMALLEST = 400
"""Bytes; Open vSwitch takes no less."""

MOST = 5000
"""Fragments; Open vSwitch takes no more."""

_DATAPATH = "netdev@ovs-netdev"
_SETTINGS = (
    ("dpctl/ipf-set-min-frag", ("v4", str(SMALLEST))),
    ("dpctl/ipf-set-max-nfrags", (str(MOST),)),
)
_RUN_DIRECTORY = "/run/openvswitch"
_TIMEOUT_S = 2.0
_RETRY_S = 0.5
_PATIENCE_S = 5.0  # a switch that has just started has no datapath for a moment


class CommandFailed(Exception):
    """The switch did not answer, or refused; the text says which."""


def command(path: Path, method: str, *arguments: str) -> str:
    """What ovs-appctl(8) does: one JSON-RPC request at a control socket. Raises CommandFailed.

    Not by the ovs package's own client, which waits for ever for a switch that hangs.
    """
    request = json.dumps({"id": 0, "method": method, "params": arguments})
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_TIMEOUT_S)
            connection.connect(str(path))
            connection.sendall(request.encode())
            reply = _reply(connection)
    except (OSError, ValueError) as error:
        raise CommandFailed(f"{path}: {error}") from error
    if reply.get("error") is not None:
        raise CommandFailed(" ".join(str(reply["error"]).split()))
    return str(reply.get("result"))


def _reply(connection: socket.socket) -> dict[str, object]:
    """Raises ValueError when the connection ends before there is a whole one."""
    data = b""
    while part := connection.recv(65536):
        data += part
        try:
            found = json.loads(data)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
        break
    raise ValueError("no reply")


class Reassembly:
    """Use from one thread. `problems` are of the last `keep`, a line each."""

    def __init__(self, config: AgentConfig) -> None:
        self._wanted = config.datapath_type == "netdev"
        self._bridge = config.integration_bridge
        self._heartbeat = config.heartbeat_interval
        kind, _, path = config.ovsdb.partition(":")
        beside = [Path(path).parent] if kind == "unix" else []
        self._directories = [*beside, Path(os.environ.get("OVS_RUNDIR", _RUN_DIRECTORY))]
        self._settled: object = None
        self._failing_since: float | None = None
        self.problems: tuple[str, ...] = ()

    def keep(self, state: OvsState) -> float:
        """Says it to a switch that has not heard it; seconds until it is to be looked at again."""
        bridge = state.bridges.get(self._bridge)
        if not self._wanted or bridge is None or lookup(bridge.columns, "datapath_type") != "netdev":
            return self._heartbeat
        path = self._socket()
        identity = None if path is None else _identity(path)
        if identity is not None and identity == self._settled:
            return self._heartbeat
        try:
            if path is None or identity is None:
                raise CommandFailed(f"ovs-vswitchd has no control socket in {self._directories[0]}")
            for method, arguments in _SETTINGS:
                command(path, method, _DATAPATH, *arguments)
        except CommandFailed as error:
            return self._failed(error)
        self._settled, self._failing_since, self.problems = identity, None, ()
        return self._heartbeat

    def _failed(self, error: CommandFailed) -> float:
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        if now - self._failing_since < _PATIENCE_S:
            return _RETRY_S
        self.problems = (f"fragments below 1200 bytes are lost, and many at once: {error}",)
        return self._heartbeat

    def _socket(self) -> Path | None:
        """The switch's own, which is named for its process; the newest if it is not said which."""
        for directory in self._directories:
            try:
                pid = (directory / "ovs-vswitchd.pid").read_text().strip()
            except OSError:
                pid = ""
            if pid and (path := directory / f"ovs-vswitchd.{pid}.ctl").exists():
                return path
            found = [(identity, path) for path in directory.glob("*vswitchd*.ctl") if (identity := _identity(path))]
            if found:
                return max(found)[1]
        return None


def _identity(path: Path) -> tuple[int, int] | None:
    """Another one, and a later one, whenever ovs-vswitchd has started."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino
