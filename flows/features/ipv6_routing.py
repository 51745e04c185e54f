"""Tables 24, 28 and 40: IPv6 between the networks of one router, and delivery. As `routing` does it for IPv4."""

from __future__ import annotations

from collections.abc import Iterator

from flows.features.allowance import punt
from flows.features.routing import senders, teaching
from flows.ir import DecTtl, Flow, Goto, Resubmit, SetField, Swap, drop, flow, matching
from flows.model import Network, Port
from flows.pipeline import FROM_UPLINK, GATEWAY_MAC, ROUTED_GROUP_MAC, TO_GROUP, TOO_LARGE, Priority, Reg, Table
from flows.protocols import ETH_IPV6
from flows.rules import Rule
from flows.view import View, mac_to_int, range_match

# (address, mask), prefix length: never routed (RFC 4291, 2.5.2, 2.5.3, 2.5.6, 2.7)
_LINK_LOCAL = (0xFE80 << 112, 0xFFC0 << 112)
_ONE = (1 << 128) - 1
_MARTIANS = (((0, _ONE), 128), ((1, _ONE), 128), (_LINK_LOCAL, 10), ((0xFF << 120, 0xFF << 120), 8))


def static() -> Iterator[Flow]:
    yield flow(Rule.ROUTE, Priority.NORMAL, matching(eth_dst=GATEWAY_MAC, eth_type=ETH_IPV6), Goto(Table.ROUTING))
    yield drop(Rule.DROP_TTL_EXPIRED, Priority.FLOATING, matching(eth_type=ETH_IPV6, nw_ttl=0))
    yield drop(Rule.DROP_TTL_EXPIRED, Priority.FLOATING, matching(eth_type=ETH_IPV6, nw_ttl=1, reg0=FROM_UPLINK))
    # nobody behind a router could answer (RFC 4291, 2.5.6)
    yield drop(Rule.DROP_NO_ROUTE, Priority.FLOATING, matching(eth_type=ETH_IPV6, ipv6_src=_LINK_LOCAL))
    for block, prefix in _MARTIANS:
        yield drop(Rule.DROP_NO_ROUTE, Priority.ROUTE + prefix, matching(eth_type=ETH_IPV6, ipv6_dst=block))


def network(view: View, network: Network) -> Iterator[Flow]:
    if not network.ipv6_subnets or not view.reachable(network):
        return
    key = network.key
    of_network = {"metadata": key, "eth_type": ETH_IPV6}
    if view.present(network):
        last_hop = matching(**of_network, nw_ttl=1)
        yield flow(Rule.PUNT_HOP_LIMIT, Priority.GUARD, last_hop, *punt(), key=key)
    if view.narrow(network):
        too_large = matching(**of_network, reg0=TOO_LARGE)
        yield flow(Rule.PUNT_TOO_BIG_IN, Priority.FLOATING, too_large, *punt(), key=key)
    for sender, measured in senders(view, network):
        for subnet in network.ipv6_subnets:
            to_subnet = matching(
                reg5=network.router_key, eth_type=ETH_IPV6, ipv6_dst=range_match(subnet.cidr), **sender
            )
            yield flow(
                Rule.ROUTE_SUBNET,
                Priority.ROUTE + subnet.cidr.prefixlen,
                to_subnet,
                DecTtl(),
                *measured,
                SetField("eth_src", GATEWAY_MAC),
                SetField("eth_dst", ROUTED_GROUP_MAC),
                SetField(Reg.NETWORK, key),
                Resubmit(Table.REMOTE_NEXT_HOP),
                Goto(Table.LOCAL_DELIVERY),
                key=key,
            )
    if view.uplink(network) is not None:
        to_group = matching(**of_network, reg0=TO_GROUP)
        taught = teaching(view, network, Swap("ipv6_src", "ipv6_dst"))
        yield flow(Rule.TEACH, Priority.NORMAL, to_group, *taught, key=key)


def port(view: View, network: Network, port: Port) -> Iterator[Flow]:
    if not network.routed:
        return
    for one in port.ipv6_addresses:
        yield flow(
            Rule.DELIVER,
            Priority.NORMAL,
            matching(reg5=network.router_key, eth_type=ETH_IPV6, ipv6_dst=int(one.address)),
            Resubmit(Table.TEACH),
            SetField(Reg.NETWORK, network.key),
            SetField("eth_src", GATEWAY_MAC),
            SetField("eth_dst", mac_to_int(port.mac)),
            Goto(Table.L2_FORWARD),
            key=port.key,
        )
