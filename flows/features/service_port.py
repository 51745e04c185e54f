"""Tables 0, 5, 7, 8, 12, 15 and 17: metadata and DNS over TCP, which end in the relay that the agent runs on the node.

The relay is behind one port of the bridge and knows a VM by the address that a connection comes from: conntrack
translates it, in the zone of the port's own, to the carrier address. So the same address in two projects is two VMs,
and nothing that a VM writes says who it is. What is not translated does not get there.

The way there and back is beside the security groups, as that of DHCP is.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network

from flows.features.arp import answer
from flows.ir import Ct, Flow, Goto, Nat, Output, OutputInPort, SetField, drop, flow, matching
from flows.model import Network, Port
from flows.pipeline import (
    GATEWAY_MAC,
    METADATA_ADDRESS,
    RESOLVER_ADDRESS,
    SERVICE_MAC,
    SERVICE_OFPORT,
    Priority,
    Reg,
    Table,
    carrier_address,
    nat_zone,
)
from flows.protocols import (
    ARP_REQUEST,
    CT_INVALID,
    CT_REPLY,
    CT_TRACKED,
    DNS_PORT,
    ETH_ARP,
    ETH_IP,
    HTTP_PORT,
    PROTO_TCP,
)
from flows.rules import Rule
from flows.view import View, mac_to_int, range_match

_SOURCE_PORTS = (1024, 65535)  # a port may have several addresses, whose connections have to give way to each other
_REPLY = {"ct_state": (CT_TRACKED | CT_REPLY, CT_TRACKED | CT_REPLY | CT_INVALID)}


def static() -> Iterator[Flow]:
    yield flow(Rule.CLASSIFY_SERVICE, Priority.NORMAL, matching(in_port=SERVICE_OFPORT), Goto(Table.SERVICE_IN))
    # a guest may take 169.254.0.0/16 for on-link (RFC 3927); on an isolated network it is
    asked = matching(eth_type=ETH_ARP, arp_op=ARP_REQUEST, arp_tpa=METADATA_ADDRESS)
    yield flow(Rule.ARP_METADATA, Priority.HIGH, asked, *answer(GATEWAY_MAC, METADATA_ADDRESS), OutputInPort())
    # whatever MAC it is sent to: of our gateway, of a router of the operator's
    request = matching(eth_type=ETH_IP, ip_proto=PROTO_TCP, ip_dst=METADATA_ADDRESS, tcp_dst=HTTP_PORT)
    yield flow(Rule.TO_METADATA, Priority.HIGH, request, Goto(Table.SERVICE_NAT))
    question = matching(eth_type=ETH_IP, ip_proto=PROTO_TCP, ip_dst=RESOLVER_ADDRESS, tcp_dst=DNS_PORT)
    yield flow(Rule.TO_RESOLVER, Priority.HIGH, question, Goto(Table.SERVICE_NAT))
    yield drop(Rule.DROP_METADATA, Priority.LOW, matching(eth_type=ETH_IP, ip_dst=METADATA_ADDRESS))
    yield drop(Rule.DROP_SERVICE_PORT, Priority.MISS)
    yield drop(Rule.DROP_SERVICE_UNTRANSLATED, Priority.MISS)
    yield drop(Rule.DROP_SERVICE, Priority.MISS)
    replied = matching(eth_type=ETH_IP, **_REPLY)
    yield flow(Rule.SERVICE_BACK, Priority.NORMAL, replied, Goto(Table.OUTPUT))
    yield drop(Rule.DROP_SERVICE_UNASKED, Priority.MISS)


def network(view: View, network: Network) -> Iterator[Flow]:
    """By router, not by network, as with echo requests: the gateway of another network of the project answers, too."""
    if not view.reachable(network):
        return
    for address in map(int, view.gateways(network)):
        question = {"eth_type": ETH_IP, "ip_proto": PROTO_TCP, "ip_dst": address, "tcp_dst": DNS_PORT}
        yield flow(
            Rule.TO_NAME_SERVER,
            Priority.HIGH,
            matching(reg5=network.router_key, **question),
            Goto(Table.SERVICE_NAT),
            key=network.key,
        )


def port(view: View, network: Network, port: Port) -> Iterator[Flow]:
    seat = view.seat(port)
    assert seat is not None
    key, carrier, zone = port.key, carrier_address(port.key), nat_zone(seat.zone)
    yield flow(
        Rule.SERVICE_NAT,
        Priority.NORMAL,
        matching(reg6=key, eth_type=ETH_IP),
        Ct(Table.SERVICE_OUT, zone, commit=True, nat=Nat(carrier, _SOURCE_PORTS)),
        key=key,
    )
    yield flow(
        Rule.SERVICE_OUT,
        Priority.NORMAL,
        matching(reg6=key, eth_type=ETH_IP, ip_src=carrier),
        SetField("eth_dst", SERVICE_MAC),
        Output(SERVICE_OFPORT),
        key=key,
    )
    yield flow(
        Rule.SERVICE_IN,
        Priority.NORMAL,
        matching(eth_type=ETH_IP, ip_dst=carrier),
        SetField("eth_src", GATEWAY_MAC),
        SetField("eth_dst", mac_to_int(port.mac)),
        SetField(Reg.NETWORK, network.key),
        SetField(Reg.TARGET_PORT, key),
        Ct(Table.SERVICE_BACK, zone, translate=True),
        key=key,
    )
    macs: dict[IPv4Network, str] = {}
    for pair in port.address_pairs:
        macs.setdefault(pair.cidr, pair.mac)
    for cidr, mac in macs.items():
        if mac != port.mac:
            yield flow(
                Rule.SERVICE_BACK_PAIR,
                Priority.ROUTE + cidr.prefixlen,
                matching(eth_type=ETH_IP, reg7=key, ip_dst=range_match(cidr), **_REPLY),
                SetField("eth_dst", mac_to_int(mac)),
                Goto(Table.OUTPUT),
                key=key,
            )
