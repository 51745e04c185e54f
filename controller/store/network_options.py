"""What a network's options must be for its gateway mode and its ranges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from controller.store.specs import Invalid, SubnetSpec
from flows.model import ROUTED_MODES, GatewayMode, StaticRoute

# ranges that no network may use, and what has them
TAKEN_RANGES = {
    IPv4Network("0.0.0.0/8"): "this network (RFC 1122)",
    IPv4Network("100.64.0.0/10"): "carrier addresses of ports (RFC 6598)",
    IPv4Network("127.0.0.0/8"): "loopback (RFC 1122)",
    IPv4Network("169.254.0.0/16"): "link local and metadata (RFC 3927)",
    IPv4Network("224.0.0.0/4"): "multicast (RFC 5771)",
    IPv4Network("240.0.0.0/4"): "reserved (RFC 1112)",
}


@dataclass(frozen=True, slots=True)
class Frame:
    """What a network's options depend on."""

    mode: GatewayMode
    external: bool
    cidrs: tuple[IPv4Network, ...]
    gateways: tuple[IPv4Address, ...]

    @staticmethod
    def of(mode: GatewayMode, external: bool, subnets: Sequence[SubnetSpec]) -> Frame:
        gateways = tuple(subnet.gateway for subnet in subnets if subnet.gateway is not None)
        return Frame(mode, external, tuple(subnet.cidr for subnet in subnets), gateways)

    @property
    def routed(self) -> bool:
        return self.mode in ROUTED_MODES

    @property
    def everywhere(self) -> bool:
        """Every node translates for its own VMs."""
        return self.routed and self.mode is not GatewayMode.SINGLE

    @property
    def translated(self) -> bool:
        return not self.external and self.mode is not GatewayMode.NONE


# option -> the networks that can have it, and how to say so
_WHERE: Mapping[str, tuple[Callable[[Frame], bool], str]] = {
    "routes": (lambda frame: frame.everywhere, "where every node routes: gateway mode per_host or shared"),
    "snat_exempt": (lambda frame: frame.translated, "where the nodes translate: not external, gateway mode not none"),
    "force_snat": (
        lambda frame: frame.translated and not frame.routed,
        "where a router of the operator's routes: gateway mode external, and not an external network",
    ),
    "dhcp_relays": (
        lambda frame: not frame.routed and not frame.external,
        "where a router of the operator's relays: gateway mode external or none, and not an external network",
    ),
    "own_snat_address": (lambda frame: frame.everywhere, "where every node routes: gateway mode per_host or shared"),
}


def check(frame: Frame, options: Mapping[str, Any]) -> None:
    """Raises Invalid `option_unfit` for what the network cannot have, `route_invalid` for a route."""
    for name, (fits, where) in _WHERE.items():
        if options.get(name) and not fits(frame):
            raise Invalid("option_unfit", f"{name} is possible only {where}", name)
    _check_routes(frame, options.get("routes", ()))


def _check_routes(frame: Frame, routes: Sequence[StaticRoute]) -> None:
    for index, route in enumerate(routes):
        place = f"routes.{index}"
        if not any(_may_have(cidr, route.next_hop) for cidr in frame.cidrs) or route.next_hop in frame.gateways:
            cidrs = ", ".join(map(str, frame.cidrs))
            message = f"next hop {route.next_hop} is no address that a port of {cidrs} may have"
            raise Invalid("route_invalid", message, f"{place}.next_hop")
        why = _no_destination(route.destination, frame.cidrs)
        if why is not None:
            raise Invalid("route_invalid", f"{route.destination} {why}", f"{place}.destination")
        if route.destination in [other.destination for other in routes[:index]]:
            raise Invalid("route_invalid", f"{route.destination} is there twice", f"{place}.destination")


def _may_have(cidr: IPv4Network, address: IPv4Address) -> bool:
    return address in cidr and address not in (cidr.network_address, cidr.broadcast_address)


def _no_destination(destination: IPv4Network, cidrs: Sequence[IPv4Network]) -> str | None:
    if destination.prefixlen == 0:
        return "is everything: the default route is the external network's"
    for cidr in cidrs:
        if destination.overlaps(cidr):
            return f"overlaps {cidr}, which is on the network itself"
    for taken, use in TAKEN_RANGES.items():
        if destination.overlaps(taken):
            return f"overlaps {taken}: {use}"
    return None
