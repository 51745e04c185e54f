"""Which fragments the datapath of Open vSwitch takes, and for how many it has room until the rest comes.

The userspace datapath's conntrack takes any but the last of a datagram for invalid below 1200 bytes. Fragments that a
guest made for its own MTU, and that were cut again for a smaller one outside, may be smaller. It keeps 1000 of
incomplete datagrams, of all guests together, for some 15 seconds: a guest that sends 67 such a second leaves no room
for others. Both settings are forgotten when ovs-vswitchd ends (ovs-vswitchd(8), "dpctl/ipf-set-min-frag" and
"dpctl/ipf-set-max-nfrags").

The kernel's keeps 4 MB of them for 30 seconds, of IPv6 for 60 (ip-sysctl, ipfrag_high_thresh), which is 1,676 of 1,480
bytes: what one guest may send in that time (`PORT_FRAGMENTS`) is two and four times as much.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

from agent.config import AgentConfig
from agent.state import OvsState, lookup
from agent.vswitchd import DATAPATHS, CommandFailed, command, control_socket, directories, identity

LOG = logging.getLogger(__name__)

SMALLEST = 400
"""Bytes; Open vSwitch takes no less."""

MOST = 5000
"""Fragments; Open vSwitch takes no more."""

ROOM = 32 << 20
"""Bytes of incomplete datagrams that the kernel keeps at least, of either family."""

_KERNEL_ROOM = (
    Path("/proc/sys/net/ipv4/ipfrag_high_thresh"),
    Path("/proc/sys/net/netfilter/nf_conntrack_frag6_high_thresh"),
)
_SETTINGS = (
    ("dpctl/ipf-set-min-frag", ("v4", str(SMALLEST))),
    ("dpctl/ipf-set-max-nfrags", (str(MOST),)),
)
_TIMEOUT_S = 2.0
_RETRY_S = 0.5
_PATIENCE_S = 5.0  # a switch that has just started has no datapath for a moment


class Reassembly:
    """Use from one thread. `problems` are of the last `keep`, a line each."""

    def __init__(self, config: AgentConfig) -> None:
        self._wanted = config.datapath_type == "netdev"
        self._bridge = config.integration_bridge
        self._heartbeat = config.heartbeat_interval
        self._directories = directories(config.ovsdb)
        self._settled: object = None
        self._failing_since: float | None = None
        self.problems: tuple[str, ...] = ()

    def keep(self, state: OvsState) -> float:
        """Says it to a switch that has not heard it; seconds until it is to be looked at again."""
        bridge = state.bridges.get(self._bridge)
        if bridge is not None and lookup(bridge.columns, "datapath_type") == "system":
            self.problems = tuple(_too_little())
        if not self._wanted or bridge is None or lookup(bridge.columns, "datapath_type") != "netdev":
            return self._heartbeat
        path = control_socket(self._directories)
        started = None if path is None else identity(path)
        if started is not None and started == self._settled:
            return self._heartbeat
        try:
            if path is None or started is None:
                raise CommandFailed(f"ovs-vswitchd has no control socket in {self._directories[0]}")
            for method, arguments in _SETTINGS:
                command(path, method, DATAPATHS["netdev"], *arguments, timeout=_TIMEOUT_S)
        except CommandFailed as error:
            return self._failed(error)
        self._settled, self._failing_since, self.problems = started, None, ()
        return self._heartbeat

    def _failed(self, error: CommandFailed) -> float:
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        if now - self._failing_since < _PATIENCE_S:
            return _RETRY_S
        self.problems = (f"fragments below 1200 bytes are lost, and many at once: {error}",)
        return self._heartbeat


def _too_little() -> Iterator[str]:
    """Gives the kernel more room where it has less than ROOM, which an operator may have raised; what is in the way.

    The setting for IPv6 is there once the module openvswitch is.
    """
    for setting in _KERNEL_ROOM:
        try:
            room = int(setting.read_text())
            if room < ROOM:
                setting.write_text(f"{ROOM}\n")
                LOG.info("%s: %d bytes, it was %d", setting, ROOM, room)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            yield f"one VM can fill the kernel's room for fragments: {setting} cannot be set to {ROOM}: {error}"
