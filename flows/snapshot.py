"""Everything the controller knows at one revision.

`Snapshot` is the one input of the compiler and of every packet_in handler. It is never changed: `Snapshot.apply`
makes the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Any

from flows.host_name import host_name
from flows.model import (
    Change,
    DnsZone,
    DnsZoneChange,
    FloatingIp,
    FloatingIpChange,
    Network,
    NetworkChange,
    Node,
    NodeChange,
    Port,
    PortChange,
    ProviderRule,
    ProviderRuleChange,
    SecurityGroup,
    SecurityGroupChange,
)
from flows.pipeline import MEMBER_PARTS

_NONE: frozenset[str] = frozenset()


def member_part(cidr: IPv4Network | IPv6Network) -> int:
    """Which part of a security group's members an address belongs to."""
    return int(cidr.network_address) % MEMBER_PARTS


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Build it with `Snapshot.build`, not by hand: it has indexes."""

    revision: int
    # the operator's choice for the whole cloud, in the configuration: no change alters it
    drop_private: bool = False
    networks: Mapping[str, Network] = field(default_factory=dict)
    ports: Mapping[str, Port] = field(default_factory=dict)
    nodes: Mapping[str, Node] = field(default_factory=dict)
    floating_ips: Mapping[str, FloatingIp] = field(default_factory=dict)
    ports_by_node: Mapping[str, frozenset[str]] = field(default_factory=dict)
    ports_by_network: Mapping[str, frozenset[str]] = field(default_factory=dict)
    ports_by_key: Mapping[int, str] = field(default_factory=dict)
    ports_by_address: Mapping[tuple[str, int], str] = field(default_factory=dict)
    ports_by_ipv6_address: Mapping[tuple[str, int], str] = field(default_factory=dict)
    # (network, host name in lower case)
    ports_by_name: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    # (network, device id in lower case)
    ports_by_machine: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    # of one project: a device id is a word of the user's
    ports_by_device: Mapping[tuple[str | None, str], frozenset[str]] = field(default_factory=dict)
    ports_by_ofport: Mapping[tuple[str, int], str] = field(default_factory=dict)
    # (network, address): who holds it beside its fixed IPs, and who may by an address pair
    holders: Mapping[tuple[str, int], str] = field(default_factory=dict)
    ports_by_pair: Mapping[tuple[str, int], frozenset[str]] = field(default_factory=dict)
    networks_by_key: Mapping[int, str] = field(default_factory=dict)
    networks_by_router: Mapping[int, frozenset[str]] = field(default_factory=dict)
    external_networks: Mapping[int, str] = field(default_factory=dict)
    # those that have DHCP relays
    relayed: Mapping[str, Network] = field(default_factory=dict)
    floating_ips_by_port: Mapping[str, frozenset[str]] = field(default_factory=dict)
    migrating: Mapping[str, Port] = field(default_factory=dict)
    security_groups: Mapping[str, SecurityGroup] = field(default_factory=dict)
    provider_rules: Mapping[str, ProviderRule] = field(default_factory=dict)
    ports_by_group: Mapping[str, frozenset[str]] = field(default_factory=dict)
    # those with an address in a part (member_part) of a group
    ports_by_group_part: Mapping[tuple[str, int], frozenset[str]] = field(default_factory=dict)
    groups_by_rule: Mapping[int, str] = field(default_factory=dict)
    # the groups that have a rule about the members of a group
    groups_by_remote: Mapping[str, frozenset[str]] = field(default_factory=dict)
    dns_zones: Mapping[str, DnsZone] = field(default_factory=dict)
    # a public one, and private ones of projects
    dns_zones_by_name: Mapping[str, frozenset[str]] = field(default_factory=dict)
    # how many bound ports of a node are in a group
    group_presence: Mapping[tuple[str, str], int] = field(default_factory=dict)
    # how many bound ports a (node, network) pair has: asked for every change, so it is counted, not searched
    presence: Mapping[tuple[str, str], int] = field(default_factory=dict)

    @staticmethod
    def build(
        revision: int,
        networks: Iterable[Network] = (),
        ports: Iterable[Port] = (),
        nodes: Iterable[Node] = (),
        floating_ips: Iterable[FloatingIp] = (),
        security_groups: Iterable[SecurityGroup] = (),
        provider_rules: Iterable[ProviderRule] = (),
        dns_zones: Iterable[DnsZone] = (),
    ) -> Snapshot:
        changes: list[Change] = [NetworkChange(network.id, network) for network in networks]
        changes += [PortChange(port.id, port) for port in ports]
        changes += [NodeChange(node.name, node) for node in nodes]
        changes += [FloatingIpChange(floating_ip.id, floating_ip) for floating_ip in floating_ips]
        changes += [SecurityGroupChange(group.id, group) for group in security_groups]
        changes += [ProviderRuleChange(rule.id, rule) for rule in provider_rules]
        changes += [DnsZoneChange(zone.id, zone) for zone in dns_zones]
        return Snapshot(0).apply(revision, changes)

    def apply(self, revision: int, changes: Iterable[Change]) -> Snapshot:
        """The snapshot after these changes. Costs a shallow copy of the maps that change, not of what is in them."""
        draft = _Draft(self)
        for change in changes:
            match change:
                case NetworkChange(id=id_, new=network):
                    draft.network(id_, network)
                case PortChange(id=id_, new=port):
                    draft.port(id_, port)
                case NodeChange(id=id_, new=node):
                    draft.node(id_, node)
                case FloatingIpChange(id=id_, new=floating_ip):
                    draft.floating_ip(id_, floating_ip)
                case SecurityGroupChange(id=id_, new=group):
                    draft.security_group(id_, group)
                case ProviderRuleChange(id=id_, new=rule):
                    draft.provider_rule(id_, rule)
                case DnsZoneChange(id=id_, new=zone):
                    draft.dns_zone(id_, zone)
        maps: dict[str, Any] = draft.maps()
        return replace(self, revision=revision, **maps)

    def changes_to(self, other: Snapshot) -> tuple[Change, ...]:
        """What makes another one, of the same cloud, of this one, where nobody knows what has changed in between."""
        return (
            *_differing(self.networks, other.networks, NetworkChange),
            *_differing(self.ports, other.ports, PortChange),
            *_differing(self.nodes, other.nodes, NodeChange),
            *_differing(self.floating_ips, other.floating_ips, FloatingIpChange),
            *_differing(self.security_groups, other.security_groups, SecurityGroupChange),
            *_differing(self.provider_rules, other.provider_rules, ProviderRuleChange),
            *_differing(self.dns_zones, other.dns_zones, DnsZoneChange),
        )

    def local_ports(self, node: str) -> list[Port]:
        """The ports that a node has flows for: bound to it, expected there, or just gone from there."""
        return [self.ports[port_id] for port_id in self.ports_by_node.get(node, _NONE)]

    def present(self, node: str, network_id: str) -> bool:
        """True when the node has a port on the network."""
        return self.presence.get((node, network_id), 0) > 0

    def group_present(self, node: str, group_id: str) -> bool:
        """True when a port of the node is in the group."""
        return self.group_presence.get((node, group_id), 0) > 0

    def router_networks(self, router_key: int) -> list[Network]:
        """The networks that are routed to each other, by key."""
        members = self.networks_by_router.get(router_key, _NONE)
        return sorted((self.networks[id_] for id_ in members), key=lambda network: network.key)

    def external_network(self, network: Network) -> Network | None:
        """Where a network's traffic to the outside leaves: its own choice, or the external network made first."""
        if network.external_network_id is not None:
            return self.networks.get(network.external_network_id)
        if not self.external_networks:
            return None
        return self.networks[self.external_networks[min(self.external_networks)]]

    def relayed_by(self, external: Network) -> list[Network]:
        """The networks whose DHCP relays ask the nodes at their addresses on an external network, by key."""
        found = [each for each in self.relayed.values() if each.dhcp and self.external_network(each) is external]
        return sorted(found, key=lambda network: network.key)

    def port_with(self, network_id: str, address: IPv4Address) -> Port | None:
        """The port that has an address on a network: who holds it, before who has reserved it."""
        held = self.holder(network_id, address)
        port_id = self.ports_by_address.get((network_id, int(address))) if held is None else held.id
        return None if port_id is None else self.ports[port_id]

    def ports_called(self, network_id: str, name: str) -> list[Port]:
        """The ports of a network with this host name, in lower case, the oldest first."""
        found = (self.ports[id_] for id_ in self.ports_by_name.get((network_id, name), _NONE))
        return sorted(found, key=lambda port: port.key)

    def ports_of_machine(self, network_id: str, device_id: str) -> list[Port]:
        """The ports of a network with this device id, in lower case, the oldest first."""
        found = (self.ports[id_] for id_ in self.ports_by_machine.get((network_id, device_id), _NONE))
        return sorted(found, key=lambda port: port.key)

    def port_with_ipv6(self, network_id: str, address: IPv6Address) -> Port | None:
        port_id = self.ports_by_ipv6_address.get((network_id, int(address)))
        return None if port_id is None else self.ports[port_id]

    def holder(self, network_id: str, address: IPv4Address) -> Port | None:
        """The port that has an address of its pairs now."""
        port_id = self.holders.get((network_id, int(address)))
        return None if port_id is None else self.ports[port_id]

    def owner_at_work(self, network_id: str, address: IPv4Address) -> bool:
        """A port that has the address as its own is on a node: then nobody holds it beside."""
        port_id = self.ports_by_address.get((network_id, int(address)))
        return port_id is not None and self.ports[port_id].binding is not None

    def floating_ips_of(self, port_id: str) -> list[FloatingIp]:
        """Those that lead to a port, by key."""
        found = (self.floating_ips[id_] for id_ in self.floating_ips_by_port.get(port_id, _NONE))
        return sorted(found, key=lambda floating_ip: floating_ip.key)

    def floating_ip_node(self, floating_ip: FloatingIp) -> str | None:
        """The one node that answers for a floating IP on the wire: where its port is, or its first bound one."""
        candidates = [forwarding.port_id for forwarding in floating_ip.port_forwardings]
        if floating_ip.port_id is not None:
            candidates.insert(0, floating_ip.port_id)
        for port_id in candidates:
            port = self.ports.get(port_id)
            if port is not None and port.binding is not None:
                return port.binding.node
        return None

    def member_at(self, node: str, group_id: str, address: IPv4Address | IPv6Address) -> Port | None:
        """The port of a node that is in a group and has an address; any of those, where several may."""
        itself = ip_network(address)
        of_part = self.ports_by_group_part.get((group_id, member_part(itself)), _NONE)
        here = of_part & self.ports_by_node.get(node, _NONE)
        return next((self.ports[id_] for id_ in sorted(here) if itself in self.ports[id_].member_addresses), None)

    def port_at(self, node: str, ofport: int) -> Port | None:
        port_id = self.ports_by_ofport.get((node, ofport))
        return None if port_id is None else self.ports[port_id]

    def first_of_device(self, port: Port) -> bool:
        """True when no port of the same machine was made before it, or it says of no machine."""
        others = self.ports_by_device.get((port.project_id, port.device_id), _NONE) if port.device_id else _NONE
        return all(self.ports[id_].key >= port.key for id_ in others)


def _differing(
    before: Mapping[str, Any], after: Mapping[str, Any], change: Callable[[str, Any], Change]
) -> Iterator[Change]:
    for id_ in before.keys() - after.keys():
        yield change(id_, None)
    for id_, one in after.items():
        if before.get(id_) != one:
            yield change(id_, one)


class _Draft:
    """Copies each map of a snapshot, and each set of an index, once: when it is first written."""

    def __init__(self, base: Snapshot) -> None:
        self._base = base
        self._maps: dict[str, dict[Any, Any]] = {}
        self._drafted: dict[str, dict[Any, set[str]]] = {}  # what of the indexes is written

    def maps(self) -> dict[str, dict[Any, Any]]:
        """Those that were written, as they are now."""
        for name, drafted in self._drafted.items():
            target = self._maps[name]
            for key, members in drafted.items():
                if members:
                    target[key] = frozenset(members)
                else:
                    target.pop(key, None)
        return self._maps

    def _map(self, name: str, base: Mapping[Any, Any]) -> dict[Any, Any]:
        if name not in self._maps:
            self._maps[name] = dict(base)
        return self._maps[name]

    def _store(self, name: str, base: Mapping[Any, Any], key: object, value: object | None) -> object | None:
        target = self._map(name, base)
        old = target.get(key)
        if value is None:
            target.pop(key, None)
        else:
            target[key] = value
        return old

    def _index(self, name: str, base: Mapping[Any, Any], key: object, member: str, add: bool) -> None:
        before = self._map(name, base)
        drafted = self._drafted.setdefault(name, {})
        if key not in drafted:
            drafted[key] = set(before.get(key, _NONE))
        if add:
            drafted[key].add(member)
        else:
            drafted[key].discard(member)

    def network(self, id_: str, new: Network | None) -> None:
        base = self._base
        old = self._store("networks", base.networks, id_, new)
        for network, add in ((old, False), (new, True)):
            if isinstance(network, Network):
                self._store("networks_by_key", base.networks_by_key, network.key, id_ if add else None)
                self._index("networks_by_router", base.networks_by_router, network.router_key, id_, add)
                if network.dhcp_relays:
                    self._store("relayed", base.relayed, id_, network if add else None)
                if network.external:
                    self._store("external_networks", base.external_networks, network.key, id_ if add else None)

    def port(self, id_: str, new: Port | None) -> None:
        base = self._base
        old = self._store("ports", base.ports, id_, new)
        for port, add in ((old, False), (new, True)):
            if not isinstance(port, Port):
                continue
            self._store("ports_by_key", base.ports_by_key, port.key, id_ if add else None)
            self._index("ports_by_network", base.ports_by_network, port.network_id, id_, add)
            for fixed_ip in port.fixed_ips:
                address = (port.network_id, int(fixed_ip.address))
                self._own("ports_by_address", base.ports_by_address, address, id_, add)
            for ipv6_address in port.ipv6_addresses:
                address = (port.network_id, int(ipv6_address.address))
                self._own("ports_by_ipv6_address", base.ports_by_ipv6_address, address, id_, add)
            if port.hostname:
                name = (port.network_id, host_name(port.hostname).lower())
                self._index("ports_by_name", base.ports_by_name, name, id_, add)
            for held in port.held:
                self._own("holders", base.holders, (port.network_id, int(held.address)), id_, add)
            for cidr in {pair.cidr for pair in port.address_pairs if pair.cidr.num_addresses == 1}:
                address = (port.network_id, int(cidr.network_address))
                self._index("ports_by_pair", base.ports_by_pair, address, id_, add)
            if port.device_id:
                machine = (port.network_id, port.device_id.lower())
                self._index("ports_by_machine", base.ports_by_machine, machine, id_, add)
                device = (port.project_id, port.device_id)
                self._index("ports_by_device", base.ports_by_device, device, id_, add)
            groups = port.security_groups or ()
            for group_id in groups:
                self._index("ports_by_group", base.ports_by_group, group_id, id_, add)
                for part in {member_part(cidr) for cidr in port.member_addresses}:
                    self._index("ports_by_group_part", base.ports_by_group_part, (group_id, part), id_, add)
            by = 1 if add else -1
            for binding in port.bindings:
                self._index("ports_by_node", base.ports_by_node, binding.node, id_, add)
                self._count("presence", base.presence, (binding.node, port.network_id), by)
                for group_id in groups:
                    self._count("group_presence", base.group_presence, (binding.node, group_id), by)
            for seat in port.seats:
                self._own("ports_by_ofport", base.ports_by_ofport, (seat.node, seat.ofport), id_, add)
            if port.migration is not None:
                self._store("migrating", base.migrating, id_, port if add else None)

    def _own(self, name: str, base: Mapping[Any, Any], place: object, id_: str, add: bool) -> None:
        places = self._map(name, base)
        if add:
            places[place] = id_
        elif places.get(place) == id_:  # another may have taken the place within the same change
            del places[place]

    def _count(self, name: str, base: Mapping[Any, Any], key: tuple[str, str], by: int) -> None:
        counts = self._map(name, base)
        count = counts.get(key, 0)
        assert isinstance(count, int)
        if count + by:
            counts[key] = count + by
        else:
            counts.pop(key, None)

    def node(self, id_: str, new: Node | None) -> None:
        self._store("nodes", self._base.nodes, id_, new)

    def floating_ip(self, id_: str, new: FloatingIp | None) -> None:
        old = self._store("floating_ips", self._base.floating_ips, id_, new)
        for floating_ip, add in ((old, False), (new, True)):
            if isinstance(floating_ip, FloatingIp):
                for port_id in floating_ip.port_ids:
                    self._index("floating_ips_by_port", self._base.floating_ips_by_port, port_id, id_, add)

    def security_group(self, id_: str, new: SecurityGroup | None) -> None:
        old = self._store("security_groups", self._base.security_groups, id_, new)
        for group, add in ((old, False), (new, True)):
            if isinstance(group, SecurityGroup):
                for rule in group.rules:
                    self._store("groups_by_rule", self._base.groups_by_rule, rule.key, id_ if add else None)
                for remote in {rule.remote_group_id for rule in group.rules} - {None}:
                    self._index("groups_by_remote", self._base.groups_by_remote, remote, id_, add)

    def provider_rule(self, id_: str, new: ProviderRule | None) -> None:
        self._store("provider_rules", self._base.provider_rules, id_, new)

    def dns_zone(self, id_: str, new: DnsZone | None) -> None:
        old = self._store("dns_zones", self._base.dns_zones, id_, new)
        for zone, add in ((old, False), (new, True)):
            if isinstance(zone, DnsZone):
                self._index("dns_zones_by_name", self._base.dns_zones_by_name, zone.name, id_, add)
