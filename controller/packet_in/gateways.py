"""Which address is the gateway of a network's subnet, seen from one node or from any of some."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Final, Protocol

from flows.model import ROUTED_MODES, GatewayMode, Network, Node, Subnet
from flows.pipeline import RESOLVER_ADDRESS

LINK_LOCAL_RESOLVER: Final = IPv4Address(RESOLVER_ADDRESS)


class Range(Protocol):
    """A subnet, of the model or of the store."""

    @property
    def cidr(self) -> IPv4Network: ...

    @property
    def gateway(self) -> IPv4Address | None: ...


def _first_held(network_id: str, subnet: Range, nodes: Iterable[Node]) -> IPv4Address | None:
    held = (node.gateway(network_id, subnet.cidr) for node in nodes)
    return next((address for address in held if address is not None), None)


def _own(network_id: str, subnet: Range, nodes: Iterable[Node]) -> IPv4Address | None:
    return subnet.gateway


def _none(network_id: str, subnet: Range, nodes: Iterable[Node]) -> IPv4Address | None:
    return None


_ROUTER: Mapping[GatewayMode, Callable[[str, Range, Iterable[Node]], IPv4Address | None]] = {
    GatewayMode.PER_HOST: _first_held,
    GatewayMode.SHARED: _own,
    GatewayMode.SINGLE: _own,
    GatewayMode.EXTERNAL: _own,
    GatewayMode.NONE: _none,
}


def router_address(network: Network, subnet: Subnet, node: Node) -> IPv4Address | None:
    """The default gateway of a subnet's addresses on a node; None in mode `none`, or while the node has none there."""
    return router_among(network.gateway_mode, network.id, subnet, (node,))


def router_among(mode: GatewayMode, network_id: str, subnet: Range, nodes: Iterable[Node]) -> IPv4Address | None:
    """The same for whoever is on any of some nodes, which answer for each other: of the first that has an address."""
    return _ROUTER[mode](network_id, subnet, nodes)


def resolver_address(mode: GatewayMode, router: IPv4Address | None) -> IPv4Address:
    """Where a VM asks for names: the gateway if it is ours, else the address that answers on all networks."""
    return router if router is not None and mode in ROUTED_MODES else LINK_LOCAL_RESOLVER
