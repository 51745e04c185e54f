"""What a port is told about IPv6 whichever way it asks: by router advertisements and by DHCPv6."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv6Address
from typing import Final

from flows.model import Ipv6Mode, Ipv6Subnet, Network, Port
from flows.pipeline import GATEWAY_LINK_LOCAL

MOST_SERVERS: Final = 16
"""Of name servers, so that whatever is said fits what any link takes. Clients use three."""

GATEWAY: Final = IPv6Address(GATEWAY_LINK_LOCAL)


def subnets_of(port: Port, network: Network) -> tuple[Ipv6Subnet, ...]:
    """The IPv6 subnets of its network in which the port has an address."""
    own = {address.subnet_id for address in port.ipv6_addresses}
    return tuple(subnet for subnet in network.ipv6_subnets if subnet.id in own)


def stateful_addresses(port: Port, network: Network) -> tuple[IPv6Address, ...]:
    """The port's addresses that it is given by DHCPv6."""
    by_dhcp = {subnet.id for subnet in network.ipv6_subnets if subnet.mode is Ipv6Mode.STATEFUL}
    return tuple(one.address for one in port.ipv6_addresses if one.subnet_id in by_dhcp)


def dns_servers(network: Network, subnets: Iterable[Ipv6Subnet]) -> tuple[IPv6Address, ...]:
    """Of the subnets that name some those, of others the gateway where the nodes are that."""
    found: list[IPv6Address] = []
    for subnet in subnets:
        own = (subnet.gateway or GATEWAY,) if network.routed else ()
        found += subnet.dns_servers or own
    return tuple(dict.fromkeys(found))[:MOST_SERVERS]
