"""Tables 0, 5, 7, 8, 12, 15 and 17: metadata and DNS over TCP, which end in the relay that the agent runs on the node.

The relay is behind one port of the bridge and knows a VM by the address that a connection comes from: conntrack
translates it, in the zone of the port's own, to the carrier address. So the same address in two projects is two VMs,
and nothing that a VM writes says who it is. What is not translated does not get there.

The way there and back is beside the security groups, as that of DHCP is. Over IPv6 all of it is the same, at link-local
addresses, too: they are translated with the rest. Neighbours are answered in `ipv6_gateway`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network

from flows.features.arp import answer
from flows.features.ipv6_gateway import askers
from flows.ir import Ct, Flow, Goto, Match, Nat, Output, OutputInPort, SetField, drop, flow, matching
from flows.model import Network, Port
from flows.pipeline import (
    GATEWAY_MAC,
    METADATA_ADDRESS,
    METADATA_LINK_LOCAL,
    RESOLVER_ADDRESS,
    SERVICE_MAC,
    SERVICE_OFPORT,
    Priority,
    Reg,
    Table,
    carrier_address,
    ipv6_carrier_address,
    nat_zone,
)
from flows.protocols import (
    ANY_FRAGMENT,
    ARP_REQUEST,
    CT_INVALID,
    CT_REPLY,
    CT_TRACKED,
    DNS_PORT,
    ETH_ARP,
    ETH_IP,
    ETH_IPV6,
    HTTP_PORT,
    PROTO_TCP,
)
from flows.rules import Rule
from flows.view import View, ipv6_gateways, mac_to_int, range_match

_SOURCE_PORTS = (1024, 65535)  # a port may have several addresses, whose connections have to give way to each other
_REPLY = {"ct_state": (CT_TRACKED | CT_REPLY, CT_TRACKED | CT_REPLY | CT_INVALID)}


@dataclass(frozen=True, slots=True)
class _Family:
    """IPv4 or IPv6, as flows have it."""

    ethertype: int
    source: str
    destination: str
    metadata: int
    carrier: Callable[[int], int]

    def asked(self, address: int, port: int, **asker: int) -> Match:
        """TCP to a port of an address."""
        to = {"eth_type": self.ethertype, "ip_proto": PROTO_TCP, self.destination: address, "tcp_dst": port}
        return matching(**asker, **to)


_IPV4 = _Family(ETH_IP, "ip_src", "ip_dst", METADATA_ADDRESS, carrier_address)
_IPV6 = _Family(ETH_IPV6, "ipv6_src", "ipv6_dst", METADATA_LINK_LOCAL, ipv6_carrier_address)


def static() -> Iterator[Flow]:
    yield flow(Rule.CLASSIFY_SERVICE, Priority.NORMAL, matching(in_port=SERVICE_OFPORT), Goto(Table.SERVICE_IN))
    # a guest may take 169.254.0.0/16 for on-link (RFC 3927); on an isolated network it is
    asked = matching(eth_type=ETH_ARP, arp_op=ARP_REQUEST, arp_tpa=METADATA_ADDRESS)
    yield flow(Rule.ARP_METADATA, Priority.HIGH, asked, *answer(GATEWAY_MAC, METADATA_ADDRESS), OutputInPort())
    question = _IPV4.asked(RESOLVER_ADDRESS, DNS_PORT)
    yield flow(Rule.TO_RESOLVER, Priority.HIGH, question, Goto(Table.SERVICE_NAT))
    for family in (_IPV4, _IPV6):
        # whatever MAC it is sent to: of our gateway, of a router of the operator's
        request = family.asked(family.metadata, HTTP_PORT)
        yield flow(Rule.TO_METADATA, Priority.HIGH, request, Goto(Table.SERVICE_NAT))
        other = {"eth_type": family.ethertype, family.destination: family.metadata}
        yield drop(Rule.DROP_METADATA, Priority.LOW, matching(**other))
        replied = matching(eth_type=family.ethertype, **_REPLY)
        yield flow(Rule.SERVICE_BACK, Priority.NORMAL, replied, Goto(Table.OUTPUT))
    # before the parts are asked about: nobody puts them together here
    part = matching(eth_type=ETH_IPV6, ip_frag=ANY_FRAGMENT, ipv6_dst=METADATA_LINK_LOCAL)
    yield drop(Rule.DROP_METADATA, Priority.EXEMPT, part)
    yield drop(Rule.DROP_SERVICE_PORT, Priority.MISS)
    yield drop(Rule.DROP_SERVICE_UNTRANSLATED, Priority.MISS)
    yield drop(Rule.DROP_SERVICE, Priority.MISS)
    yield drop(Rule.DROP_SERVICE_UNASKED, Priority.MISS)


def network(view: View, network: Network) -> Iterator[Flow]:
    """By router, not by network, as with echo requests: the gateway of another network of the project answers, too."""
    if not view.reachable(network):
        return
    for address in ipv6_gateways(network):
        asker = askers(view, network, address)
        if asker is not None:
            yield _to_name_server(network, _IPV6.asked(address, DNS_PORT, **asker))


def gateways(view: View, network: Network) -> Iterator[Flow]:
    if view.reachable(network):
        for address in view.gateways(network):
            yield _to_name_server(network, _IPV4.asked(int(address), DNS_PORT, reg5=network.router_key))


def _to_name_server(network: Network, question: Match) -> Flow:
    return flow(Rule.TO_NAME_SERVER, Priority.HIGH, question, Goto(Table.SERVICE_NAT), key=network.key)


def port(view: View, network: Network, port: Port) -> Iterator[Flow]:
    seat = view.seat(port)
    assert seat is not None
    for family in (_IPV4, _IPV6) if port.ipv6_addresses else (_IPV4,):
        yield from _there_and_back(network, port, nat_zone(seat.zone), family)
    yield from _to_pairs(port)


def _there_and_back(network: Network, port: Port, zone: int, family: _Family) -> Iterator[Flow]:
    key, carrier = port.key, family.carrier(port.key)
    of_family = {"eth_type": family.ethertype}
    yield flow(
        Rule.SERVICE_NAT,
        Priority.NORMAL,
        matching(reg6=key, **of_family),
        Ct(Table.SERVICE_OUT, zone, commit=True, nat=Nat(carrier, _SOURCE_PORTS, family=family.ethertype)),
        key=key,
    )
    yield flow(
        Rule.SERVICE_OUT,
        Priority.NORMAL,
        matching(reg6=key, **of_family, **{family.source: carrier}),
        SetField("eth_dst", SERVICE_MAC),
        Output(SERVICE_OFPORT),
        key=key,
    )
    yield flow(
        Rule.SERVICE_IN,
        Priority.NORMAL,
        matching(**of_family, **{family.destination: carrier}),
        SetField("eth_src", GATEWAY_MAC),
        SetField("eth_dst", mac_to_int(port.mac)),
        SetField(Reg.NETWORK, network.key),
        SetField(Reg.TARGET_PORT, key),
        Ct(Table.SERVICE_BACK, zone, translate=True),
        key=key,
    )


def _to_pairs(port: Port) -> Iterator[Flow]:
    """Of IPv4 alone, as they are."""
    key = port.key
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
