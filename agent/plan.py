"""Which bridges, ports and controllers a node should have, and the steps from what it has. Pure.

Laws kept here:

* What is missing is added and what differs is set. Nothing is deleted that does not carry our mark, and of what does,
  only ports: a bridge may hold an address of the host.
* The integration bridge never loses its last controller and never gets its first one twice: both empty its flow table.
  A target that changes is changed in its row.
* A plan for a state that is already right is empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from agent.config import AgentConfig, PhysicalNetwork
from agent.state import (
    MARK_AGENT,
    MARK_KEY,
    NODE_KEY,
    NOTHING,
    BridgeState,
    DatapathState,
    OvsState,
    Value,
    lookup,
    marked,
)
from flows.pipeline import SERVICE_OFPORT, CtZone, Table

# OpenFlow port numbers of the uplinks, in the order of configuration: above those that Open vSwitch gives out by
# itself (1..32767) and below the reserved ones (65280 and up).
FIRST_UPLINK_OFPORT = SERVICE_OFPORT + 1
# towards the relay (agent/service_port.py)
SERVICE_DEVICE = "tl-service"
MAX_BACKOFF_MS = 1000
# What rules match of addresses. Without these each address becomes a flow of the datapath's own, where a rule names
# some (ovs-vswitchd.conf.db(5), Flow_Table: prefixes; older ones take three).
_PREFIXES = frozenset({"ct_nw_src", "ct_nw_dst", "nw_src"})


@dataclass(frozen=True, slots=True)
class Setting:
    """A column, or with `key` one entry of a map column, and the value it should have."""

    column: str
    value: Value
    key: str | None = None


Settings = tuple[Setting, ...]
MARK = Setting("external_ids", MARK_AGENT, MARK_KEY)


@dataclass(frozen=True, slots=True)
class WantedPort:
    """`settings` are of its interface, which has the port's name."""

    name: str
    settings: Settings = ()


@dataclass(frozen=True, slots=True)
class WantedController:
    target: str
    settings: Settings


@dataclass(frozen=True, slots=True)
class WantedBridge:
    name: str
    settings: Settings
    ports: tuple[WantedPort, ...] = ()
    controllers: tuple[WantedController, ...] = ()
    prefixes: tuple[tuple[int, frozenset[str]], ...] = ()


@dataclass(frozen=True, slots=True)
class AddBridge:
    """Also adds the bridge's internal port."""

    name: str
    settings: Settings


@dataclass(frozen=True, slots=True)
class SetBridge:
    name: str
    settings: Settings


@dataclass(frozen=True, slots=True)
class DeletePort:
    bridge: str
    name: str


@dataclass(frozen=True, slots=True)
class AddPort:
    """Adds a port with our mark and its one interface, which gets `settings`."""

    bridge: str
    name: str
    settings: Settings


@dataclass(frozen=True, slots=True)
class SetInterface:
    name: str
    settings: Settings


@dataclass(frozen=True, slots=True)
class AddController:
    """Adds a controller with our mark."""

    bridge: str
    target: str
    settings: Settings


@dataclass(frozen=True, slots=True)
class SetController:
    """`id` is the row's UUID. Among `settings` may be its target."""

    bridge: str
    id: str
    settings: Settings


@dataclass(frozen=True, slots=True)
class DeleteController:
    bridge: str
    id: str


@dataclass(frozen=True, slots=True)
class SetLimits:
    """How many connections a datapath tracks in a zone: `default`, and (zone, limit) where it is another; 0: any.

    Limits of other zones stay as they are.
    """

    datapath: str
    default: int
    zones: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class SetPrefixes:
    """By table: of which fields Open vSwitch looks no further than at the prefixes that flows match."""

    bridge: str
    tables: tuple[tuple[int, frozenset[str]], ...]


@dataclass(frozen=True, slots=True)
class SetSsl:
    """With what Open vSwitch speaks TLS to ssl: controllers. Adds the row with our mark when there is none."""

    settings: Settings


@dataclass(frozen=True, slots=True)
class MarkInstalled:
    """Says on an interface that its port is ready since `at_ms` (milliseconds since the epoch), or with None no more.

    Nothing happens where the interface has gone meanwhile, or has another iface-id: it is a VM's, and comes and goes.
    """

    name: str
    iface_id: str | None
    at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class NameInterface:
    """Gives an interface that has no iface-id one, or with None takes it away again. Somebody else's stays."""

    name: str
    iface_id: str | None


@dataclass(frozen=True, slots=True)
class Confirm:
    """ovs-vswitchd is to say when it has done all that was asked up to here: `OvsState.confirmed`."""


Step = (
    AddBridge
    | SetBridge
    | DeletePort
    | AddPort
    | SetInterface
    | AddController
    | SetController
    | DeleteController
    | SetLimits
    | SetPrefixes
    | SetSsl
    | MarkInstalled
    | NameInterface
    | Confirm
)


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps for one transaction, and what stands in the way and is left to the operator, one line each."""

    steps: tuple[Step, ...] = ()
    problems: tuple[str, ...] = ()


def uplink_port(network: PhysicalNetwork) -> str:
    """Name of the patch port on the integration bridge. No network device: it may be longer than 15 characters."""
    return f"uplink-{network.name}"


def wanted(config: AgentConfig) -> tuple[WantedBridge, ...]:
    """What the configuration asks for; the integration bridge comes first."""
    integration = WantedBridge(
        name=config.integration_bridge,
        settings=(
            Setting("datapath_type", config.datapath_type),
            Setting("fail_mode", "secure"),
            Setting("protocols", frozenset({"OpenFlow14"})),
            Setting("other_config", config.datapath_id, "datapath-id"),
            Setting("other_config", "true", "disable-in-band"),
            Setting("external_ids", config.node, NODE_KEY),
        ),
        ports=(
            WantedPort(SERVICE_DEVICE, (Setting("ofport_request", SERVICE_OFPORT),)),
            *(
                WantedPort(
                    uplink_port(network),
                    (*_patch(peer_port(network)), Setting("ofport_request", FIRST_UPLINK_OFPORT + index)),
                )
                for index, network in enumerate(config.physical_networks)
            ),
        ),
        controllers=tuple(
            WantedController(
                target,
                (
                    Setting("max_backoff", MAX_BACKOFF_MS),
                    Setting("inactivity_probe", config.inactivity_probe),
                    Setting("connection_mode", "out-of-band"),
                ),
            )
            for target in config.controllers
        ),
        prefixes=tuple((table, _PREFIXES) for table in (Table.EGRESS_POLICY, Table.INGRESS_POLICY, Table.RULES)),
    )
    return (integration, *(_physical_bridge(network, config) for network in config.physical_networks))


def wanted_limits(config: AgentConfig) -> SetLimits:
    """One VM must not use up what conntrack has room for. In the database, so Open vSwitch sets them when it starts."""
    return SetLimits(config.datapath_type, config.conntrack_limit, ((CtZone.SNAT.value, config.snat_conntrack_limit),))


def wanted_ssl(config: AgentConfig) -> SetSsl | None:
    """Open vSwitch reads the files again when they are others."""
    if config.tls is None:
        return None
    tls = config.tls
    return SetSsl(
        (Setting("private_key", tls.key), Setting("certificate", tls.certificate), Setting("ca_cert", tls.ca))
    )


def _physical_bridge(network: PhysicalNetwork, config: AgentConfig) -> WantedBridge:
    nic = (WantedPort(network.nic),) if network.nic else ()
    return WantedBridge(
        name=network.bridge,
        settings=(Setting("datapath_type", config.datapath_type), Setting("fail_mode", "standalone")),
        ports=(*nic, WantedPort(peer_port(network), _patch(uplink_port(network)))),
    )


def peer_port(network: PhysicalNetwork) -> str:
    """The other end of the uplink, on the physical network's bridge."""
    return f"int-{network.name}"


def _patch(peer: str) -> Settings:
    return (Setting("type", "patch"), Setting("options", peer, "peer"))


def plan(
    bridges: Sequence[WantedBridge],
    state: OvsState,
    addressed: AbstractSet[str] = frozenset(),
    limits: SetLimits | None = None,
    ssl: SetSsl | None = None,
) -> Plan:
    """The difference between `bridges` with `limits` and `ssl`, and `state`.

    `addressed` names the devices that hold addresses of the host: none of them is put into a bridge.
    """
    steps: list[Step] = []
    problems: list[str] = []
    usable = [bridge for bridge in bridges if _is_free(bridge, state, problems)]
    for bridge in usable:
        steps += _bridge_steps(bridge, state)
    steps += _stale_ports(usable, state)
    for bridge in usable:
        for port in bridge.ports:
            steps += _port_steps(bridge, port, state, addressed, problems)
    if ssl is not None:
        steps += _ssl_steps(ssl, state, problems)
    for bridge in usable:
        steps += _controller_steps(bridge, state.bridges.get(bridge.name), problems)
    if limits is not None:
        steps += _limit_steps(limits, state, problems)
    return Plan(tuple(steps), tuple(problems))


def _limit_steps(limits: SetLimits, state: OvsState, problems: list[str]) -> Iterator[Step]:
    if state.datapaths is None:
        if limits.default or any(limit for _, limit in limits.zones):
            problems.append("connections are not limited: Open vSwitch before 3.3 takes no limits from its database")
        return
    held = state.datapaths.get(limits.datapath, DatapathState())
    zones_differ = any((held.zone_limits.get(zone, held.default_limit) or 0) != limit for zone, limit in limits.zones)
    if zones_differ or (held.default_limit or 0) != limits.default:
        yield limits


def _ssl_steps(ssl: SetSsl, state: OvsState, problems: list[str]) -> Iterator[Step]:
    """There is one for the whole of Open vSwitch: what another has set may be for a manager of its own."""
    differing = ssl.settings if state.ssl is None else _differing(ssl.settings, state.ssl)
    if differing and state.ssl is not None and not marked(state.ssl):
        problems.append(
            "what Open vSwitch has for TLS is not ours and does not fit: "
            + ", ".join(f"{setting.column} should be {setting.value}" for setting in differing)
        )
    elif differing:
        yield SetSsl(differing)


def _differing(settings: Settings, columns: object) -> Settings:
    return tuple(s for s in settings if lookup(columns, s.column, s.key) != s.value)  # type: ignore[arg-type]


def _is_free(bridge: WantedBridge, state: OvsState, problems: list[str]) -> bool:
    port = state.ports.get(bridge.name)
    if bridge.name in state.bridges or port is None:
        return True
    problems.append(f"bridge {bridge.name} cannot be made: {port.bridge} has a port of that name")
    return False


def _bridge_steps(bridge: WantedBridge, state: OvsState) -> Iterator[Step]:
    present = state.bridges.get(bridge.name)
    if present is None:
        yield AddBridge(bridge.name, (*bridge.settings, MARK))
    elif settings := _differing(bridge.settings, present.columns):
        yield SetBridge(bridge.name, settings)
    held = present.prefixes if present else {}
    if differing := tuple((table, fields) for table, fields in bridge.prefixes if held.get(table) != fields):
        yield SetPrefixes(bridge.name, differing)


def _stale_ports(bridges: Sequence[WantedBridge], state: OvsState) -> Iterator[Step]:
    """Ports of ours in a bridge where they are not wanted: patch ports, and what has to go into another bridge.

    Another NIC stays: an operator who takes a physical network out of the configuration has not asked to be cut off.
    """
    home = {port.name: bridge.name for bridge in bridges for port in bridge.ports}
    for port in state.ports.values():
        if not marked(port.columns) or home.get(port.name) == port.bridge:
            continue
        is_patch = any(lookup(state.interfaces.get(name, NOTHING), "type") == "patch" for name in port.interfaces)
        if is_patch or port.name in home:
            yield DeletePort(port.bridge, port.name)


def _port_steps(
    bridge: WantedBridge, port: WantedPort, state: OvsState, addressed: AbstractSet[str], problems: list[str]
) -> Iterator[Step]:
    # A NIC may be there as one interface of a bond, so the interface counts and not the port.
    holder = state.ports.get(port.name) or next((p for p in state.ports.values() if port.name in p.interfaces), None)
    if holder is not None and holder.bridge == bridge.name:
        settings = _differing(port.settings, state.interfaces.get(port.name, NOTHING))
        if settings and not marked(holder.columns):
            problems.append(
                f"port {port.name} of {bridge.name} is not ours and does not fit: "
                + ", ".join(f"{s.column}{':' + s.key if s.key else ''} should be {s.value}" for s in settings)
            )
        elif settings:
            yield SetInterface(port.name, settings)
    elif holder is not None and not marked(holder.columns):
        problems.append(f"port {port.name} belongs into {bridge.name}, but is in {holder.bridge} and not ours")
    elif port.name in addressed:
        problems.append(
            f"device {port.name} holds addresses of this host and is left alone: move them to the device "
            f"{bridge.name}, then the agent puts {port.name} into it"
        )
    else:
        yield AddPort(bridge.name, port.name, port.settings)


def _controller_steps(bridge: WantedBridge, present: BridgeState | None, problems: list[str]) -> Iterator[Step]:
    """First changes in place, then what is new, then what is too many: at no step is there none."""
    missing = {controller.target: controller for controller in bridge.controllers}
    spare: list[str] = []
    for row in present.controllers if present else ():
        target = lookup(row.columns, "target")
        controller = missing.pop(target, None) if isinstance(target, str) else None
        if controller is not None:
            if settings := _differing(controller.settings, row.columns):
                yield SetController(bridge.name, row.id, settings)
        elif marked(row.columns):
            spare.append(row.id)
        elif bridge.controllers:
            problems.append(f"controller {target} of {bridge.name} is not ours and stays")
    new = list(missing.values())
    for row_id, controller in zip(spare, new, strict=False):
        yield SetController(bridge.name, row_id, (Setting("target", controller.target), *controller.settings))
    for controller in new[len(spare) :]:
        yield AddController(bridge.name, controller.target, controller.settings)
    if bridge.controllers:
        for row_id in spare[len(new) :]:
            yield DeleteController(bridge.name, row_id)
