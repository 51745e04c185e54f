"""Tables 1, 2, 10, 28, 31, 32 and 36 to 39: IPv6 to the outside and back, as it is.

Towards the outside a packet keeps its address and goes to the external network's router. The router has the subnets
on-link there: the node that has a VM answers for its addresses with its own MAC (a proxy, RFC 4389), as it does for
floating IPs by ARP.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows.features import private
from flows.features.allowance import punt
from flows.features.external import UNKNOWN_MAC, remember_ipv6
from flows.features.floating_ip import towards
from flows.features.ipv6_gateway import answered, solicitation, turned
from flows.features.nd_tc import to_tc
from flows.features.size import checks
from flows.features.uplink_out import tagged_back
from flows.ipv6 import LINK_LOCAL, eui64
from flows.ir import Action, DecTtl, Flow, Goto, Match, Resubmit, SetField, drop, flow, matching
from flows.model import Ipv6Subnet, Network, Port
from flows.pipeline import TOO_LARGE, Priority, Reg, Table, nd_network_mac
from flows.protocols import (
    ETH_IPV6,
    ND_ADVERTISEMENT,
    ND_HOP_LIMIT,
    ND_OVERRIDE,
    ND_REDIRECT,
    ND_SOLICITED,
    PROTO_ICMPV6,
)
from flows.rules import Rule
from flows.view import Role, View, mac_text, mac_to_int, range_match

_ALL_NODES = 0xFF02 << 112 | 1
_ALL_NODES_MAC = 0x333300000001
_UNSPECIFIED = 0
_HEARD = remember_ipv6()


def static() -> Iterator[Flow]:
    redirect = matching(eth_type=ETH_IPV6, ip_proto=PROTO_ICMPV6, icmpv6_type=ND_REDIRECT)
    yield drop(Rule.DROP_REDIRECT, Priority.GUARD, redirect)


def network(view: View, network: Network) -> Iterator[Flow]:
    if network.external:
        if network.ipv6_subnets and view.uplink(network) is not None:
            yield from _external(view, network)
        return
    external = view.way_out_ipv6(network)
    if external is None or not view.present(network):
        return
    yield from _outwards(view, network, external)
    yield from _inwards(view, network, external)


def _outwards(view: View, network: Network, external: Network) -> Iterator[Flow]:
    key = network.key
    leaving: dict[str, int | tuple[int, int]] = {"metadata": key, "eth_type": ETH_IPV6}
    measured = checks(network.mtu, external.mtu)
    way = (DecTtl(), *measured, Goto(Table.NAT_PREPARE))
    by_default = [(Priority.DEFAULT, leaving)]
    by_default += [(Priority.ROUTE, {**leaving, "ipv6_dst": range_match(cidr)}) for cidr in private.named_ipv6(view)]
    for priority, match in by_default:
        yield flow(Rule.ROUTE_DEFAULT, priority, matching(**match), *way, key=key)
    yield from private.dropped_ipv6(view, network)
    if measured:
        too_big = matching(**leaving, reg0=TOO_LARGE)
        yield flow(Rule.PUNT_TOO_BIG, Priority.TOO_LARGE, too_big, *punt(), key=key)
    out = (SetField(Reg.NETWORK, external.key), Goto(Table.EXTERNAL_NEXT_HOP))
    for subnet in network.ipv6_subnets:
        own = matching(**leaving, ipv6_src=range_match(subnet.cidr))
        yield flow(Rule.OUT_IPV6, Priority.NORMAL, own, *out, key=key)


def _inwards(view: View, network: Network, external: Network) -> Iterator[Flow]:
    for subnet in network.ipv6_subnets:
        cidr = range_match(subnet.cidr)
        yield flow(
            Rule.IN_IPV6,
            Priority.NORMAL,
            matching(metadata=external.key, eth_dst=view.mac, eth_type=ETH_IPV6, ipv6_dst=cidr),
            *towards(network),
            *checks(external.mtu, network.mtu),
            Goto(Table.ROUTING),
            key=network.key,
        )


def port(view: View, network: Network, port: Port) -> Iterator[Flow]:
    """One node at a time has it."""
    external = view.way_out_ipv6(network)
    if external is None or view.role(port) is not Role.ACTIVE:
        return
    for one in port.ipv6_addresses:
        address = int(one.address)
        yield flow(
            Rule.PROXY_ND,
            Priority.HIGH,
            solicitation(external, address),
            *turned(view, view.mac, address),
            key=port.key,
        )


def _external(view: View, network: Network) -> Iterator[Flow]:
    key = network.key
    own = int(eui64(LINK_LOCAL, mac_text(view.mac)))
    yield flow(Rule.PROXY_ND_OWN, Priority.HIGH, solicitation(network, own), *turned(view, view.mac, own), key=key)
    yield from _advertised(view, network)
    routers = [(subnet, _router(view, network, subnet)) for subnet in network.ipv6_subnets]
    for subnet, router in routers:
        yield from _heard(view, network, subnet, router)
        on_link = matching(metadata=key, eth_type=ETH_IPV6, ipv6_dst=range_match(subnet.cidr))
        # a neighbour that has not been heard is reached by the router, too
        to_neighbour = (*_from_here(view, router), Resubmit(Table.EXTERNAL_NEIGHBOUR), Goto(Table.EXTERNAL_SEND))
        yield flow(Rule.ON_LINK, Priority.HIGH, on_link, *to_neighbour, key=key)
        if subnet.gateway is not None:
            itself = matching(metadata=key, eth_type=ETH_IPV6, ipv6_dst=int(subnet.gateway))
            yield from _to_router(view, network, itself, Priority.LOCAL, router)
    anywhere = matching(metadata=key, eth_type=ETH_IPV6)
    first = next((router for subnet, router in routers if subnet.gateway is not None), None)
    yield from _to_router(view, network, anywhere, Priority.LOW, first)
    unresolved = matching(metadata=key, eth_type=ETH_IPV6, eth_dst=UNKNOWN_MAC)
    yield flow(Rule.PUNT_UNRESOLVED_IPV6, Priority.NORMAL, unresolved, *punt(), key=key)


def _advertised(view: View, network: Network) -> Iterator[Flow]:
    key = network.key
    asked = matching(metadata=key, eth_type=ETH_IPV6, ip_proto=PROTO_ICMPV6, icmpv6_type=ND_ADVERTISEMENT)
    yield _advertisement(view, network, Priority.HIGH, asked, ND_SOLICITED | ND_OVERRIDE)
    # who probes for the address before it takes it has none yet to answer to (RFC 4861, 7.2.4)
    probed = matching(
        metadata=key,
        eth_type=ETH_IPV6,
        ip_proto=PROTO_ICMPV6,
        icmpv6_type=ND_ADVERTISEMENT,
        ipv6_dst=_UNSPECIFIED,
    )
    to_all = (SetField("ipv6_dst", _ALL_NODES), SetField("eth_dst", _ALL_NODES_MAC))
    yield _advertisement(view, network, Priority.GUARD, probed, ND_OVERRIDE, *to_all)


def _advertisement(view: View, network: Network, priority: Priority, match: Match, flags: int, *first: Action) -> Flow:
    if view.node.on_kernel:
        written = to_tc(flags, nd_network_mac(network.key))
        return flow(Rule.ND_TO_TC_OUTSIDE, priority, match, *first, *written, key=network.key)
    written = (*answered(view.mac, flags), *tagged_back(network))
    return flow(Rule.ND_ANSWER_OUTSIDE, priority, match, *first, *written, key=network.key)


def _router(view: View, network: Network, subnet: Ipv6Subnet) -> int | None:
    """The MAC of a subnet's router, if it is known."""
    mac = None if subnet.gateway is None else view.node.neighbour(network.id, subnet.gateway)
    return None if mac is None else mac_to_int(mac)


def _heard(view: View, network: Network, subnet: Ipv6Subnet, router: int | None) -> Iterator[Flow]:
    key, go_on = network.key, Goto(Table.EXTERNAL_IN)
    cidr = range_match(subnet.cidr)
    if router is not None:
        # else a neighbour that the router has just been used for would stay behind it
        by_router = matching(metadata=key, eth_type=ETH_IPV6, eth_src=router, ipv6_src=cidr)
        yield flow(Rule.FROM_ROUTER, Priority.HIGH, by_router, go_on, key=key)
    sent = matching(metadata=key, eth_type=ETH_IPV6, ipv6_src=cidr)
    yield flow(Rule.LEARN_NEIGHBOUR, Priority.NORMAL, sent, _HEARD, go_on, key=key)
    if subnet.gateway is None:
        return
    claim = matching(
        metadata=key,
        eth_type=ETH_IPV6,
        ip_proto=PROTO_ICMPV6,
        icmpv6_type=ND_ADVERTISEMENT,
        icmpv6_code=0,
        nw_ttl=ND_HOP_LIMIT,
        nd_target=int(subnet.gateway),
    )
    to_ports = (Resubmit(Table.UPLINK_IN),) if view.present(network) else ()
    yield flow(Rule.PUNT_ROUTER_ND, Priority.HIGH, claim, *to_ports, *punt(), key=key)


def _from_here(view: View, router: int | None) -> tuple[Action, ...]:
    return (SetField("eth_src", view.mac), SetField("eth_dst", UNKNOWN_MAC if router is None else router))


def _to_router(view: View, network: Network, match: Match, priority: Priority, router: int | None) -> Iterator[Flow]:
    way = (*_from_here(view, router), Goto(Table.EXTERNAL_SEND))
    yield flow(Rule.TO_ROUTER, priority, match, *way, key=network.key)
