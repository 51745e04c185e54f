"""What one node sees of a snapshot: the questions that feature generators ask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from flows.model import (
    Binding,
    FloatingIp,
    GatewayMode,
    Ipv6Mode,
    MigrationPhase,
    Network,
    NetworkKind,
    Node,
    Port,
    PortForwarding,
    SnatAddress,
    StaticRoute,
)
from flows.pipeline import GATEWAY_LINK_LOCAL, gateway_node_mac, node_mac, teacher_mac
from flows.protocols import VLAN_NONE, VLAN_PRESENT
from flows.snapshot import Snapshot


class Role(Enum):
    """What a node does for a port."""

    NONE = 0
    ACTIVE = 1  # serves it
    WAITING = 2  # expects it
    LEFT = 3  # passes on what still comes for it


@dataclass(frozen=True, slots=True)
class View:
    snapshot: Snapshot
    node: Node

    @property
    def mac(self) -> int:
        """The node's own MAC on the wire."""
        return node_mac(self.node.key)

    @property
    def teacher_mac(self) -> int:
        """The MAC by which the node tells others what is behind it."""
        return teacher_mac(self.node.key)

    @property
    def gateway_node_mac(self) -> int:
        """The MAC on the wire of what other nodes, and machines, send out by this one."""
        return gateway_node_mac(self.node.key)

    def present(self, network: Network) -> bool:
        """The network has a port on this node."""
        return self.snapshot.present(self.node.name, network.id)

    def is_gateway_node(self, network: Network) -> bool:
        """The network's traffic to the outside leaves by this node alone."""
        return network.single and network.gateway_node == self.node.name

    def attends(self, network: Network) -> bool:
        """The network has ports here, or this node is its way out."""
        return self.present(network) or self.is_gateway_node(network)

    def role(self, port: Port) -> Role:
        if port.binding is None:
            return Role.NONE
        if port.binding.node == self.node.name:
            return Role.ACTIVE
        if port.migration is None or port.migration.other.node != self.node.name:
            return Role.NONE
        return Role.LEFT if port.migration.phase is MigrationPhase.MOVED else Role.WAITING

    def seat(self, port: Port) -> Binding | None:
        """Interface and conntrack zone that a port has, or had, on this node."""
        return next((binding for binding in port.bindings if binding.node == self.node.name), None)

    def members(self, network: Network) -> Iterator[Port]:
        """The network's ports on this node, also those to come or just gone, in no order."""
        snapshot = self.snapshot
        of_network = snapshot.ports_by_network.get(network.id, frozenset())
        for port_id in of_network & snapshot.ports_by_node.get(self.node.name, frozenset()):
            yield snapshot.ports[port_id]

    def reachable(self, network: Network) -> bool:
        """Routed here: the network, or another of its router, has a port on this node and the node as gateway."""
        if not network.routed:
            return False
        if self.attends(network):
            return True
        return any(other.routed and self.attends(other) for other in self.snapshot.router_networks(network.router_key))

    def uplink(self, network: Network) -> int | None:
        return self.node.uplink(network.physical_network)

    def gateways(self, network: Network) -> list[IPv4Address]:
        """All addresses that are the network's gateway, on whatever node: each node answers for all of them."""
        if network.gateway_mode is GatewayMode.PER_HOST:
            held = (one for node in self.snapshot.nodes.values() for one in node.gateways)
            return sorted(one.address for one in held if one.network_id == network.id)
        if network.gateway_mode in (GatewayMode.SHARED, GatewayMode.SINGLE):
            return [subnet.gateway for subnet in network.subnets if subnet.gateway is not None]
        return []

    def way_out(self, network: Network) -> Network | None:
        """The external network of a network's traffic, if the node by which that leaves reaches it."""
        if not network.translated:
            return None
        external = self.snapshot.external_network(network)
        by = self.node if not network.single else self.snapshot.nodes.get(network.gateway_node or "")
        return None if external is None or by is None or by.uplink(external.physical_network) is None else external

    def way_out_ipv6(self, network: Network) -> Network | None:
        """The external network by which IPv6 leaves a network: by each node itself, since nothing is translated."""
        if not network.routed or not network.ipv6_subnets:
            return None
        external = self.snapshot.external_network(network)
        if external is None or not external.ipv6_subnets or self.uplink(external) is None:
            return None
        return external

    def snat(self, network: Network) -> SnatAddress | None:
        """The address of this node that a network's traffic leaves from."""
        external = self.way_out(network)
        if external is None:
            return None
        return self.node.snat_address(external.id, network.id if network.own_snat_address else None)

    def outside_mtu(
        self, network: Network, port: Port, source: IPv4Address, protocol: int = 0, source_port: int = 0
    ) -> int | None:
        """What the way out takes of a packet of a port: the external network of the floating IP that it leaves from
        counts, else that of its network. None when there is no way out.

        `source_port` is 0 for a fragment, which may be of any forwarding's connection. Both `flows` and the
        controller ask here, so that what is cut to fit does fit.
        """
        external = self.way_out(network)
        if external is None:
            return None
        own = self.floating_ips(port, source)
        usual = external.mtu if not own else self.snapshot.networks[own[0].network_id].mtu
        led = [(each, to) for each, to in self.forwarded(port) if each.fixed_ip == source and each.protocol == protocol]
        if not source_port:
            return min([usual, *(to.mtu for _, to in led)])
        answering = (to.mtu for each, to in led if each.to <= source_port <= each.to + each.last - each.first)
        return next(answering, usual)

    def narrow(self, network: Network) -> bool:
        """From other networks, or from outside, may come what is larger than a network's MTU."""
        snapshot = self.snapshot
        senders = [snapshot.networks[id_] for id_ in snapshot.external_networks.values()] if network.translated else []
        if network.routed:
            senders += snapshot.router_networks(network.router_key)
        return any(sender.mtu > network.mtu for sender in senders)

    def local(self, port_id: str | None) -> Port | None:
        """A port that this node has flows for."""
        port = None if port_id is None else self.snapshot.ports.get(port_id)
        return None if port is None or self.seat(port) is None else port

    def floating_ips(self, port: Port, address: IPv4Address) -> list[FloatingIp]:
        """Those that stand for an address of a port and that this node can serve, by key."""
        return [
            floating_ip
            for floating_ip in self.snapshot.floating_ips_of(port.id)
            if floating_ip.port_id == port.id
            and floating_ip.fixed_ip == address
            and self.external_of(floating_ip) is not None
        ]

    def forwardings(self, port: Port) -> list[PortForwarding]:
        """Those that lead to a port, the oldest first."""
        found = [
            forwarding
            for floating_ip in self.snapshot.floating_ips_of(port.id)
            for forwarding in floating_ip.port_forwardings
            if forwarding.port_id == port.id
        ]
        return sorted(found, key=lambda forwarding: forwarding.key)

    def forwarded_by(self, forwarding: PortForwarding) -> FloatingIp | None:
        """The floating IP of a forwarding."""
        candidates = self.snapshot.floating_ips_of(forwarding.port_id)
        return next((one for one in candidates if forwarding in one.port_forwardings), None)

    def forwarded(self, port: Port) -> list[tuple[PortForwarding, Network]]:
        """Those forwardings of a port that this node can serve, the oldest first, with their external networks."""
        found = []
        for forwarding in self.forwardings(port):
            floating_ip = self.forwarded_by(forwarding)
            external = None if floating_ip is None else self.external_of(floating_ip)
            if external is not None:
                found.append((forwarding, external))
        return found

    def routed_to(self, network: Network, port: Port) -> list[StaticRoute]:
        """The static routes whose next hop a port is."""
        own = {one.address for one in port.own}
        return [route for route in network.routes if route.next_hop in own] if network.routed else []

    def first_with(self, network: Network, destination: IPv4Network) -> bool:
        """True when no other network of the router, made before or by its subnet, leads to a range."""
        for other in self.snapshot.router_networks(network.router_key):
            if any(subnet.cidr == destination for subnet in other.subnets):
                return False
            if other.key < network.key and any(route.destination == destination for route in other.routes):
                return False
        return True

    def external_of(self, floating_ip: FloatingIp) -> Network | None:
        """The external network of a floating IP, if this node reaches it."""
        external = self.snapshot.networks.get(floating_ip.network_id)
        return None if external is None or self.uplink(external) is None else external


def vlan_match(network: Network) -> int:
    """The vlan_vid that the network's frames carry on an uplink (OpenFlow 1.4 §7.2.3.7)."""
    if network.kind is NetworkKind.VLAN:
        assert network.segment is not None
        return VLAN_PRESENT | network.segment
    return VLAN_NONE


def mac_to_int(mac: str) -> int:
    return int(mac.replace(":", ""), 16)


def mac_text(mac: int) -> str:
    return mac.to_bytes(6).hex(":")


def cidr_match(network: Network) -> list[tuple[tuple[int, int], int]]:
    """((address, mask), prefix length) of each subnet."""
    return [(range_match(subnet.cidr), subnet.cidr.prefixlen) for subnet in network.subnets]


def advertises(network: Network) -> bool:
    """The nodes say which prefixes a network has, and nobody else may; else a router of the operator's does."""
    return bool(network.ipv6_subnets) and network.gateway_mode is not GatewayMode.EXTERNAL


def serves_dhcpv6(network: Network) -> bool:
    """The nodes answer DHCPv6, and nobody else may."""
    return network.dhcp and any(subnet.mode is not Ipv6Mode.SLAAC for subnet in network.ipv6_subnets)


def ipv6_gateways(network: Network) -> list[int]:
    """The addresses that are a network's gateway on every node, the link-local one first."""
    if not network.routed or not network.ipv6_subnets:
        return []
    return [GATEWAY_LINK_LOCAL, *(int(subnet.gateway) for subnet in network.ipv6_subnets if subnet.gateway is not None)]


def range_match(cidr: IPv4Network | IPv6Network) -> tuple[int, int]:
    """(address, mask)."""
    return int(cidr.network_address), int(cidr.netmask)


def port_matches(first: int, last: int) -> list[int | tuple[int, int]]:
    """A range of ports as few values or (value, mask) pairs: a switch matches no ranges."""
    found: list[int | tuple[int, int]] = []
    while first <= last:
        size = first & -first or 0x10000
        while first + size - 1 > last:
            size >>= 1
        found.append(first if size == 1 else (first, 0x10000 - size))
        first += size
    return found
