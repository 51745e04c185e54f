"""What a node's program is cut into, and which pieces a change may alter.

A piece is touched when anything that its generators look at has changed. That this is never too little is a tested law:
incremental is full (tests/property).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum

from flows.features import l2, policy, security_groups
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
    GATEWAYS = 10  # of a network


_SAME_INPUTS = (Kind.NETWORK, Kind.GATEWAYS)
"""What looks at the same of a network: one is never touched without the other."""

OF_NETWORK = (*_SAME_INPUTS, Kind.FLOOD, Kind.KNOWN_ARP)
"""What every network has a segment of."""

SegmentKey = tuple[Kind, str]
Touch = Callable[[Kind, Iterable[str]], None]


def member_parts(snapshot: Snapshot, group_id: str) -> Iterator[str]:
    """The parts of the members of those groups that a group's rules name."""
    group = snapshot.security_groups.get(group_id)
    remotes = set() if group is None else {remote for _, _, remote in security_groups.remotes_of(group)}
    for part in range(MEMBER_PARTS):
        if any((remote, part) in snapshot.ports_by_group_part for remote in remotes):
            yield f"{group_id}/{part}"


def floating_ips_of(snapshot: Snapshot, port_ids: Iterable[str]) -> set[str]:
    """Those that lead to any of the ports."""
    by_port = snapshot.floating_ips_by_port
    return {id_ for port_id in port_ids for id_ in by_port.get(port_id, ())}


def flood_part_of(port: Port) -> str:
    return f"{port.network_id}/{l2.part_of(port)}"


def touched(before: Snapshot, after: Snapshot, changes: Iterable[Change], node: str) -> list[SegmentKey]:
    """The segments of a node whose inputs a change may have altered, in a fixed order."""
    found: dict[SegmentKey, None] = {}

    def touch(kind: Kind, ids: Iterable[str]) -> None:
        kinds = _SAME_INPUTS if kind is Kind.NETWORK else (kind,)
        found.update(((each, id_), None) for id_ in ids for each in kinds)

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
    return list(found)


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
        _touch_floating_ips(before, after, floating_ips_of(snapshot, (port.id,)), node, touch)
        if network.routes:
            touch(Kind.NETWORK, (network.id,))
        if all(binding.node != node for binding in port.bindings):
            continue
        touch(Kind.PORT, (port.id,))
        touch(Kind.FLOOD, (network.id,))
        touch(Kind.FLOOD_PART, (flood_part_of(port),))
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
                touch(Kind.GROUP_MEMBERS, member_parts(snapshot, group_id))
    addresses_before, addresses_after = (set(port.member_addresses) if port else set() for port in (old, new))
    if (groups_before, addresses_before) == (groups_after, addresses_after):
        return
    parts = {member_part(cidr) for cidr in addresses_before | addresses_after}
    for group_id in groups_before | groups_after:
        for snapshot in (before, after):
            for naming in snapshot.groups_by_remote.get(group_id, ()):
                if before.group_present(node, naming) or after.group_present(node, naming):
                    touch(Kind.GROUP_MEMBERS, (f"{naming}/{part}" for part in parts))


def _told_by_ports(group: SecurityGroup) -> tuple[bool, ...]:
    """What the flows of a group's ports depend on."""
    return group.stateful, group.log_dropped, policy.reports(group)


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
            touch(Kind.GROUP_MEMBERS, member_parts(snapshot, id_))
    if old is None or new is None or _told_by_ports(old) != _told_by_ports(new):
        members = after.ports_by_group.get(id_, frozenset()) & after.ports_by_node.get(node, frozenset())
        touch(Kind.PORT, sorted(members))
        # a broadcast names the zones of those that it goes to
        touch(Kind.FLOOD_PART, sorted({flood_part_of(after.ports[port_id]) for port_id in members}))
        # so does what goes to a MAC that several share
        touch(Kind.FLOOD, sorted({after.ports[port_id].network_id for port_id in members}))


def _touched_by_network(
    before: Snapshot, after: Snapshot, old: Network | None, new: Network | None, node: str, touch: Touch
) -> None:
    for network, snapshot in ((old, before), (new, after)):
        if network is None:
            continue
        for kind in OF_NETWORK:
            touch(kind, (network.id,))
        touch(Kind.NETWORK, snapshot.networks_by_router.get(network.router_key, ()))
        if network.dhcp_relays:
            touch(Kind.NETWORK, snapshot.external_networks.values())
        if network.external:
            touch(Kind.NETWORK, snapshot.networks)
            here = after.ports_by_node.get(node, frozenset())
            if old is None or new is None or old.mtu != new.mtu:
                touch(Kind.PORT, sorted(here))
            # their solicitations are answered there
            touch(Kind.PORT, sorted(id_ for id_ in here if after.ports[id_].ipv6_addresses))
            floating = {id_ for id_, one in snapshot.floating_ips.items() if one.network_id == network.id}
            _touch_floating_ips(before, after, floating, node, touch)
            touch(Kind.PORT, sorted({port_id for id_ in floating for port_id in snapshot.floating_ips[id_].port_ids}))
        members = snapshot.ports_by_network.get(network.id, frozenset())
        here = members & snapshot.ports_by_node.get(node, frozenset())
        touch(Kind.PORT, here)
        touch(Kind.FLOATING_IP, sorted(floating_ips_of(snapshot, here)))
        touch(Kind.FLOOD_PART, {flood_part_of(snapshot.ports[port_id]) for port_id in here})


def _touched_by_node(
    before: Snapshot, after: Snapshot, old: Node | None, new: Node | None, node: str, touch: Touch
) -> None:
    if old == new:
        return
    held_before, held_after = (set() if one is None else set(one.gateways) for one in (old, new))
    touch(Kind.NETWORK, sorted({held.network_id for held in held_before ^ held_after}))
    name = old.name if old is not None else new.name if new is not None else ""
    if name != node:
        if old is None or new is None or (old.key, old.uplinks) != (new.key, new.uplinks):
            _touch_left_by(after, name, node, touch)
        if old is None or new is None or old.key != new.key:
            elsewhere = after.ports_by_node.get(name, frozenset())
            touch(Kind.PORT, sorted(after.ports_by_node.get(node, frozenset()) & elsewhere))
            _touch_floating_ips(before, after, floating_ips_of(after, elsewhere), node, touch)
        return
    if old is None or new is None:  # then the whole program is made, or goes
        return
    touch(Kind.NETWORK, sorted({known.network_id for known in set(old.neighbours) ^ set(new.neighbours)}))
    if old.datapath_type is not new.datapath_type:
        touch(Kind.STATIC, ("",))
        touch(Kind.NETWORK, after.networks)
        touch(Kind.PORT, after.ports_by_node.get(node, frozenset()))
        touch(Kind.FLOATING_IP, sorted(floating_ips_of(after, after.ports_by_node.get(node, frozenset()))))
    if (old.key, old.uplinks, old.snat_addresses) != (new.key, new.uplinks, new.snat_addresses):
        touch(Kind.NETWORK, after.networks)
    if (old.key, old.uplinks) != (new.key, new.uplinks):
        here = after.ports_by_node.get(node, frozenset())
        touch(Kind.PORT, here)
        touch(Kind.FLOOD, sorted({after.ports[port_id].network_id for port_id in here}))
        touch(Kind.FLOATING_IP, sorted(floating_ips_of(after, here)))


def _touch_left_by(after: Snapshot, gateway_node: str, node: str, touch: Touch) -> None:
    """The networks whose way out another node is."""
    ids = {id_ for id_, network in after.networks.items() if network.gateway_node == gateway_node}
    touch(Kind.NETWORK, sorted(ids))
    here = after.ports_by_node.get(node, frozenset())
    touch(Kind.PORT, sorted(port_id for port_id in here if after.ports[port_id].network_id in ids))


def _touched_by_floating_ip(before: Snapshot, after: Snapshot, id_: str, node: str, touch: Touch) -> None:
    _touch_floating_ips(before, after, (id_,), node, touch)
    for snapshot in (before, after):
        found = snapshot.floating_ips.get(id_)
        here = after.ports_by_node.get(node, frozenset())
        if found is not None:
            touch(Kind.PORT, sorted(found.port_ids & here))


def _touch_floating_ips(before: Snapshot, after: Snapshot, ids: Iterable[str], node: str, touch: Touch) -> None:
    """Only of those that lead to a port here does a node have anything, now or before."""
    here = [snapshot.ports_by_node.get(node, frozenset()) for snapshot in (before, after)]
    for id_ in sorted(ids):
        known = (before.floating_ips.get(id_), after.floating_ips.get(id_))
        led_to = {port_id for one in known if one is not None for port_id in one.port_ids}
        if not all(ports.isdisjoint(led_to) for ports in here):
            touch(Kind.FLOATING_IP, (id_,))
