"""Tables 12 and 13: what the node itself answers to a VM: DHCP and DNS by the controller, echo requests in place.

DNS at every gateway address of the VM's router, and at one that is the same on all networks, for those that have no
gateway of ours.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows.features.allowance import punt, punt_question
from flows.features.size import measured
from flows.ir import Action, Flow, Goto, Move, OutputInPort, SetField, drop, flow, matching
from flows.model import Network, Port
from flows.pipeline import GATEWAY_MAC, RESOLVER_ADDRESS, TOO_LARGE, Priority, Table
from flows.protocols import (
    ANY_FRAGMENT,
    DHCP_CLIENT_PORT,
    DHCP_SERVER_PORT,
    DNS_PORT,
    ETH_IP,
    ICMP_ECHO_REPLY,
    ICMP_ECHO_REQUEST,
    PROTO_ICMP,
    PROTO_UDP,
)
from flows.rules import Rule
from flows.view import View

_TTL = 64
_QUESTION: dict[str, int] = {"eth_type": ETH_IP, "ip_proto": PROTO_UDP, "udp_dst": DNS_PORT}


def static() -> Iterator[Flow]:
    yield flow(Rule.SERVICES_DONE, Priority.MISS, (), Goto(Table.EGRESS_CONNTRACK))
    yield drop(Rule.DROP_ECHO, Priority.MISS)
    anywhere = matching(**_QUESTION, ip_dst=RESOLVER_ADDRESS)
    yield flow(Rule.PUNT_DNS_LINK_LOCAL, Priority.NORMAL, anywhere, *punt_question())


def echoed(mac: int, address: int) -> tuple[Action, ...]:
    """Turns an echo request to an address into its reply (RFC 792) without sending it."""
    return (
        Move("eth_src", "eth_dst"),
        SetField("eth_src", mac),
        Move("ip_src", "ip_dst"),
        SetField("ip_src", address),
        SetField("icmp_type", ICMP_ECHO_REPLY),
        SetField("nw_ttl", _TTL),
    )


def network(view: View, network: Network) -> Iterator[Flow]:
    """By router, not by network: the gateway of another network of the project answers, too."""
    if not view.reachable(network):
        return
    if view.present(network):
        too_large = matching(metadata=network.key, reg0=TOO_LARGE)
        yield flow(Rule.PUNT_LARGE_ECHO, Priority.GUARD, too_large, *punt(), key=network.key)


def gateways(view: View, network: Network) -> Iterator[Flow]:
    if not view.reachable(network):
        return
    for address in map(int, view.gateways(network)):
        to_gateway = {"reg5": network.router_key, "eth_type": ETH_IP, "ip_proto": PROTO_ICMP, "ip_dst": address}
        turned_round = (*echoed(GATEWAY_MAC, address), OutputInPort())
        for sender, measure in _senders(view, network):
            asked = matching(**to_gateway, **sender, icmp_type=ICMP_ECHO_REQUEST, icmp_code=0)
            yield flow(Rule.TO_GATEWAY, Priority.NORMAL, asked, *measure, Goto(Table.GATEWAY), key=network.key)
        question = matching(reg5=network.router_key, ip_dst=address, **_QUESTION)
        yield flow(Rule.PUNT_DNS, Priority.NORMAL, question, *punt_question(), key=network.key)
        # no fragment shows its type, and only the first has one
        part = matching(**to_gateway, ip_frag=ANY_FRAGMENT)
        yield flow(Rule.TO_GATEWAY, Priority.HIGH, part, Goto(Table.GATEWAY), key=network.key)
        yield flow(Rule.GATEWAY_ECHO, Priority.NORMAL, matching(**to_gateway), *turned_round, key=network.key)
        yield drop(
            Rule.DROP_GATEWAY,
            Priority.LOW,
            matching(reg5=network.router_key, eth_type=ETH_IP, ip_dst=address),
            key=network.key,
        )


def senders_differ(view: View, network: Network) -> bool:
    """Who may ask the gateway of a network depends on where he is."""
    return len({other.mtu for other in _routed_to(view, network)}) != 1


def _routed_to(view: View, network: Network) -> list[Network]:
    return [other for other in view.snapshot.router_networks(network.router_key) if other.routed]


def _senders(view: View, network: Network) -> Iterator[tuple[dict[str, int], tuple[Action, ...]]]:
    """Who may ask the gateway of a network, as a match, and how it is measured: by its own network."""
    if not senders_differ(view, network):
        yield {}, measured(network.mtu)
        return
    for other in _routed_to(view, network):
        if view.present(other):
            yield {"metadata": other.key}, measured(other.mtu)


def port(view: View, network: Network, port: Port) -> Iterator[Flow]:
    if network.dhcp:
        yield flow(
            Rule.PUNT_DHCP,
            Priority.HIGH,
            matching(
                reg6=port.key,
                eth_type=ETH_IP,
                ip_proto=PROTO_UDP,
                udp_src=DHCP_CLIENT_PORT,
                udp_dst=DHCP_SERVER_PORT,
            ),
            *punt(),
            key=port.key,
        )
