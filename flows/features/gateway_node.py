"""Tables 6, 32 and 40: gateway mode `single`, where one node is a network's way out.

Every node still answers its own VMs' ARP, echo requests and DHCP, routes them to the other networks of the router, and
translates their floating IPs. What would leave by the node's SNAT address goes to the gateway node instead, on the
network's own segment; what comes back goes from there to the node that has the VM, as any routed frame does. Machines
on the segment that are not ours may use that node as their gateway, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from flows.features.arp import answer, request_for
from flows.features.services import echoed
from flows.features.uplink_in import LEARN_SENDER
from flows.features.uplink_out import tagged_back
from flows.ir import Action, CtClear, Flow, Goto, NoInPort, SetField, drop, flow, matching
from flows.model import Network, Port
from flows.pipeline import (
    FLAG_FROM_UPLINK,
    FLAG_TO_GROUP,
    GATEWAY_NODE_MAC_PREFIX,
    NODE_MAC_MASK,
    NODE_MAC_PREFIX,
    ONWARD,
    ROUTED_GROUP_MAC,
    TEACHER_MAC_PREFIX,
    Priority,
    Reg,
    Table,
    gateway_node_mac,
)
from flows.protocols import ETH_IP, ICMP_ECHO_REQUEST, PROTO_ICMP
from flows.rules import Rule
from flows.view import View, cidr_match, range_match

_GATEWAY_NODES = (GATEWAY_NODE_MAC_PREFIX, NODE_MAC_MASK)
# Seconds since a machine was last heard. Nobody looks for one, so it is remembered longer than a VM.
_MACHINE_FOR = 300
_LEARN_MACHINE = replace(LEARN_SENDER, idle_timeout=_MACHINE_FOR, hard_timeout=_MACHINE_FOR)


def network(view: View, network: Network) -> Iterator[Flow]:
    if not network.single:
        return
    if view.present(network):
        yield from _guard(network)
        yield from _by_another(view, network)
    if view.is_gateway_node(network):
        yield from _from_nodes(view, network)
        yield from _from_machines(view, network)
        yield from _back(view, network)


def _guard(network: Network) -> Iterator[Flow]:
    """Only nodes send there: what a VM sent would leave without having been routed, measured and counted down."""
    to_gateway_node = matching(metadata=network.key, eth_dst=_GATEWAY_NODES)
    yield drop(Rule.DROP_NODE_MAC, Priority.GUARD, to_gateway_node, key=network.key)


def port(view: View, network: Network, port: Port) -> Iterator[Flow]:
    """A port without port security may send from any MAC but those of nodes."""
    if network.single and not port.port_security:
        forged = matching(reg6=port.key, eth_src=_GATEWAY_NODES)
        yield drop(Rule.DROP_SPOOFED, Priority.GUARD, forged, key=port.key)


def _by_another(view: View, network: Network) -> Iterator[Flow]:
    """Out by the gateway node, counted down and measured here, and back from it."""
    key = network.key
    to_group = SetField(Reg.FLAGS, FLAG_FROM_UPLINK | FLAG_TO_GROUP)
    for target, marks in ((view.mac, ()), (view.teacher_mac, ()), (ROUTED_GROUP_MAC, (to_group,))):
        yield flow(
            Rule.FROM_GATEWAY_NODE,
            Priority.LOCAL,
            matching(metadata=key, eth_dst=target, eth_src=_GATEWAY_NODES, eth_type=ETH_IP),
            *marks,
            Goto(Table.LOCAL_DELIVERY),
            key=key,
        )
    gateway_node = view.snapshot.nodes.get(network.gateway_node or "")
    if gateway_node is None or view.is_gateway_node(network) or view.way_out(network) is None:
        return
    onward: tuple[Action, ...] = (
        CtClear(),
        SetField("eth_src", view.mac),
        SetField("eth_dst", gateway_node_mac(gateway_node.key)),
        Goto(Table.L2_FORWARD),
    )
    yield flow(Rule.TO_GATEWAY_NODE, Priority.NORMAL, matching(metadata=key, eth_type=ETH_IP), *onward, key=key)
    for exempt in map(range_match, network.snat_exempt):
        for cidr, _prefix in cidr_match(network):
            kept = matching(metadata=key, eth_type=ETH_IP, ip_src=cidr, ip_dst=exempt)
            yield flow(Rule.TO_GATEWAY_NODE, Priority.EXEMPT, kept, *onward, key=key)


def _from_nodes(view: View, network: Network) -> Iterator[Flow]:
    """Routed and measured by the VM's own node: it remains to translate it. Its sender is behind that node."""
    key, own = network.key, view.gateway_node_mac
    yield flow(
        Rule.GATEWAY_NODE_IN,
        Priority.LOCAL,
        matching(metadata=key, eth_dst=own, eth_src=(NODE_MAC_PREFIX, NODE_MAC_MASK), eth_type=ETH_IP),
        LEARN_SENDER,
        NoInPort(),
        Goto(Table.NAT_EGRESS),
        key=key,
    )
    yield flow(
        Rule.GATEWAY_NODE_TAUGHT,
        Priority.LOCAL,
        matching(metadata=key, eth_dst=own, eth_src=(TEACHER_MAC_PREFIX, NODE_MAC_MASK), eth_type=ETH_IP),
        LEARN_SENDER,
        Goto(Table.TEACH),
        key=key,
    )


def _from_machines(view: View, network: Network) -> Iterator[Flow]:
    """They reach the outside and the gateway itself. VMs of their network they reach without a router."""
    key, own = network.key, view.gateway_node_mac
    for address in map(int, view.gateways(network)):
        reply = (*answer(own, address), *tagged_back(network))
        yield flow(Rule.GATEWAY_NODE_ARP, Priority.LIMITED, request_for(network, address), *reply, key=key)
        echo = {"ip_proto": PROTO_ICMP, "icmp_type": ICMP_ECHO_REQUEST, "icmp_code": 0, "ip_dst": address}
        yield flow(
            Rule.GATEWAY_NODE_ECHO,
            Priority.LIMITED,
            matching(metadata=key, eth_dst=own, eth_type=ETH_IP, **echo),
            *echoed(own, address),
            *tagged_back(network),
            key=key,
        )
    # routed there, no answer would find back
    inside = [other for other in view.snapshot.router_networks(network.router_key) if other.routed]
    for cidr in dict.fromkeys(cidr for other in inside for cidr, _prefix in cidr_match(other)):
        inwards = matching(metadata=key, eth_dst=own, eth_type=ETH_IP, ip_dst=cidr)
        yield drop(Rule.DROP_NOT_OUTWARDS, Priority.NORMAL, inwards, key=key)
    for cidr, _prefix in cidr_match(network):
        yield flow(
            Rule.GATEWAY_NODE_MACHINE,
            Priority.LEARNED,
            matching(metadata=key, eth_dst=own, eth_type=ETH_IP, ip_src=cidr),
            _LEARN_MACHINE,
            SetField(Reg.ROUTER, 0),
            NoInPort(),
            Goto(Table.ROUTING),
            key=key,
        )


def _back(view: View, network: Network) -> Iterator[Flow]:
    """To the node that the address was learned from, or to the group, from the MAC that VMs' nodes send to: a switch
    that learns MACs has seen it then.
    """
    yield flow(
        Rule.DELIVER_ONWARD,
        Priority.LEARNED,
        matching(metadata=network.key, reg0=ONWARD),
        SetField("eth_src", view.gateway_node_mac),
        SetField(Reg.FLAGS, 0),
        NoInPort(),
        Goto(Table.L2_FORWARD),
        key=network.key,
    )
