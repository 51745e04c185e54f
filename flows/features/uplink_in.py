"""Table 6: frames from a project's segment on the wire.

Gateway addresses and the anycast MAC live on every node at once, so neither may come from the wire. A frame that
another node has routed carries that node's MAC and goes to this node's MAC or, while the sender does not know where the
port is, to the group of all nodes. Its sender is learned, so that the answer goes to that node alone and on the same
segment: a switch that learns MACs for each VLAN has then seen both nodes there, and floods neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from flows.ir import Flow, Goto, Learn, SetField, drop, flow, matching
from flows.model import Network
from flows.pipeline import (
    FLAG_FROM_UPLINK,
    FLAG_TO_GROUP,
    GATEWAY_MAC,
    NODE_MAC_MASK,
    NODE_MAC_PREFIX,
    NODE_MACS,
    ROUTED_GROUP_MAC,
    TEACHER_MAC_PREFIX,
    Priority,
    Reg,
    Table,
)
from flows.protocols import DHCP_CLIENT_PORT, DHCP_SERVER_PORT, ETH_ARP, ETH_IP, ETH_IPV6, PROTO_UDP
from flows.rules import COOKIE_LEARNED, Rule
from flows.view import View

# Seconds since the address was last heard there. A port that moved silently is looked for again as soon as it is over.
_LEARNED_FOR = 10
_LEARNED_LIMIT = 20000

LEARN_SENDER = Learn(
    table=Table.REMOTE_NEXT_HOP,
    priority=Priority.LEARNED,
    idle_timeout=_LEARNED_FOR,
    hard_timeout=_LEARNED_FOR,
    cookie=COOKIE_LEARNED,
    limit=_LEARNED_LIMIT,
    match=(("eth_type", ETH_IP), (Reg.ROUTER, Reg.ROUTER), ("ip_dst", "ip_src")),
    load=(("eth_src", "eth_dst"), (Reg.NETWORK, Reg.NETWORK)),
)
_OF_IPV6 = (("eth_type", ETH_IPV6), (Reg.ROUTER, Reg.ROUTER), ("ipv6_dst", "ipv6_src"))
_FAMILIES = ((ETH_IP, LEARN_SENDER), (ETH_IPV6, replace(LEARN_SENDER, match=_OF_IPV6)))


def static() -> Iterator[Flow]:
    yield drop(Rule.DROP_UPLINK_ANYCAST, Priority.GUARD, matching(eth_src=GATEWAY_MAC))
    for node_only in NODE_MACS:
        yield drop(Rule.DROP_ROUTED_NOT_IP, Priority.LOW, matching(eth_dst=node_only))
    yield flow(Rule.UPLINK_SWITCHED, Priority.MISS, (), Goto(Table.L2_FORWARD))


def network(view: View, network: Network) -> Iterator[Flow]:
    if view.attends(network):
        yield from _guards(view, network)
    if not view.reachable(network):
        return
    key = network.key
    from_node = (NODE_MAC_PREFIX, NODE_MAC_MASK)
    to_group = SetField(Reg.FLAGS, FLAG_FROM_UPLINK | FLAG_TO_GROUP)
    for ethertype, learn in _FAMILIES if network.ipv6_subnets else _FAMILIES[:1]:
        for target, marks in ((view.mac, ()), (view.teacher_mac, ()), (ROUTED_GROUP_MAC, (to_group,))):
            yield flow(
                Rule.UPLINK_ROUTED,
                Priority.LOCAL,
                matching(metadata=key, eth_dst=target, eth_src=from_node, eth_type=ethertype),
                learn,
                *marks,
                Goto(Table.LOCAL_DELIVERY),
                key=key,
            )
        # to one node that does not know, or to all when something has moved
        for pupil in (view.mac, ROUTED_GROUP_MAC):
            yield flow(
                Rule.UPLINK_TAUGHT,
                Priority.LOCAL,
                matching(metadata=key, eth_dst=pupil, eth_src=(TEACHER_MAC_PREFIX, NODE_MAC_MASK), eth_type=ethertype),
                learn,
                Goto(Table.TEACH),
                key=key,
            )
        # a machine on the segment that is not ours answers to the MAC it saw
        yield flow(
            Rule.UPLINK_ROUTED,
            Priority.NORMAL,
            matching(metadata=key, eth_dst=view.mac, eth_type=ethertype),
            Goto(Table.LOCAL_DELIVERY),
            key=key,
        )


def _guards(view: View, network: Network) -> Iterator[Flow]:
    """What the nodes themselves are for the network must not come from the wire."""
    key = network.key
    if network.dhcp:
        # a client looks at its own port only: answers are dropped from whatever port
        for ports in ({"udp_dst": DHCP_CLIENT_PORT}, {"udp_src": DHCP_CLIENT_PORT, "udp_dst": DHCP_SERVER_PORT}):
            yield drop(
                Rule.DROP_UPLINK_DHCP,
                Priority.GUARD,
                matching(metadata=key, eth_type=ETH_IP, ip_proto=PROTO_UDP, **ports),
                key=key,
            )


def gateways(view: View, network: Network) -> Iterator[Flow]:
    if not view.attends(network):
        return
    key = network.key
    # its gateway node answers machines
    asked = Priority.NORMAL if view.is_gateway_node(network) else Priority.GUARD
    for address in map(int, view.gateways(network)):
        yield drop(
            Rule.DROP_UPLINK_GATEWAY,
            asked,
            matching(metadata=key, eth_type=ETH_ARP, arp_tpa=address),
            key=key,
        )
        yield drop(
            Rule.DROP_UPLINK_GATEWAY,
            Priority.HIGH,
            matching(metadata=key, eth_type=ETH_ARP, arp_spa=address),
            key=key,
        )
