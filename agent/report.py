"""What the agent tells the controller, read off the state of Open vSwitch. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from agent.config import AgentConfig
from agent.state import NAMED_KEY, NOTHING, Columns, OvsState, lookup, marked
from agent.wanted import SERVICE_DEVICE, uplink_port

MOST_PROBLEMS = 32
LONGEST_PROBLEM = 500
_DEVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,14}")  # what a port can be known by


@dataclass(frozen=True, slots=True)
class NodeReport:
    """The body of PUT /v1/nodes/NAME."""

    datapath_id: str
    physical_networks: tuple[str, ...]
    snat_addresses: tuple[tuple[str, str], ...]
    agent_version: str
    ovs_version: str
    datapath_type: str
    problems: tuple[str, ...] = ()

    def body(self) -> dict[str, object]:
        return {
            "datapath_id": self.datapath_id,
            "physical_networks": list(self.physical_networks),
            "snat_addresses": dict(self.snat_addresses),
            "tunnel_address": None,
            "versions": {"agent": self.agent_version, "ovs": self.ovs_version},
            "datapath_type": self.datapath_type,
            "problems": list(self.problems),
        }


@dataclass(frozen=True, slots=True)
class InterfaceReport:
    iface_id: str
    name: str
    ofport: int
    mac: str


@dataclass(frozen=True, slots=True)
class InterfacesReport:
    """The body of PUT /v1/nodes/NAME/interfaces but for its serial; `duplicates` are lines for the log. `unclaimed`:
    names of interfaces that have no iface-id, or one that they were given for their name.
    """

    uplinks: tuple[tuple[str, int], ...] = ()
    interfaces: tuple[InterfaceReport, ...] = ()
    duplicates: tuple[str, ...] = field(default=(), compare=False)
    unclaimed: tuple[str, ...] = ()

    def body(self, serial: int) -> dict[str, object]:
        return {
            # an older controller does not know the field
            **({"unclaimed": list(self.unclaimed)} if self.unclaimed else {}),
            "serial": serial,
            "uplinks": dict(self.uplinks),
            "interfaces": [
                {"iface_id": i.iface_id, "name": i.name, "ofport": i.ofport, "mac": i.mac} for i in self.interfaces
            ],
        }


def node_report(
    config: AgentConfig,
    state: OvsState,
    agent_version: str,
    host_addresses: Mapping[str, str] = MappingProxyType({}),
    problems: Collection[str] = (),
) -> NodeReport:
    """`host_addresses`: what to say, by physical network, where the SNAT address is to be the host's own."""
    return NodeReport(
        datapath_id=config.datapath_id,
        physical_networks=tuple(network.name for network in config.physical_networks),
        snat_addresses=tuple((name, host_addresses.get(name, choice)) for name, choice in config.snat_addresses),
        agent_version=agent_version,
        ovs_version=state.ovs_version,
        datapath_type=config.datapath_type,
        problems=tuple(sorted(map(_line, problems))[:MOST_PROBLEMS]),
    )


def _line(text: str) -> str:
    """As the controller takes it: what others have written into OVSDB may hold anything."""
    return "".join(each if each.isprintable() else " " for each in text)[:LONGEST_PROBLEM]


def interfaces_report(
    config: AgentConfig, state: OvsState, previous: InterfacesReport = InterfacesReport()
) -> InterfacesReport:  # noqa: B008 frozen
    """Everything in the integration bridge that has an iface-id and a port number.

    `previous` lends its MAC addresses: `mac_in_use` is empty for a moment after ovsdb-server restarts, and an
    interface must not vanish from the report for that.
    """
    bridge = state.bridges.get(config.integration_bridge)
    if bridge is None:
        return InterfacesReport()
    known_macs = {(i.iface_id, i.name): i.mac for i in previous.interfaces}
    chosen: dict[str, InterfaceReport] = {}
    duplicates = []
    for name in _interface_names(state, bridge.ports):
        interface = _interface(name, state.interfaces.get(name, NOTHING), known_macs)
        if interface is None:
            continue
        other = chosen.get(interface.iface_id)
        if other is not None:
            interface, loser = sorted((interface, other), key=lambda i: i.ofport)
            duplicates.append(
                f"interfaces {interface.name} and {loser.name} both claim port {interface.iface_id}: "
                f"{interface.name} gets it, it has the lower ofport"
            )
        chosen[interface.iface_id] = interface
    uplinks = []
    for network in config.physical_networks:
        ofport = _ofport(state.interfaces.get(uplink_port(network), NOTHING))
        if ofport is not None and uplink_port(network) in bridge.ports:
            uplinks.append((network.name, ofport))
    return InterfacesReport(
        tuple(uplinks),
        tuple(sorted(chosen.values(), key=lambda i: i.iface_id)),
        tuple(sorted(duplicates)),
        tuple(sorted(_unclaimed(config, state, bridge.ports))),
    )


def _unclaimed(config: AgentConfig, state: OvsState, ports: tuple[str, ...]) -> Iterator[str]:
    """Not those of the agent itself, nor the bridge's own."""
    others = {config.integration_bridge, SERVICE_DEVICE, *map(uplink_port, config.physical_networks)}
    for port in ports:
        held = state.ports.get(port)
        if held is None or marked(held.columns) or port in others:
            continue
        for name in held.interfaces:
            columns = state.interfaces.get(name, NOTHING)
            iface_id = lookup(columns, "external_ids", "iface-id")
            if iface_id == lookup(columns, "external_ids", NAMED_KEY) and _ofport(columns) and _DEVICE.fullmatch(name):
                yield name


def _interface_names(state: OvsState, ports: tuple[str, ...]) -> list[str]:
    return [name for port in ports if port in state.ports for name in state.ports[port].interfaces]


def _interface(name: str, columns: Columns, known_macs: Mapping[tuple[str, str], str]) -> InterfaceReport | None:
    iface_id = lookup(columns, "external_ids", "iface-id")
    ofport = _ofport(columns)
    if not isinstance(iface_id, str) or not iface_id or ofport is None:
        return None
    mac = (
        lookup(columns, "external_ids", "attached-mac") or columns.get("mac_in_use") or known_macs.get((iface_id, name))
    )
    return InterfaceReport(iface_id, name, ofport, mac.lower()) if isinstance(mac, str) else None


def _ofport(columns: Columns) -> int | None:
    """None while Open vSwitch has not opened the interface (no value) or could not (-1)."""
    ofport = columns.get("ofport")
    return ofport if isinstance(ofport, int) and ofport > 0 else None
