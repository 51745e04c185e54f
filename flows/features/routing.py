"""Tables 24, 28 and 40: routing between the networks of one router, and delivery.

The node of the source routes. A port on another node costs no flow here: the frame goes out on the target network's own
segment, to the node learned for the address or to the group of all nodes, and the node that has the port completes it.
A frame that came to the group is also turned round and sent back under the node's teacher MAC: the sender learns where
the address is even if nobody ever answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network

from flows.features import policy, private
from flows.features.allowance import punt
from flows.features.size import checks
from flows.features.uplink_out import tagged_back, untagged
from flows.ir import Action, DecTtl, Flow, Goto, Move, Resubmit, SetField, Swap, drop, flow, matching
from flows.model import GatewayMode, Network, OwnAddress, Port
from flows.pipeline import (
    FLAG_LIFTED,
    FROM_UPLINK,
    GATEWAY_MAC,
    LIFTED,
    NODE_MAC_MASK,
    ROUTED_GROUP_MAC,
    TEACHER_MAC_PREFIX,
    TO_GROUP,
    TOO_LARGE,
    Priority,
    Reg,
    Table,
)
from flows.protocols import ETH_IP, ETH_MULTICAST
from flows.rules import Rule
from flows.view import Role, View, cidr_match, mac_to_int, range_match

LIFT: tuple[Action, ...] = (SetField(Reg.FLAGS, FLAG_LIFTED), Goto(Table.ROUTING))

# No router forwards to or from these (RFC 1122, 3.2.1.3; RFC 1812, 5.3.7; RFC 3927, 2.7; RFC 1112, 4). No subnet and no
# static route may be in them (controller/store/network_options.py).
MARTIANS = tuple(map(IPv4Network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "240.0.0.0/4")))
MULTICAST = IPv4Network("224.0.0.0/4")


def static() -> Iterator[Flow]:
    yield flow(Rule.ROUTE, Priority.NORMAL, matching(eth_dst=GATEWAY_MAC, eth_type=ETH_IP), Goto(Table.ROUTING))
    yield flow(Rule.SWITCH, Priority.MISS, (), Goto(Table.L2_FORWARD))
    yield drop(Rule.DROP_TTL_EXPIRED, Priority.GUARD, matching(eth_type=ETH_IP, nw_ttl=0))
    yield drop(Rule.DROP_TTL_EXPIRED, Priority.GUARD, matching(eth_type=ETH_IP, nw_ttl=1, reg0=FROM_UPLINK))
    for block in MARTIANS:
        to_block = matching(eth_type=ETH_IP, ip_dst=range_match(block))
        yield drop(Rule.DROP_MARTIAN, Priority.ROUTE + block.prefixlen, to_block)
    to_group = matching(eth_type=ETH_IP, ip_dst=range_match(MULTICAST))
    yield drop(Rule.DROP_NO_ROUTE, Priority.ROUTE + MULTICAST.prefixlen, to_group)
    for block in (*MARTIANS, MULTICAST):
        from_block = matching(eth_type=ETH_IP, ip_src=range_match(block))
        yield drop(Rule.DROP_MARTIAN_SOURCE, Priority.MARTIAN, from_block)
    yield drop(Rule.DROP_NO_ROUTE, Priority.MISS)
    yield drop(Rule.DROP_ROUTED_UNKNOWN, Priority.LOW, matching(reg0=FROM_UPLINK))
    yield drop(Rule.DROP_TAUGHT, Priority.GUARD, matching(eth_src=(TEACHER_MAC_PREFIX, NODE_MAC_MASK)))
    yield flow(Rule.DELIVER_REMOTE, Priority.MISS, (), Goto(Table.L2_FORWARD))


def network(view: View, network: Network) -> Iterator[Flow]:
    if view.attends(network):
        yield from _outwards(view, network)
    if view.narrow(network) and (view.present(network) or view.reachable(network)):
        too_large = matching(metadata=network.key, reg0=TOO_LARGE)
        yield flow(Rule.PUNT_TOO_LARGE_IN, Priority.GUARD, too_large, *punt(), key=network.key)
    if not view.reachable(network):
        return
    for sender, measured in senders(view, network):
        for cidr, prefix in cidr_match(network):
            yield flow(
                Rule.ROUTE_SUBNET,
                Priority.ROUTE + prefix,
                matching(reg5=network.router_key, eth_type=ETH_IP, ip_dst=cidr, **sender),
                DecTtl(),
                *measured,
                SetField("eth_src", GATEWAY_MAC),
                SetField("eth_dst", ROUTED_GROUP_MAC),
                SetField(Reg.NETWORK, network.key),
                Resubmit(Table.REMOTE_NEXT_HOP),
                Goto(Table.LOCAL_DELIVERY),
                key=network.key,
            )
    if view.uplink(network) is not None:
        yield flow(
            Rule.TEACH,
            Priority.NORMAL,
            matching(metadata=network.key, reg0=TO_GROUP, eth_type=ETH_IP),
            *teaching(view, network, Swap("ip_src", "ip_dst")),
            key=network.key,
        )


def teaching(view: View, network: Network, turned_round: Swap) -> tuple[Action, ...]:
    """To the sender of a frame to the group; the frame itself goes on."""
    return (
        turned_round,
        Move("eth_src", "eth_dst"),
        SetField("eth_src", view.teacher_mac),
        *tagged_back(network),
        *untagged(network),
        turned_round,
    )


def senders(view: View, network: Network) -> Iterator[tuple[dict[str, int | tuple[int, int]], tuple[Action, ...]]]:
    """Who sends to a network, as a match, and how it is measured. What came in from outside has been, by where."""
    members = [other for other in view.snapshot.router_networks(network.router_key) if other.routed]
    if all(other.mtu <= network.mtu for other in members):
        yield {}, ()
        return
    yield {"reg0": FROM_UPLINK}, ()
    for other in members:
        if view.present(other):
            yield {"metadata": other.key, "reg0": (0, FROM_UPLINK[1])}, checks(other.mtu, network.mtu)


def _outwards(view: View, network: Network) -> Iterator[Flow]:
    """From a network with ports here, and back to it."""
    key = network.key
    if network.routed:
        last_hop = matching(metadata=key, eth_type=ETH_IP, nw_ttl=1)
        yield flow(Rule.PUNT_TTL_EXPIRED, Priority.LOCAL, last_hop, *punt(), key=key)
    external = view.way_out(network)
    if external is None:
        return
    leaving: dict[str, int | tuple[int, int]] = {"metadata": key, **({} if network.routed else {"reg0": LIFTED})}
    by_default = [(Priority.DEFAULT, leaving)]
    by_default += [(Priority.ROUTE, {**leaving, "ip_dst": range_match(cidr)}) for cidr in private.named(view, network)]
    for priority, match in by_default:
        outwards = matching(eth_type=ETH_IP, **match)
        yield flow(Rule.ROUTE_DEFAULT, priority, outwards, DecTtl(), Goto(Table.MEASURE), key=key)
    yield from private.dropped(view, network, leaving)
    if network.gateway_mode is GatewayMode.EXTERNAL:
        yield from _lifted(network)


def _lifted(network: Network) -> Iterator[Flow]:
    """A router of the operator's is the gateway, and the nodes take from it only what they are to translate."""
    key = network.key
    for cidr, prefix in cidr_match(network):
        yield flow(
            Rule.ROUTE_SUBNET,
            Priority.ROUTE + prefix,
            matching(metadata=key, reg0=FROM_UPLINK, reg5=network.router_key, eth_type=ETH_IP, ip_dst=cidr),
            DecTtl(),
            SetField(Reg.NETWORK, key),
            Goto(Table.LOCAL_DELIVERY),
            key=key,
        )
        own = matching(metadata=key, eth_type=ETH_IP, ip_dst=cidr)
        yield flow(Rule.SWITCH_OWN, Priority.LOCAL, own, Goto(Table.L2_FORWARD), key=key)
    group = matching(metadata=key, eth_dst=ETH_MULTICAST)
    yield flow(Rule.SWITCH_OWN, Priority.GUARD, group, Goto(Table.L2_FORWARD), key=key)
    for forced in map(range_match, network.force_snat):
        lifted = matching(metadata=key, eth_type=ETH_IP, ip_dst=forced)
        yield flow(Rule.LIFT, Priority.HIGH, lifted, *LIFT, key=key)


def port(view: View, network: Network, port: Port) -> Iterator[Flow]:
    if not network.translated:
        return
    for own in port.own:
        mac, onward = _towards(view, port, own)
        yield flow(
            Rule.DELIVER,
            Priority.NORMAL,
            matching(reg5=network.router_key, eth_type=ETH_IP, ip_dst=int(own.address)),
            Resubmit(Table.TEACH),
            SetField(Reg.NETWORK, network.key),
            SetField("eth_src", GATEWAY_MAC),
            SetField("eth_dst", mac_to_int(mac)),
            *onward,
            key=port.key,
        )


def _towards(view: View, port: Port, own: OwnAddress) -> tuple[str, tuple[Action, ...]]:
    """The MAC, and the way on. Switching knows a port by its own MAC alone: another leads to all that may use it."""
    seat = view.seat(port)
    if own.mac == port.mac or seat is None or view.role(port) is not Role.ACTIVE:
        return port.mac, (Goto(Table.L2_FORWARD),)
    return own.mac, (*policy.towards(view, port, seat), Goto(Table.INGRESS_CONNTRACK))
