"""Tables 24, 28 and 40: IPv6 between the networks of one router, and delivery. As `routing` does it for IPv4."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Network

from flows.features.allowance import punt
from flows.features.routing import senders, teaching
from flows.ir import DecTtl, Flow, Goto, Resubmit, SetField, Swap, drop, flow, matching
from flows.model import Network, Port
from flows.pipeline import FROM_UPLINK, GATEWAY_MAC, ROUTED_GROUP_MAC, TO_GROUP, TOO_LARGE, Priority, Reg, Table
from flows.protocols import ETH_IPV6
from flows.rules import Rule
from flows.view import View, mac_to_int, range_match

# No router forwards to or from these (RFC 4291, 2.5.2, 2.5.3, 2.5.5, 2.5.6, 2.7). ::/8 has all that stands for IPv4,
# of which nothing here is translated.
_MARTIANS = tuple(map(IPv6Network, ("::/8", "fe80::/10")))
_MULTICAST = IPv6Network("ff00::/8")


def static() -> Iterator[Flow]:
    yield flow(Rule.ROUTE, Priority.NORMAL, matching(eth_dst=GATEWAY_MAC, eth_type=ETH_IPV6), Goto(Table.ROUTING))
    yield drop(Rule.DROP_TTL_EXPIRED, Priority.FLOATING, matching(eth_type=ETH_IPV6, nw_ttl=0))
    yield drop(Rule.DROP_TTL_EXPIRED, Priority.FLOATING, matching(eth_type=ETH_IPV6, nw_ttl=1, reg0=FROM_UPLINK))
    for block in _MARTIANS:
        to_block = matching(eth_type=ETH_IPV6, ipv6_dst=range_match(block))
        yield drop(Rule.DROP_MARTIAN, Priority.ROUTE + block.prefixlen, to_block)
    to_group = matching(eth_type=ETH_IPV6, ipv6_dst=range_match(_MULTICAST))
    yield drop(Rule.DROP_NO_ROUTE, Priority.ROUTE + _MULTICAST.prefixlen, to_group)
    for block in (*_MARTIANS, _MULTICAST):
        from_block = matching(eth_type=ETH_IPV6, ipv6_src=range_match(block))
        yield drop(Rule.DROP_MARTIAN_SOURCE, Priority.MARTIAN, from_block)


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
