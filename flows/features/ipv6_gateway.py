"""Tables 10 to 12: what the node itself is to a VM over IPv6: its gateway, in place, and by the controller what says
where and with which addresses it is.

A solicitation (RFC 4861) becomes its advertisement in two tables, because a switch sets the target's MAC address only
in what it has matched as an advertisement.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows.features.allowance import punt, punt_question
from flows.ir import Action, Flow, Goto, Match, Move, OutputInPort, SetField, drop, flow, matching
from flows.model import Network, Port
from flows.pipeline import GATEWAY_LINK_LOCAL, GATEWAY_MAC, METADATA_LINK_LOCAL, Priority, Table
from flows.protocols import (
    ANY_FRAGMENT,
    DHCPV6_CLIENT_PORT,
    DHCPV6_SERVER_PORT,
    DNS_PORT,
    ETH_IPV6,
    ICMPV6_ECHO_REPLY,
    ICMPV6_ECHO_REQUEST,
    ND_ADVERTISEMENT,
    ND_HOP_LIMIT,
    ND_IS_ROUTER,
    ND_OVERRIDE,
    ND_ROUTER_SOLICITATION,
    ND_SOLICITATION,
    ND_SOLICITED,
    ND_TARGET_ADDRESS,
    PROTO_ICMPV6,
    PROTO_UDP,
)
from flows.rules import Rule
from flows.view import View, advertises, ipv6_gateways, serves_dhcpv6

_HOP_LIMIT = 64
_ICMPV6: dict[str, int] = {"eth_type": ETH_IPV6, "ip_proto": PROTO_ICMPV6}
ADVERTISEMENT: Match = matching(**_ICMPV6, icmpv6_type=ND_ADVERTISEMENT)


_SOLICITATION: dict[str, int] = {**_ICMPV6, "icmpv6_type": ND_SOLICITATION, "icmpv6_code": 0, "nw_ttl": ND_HOP_LIMIT}


def solicitation(network: Network, target: int) -> Match:
    return matching(metadata=network.key, **_SOLICITATION, nd_target=target)


def askers(view: View, network: Network, address: int) -> dict[str, int] | None:
    """Who may ask at a gateway address, as a match; None: nobody here. The link-local one is each network's, another
    answers also who asks from elsewhere, as that of IPv4 does.
    """
    if address != GATEWAY_LINK_LOCAL:
        return {"reg5": network.router_key}
    return {"metadata": network.key} if view.present(network) else None


def turned(view: View, mac: int, target: int) -> tuple[Action, ...]:
    """Return the actions that send a solicitation back, where `answered` or `nd_tc` makes an advertisement of it."""
    return (
        *_back(mac, target),
        # of the kernel's datapath the option's MAC can be set as long as it is a solicitation's
        *((SetField("nd_sll", mac),) if view.node.on_kernel else ()),
        SetField("icmpv6_type", ND_ADVERTISEMENT),
        Goto(Table.ND_ANSWER),
    )


def answered(mac: int, flags: int) -> tuple[Action, ...]:
    """The rest of an advertisement, without sending it. One that had said no MAC address says none, either."""
    return (
        SetField("nd_reserved", flags),
        SetField("nd_options_type", ND_TARGET_ADDRESS),
        SetField("nd_tll", mac),
    )


def _back(mac: int, address: int) -> tuple[Action, ...]:
    return (
        Move("eth_src", "eth_dst"),
        SetField("eth_src", mac),
        Move("ipv6_src", "ipv6_dst"),
        SetField("ipv6_src", address),
    )


def static() -> Iterator[Flow]:
    yield flow(Rule.ND_SWITCHED, Priority.MISS, (), Goto(Table.L2_FORWARD))


def node(view: View) -> Iterator[Flow]:
    # on each network: of ours, of a router of the operator's, isolated, and external
    asked = matching(**_SOLICITATION, nd_target=METADATA_LINK_LOCAL)
    yield flow(Rule.ND_METADATA, Priority.HIGH, asked, *turned(view, GATEWAY_MAC, METADATA_LINK_LOCAL))
    if view.node.on_kernel:  # it cannot write all of an advertisement: `nd_tc`
        yield drop(Rule.DROP_ND_UNANSWERED, Priority.MISS)
        return
    gateway = answered(GATEWAY_MAC, ND_IS_ROUTER | ND_SOLICITED | ND_OVERRIDE)
    yield flow(Rule.ND_ANSWER, Priority.NORMAL, ADVERTISEMENT, *gateway, OutputInPort())
    host = answered(GATEWAY_MAC, ND_SOLICITED | ND_OVERRIDE)
    from_it = matching(**_ICMPV6, icmpv6_type=ND_ADVERTISEMENT, ipv6_src=METADATA_LINK_LOCAL)
    yield flow(Rule.ND_ANSWER, Priority.LOCAL, from_it, *host, OutputInPort())


def network(view: View, network: Network) -> Iterator[Flow]:
    if not view.reachable(network):
        return
    key, here = network.key, view.present(network)
    for address in ipv6_gateways(network):
        if here:
            asked = solicitation(network, address)
            yield flow(Rule.ND_GATEWAY, Priority.HIGH, asked, *turned(view, GATEWAY_MAC, address), key=key)
        asker = askers(view, network, address)
        if asker is None:
            continue
        echo = matching(**asker, **_ICMPV6, icmpv6_type=ICMPV6_ECHO_REQUEST, icmpv6_code=0, ipv6_dst=address)
        yield flow(
            Rule.GATEWAY_ECHO_IPV6,
            Priority.NORMAL,
            echo,
            *_back(GATEWAY_MAC, address),
            SetField("icmpv6_type", ICMPV6_ECHO_REPLY),
            SetField("nw_ttl", _HOP_LIMIT),
            OutputInPort(),
            key=key,
        )
        question = matching(**asker, eth_type=ETH_IPV6, ip_proto=PROTO_UDP, ipv6_dst=address, udp_dst=DNS_PORT)
        yield flow(Rule.PUNT_DNS, Priority.NORMAL, question, *punt_question(), key=key)
        to_gateway = matching(**asker, eth_type=ETH_IPV6, ipv6_dst=address)
        yield drop(Rule.DROP_GATEWAY_IPV6, Priority.LOW, to_gateway, key=key)
        # before the parts are asked about: nobody puts them together here
        part = matching(**asker, eth_type=ETH_IPV6, ip_frag=ANY_FRAGMENT, ipv6_dst=address)
        yield drop(Rule.DROP_GATEWAY_IPV6, Priority.EXEMPT, part, key=key)


def port(view: View, network: Network, port: Port) -> Iterator[Flow]:
    if not port.ipv6_addresses:
        return
    key = port.key
    if advertises(network):
        asked = matching(reg6=key, **_ICMPV6, icmpv6_type=ND_ROUTER_SOLICITATION)
        yield flow(Rule.PUNT_RA, Priority.HIGH, asked, *punt(), key=key)
    if serves_dhcpv6(network):
        ports = {"udp_src": DHCPV6_CLIENT_PORT, "udp_dst": DHCPV6_SERVER_PORT}
        asked = matching(reg6=key, eth_type=ETH_IPV6, ip_proto=PROTO_UDP, **ports)
        yield flow(Rule.PUNT_DHCPV6, Priority.HIGH, asked, *punt(), key=key)
