"""From a snapshot to the flows of a node, whole or only what a change touches.

A node's program is cut into segments: for what is always there, for each network, for each local port. A segment is
a pure function of the snapshot, so a change costs the segments that it touches and never the whole model. That the
incremental way gives what the whole way gives is a tested law.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from flows.diff import Delta, diff
from flows.digest import digest
from flows.features import (
    allowance,
    arp,
    classify,
    dhcp_guard,
    dhcp_relay,
    external,
    floating_ip,
    fragments,
    gateway_node,
    ipv6_gateway,
    ipv6_outside,
    ipv6_parts,
    ipv6_policy,
    ipv6_routing,
    ipv6_security,
    ipv6_uplink,
    l2,
    migration,
    nat,
    nd_tc,
    policy,
    port_forwarding,
    port_security,
    provider,
    qos,
    routing,
    security_groups,
    service_port,
    services,
    size,
    static_routes,
    uplink_in,
)
from flows.ir import Flow, MeterConfig
from flows.model import (
    Change,
    Network,
)
from flows.segments import OF_NETWORK, Kind, SegmentKey, floating_ips_of, flood_part_of, member_parts, touched
from flows.snapshot import Snapshot
from flows.turns import no_turn
from flows.view import Role, View

_STATIC = (
    classify.static,
    external.static,
    size.static,
    nat.static,
    port_security.static,
    ipv6_security.static,
    ipv6_gateway.static,
    uplink_in.static,
    arp.static,
    services.static,
    service_port.static,
    dhcp_guard.static,
    policy.static,
    ipv6_policy.static,
    ipv6_parts.static,
    routing.static,
    ipv6_routing.static,
    ipv6_outside.static,
    l2.static,
    migration.static,
    allowance.static,
)
_NODE = (ipv6_gateway.node,)
_NETWORK = (
    classify.network,
    external.network,
    dhcp_relay.network,
    size.network,
    nat.network,
    port_security.network,
    ipv6_security.network,
    ipv6_gateway.network,
    uplink_in.network,
    ipv6_uplink.network,
    services.network,
    service_port.network,
    routing.network,
    ipv6_routing.network,
    ipv6_outside.network,
    nd_tc.network,
    static_routes.network,
    l2.network,
    gateway_node.network,
    security_groups.network,
    ipv6_policy.network,
)
# what all nodes answer for
_GATEWAYS = (arp.gateways, services.gateways, service_port.gateways, uplink_in.gateways)
_PORT = (
    classify.port,
    port_security.port,
    ipv6_security.port,
    ipv6_gateway.port,
    nd_tc.port,
    gateway_node.port,
    static_routes.port,
    services.port,
    service_port.port,
    dhcp_guard.port,
    ipv6_parts.port,
    routing.port,
    ipv6_routing.port,
    ipv6_outside.port,
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
_PORT_LEFT = (
    routing.port,
    ipv6_routing.port,
    nat.port,
    floating_ip.port,
    port_forwarding.port,
    policy.port,
    migration.port,
)
_PORT_METERS = (allowance.port_meters, qos.meters)
_FLOATING_IP = (floating_ip.floating_ip, port_forwarding.floating_ip)


@dataclass(frozen=True, slots=True)
class Segment:
    flows: tuple[Flow, ...]
    digest: int
    meters: tuple[MeterConfig, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.flows or self.meters)


Shared = dict[tuple[SegmentKey, Hashable], Segment]
"""Segments that nodes have in common, of one snapshot: begin with an empty one, and give it for each node."""


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
    for generate_for in _NODE:
        yield from generate_for(view)


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
    Kind.GATEWAYS: _of_network(*_GATEWAYS),
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


def _gateways_here(view: View, network_id: str) -> Hashable:
    network = view.snapshot.networks.get(network_id)
    if network is None:
        return ()
    askers: tuple[str, ...] = ()
    if services.senders_differ(view, network):
        askers = tuple(one.id for one in view.snapshot.router_networks(network.router_key) if view.present(one))
    return (
        view.present(network),
        view.attends(network),
        view.reachable(network),
        view.is_gateway_node(network),
        askers,
    )


def _group_here(view: View, id_: str) -> Hashable:
    return view.snapshot.group_present(view.node.name, id_.partition("/")[0])


# Of what nodes have in common: all that a segment's generators look at of the node itself.
_HERE: dict[Kind, Callable[[View, str], Hashable]] = {
    Kind.STATIC: lambda view, _id: view.node.datapath_type,
    Kind.PROVIDER_RULES: lambda _view, _id: (),
    Kind.GATEWAYS: _gateways_here,
    Kind.SECURITY_GROUP: _group_here,
    Kind.GROUP_MEMBERS: _group_here,
}


def _segment(view: View, key: SegmentKey, shared: Shared) -> Segment:
    here = _HERE.get(key[0])
    if here is None:
        return _made(view, key)
    place = key, here(view, key[1])
    found = shared.get(place)
    if found is None:
        found = shared[place] = _made(view, key)
    return found


def _made(view: View, key: SegmentKey) -> Segment:
    kind, id_ = key
    flows = tuple(_GENERATORS[kind](view, id_))
    meters = tuple(_METERS[kind](view, id_)) if kind in _METERS else ()
    return Segment(flows, digest(flows, meters), meters)


def compile_node(
    snapshot: Snapshot, node: str, shared: Shared | None = None, turn: Callable[[], None] = no_turn
) -> Program:
    """The whole program of a node. `turn` is called after each segment: who has others to serve serves them then.
    Raises KeyError when the snapshot does not know the node.
    """
    view = View(snapshot, snapshot.nodes[node])
    keys: list[SegmentKey] = [(Kind.STATIC, ""), (Kind.PROVIDER_RULES, "")]
    for network_id in snapshot.networks:
        keys += [(kind, network_id) for kind in OF_NETWORK]
    local = snapshot.local_ports(node)
    keys += [(Kind.PORT, port.id) for port in local]
    keys += [(Kind.FLOATING_IP, id_) for id_ in sorted(floating_ips_of(snapshot, (port.id for port in local)))]
    keys += [(Kind.FLOOD_PART, part) for part in sorted({flood_part_of(port) for port in local})]
    for group_id in sorted(_groups_here(snapshot, node)):
        keys.append((Kind.SECURITY_GROUP, group_id))
        keys += [(Kind.GROUP_MEMBERS, part) for part in member_parts(snapshot, group_id)]
    return _rebuild(Program(), view, keys, shared, turn)[0]


def recompile(
    program: Program,
    before: Snapshot,
    after: Snapshot,
    changes: Iterable[Change],
    node: str,
    shared: Shared | None = None,
    turn: Callable[[], None] = no_turn,
) -> tuple[Program, Delta]:
    """A node's program after some changes, and what to send for it. `turn` as of `compile_node`.

    `program` is that of `before`, and `after` is `before` with the changes. For a node that is new, `program` is empty
    and everything is made; for one that is gone, everything is deleted.
    """
    if node not in after.nodes:
        return Program(), Delta((), tuple(program.flows()), 0, (), tuple(meter.id for meter in program.meters()))
    if node not in before.nodes or not program.segments:
        whole = compile_node(after, node, shared, turn)
        return whole, Delta(tuple(whole.flows()), (), whole.digest, tuple(whole.meters()))
    changed = touched(before, after, changes, node)
    if not changed:
        return program, Delta((), (), program.digest)
    new, replaced, made = _rebuild(program, View(after, after.nodes[node]), changed, shared, turn)
    return new, _delta(replaced, made, new.digest)


def _rebuild(
    program: Program, view: View, keys: Iterable[SegmentKey], shared: Shared | None, turn: Callable[[], None]
) -> tuple[Program, list[Segment], list[Segment]]:
    """The next program, and which segments it has no more, and which it has instead."""
    if shared is None:
        shared = {}
    segments = dict(program.segments)
    value = program.digest
    size = program.size
    failures = dict(program.failures)
    replaced: list[Segment] = []
    made: list[Segment] = []
    for key in keys:
        turn()
        old = segments.get(key)
        failures.pop(key, None)
        try:
            new = _segment(view, key, shared)
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
    return Program(segments, value, size, failures), replaced, made


def _delta(replaced: Iterable[Segment], made: Iterable[Segment], value: int) -> Delta:
    return diff(
        (flow for segment in replaced for flow in segment.flows),
        (flow for segment in made for flow in segment.flows),
        value,
        meters_installed=(meter for segment in replaced for meter in segment.meters),
        meters_desired=(meter for segment in made for meter in segment.meters),
    )
