"""Table 6: what the nodes are for a network over IPv6 must not come from the wire (RFC 6105). The rest is in
`uplink_in`.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows.ir import Flow, drop, matching
from flows.model import Network
from flows.pipeline import Priority
from flows.protocols import (
    ANY_FRAGMENT,
    DHCPV6_CLIENT_PORT,
    DHCPV6_SERVER_PORT,
    ETH_IPV6,
    ETH_MULTICAST,
    ND_ADVERTISEMENT,
    ND_REDIRECT,
    ND_ROUTER_ADVERTISEMENT,
    ND_SOLICITATION,
    PROTO_ICMPV6,
    PROTO_UDP,
)
from flows.rules import Rule
from flows.view import View, advertises, ipv6_gateways, serves_dhcpv6

_ICMPV6: dict[str, int] = {"eth_type": ETH_IPV6, "ip_proto": PROTO_ICMPV6}


def network(view: View, network: Network) -> Iterator[Flow]:
    if not view.attends(network):
        return
    key = network.key
    if advertises(network):
        for kind in (ND_ROUTER_ADVERTISEMENT, ND_REDIRECT):
            said = matching(metadata=key, **_ICMPV6, icmpv6_type=kind)
            yield drop(Rule.DROP_UPLINK_RA, Priority.GUARD, said, key=key)
        # to all, it could be one (RFC 7113): no fragment shows what it is
        part = matching(metadata=key, eth_type=ETH_IPV6, ip_frag=ANY_FRAGMENT, eth_dst=ETH_MULTICAST)
        yield drop(Rule.DROP_UPLINK_RA, Priority.GUARD, part, key=key)
    if serves_dhcpv6(network):
        # a client looks at its own port only: answers are dropped from whatever port
        for ports in ({"udp_dst": DHCPV6_CLIENT_PORT}, {"udp_src": DHCPV6_CLIENT_PORT, "udp_dst": DHCPV6_SERVER_PORT}):
            dhcp = matching(metadata=key, eth_type=ETH_IPV6, ip_proto=PROTO_UDP, **ports)
            yield drop(Rule.DROP_UPLINK_DHCP, Priority.GUARD, dhcp, key=key)
    for address in ipv6_gateways(network):
        for kind in (ND_SOLICITATION, ND_ADVERTISEMENT):
            about = matching(metadata=key, **_ICMPV6, icmpv6_type=kind, icmpv6_code=0, nd_target=address)
            yield drop(Rule.DROP_UPLINK_GATEWAY, Priority.GUARD, about, key=key)
        claims = matching(metadata=key, eth_type=ETH_IPV6, ipv6_src=address)
        yield drop(Rule.DROP_UPLINK_GATEWAY, Priority.GUARD, claims, key=key)
