"""Table 4: a VM sends from its own addresses or not at all. Here IPv4 and ARP, in `ipv6_security` IPv6; every other
ethertype drops.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network

from flows.features import migration, qos
from flows.features.allowance import punt
from flows.ir import Flow, Goto, Resubmit, drop, flow, matching
from flows.model import Network, Port
from flows.pipeline import GATEWAY_MAC, NODE_MACS, Priority, Table
from flows.protocols import (
    ANY_FRAGMENT,
    ARP_REQUEST,
    DHCP_CLIENT_PORT,
    DHCP_SERVER_PORT,
    ETH_ARP,
    ETH_IP,
    ETH_IPV6,
    ETH_RARP,
    PROTO_UDP,
    RARP_REQUEST,
)
from flows.rules import Rule
from flows.view import View, mac_to_int, range_match

_BROADCAST_MAC = 0xFFFFFFFFFFFF
_BROADCAST_IP = 0xFFFFFFFF
_COPIED_BYTES = 64  # all of ARP, under a VLAN tag
# value and mask: the last byte is 0x or 2x, groups of bridges and of their applications (IEEE 802.1Q-2018, 8.6.3, 10.5)
_BRIDGE_GROUPS = (0x0180C2000000, 0xFFFFFFFFFFD0)


def static() -> Iterator[Flow]:
    # from whatever port: clients look at their own port only
    yield drop(
        Rule.DROP_DHCP_SERVER, Priority.GUARD, matching(eth_type=ETH_IP, ip_proto=PROTO_UDP, udp_dst=DHCP_CLIENT_PORT)
    )
    # whatever it says it is: who listens there looks at the address first
    yield drop(Rule.DROP_BRIDGE_GROUP, Priority.GUARD, matching(eth_dst=_BRIDGE_GROUPS))
    # Open vSwitch shows port 0 in every fragment, so a DHCP answer could hide in one. A client without an address takes
    # what is for everybody's IP address, whatever MAC address it was sent to.
    for everybody in ({"eth_dst": _BROADCAST_MAC}, {"ip_dst": _BROADCAST_IP}):
        yield drop(
            Rule.DROP_BROADCAST_FRAGMENT,
            Priority.GUARD,
            matching(eth_type=ETH_IP, ip_frag=ANY_FRAGMENT, **everybody),
        )


def network(view: View, network: Network) -> Iterator[Flow]:
    """A routed frame carries a node's MAC and is not routed, and so not counted down, again: only nodes send there.

    On an external network a node's MAC is that of its SNAT address.
    """
    if network.external or not view.present(network):
        return
    for node_only in NODE_MACS:
        yield drop(
            Rule.DROP_NODE_MAC, Priority.GUARD, matching(metadata=network.key, eth_dst=node_only), key=network.key
        )


def port(view: View, network: Network, port: Port) -> Iterator[Flow]:
    if not port.port_security:
        yield from _anything(view, port)
        return
    mac = mac_to_int(port.mac)
    speaks = migration.speaks(view, port)
    own = [(mac_to_int(one.mac), IPv4Network(one.address)) for one in port.own]
    pairs = [(mac_to_int(pair.mac), pair.cidr) for pair in port.address_pairs]
    watched = {(mac_to_int(pair.mac), pair.cidr) for pair in port.address_pairs if network.virtual(pair)} - set(own)
    for sender, cidr in dict.fromkeys(own + pairs):
        addresses = range_match(cidr)
        # who says that he has it now is heard; the copy comes last, for a meter drops it with all that is still to come
        claims = (sender, cidr) in watched
        yield flow(
            Rule.PUNT_HOLDER if claims else Rule.ALLOW_ARP,
            Priority.NORMAL,
            matching(reg6=port.key, eth_src=sender, eth_type=ETH_ARP, arp_sha=sender, arp_spa=addresses),
            *speaks,
            *((Resubmit(Table.ARP_RESPONDER), *punt(_COPIED_BYTES)) if claims else (Goto(Table.ARP_RESPONDER),)),
            key=port.key,
        )
        yield flow(
            Rule.ALLOW_IP,
            Priority.NORMAL,
            matching(reg6=port.key, eth_src=sender, eth_type=ETH_IP, ip_src=addresses),
            *qos.sent(view, port),
            *speaks,
            Goto(Table.SERVICES),
            key=port.key,
        )
    # for its own addresses alone: who probes for one as well takes it for a conflict, and gives it up (RFC 5227, 2.1.1)
    for sender, cidr in dict.fromkeys(own + pairs):
        yield flow(
            Rule.ALLOW_ARP_PROBE,
            Priority.NORMAL,
            matching(
                reg6=port.key,
                eth_src=sender,
                eth_type=ETH_ARP,
                arp_op=ARP_REQUEST,
                arp_sha=sender,
                arp_spa=0,
                arp_tpa=range_match(cidr),
            ),
            *speaks,
            Goto(Table.ARP_RESPONDER),
            key=port.key,
        )
    yield flow(
        Rule.ALLOW_DHCP,
        Priority.NORMAL,
        matching(
            reg6=port.key,
            eth_src=mac,
            eth_type=ETH_IP,
            ip_proto=PROTO_UDP,
            ip_src=0,
            ip_dst=_BROADCAST_IP,
            udp_src=DHCP_CLIENT_PORT,
            udp_dst=DHCP_SERVER_PORT,
        ),
        *speaks,
        Goto(Table.SERVICES),
        key=port.key,
    )
    # what a hypervisor sends in the name of a VM that has just arrived, so that switches see where it is
    yield flow(
        Rule.ALLOW_RARP,
        Priority.NORMAL,
        matching(
            reg6=port.key,
            eth_src=mac,
            eth_dst=_BROADCAST_MAC,
            eth_type=ETH_RARP,
            arp_op=RARP_REQUEST,
            arp_sha=mac,
            arp_tha=mac,
        ),
        *speaks,
        Goto(Table.L2_FORWARD),
        key=port.key,
    )
    if not port.ipv6_addresses:
        # every guest tries it: apart, so that what counts as spoofed is
        without = matching(reg6=port.key, eth_src=mac, eth_type=ETH_IPV6)
        yield drop(Rule.DROP_IPV6, Priority.LOW, without, key=port.key)
    yield drop(Rule.DROP_SPOOFED, Priority.MISS, matching(reg6=port.key), key=port.key)


def _anything(view: View, port: Port) -> Iterator[Flow]:
    """Whatever MAC, address and protocol, but for what only nodes send."""
    speaks = migration.speaks(view, port)
    for ethertype, limited, onward in (
        (ETH_ARP, (), Table.ARP_RESPONDER),
        (ETH_IP, qos.sent(view, port), Table.SERVICES),
    ):
        of_type = matching(reg6=port.key, eth_type=ethertype)
        yield flow(Rule.ALLOW_ANY, Priority.NORMAL, of_type, *limited, *speaks, Goto(onward), key=port.key)
    yield flow(Rule.ALLOW_ANY, Priority.LOW, matching(reg6=port.key), *speaks, Goto(Table.L2_FORWARD), key=port.key)
    for own in (GATEWAY_MAC, *NODE_MACS):
        yield drop(Rule.DROP_SPOOFED, Priority.GUARD, matching(reg6=port.key, eth_src=own), key=port.key)
