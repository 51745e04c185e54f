"""What Open vSwitch could not make of what is in its database, in words, each with its cure.

ovs-vswitchd takes a transaction whether it can do what that asks for or not. What became of it stands in other columns
(ovs-vswitchd.conf.db(5)): a bridge without a datapath has no `datapath_id`, an interface without a device `ofport` -1
and an `error`. A bridge whose datapath_type is changed to one that cannot be keeps what it had there before; its
`datapath_version` tells: the userspace datapath's is always `<built-in>`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.config import AgentConfig
from agent.state import NOTHING, Columns, OvsState, lookup, marked
from agent.vswitchd import directories, runs
from agent.wanted import WantedBridge, wanted

SETTLE_S = 3.0
"""Seconds that it must last: the device of a machine that ends is gone a moment before its interface."""

RECONNECT_S = 15.0
"""Seconds that ovs-vswitchd may take to say anew what a restart of ovsdb-server has forgotten: it waits 8 at most."""

LOG = "/var/log/openvswitch/ovs-vswitchd.log says why"
_RESTART = "systemctl restart openvswitch-switch"
_USERSPACE = "netdev"
_KERNEL = "system"
_BUILT_IN = "<built-in>"
_MOST_INTERFACES = 8
_NO_DEVICE = "No such device"
_MODULE = Path("/sys/module/openvswitch")


@dataclass(frozen=True, slots=True)
class Host:
    """`has_module`: the kernel's openvswitch is loaded. `has_switch`: ovs-vswitchd runs."""

    has_module: bool
    has_switch: bool


@dataclass(frozen=True, slots=True)
class BridgeFacts:
    """`ofport` is that of the bridge's own port."""

    datapath_type: str
    datapath_id: str | None
    datapath_version: str
    ofport: int | None

    @property
    def is_unmade(self) -> bool:
        """True if there is no datapath behind it, or that of another type."""
        is_other = (self.datapath_type == _USERSPACE) != (self.datapath_version == _BUILT_IN)
        return (self.datapath_id is None and self.ofport is None) or (bool(self.datapath_version) and is_other)


def host(ovsdb: str) -> Host:
    return Host(_MODULE.exists(), runs(directories(ovsdb)))


def bridges_failure(names: Sequence[str], datapath_type: str, known_types: Collection[str], host: Host) -> str:
    """Why there are no such bridges, and what helps."""
    datapath_type = datapath_type or _KERNEL
    if not host.has_switch:
        why = f"ovs-vswitchd does not run: {_RESTART}; {LOG}"
    elif known_types and datapath_type not in known_types:
        why = f"it has no datapath_type {datapath_type}, but {', '.join(sorted(known_types))}"
    elif datapath_type != _KERNEL:
        why = LOG
    elif host.has_module:
        why = f"{LOG}; if the kernel's module openvswitch was loaded after Open vSwitch had started: {_RESTART}"
    else:
        why = (
            "the kernel's module openvswitch is not loaded. Either load it (modprobe openvswitch; it is in Debian's "
            f"package linux-image-amd64; in a container, on its host), then {_RESTART}; or set "
            "datapath_type = netdev in the agent's configuration"
        )
    return f"Open vSwitch cannot make bridge{'s' if len(names) > 1 else ''} {', '.join(names)}: {why}"


def interface_failure(name: str, columns: Columns, bridge: str, nics: Mapping[str, str]) -> str | None:
    """Why an interface of `bridge` does not work, and what helps; None if it works. `nics`: NIC to physical network."""
    said = columns.get("error")
    if not said and columns.get("ofport") != -1:
        return None
    why = str(said or "it could not be opened").rstrip(".")
    iface_id = lookup(columns, "external_ids", "iface-id")
    if name == bridge:
        cure = f"another device may have its name (ip link show {name}), or there is no /dev/net/tun (modprobe tun)"
        return f"bridge {name} has no device of its own: {why}; {cure}"
    if name in nics:
        cure = f"something else may use it (ip -d link show {name})"
        if _NO_DEVICE in why:
            cure = "name one that is there in physical_network of the agent's configuration"
        return f"device {name} of physical network {nics[name]} cannot be used: {why}; {cure}"
    if isinstance(iface_id, str) and iface_id:
        cure = f"plug it in again, or take it off: ovs-vsctl del-port {name}"
        return f"interface {name} of port {iface_id} cannot be used: {why}; {cure}"
    return f"interface {name} of bridge {bridge} cannot be used: {why}"


def failures(config: AgentConfig, state: OvsState, host: Callable[[], Host]) -> Iterator[tuple[str, str, float]]:
    """What it is about, which stays when the words change; the words; the seconds that it must last to be believed."""
    bridges = {bridge.name: bridge for bridge in wanted(config) if bridge.name in state.bridges}
    facts = {name: _facts(name, state) for name in bridges}
    unmade = [name for name, each in facts.items() if each.is_unmade]
    unconfirmed = [name for name, each in facts.items() if each.datapath_id is None and not each.is_unmade]
    for about, names, lasting in (("unmade", unmade, SETTLE_S), ("unconfirmed", unconfirmed, RECONNECT_S)):
        if names:
            yield about, bridges_failure(names, config.datapath_type, state.datapath_types, host()), lasting
    made = bridges.keys() - unmade
    of_all = sorted(one for name in made for one in _interface_failures(config, bridges[name], state))
    for name, line in of_all[:_MOST_INTERFACES]:
        yield f"interface {name}", line, SETTLE_S
    if len(of_all) > _MOST_INTERFACES:
        yield "more", f"{len(of_all) - _MOST_INTERFACES} more interfaces cannot be used: ovs-vsctl show", SETTLE_S


def _interface_failures(config: AgentConfig, bridge: WantedBridge, state: OvsState) -> Iterator[tuple[str, str]]:
    """Of those that the agent has made, and those of VMs: name and words."""
    nics = {network.nic: network.name for network in config.physical_networks if network.nic}
    ours = {bridge.name, *(port.name for port in bridge.ports)}
    for held in (state.ports[name] for name in state.bridges[bridge.name].ports if name in state.ports):
        for name in held.interfaces:
            columns = state.interfaces.get(name, NOTHING)
            if marked(held.columns) or name in ours or lookup(columns, "external_ids", "iface-id"):
                line = interface_failure(name, columns, bridge.name, nics)
                if line is not None:
                    yield name, line


def _facts(name: str, state: OvsState) -> BridgeFacts:
    columns = state.bridges[name].columns
    id_, ofport = columns.get("datapath_id"), state.interfaces.get(name, NOTHING).get("ofport")
    return BridgeFacts(
        str(columns.get("datapath_type") or ""),
        id_ if isinstance(id_, str) else None,
        str(columns.get("datapath_version") or ""),
        ofport if isinstance(ofport, int) else None,
    )


class OvsFailures:
    """Use from one thread. `problems` are those of the last `keep` that have lasted, a line each."""

    def __init__(self, config: AgentConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._since: dict[str, float] | None = None
        self.problems: tuple[str, ...] = ()

    def keep(self, state: OvsState) -> float:
        """Looks at what became of what was asked for; seconds until it is to be looked at again."""
        now = self._clock()
        found = list(failures(self._config, state, lambda: host(self._config.ovsdb)))
        if self._since is None:  # what the agent finds when it starts has lasted
            since = {about: now - lasting for about, _, lasting in found}
        else:
            since = {about: self._since.get(about, now) for about, _, _ in found}
        self._since = since
        left = [(line, since[about] + lasting - now) for about, line, lasting in found]
        self.problems = tuple(line for line, seconds in left if seconds <= 0)
        return min((seconds for _, seconds in left if seconds > 0), default=self._config.heartbeat_interval)
