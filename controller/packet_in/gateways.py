"""Which address is the gateway of a network's subnet, seen from one node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Address

from flows.model import GatewayMode, Network, Node, Subnet

_ROUTER: Mapping[GatewayMode, Callable[[Network, Subnet, Node], IPv4Address | None]] = {
    GatewayMode.PER_HOST: lambda network, subnet, node: node.gateway(network.id, subnet.cidr),
    GatewayMode.SHARED: lambda network, subnet, node: subnet.gateway,
    GatewayMode.SINGLE: lambda network, subnet, node: subnet.gateway,
    GatewayMode.EXTERNAL: lambda network, subnet, node: subnet.gateway,
    GatewayMode.NONE: lambda network, subnet, node: None,
}


def router_address(network: Network, subnet: Subnet, node: Node) -> IPv4Address | None:
    """The default gateway of a subnet's addresses on a node; None in mode `none`, or while the node has none there."""
    return _ROUTER[network.gateway_mode](network, subnet, node)
