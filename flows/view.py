"""What one node sees of a snapshot: the questions that feature generators ask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from flows.model import GatewayMode, Network, NetworkKind, Node, Port
from flows.pipeline import node_mac, teacher_mac
from flows.protocols import VLAN_NONE, VLAN_PRESENT
from flows.snapshot import Snapshot


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

    def present(self, network: Network) -> bool:
        """The network has a port on this node."""
        return self.snapshot.present(self.node.name, network.id)

    def members(self, network: Network) -> Iterator[Port]:
        """The network's ports on this node, in no order."""
        snapshot = self.snapshot
        of_network = snapshot.ports_by_network.get(network.id, frozenset())
        for port_id in of_network & snapshot.ports_by_node.get(self.node.name, frozenset()):
            yield snapshot.ports[port_id]

    def reachable(self, network: Network) -> bool:
        """Routed here: the network, or another of its router, has a port on this node and the node as gateway."""
        if not network.routed:
            return False
        if self.present(network):
            return True
        return any(other.routed and self.present(other) for other in self.snapshot.router_networks(network.router_key))

    def uplink(self, network: Network) -> int | None:
        return self.node.uplink(network.physical_network)

    def gateways(self, network: Network) -> list[IPv4Address]:
        """All addresses that are the network's gateway, on whatever node: each node answers for all of them."""
        if network.gateway_mode is GatewayMode.PER_HOST:
            snapshot = self.snapshot
            held = (node.gateway(network.id) for node in snapshot.nodes.values())
            return sorted(address for address in held if address is not None)
        if network.gateway_mode is GatewayMode.SHARED:
            return [subnet.gateway for subnet in network.subnets if subnet.gateway is not None]
        return []

    def way_out(self, network: Network) -> tuple[Network, IPv4Address] | None:
        """The external network of a network's traffic and this node's SNAT address there."""
        if network.external or not network.routed:
            return None
        external = self.snapshot.external_network(network)
        if external is None or self.uplink(external) is None:
            return None
        held = self.node.snat_address(external.id)
        return None if held is None else (external, held.address)


def vlan_match(network: Network) -> int:
    """The vlan_vid that the network's frames carry on an uplink (OpenFlow 1.4 §7.2.3.7)."""
    if network.kind is NetworkKind.VLAN:
        assert network.segment is not None
        return VLAN_PRESENT | network.segment
    return VLAN_NONE


def mac_to_int(mac: str) -> int:
    return int(mac.replace(":", ""), 16)


def cidr_match(network: Network) -> list[tuple[tuple[int, int], int]]:
    """((address, mask), prefix length) of each subnet."""
    return [
        ((int(subnet.cidr.network_address), int(subnet.cidr.netmask)), subnet.cidr.prefixlen)
        for subnet in network.subnets
    ]
