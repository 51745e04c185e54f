"""From a snapshot to the flows of a node, whole or only what a change touches.

A node's program is cut into segments: for what is always there, for each network, for each local port. A segment is
a pure function of the snapshot, so a change costs the segments that it touches and never the whole model. That the
incremental way gives what the whole way gives is a tested law.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from flows.diff import Delta, diff
from flows.digest import digest
from flows.features import (
    allowance,
    arp,
    classify,
    external,
    floating_ip,
    fragments,
    l2,
    migration,
    nat,
    policy,
    port_forwarding,
    port_security,
    provider,
    qos,
    routing,
    security_groups,
    services,
    size,
    static_routes,
    uplink_in,
)
from flows.ir import Flow, MeterConfig
from flows.model import (
    Change,
    FloatingIpChange,
    Network,
    NetworkChange,
    Node,
    NodeChange,
    Port,
    PortChange,
    ProviderRuleChange,
    SecurityGroup,
    SecurityGroupChange,
)
from flows.pipeline import MEMBER_PARTS
from flows.snapshot import Snapshot, member_part
from flows.view import Role, View

_STATIC = (
    classify.static,
    external.static,
    size.static,
    nat.static,
    port_security.static,
    uplink_in.static,
    arp.static,
    services.static,
    policy.static,
    routing.static,
    l2.static,
    migration.static,
    allowance.static,
)
_NETWORK = (
    classify.network,
    external.network,
    size.network,
    nat.network,
    port_security.network,
    uplink_in.network,
    arp.network,
    services.network,
    routing.network,
    static_routes.network,
    l2.network,
    security_groups.network,
)
_PORT = (
    classify.port,
    port_security.port,
    static_routes.port,
    services.port,
    routing.port,
    nat.port,
    floating_ip.port,
    port_forwarding.port,
    policy.port,
    fragments.port,
    size.port,
    l2.port,
    migration.port,
    allowance.port,
)
# of a port whose VM has left for another node: what still comes for it
_PORT_LEFT = (routing.port, nat.port, floating_ip.port, port_forwarding.port, policy.port, migration.port)
_PORT_METERS = (allowance.port_meters, qos.meters)
_FLOATING_IP = (floating_ip.floating_ip, port_forwarding.floating_ip)


class Kind(IntEnum):
    STATIC = 0
    NETWORK = 1
    PORT = 2
    FLOOD = 3
    KNOWN_ARP = 4
    FLOOD_PART = 5  # of "network id/part"
    FLOATING_IP = 6
    SECURITY_GROUP = 7
    GROUP_MEMBERS = 8  # of "group id/part"
    PROVIDER_RULES = 9


SegmentKey = tuple[Kind, str]


@dataclass(frozen=True, slots=True)
class Segment:
    flows: tuple[Flow, ...]
    digest: int
    meters: tuple[MeterConfig, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.flows or self.meters)


@dataclass(frozen=True, slots=True)
class Program:
    """All flows and meters of one node. `size` counts flows. `failures` says why a segment could not be made: it has
    none, and stops no other.
    """

    segments: Mapping[SegmentKey, Segment] = field(default_factory=dict)
    digest: int = 0
    size: int = 0
    failures: Mapping[SegmentKey, str] = field(default_factory=dict)

    def flows(self) -> Iterator[Flow]:
        for segment in self.segments.values():
            yield from segment.flows

    def meters(self) -> Iterator[MeterConfig]:
        for segment in self.segments.values():
            yield from segment.meters

    def __len__(self) -> int:
        return self.size


def _static(view: View, _id: str) -> Iterator[Flow]:
    for generate in _STATIC:
        yield from generate()


def _of_network(*generators: Callable[[View, Network], Iterator[Flow]]) -> Callable[[View, str], Iterator[Flow]]:
    def generate_all(view: View, network_id: str) -> Iterator[Flow]:
        network = view.snapshot.networks.get(network_id)
        if network is not None:
            for generate in generators:
                yield from generate(view, network)

    return generate_all


def _port(view: View, port_id: str) -> Iterator[Flow]:
    port = view.snapshot.ports.get(port_id)
    if port is None or view.seat(port) is None:
        return
    network = view.snapshot.networks[port.network_id]
    for generate in _PORT_LEFT if view.role(port) is Role.LEFT else _PORT:
        yield from generate(view, network, port)


def _floating_ip(view: View, id_: str) -> Iterator[Flow]:
    found = view.snapshot.floating_ips.get(id_)
    if found is not None:
        for generate in _FLOATING_IP:
            yield from generate(view, found)


def _flood_part(view: View, id_: str) -> Iterator[Flow]:
    network_id, _, part = id_.rpartition("/")
    network = view.snapshot.networks.get(network_id)
    if network is not None:
        yield from l2.flood_part(view, network, int(part))


def _security_group(view: View, id_: str) -> Iterator[Flow]:
    found = view.snapshot.security_groups.get(id_)
    if found is not None:
        yield from security_groups.group(view, found)


def _group_members(view: View, id_: str) -> Iterator[Flow]:
    group_id, _, part = id_.rpartition("/")
    found = view.snapshot.security_groups.get(group_id)
    if found is not None:
        yield from security_groups.members(view, found, int(part))


def _provider_rules(view: View, _id: str) -> Iterator[Flow]:
    yield from provider.provider_rules(view)


def _groups_here(snapshot: Snapshot, node: str) -> set[str]:
    return {id_ for port in snapshot.local_ports(node) for id_ in port.security_groups or ()}


def _all_parts(snapshot: Snapshot, group_id: str) -> Iterator[str]:
    """The parts of the members of those groups that a group's rules name."""
    group = snapshot.security_groups.get(group_id)
    remotes = set() if group is None else {remote for _, remote in security_groups.remotes_of(group)}
    for part in range(MEMBER_PARTS):
        if any((remote, part) in snapshot.ports_by_group_part for remote in remotes):
            yield f"{group_id}/{part}"


def _floating_ips(snapshot: Snapshot, port_ids: Iterable[str]) -> set[str]:
    """Those that lead to any of the ports."""
    by_port = snapshot.floating_ips_by_port
    return {id_ for port_id in port_ids for id_ in by_port.get(port_id, ())}


def _touch_floating_ips(before: Snapshot, after: Snapshot, ids: Iterable[str], node: str, touch: Touch) -> None:
    """Only of those that lead to a port here does a node have anything, now or before."""
    here = [snapshot.ports_by_node.get(node, frozenset()) for snapshot in (before, after)]
    for id_ in sorted(ids):
        known = (before.floating_ips.get(id_), after.floating_ips.get(id_))
        led_to = {port_id for one in known if one is not None for port_id in one.port_ids}
        if not all(ports.isdisjoint(led_to) for ports in here):
            touch(Kind.FLOATING_IP, (id_,))


def _part_id(port: Port) -> str:
    return f"{port.network_id}/{l2.part_of(port)}"


_GENERATORS: dict[Kind, Callable[[View, str], Iterator[Flow]]] = {
    Kind.STATIC: _static,
    Kind.NETWORK: _of_network(*_NETWORK),
    Kind.PORT: _port,
    Kind.FLOOD: _of_network(l2.flood, l2.shared_macs),
    Kind.KNOWN_ARP: _of_network(arp.known_ports),
    Kind.FLOOD_PART: _flood_part,
    Kind.FLOATING_IP: _floating_ip,
    Kind.SECURITY_GROUP: _security_group,
    Kind.GROUP_MEMBERS: _group_members,
    Kind.PROVIDER_RULES: _provider_rules,
}


def _static_meters(view: View, _id: str) -> Iterator[MeterConfig]:
    yield from allowance.static_meters()


def _port_meters(view: View, port_id: str) -> Iterator[MeterConfig]:
    port = view.snapshot.ports.get(port_id)
    if port is not None and view.role(port) in (Role.ACTIVE, Role.WAITING):
        for generate in _PORT_METERS:
            yield from generate(view, port)


_METERS: dict[Kind, Callable[[View, str], Iterator[MeterConfig]]] = {
    Kind.STATIC: _static_meters,
    Kind.PORT: _port_meters,
}


def _segment(view: View, key: SegmentKey) -> Segment:
    kind, id_ = key
    flows = tuple(_GENERATORS[kind](view, id_))
    meters = tuple(_METERS[kind](view, id_)) if kind in _METERS else ()
    return Segment(flows, digest(flows, meters), meters)


def compile_node(snapshot: Snapshot, node: str) -> Program:
    """The whole program of a node. Raises KeyError when the snapshot does not know it."""
    view = View(snapshot, snapshot.nodes[node])
    keys: list[SegmentKey] = [(Kind.STATIC, ""), (Kind.PROVIDER_RULES, "")]
    for network_id in snapshot.networks:
        keys += [(kind, network_id) for kind in (Kind.NETWORK, Kind.FLOOD, Kind.KNOWN_ARP)]
    local = snapshot.local_ports(node)
    keys += [(Kind.PORT, port.id) for port in local]
    keys += [(Kind.FLOATING_IP, id_) for id_ in sorted(_floating_ips(snapshot, (port.id for port in local)))]
    keys += [(Kind.FLOOD_PART, part) for part in sorted({_part_id(port) for port in local})]
    for group_id in sorted(_groups_here(snapshot, node)):
        keys.append((Kind.SECURITY_GROUP, group_id))
        keys += [(Kind.GROUP_MEMBERS, part) for part in _all_parts(snapshot, group_id)]
    return _rebuild(Program(), view, keys)[0]


def recompile(
    program: Program, before: Snapshot, after: Snapshot, changes: Iterable[Change], node: str
) -> tuple[Program, Delta]:
    """A node's program after some changes, and what to send for it.

    `program` is that of `before`, and `after` is `before` with the changes. For a node that is new, `program` is empty
    and everything is made; for one that is gone, everything is deleted.
    """
    if node not in after.nodes:
        return Program(), Delta((), tuple(program.flows()), 0, (), tuple(meter.id for meter in program.meters()))
    if node not in before.nodes or not program.segments:
        whole = compile_node(after, node)
        return whole, Delta(tuple(whole.flows()), (), whole.digest, tuple(whole.meters()))
    touched = _touched(before, after, changes, node)
    if not touched:
        return program, Delta((), (), program.digest)
    return _rebuild(program, View(after, after.nodes[node]), touched)


def _rebuild(program: Program, view: View, keys: Iterable[SegmentKey]) -> tuple[Program, Delta]:
    segments = dict(program.segments)
    value = program.digest
    size = program.size
    failures = dict(program.failures)
    replaced: list[Segment] = []
    made: list[Segment] = []
    for key in keys:
        old = segments.get(key)
        failures.pop(key, None)
        try:
            new = _segment(view, key)
        except Exception as error:  # one bad object must not stop the others
            failures[key] = f"{type(error).__name__}: {error}"
            new = Segment((), 0)
        if old == new:
            continue
        if old is not None:
            value ^= old.digest
            size -= len(old.flows)
            replaced.append(old)
        if new:
            segments[key] = new
            value ^= new.digest
            size += len(new.flows)
            made.append(new)
        else:
            segments.pop(key, None)
    return Program(segments, value, size, failures), _delta(replaced, made, value)


def _delta(replaced: Iterable[Segment], made: Iterable[Segment], value: int) -> Delta:
    return diff(
        (flow for segment in replaced for flow in segment.flows),
        (flow for segment in made for flow in segment.flows),
        value,
        meters_installed=(meter for segment in replaced for meter in segment.meters),
        meters_desired=(meter for segment in made for meter in segment.meters),
    )


def _touched(before: Snapshot, after: Snapshot, changes: Iterable[Change], node: str) -> list[SegmentKey]:
    """The segments of a node whose inputs a change may have altered, in a fixed order."""
    touched: dict[SegmentKey, None] = {}

    def touch(kind: Kind, ids: Iterable[str]) -> None:
        touched.update(((kind, id_), None) for id_ in ids)

    for change in changes:
        match change:
            case PortChange(id=id_, new=port):
                _touched_by_port(before, after, before.ports.get(id_), port, node, touch)
            case NetworkChange(id=id_, new=network):
                _touched_by_network(before, after, before.networks.get(id_), network, node, touch)
            case NodeChange(id=id_, new=new):
                _touched_by_node(before, after, before.nodes.get(id_), new, node, touch)
            case FloatingIpChange(id=id_):
                _touched_by_floating_ip(before, after, id_, node, touch)
            case SecurityGroupChange(id=id_, new=group):
                _touched_by_group(before, after, before.security_groups.get(id_), group, node, touch)
            case ProviderRuleChange():
                touch(Kind.PROVIDER_RULES, ("",))
    return list(touched)


Touch = Callable[[Kind, Iterable[str]], None]


def _touched_by_port(
    before: Snapshot, after: Snapshot, old: Port | None, new: Port | None, node: str, touch: Touch
) -> None:
    _touched_by_member(before, after, old, new, node, touch)
    for port, snapshot in ((old, before), (new, after)):
        if port is None:
            continue
        network = after.networks.get(port.network_id) or before.networks[port.network_id]
        if network.arp_responder:
            touch(Kind.KNOWN_ARP, (network.id,))
        # whether this port is here or not: it may decide which node answers for them
        _touch_floating_ips(before, after, _floating_ips(snapshot, (port.id,)), node, touch)
        if network.routes:
            touch(Kind.NETWORK, (network.id,))
        if all(binding.node != node for binding in port.bindings):
            continue
        touch(Kind.PORT, (port.id,))
        touch(Kind.FLOOD, (network.id,))
        touch(Kind.FLOOD_PART, (_part_id(port),))
        if before.present(node, network.id) != after.present(node, network.id):
            touch(Kind.KNOWN_ARP, (network.id,))
            touch(Kind.NETWORK, (network.id,))
            touch(Kind.NETWORK, snapshot.networks_by_router.get(network.router_key, ()))


def _touched_by_member(
    before: Snapshot, after: Snapshot, old: Port | None, new: Port | None, node: str, touch: Touch
) -> None:
    """A port in some groups: their rules are here while they have one here, and other groups' rules name them."""
    groups_before, groups_after = (set(port.security_groups or ()) if port else set() for port in (old, new))
    for group_id in groups_before | groups_after:
        if before.group_present(node, group_id) != after.group_present(node, group_id):
            touch(Kind.SECURITY_GROUP, (group_id,))
            for snapshot in (before, after):
                touch(Kind.GROUP_MEMBERS, _all_parts(snapshot, group_id))
    addresses_before, addresses_after = (set(port.addresses) if port else set() for port in (old, new))
    if (groups_before, addresses_before) == (groups_after, addresses_after):
        return
    parts = {member_part(cidr) for cidr in addresses_before | addresses_after}
    for group_id in groups_before | groups_after:
        for snapshot in (before, after):
            for naming in snapshot.groups_by_remote.get(group_id, ()):
                if before.group_present(node, naming) or after.group_present(node, naming):
                    touch(Kind.GROUP_MEMBERS, (f"{naming}/{part}" for part in parts))


def _touched_by_group(
    before: Snapshot, after: Snapshot, old: SecurityGroup | None, new: SecurityGroup | None, node: str, touch: Touch
) -> None:
    id_ = old.id if old is not None else new.id if new is not None else ""
    here = any(snapshot.group_present(node, id_) for snapshot in (before, after))
    if not here:
        return
    touch(Kind.SECURITY_GROUP, (id_,))
    if old is None or new is None or security_groups.remotes_of(old) != security_groups.remotes_of(new):
        for snapshot in (before, after):
            touch(Kind.GROUP_MEMBERS, _all_parts(snapshot, id_))
    if old is None or new is None or (old.stateful, old.log_dropped) != (new.stateful, new.log_dropped):
        members = after.ports_by_group.get(id_, frozenset()) & after.ports_by_node.get(node, frozenset())
        touch(Kind.PORT, sorted(members))
        # a broadcast names the zones of those that it goes to
        touch(Kind.FLOOD_PART, sorted({_part_id(after.ports[port_id]) for port_id in members}))
        # so does what goes to a MAC that several share
        touch(Kind.FLOOD, sorted({after.ports[port_id].network_id for port_id in members}))


def _touched_by_network(
    before: Snapshot, after: Snapshot, old: Network | None, new: Network | None, node: str, touch: Touch
) -> None:
    for network, snapshot in ((old, before), (new, after)):
        if network is None:
            continue
        for kind in (Kind.NETWORK, Kind.FLOOD, Kind.KNOWN_ARP):
            touch(kind, (network.id,))
        touch(Kind.NETWORK, snapshot.networks_by_router.get(network.router_key, ()))
        if network.external:
            touch(Kind.NETWORK, snapshot.networks)
            if old is None or new is None or old.mtu != new.mtu:
                touch(Kind.PORT, sorted(after.ports_by_node.get(node, frozenset())))
            floating = {id_ for id_, one in snapshot.floating_ips.items() if one.network_id == network.id}
            _touch_floating_ips(before, after, floating, node, touch)
            touch(Kind.PORT, sorted({port_id for id_ in floating for port_id in snapshot.floating_ips[id_].port_ids}))
        members = snapshot.ports_by_network.get(network.id, frozenset())
        here = members & snapshot.ports_by_node.get(node, frozenset())
        touch(Kind.PORT, here)
        touch(Kind.FLOATING_IP, sorted(_floating_ips(snapshot, here)))
        touch(Kind.FLOOD_PART, {_part_id(snapshot.ports[port_id]) for port_id in here})


def _touched_by_node(
    before: Snapshot, after: Snapshot, old: Node | None, new: Node | None, node: str, touch: Touch
) -> None:
    if old == new:
        return
    held_before, held_after = (set() if one is None else set(one.gateways) for one in (old, new))
    touch(Kind.NETWORK, sorted({held.network_id for held in held_before ^ held_after}))
    name = old.name if old is not None else new.name if new is not None else ""
    if name != node:
        if old is None or new is None or old.key != new.key:
            elsewhere = after.ports_by_node.get(name, frozenset())
            touch(Kind.PORT, sorted(after.ports_by_node.get(node, frozenset()) & elsewhere))
            _touch_floating_ips(before, after, _floating_ips(after, elsewhere), node, touch)
        return
    if old is None or new is None:  # then the whole program is made, or goes
        return
    touch(Kind.NETWORK, sorted({known.network_id for known in set(old.neighbours) ^ set(new.neighbours)}))
    if (old.key, old.uplinks, old.snat_addresses) != (new.key, new.uplinks, new.snat_addresses):
        touch(Kind.NETWORK, after.networks)
    if (old.key, old.uplinks) != (new.key, new.uplinks):
        here = after.ports_by_node.get(node, frozenset())
        touch(Kind.PORT, here)
        touch(Kind.FLOOD, sorted({after.ports[port_id].network_id for port_id in here}))
        touch(Kind.FLOATING_IP, sorted(_floating_ips(after, here)))


def _touched_by_floating_ip(before: Snapshot, after: Snapshot, id_: str, node: str, touch: Touch) -> None:
    _touch_floating_ips(before, after, (id_,), node, touch)
    for snapshot in (before, after):
        found = snapshot.floating_ips.get(id_)
        here = after.ports_by_node.get(node, frozenset())
        if found is not None:
            touch(Kind.PORT, sorted(found.port_ids & here))
