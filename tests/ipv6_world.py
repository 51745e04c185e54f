"""The cloud of tests/world.py with IPv6: blue, blue2 and red have a subnet of it, as has the external network; flat has
none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network

from flows.ipv6 import eui64
from flows.model import (
    Change,
    Direction,
    Family,
    Ipv6FixedIp,
    Ipv6Mode,
    Ipv6Subnet,
    Neighbour,
    Network,
    NetworkChange,
    NodeChange,
    Port,
    PortChange,
    SecurityRule,
    Service,
)
from flows.snapshot import Snapshot
from tests.world import EXTERNAL, cloud

PREFIXES = {
    "net-blue": "2001:db8:20::/64",
    "net-blue2": "2001:db8:21::/64",
    "net-red": "2001:db8:40::/64",
    EXTERNAL: "2001:db8:ff::/64",
}
ROUTER = IPv6Address("2001:db8:ff::1")
ROUTER_MAC = "02:00:00:00:00:fd"


def ipv6_subnet(cidr: str, mode: Ipv6Mode = Ipv6Mode.SLAAC) -> Ipv6Subnet:
    """Its gateway is the first address."""
    prefix = IPv6Network(cidr)
    return Ipv6Subnet(f"subnet-{cidr}", prefix, prefix[1], mode)


def with_subnet(network: Network, mode: Ipv6Mode = Ipv6Mode.STATELESS) -> Network:
    return replace(network, ipv6_subnets=(ipv6_subnet(PREFIXES[network.id], mode),))


def with_address(port: Port, network: Network) -> Port:
    """In each IPv6 subnet of the network the address of its MAC."""
    own = tuple(Ipv6FixedIp(subnet.id, eui64(subnet.cidr, port.mac)) for subnet in network.ipv6_subnets)
    return replace(port, ipv6_addresses=own)


def ipv6_cloud(base: Snapshot | None = None, without: Iterable[str] = ()) -> Snapshot:
    base = base or cloud()
    networks = {id_: with_subnet(base.networks[id_]) for id_ in PREFIXES if id_ not in without}
    changes: list[Change] = [NetworkChange(id_, network) for id_, network in networks.items()]
    for port in base.ports.values():
        if port.network_id in networks:
            changes.append(PortChange(port.id, with_address(port, networks[port.network_id])))
    for node in base.nodes.values():
        known = (*node.neighbours, Neighbour(EXTERNAL, ROUTER, ROUTER_MAC))
        changes.append(NodeChange(node.name, replace(node, neighbours=known)))
    return base.apply(base.revision + 1, changes)


def ipv6_rule(
    key: int,
    protocol: int | None = None,
    first: int | None = None,
    last: int | None = None,
    *,
    remote: str | None = None,
    direction: Direction = Direction.INGRESS,
    **icmp: int,
) -> SecurityRule:
    """`remote` is a range, or the id of a group."""
    cidr = IPv6Network(remote) if remote is not None and "/" in remote else None
    service = Service(protocol, first, first if last is None else last, icmp.get("icmp_type"), icmp.get("icmp_code"))
    group_id = remote if cidr is None else None
    return SecurityRule(f"rule-{key}", key, direction, service, cidr, group_id, family=Family.IPV6)
