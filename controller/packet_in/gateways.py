"""Which address is a network's gateway, seen from one node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Address

from flows.model import GatewayMode, Network, Node, Subnet

_ROUTER: Mapping[GatewayMode, Callable[[Network, Subnet, Node], IPv4Address | None]] = {
    GatewayMode.PER_HOST: lambda network, subnet, node: node.gateway(network.id),
    GatewayMode.SHARED: lambda network, subnet, node: subnet.gateway,
    GatewayMode.SINGLE: lambda network, subnet, node: subnet.gateway,
    GatewayMode.EXTERNAL: lambda network, subnet, node: subnet.gateway,
    GatewayMode.NONE: lambda network, subnet, node: None,
}


def router_address(network: Network, subnet: Subnet, node: Node) -> IPv4Address | None:
    """The default gateway of the network's ports on a node; None in mode `none`, or while the node has no address."""
    return _ROUTER[network.gateway_mode](network, subnet, node)
