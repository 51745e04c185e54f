"""What is behind an address, seen from a network: a port, a gateway, a floating IP, or nobody that the cloud knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address

from flows.model import FloatingIp, GatewayMode, Ipv6Subnet, Network, Port, PortForwarding, StaticRoute, Subnet
from flows.pipeline import GATEWAY_LINK_LOCAL, METADATA_ADDRESS, METADATA_LINK_LOCAL, RESOLVER_ADDRESS
from flows.snapshot import Snapshot
from flows.view import ipv6_gateways

Address = IPv4Address | IPv6Address
_SERVICES = frozenset({METADATA_ADDRESS, RESOLVER_ADDRESS, METADATA_LINK_LOCAL})


class What(Enum):
    """`UNKNOWN` is in a subnet of the cloud and nobody's; `ELSEWHERE` is a port's on a network that is not joined."""

    PORT = 0
    GATEWAY = 1
    SERVICE = 2
    FLOATING_IP = 3
    NODE = 4  # an SNAT address
    MANY = 5  # broadcast or multicast
    ROUTED = 6  # behind the next hop of a static route
    ELSEWHERE = 7
    UNKNOWN = 8
    OUTSIDE = 9


@dataclass(frozen=True, slots=True)
class Target:
    """`port` is the one that is to get the packet in the end, `network` that of the address, `node` the one that
    answers for the address on an external network.
    """

    address: Address
    what: What
    port: Port | None = None
    network: Network | None = None
    floating_ip: FloatingIp | None = None
    forwarding: PortForwarding | None = None
    route: StaticRoute | None = None
    node: str | None = None


def port_at(snapshot: Snapshot, network: Network, address: Address) -> Port | None:
    if isinstance(address, IPv6Address):
        return snapshot.port_with_ipv6(network.id, address)
    return snapshot.port_with(network.id, address)


def subnets_of(network: Network) -> tuple[Subnet | Ipv6Subnet, ...]:
    """Of both families."""
    return (*network.subnets, *network.ipv6_subnets)


def in_subnet(network: Network, address: Address) -> bool:
    """Whether a network has a subnet with the address."""
    return any(address in subnet.cidr for subnet in subnets_of(network))


def joined(snapshot: Snapshot, network: Network) -> list[Network]:
    """The network, and those that are routed to it."""
    others = snapshot.router_networks(network.router_key) if network.routed else []
    return [network, *(other for other in others if other.routed and other is not network)]


def anybodys(_port: Port) -> bool:
    """Every port may be known of."""
    return True


def aim(
    snapshot: Snapshot,
    sender: Network | None,
    address: Address,
    protocol: int = 0,
    port: int = 0,
    sees: Callable[[Port], bool] = anybodys,
) -> Target:
    """Without a `sender`, from the outside. `protocol` and `port` find a forwarded port. `sees`: which ports may be
    known of though the sender cannot reach them.
    """
    if address.is_multicast or int(address) == 0xFFFFFFFF:
        return Target(address, What.MANY, network=sender)
    if int(address) in _SERVICES:
        return Target(address, What.SERVICE, network=sender)
    near = [] if sender is None else joined(snapshot, sender)
    for network in near:
        found = _inside(snapshot, network, address)
        if found is not None:
            return found
    if isinstance(address, IPv4Address):
        found = _on_external(snapshot, address, protocol, port)
        if found is not None:
            return found
        for network in near if sender is not None and sender.routed else []:
            for route in sorted(network.routes, key=lambda route: -route.destination.prefixlen):
                if address in route.destination:
                    hop = port_at(snapshot, network, route.next_hop)
                    return Target(address, What.ROUTED, hop, network, route=route)
    home = next((network for network in near if in_subnet(network, address)), None)
    for network in snapshot.networks.values() if home is None else ():
        owner = port_at(snapshot, network, address)
        if owner is not None and network not in near and sees(owner):
            v6 = sender is None and isinstance(address, IPv6Address)
            node = owner.binding.node if owner.binding is not None else None
            return Target(address, What.PORT if v6 else What.ELSEWHERE, owner, network, node=node)
    if home is None and sender is None:
        home = next((one for one in snapshot.networks.values() if in_subnet(one, address)), None)
    return Target(address, What.OUTSIDE if home is None else What.UNKNOWN, network=home)


def aim_at_port(snapshot: Snapshot, sender: Port | None, port: Port, version: int | None = None) -> Target | None:
    """A port, by an address that the sender may reach it by. `version` of the IP address, None: any. From the outside,
    by its floating IP, if it has one. None when it has no address of that version.
    """
    if sender is None and version != 6:
        for floating_ip in snapshot.floating_ips_of(port.id):
            if floating_ip.port_id == port.id:
                return aim(snapshot, None, floating_ip.address)
    near = [address for address in port.assigned if version is None or address.version == version]
    if sender is not None and version is None and not sender.fixed_ips:
        near.sort(key=lambda address: -address.version)
    if not near:
        return None
    network = snapshot.networks[port.network_id]
    if sender is None:
        return aim(snapshot, None, near[0], sees=lambda owner: owner.id == port.id)  # others may have it, too
    within = network in joined(snapshot, snapshot.networks[sender.network_id])
    node = None if port.binding is None else port.binding.node
    return Target(near[0], What.PORT if within else What.ELSEWHERE, port, network, node=node)


def _inside(snapshot: Snapshot, network: Network, address: Address) -> Target | None:
    if int(address) == GATEWAY_LINK_LOCAL or int(address) in ipv6_gateways(network):
        return Target(address, What.GATEWAY, network=network)
    if isinstance(address, IPv4Address):
        if network.gateway_mode is GatewayMode.PER_HOST and any(
            held.network_id == network.id and held.address == address
            for node in snapshot.nodes.values()
            for held in node.gateways
        ):
            return Target(address, What.GATEWAY, network=network)
        shared = network.routed and network.gateway_mode is not GatewayMode.PER_HOST
        if shared and any(subnet.gateway == address for subnet in network.subnets):
            return Target(address, What.GATEWAY, network=network)
        if any(address == subnet.cidr.broadcast_address for subnet in network.subnets):
            return Target(address, What.MANY, network=network)
    found = port_at(snapshot, network, address)
    return None if found is None else Target(address, What.PORT, found, network)


def _on_external(snapshot: Snapshot, address: IPv4Address, protocol: int, port: int) -> Target | None:
    floating_ip = next((one for one in snapshot.floating_ips.values() if one.address == address), None)
    if floating_ip is not None:
        network = snapshot.networks.get(floating_ip.network_id)
        forwarding = next(
            (each for each in floating_ip.port_forwardings
             if each.protocol == protocol and each.first <= port <= each.last),
            None,
        )  # fmt: skip
        port_id = floating_ip.port_id if forwarding is None else forwarding.port_id
        owner = snapshot.ports.get(port_id or "")
        holder = snapshot.floating_ip_node(floating_ip)
        return Target(address, What.FLOATING_IP, owner, network, floating_ip, forwarding, node=holder)
    for node in snapshot.nodes.values():
        for held in node.snat_addresses:
            if held.address == address:
                return Target(address, What.NODE, network=snapshot.networks.get(held.network_id), node=node.name)
    return None
