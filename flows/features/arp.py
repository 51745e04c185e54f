"""Table 8: ARP answered in place, so that it works without a controller and never crosses the wire.

Every node answers for all nodes' gateway addresses with the one anycast MAC: a guest that moves keeps its gateway.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows.ir import Action, Flow, Goto, Match, Move, OutputInPort, SetField, flow, matching
from flows.model import Network
from flows.pipeline import GATEWAY_MAC, RESOLVER_ADDRESS, Priority, Table
from flows.protocols import ARP_REPLY, ARP_REQUEST, ETH_ARP
from flows.rules import Rule
from flows.view import View, mac_to_int


def request_for(network: Network, address: int) -> Match:
    return matching(metadata=network.key, eth_type=ETH_ARP, arp_op=ARP_REQUEST, arp_tpa=address)


def answer(mac: int, address: int) -> tuple[Action, ...]:
    """Turns an ARP request into its reply (RFC 826) without sending it."""
    return (
        Move("eth_src", "eth_dst"),
        SetField("eth_src", mac),
        SetField("arp_op", ARP_REPLY),
        Move("arp_sha", "arp_tha"),
        Move("arp_spa", "arp_tpa"),
        SetField("arp_sha", mac),
        SetField("arp_spa", address),
    )


def static() -> Iterator[Flow]:
    yield flow(Rule.ARP_SWITCHED, Priority.MISS, (), Goto(Table.L2_FORWARD))
    asked = matching(eth_type=ETH_ARP, arp_op=ARP_REQUEST, arp_tpa=RESOLVER_ADDRESS)
    yield flow(Rule.ARP_RESOLVER, Priority.HIGH, asked, *answer(GATEWAY_MAC, RESOLVER_ADDRESS), OutputInPort())


def gateways(view: View, network: Network) -> Iterator[Flow]:
    if not view.present(network):
        return
    for address in map(int, view.gateways(network)):
        yield flow(
            Rule.ARP_GATEWAY,
            Priority.HIGH,
            request_for(network, address),
            *answer(GATEWAY_MAC, address),
            OutputInPort(),
            key=network.key,
        )


def known_ports(view: View, network: Network) -> Iterator[Flow]:
    """For a network that asks for it: every port's address, so that no request is broadcast. O(all its ports).

    For an address that several ports may use the VMs answer: it may move while there is no controller.
    """
    if not network.arp_responder or not view.present(network):
        return
    snapshot = view.snapshot
    ports = (snapshot.ports[port_id] for port_id in snapshot.ports_by_network.get(network.id, ()))
    for port in sorted(ports, key=lambda port: port.key):
        mac = mac_to_int(port.mac)
        for fixed_ip in port.fixed_ips:
            address = int(fixed_ip.address)
            if (network.id, address) in snapshot.ports_by_pair:
                continue
            # a VM that probes for its own address before it takes it (RFC 5227) must not hear an answer
            yield flow(
                Rule.ARP_SWITCHED_OWN,
                Priority.HIGH,
                matching(reg6=port.key, eth_type=ETH_ARP, arp_op=ARP_REQUEST, arp_tpa=address),
                Goto(Table.L2_FORWARD),
                key=port.key,
            )
            yield flow(
                Rule.ARP_PORT,
                Priority.NORMAL,
                request_for(network, address),
                *answer(mac, address),
                OutputInPort(),
                key=port.key,
            )
