"""The steps from what a node has to what it should have. Pure.

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
from dataclasses import dataclass, replace

from agent.state import NOTHING, BridgeState, DatapathState, OvsState, lookup, marked
from agent.steps import (
    MARK,
    AddBridge,
    AddController,
    AddPort,
    DeleteController,
    DeletePort,
    SetBridge,
    SetController,
    SetInterface,
    SetLimits,
    SetPrefixes,
    SetSsl,
    Setting,
    Settings,
    Step,
)
from agent.wanted import WantedBridge, WantedPort


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps for one transaction, and what stands in the way and is left to the operator, one line each."""

    steps: tuple[Step, ...] = ()
    problems: tuple[str, ...] = ()


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
    stale = () if limits.keep_others else tuple(sorted(held.ours - {zone for zone, _ in limits.zones}))
    if zones_differ or stale or (held.default_limit or 0) != limits.default:
        yield replace(limits, stale=stale)


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
