"""Tables 16 and 53: IPv6 is held to the security groups as IPv4 is, but for what IPv6 itself needs.

Neighbour discovery of VMs is seen to in `ipv6_security`, and that of the wire in `ipv6_uplink`. It is of no connection:
conntrack finds it invalid.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows.features.policy import EGRESS, INGRESS, tracking
from flows.ir import Flow, drop, flow, matching
from flows.model import Network
from flows.pipeline import FLAG_FLOATING, FLAG_FROM_UPLINK, TO_FLOATING, Priority
from flows.protocols import (
    DHCPV6_CLIENT_PORT,
    DHCPV6_SERVER_PORT,
    ETH_IPV6,
    ETH_MULTICAST,
    MLD_QUERY,
    ND_ADVERTISEMENT,
    ND_HOP_LIMIT,
    ND_ROUTER_ADVERTISEMENT,
    ND_SOLICITATION,
    PROTO_ICMPV6,
    PROTO_UDP,
)
from flows.rules import Rule
from flows.view import View, serves_dhcpv6

_UDP: dict[str, int] = {"eth_type": ETH_IPV6, "ip_proto": PROTO_UDP}
_ASKED = {**_UDP, "udp_src": DHCPV6_CLIENT_PORT, "udp_dst": DHCPV6_SERVER_PORT}
_ANSWERED = {**_UDP, "udp_src": DHCPV6_SERVER_PORT, "udp_dst": DHCPV6_CLIENT_PORT}
_FROM_WIRE = (FLAG_FROM_UPLINK, FLAG_FROM_UPLINK | FLAG_FLOATING)
# (ICMPv6 type, hop limit): what has been routed has less, or is nothing that a host believes
_NEEDED = (
    (ND_SOLICITATION, ND_HOP_LIMIT),
    (ND_ADVERTISEMENT, ND_HOP_LIMIT),
    (ND_ROUTER_ADVERTISEMENT, ND_HOP_LIMIT),
    (MLD_QUERY, 1),
)


def static() -> Iterator[Flow]:
    """Only what `ipv6_security` has let pass gets as far as table 16."""
    yield from tracking(EGRESS, eth_type=ETH_IPV6)
    to_servers = matching(**_ASKED, eth_dst=ETH_MULTICAST)
    yield flow(Rule.DHCPV6_ASKED, Priority.GUARD, to_servers, *EGRESS.passed)
    to_client = matching(reg0=TO_FLOATING, **_UDP, udp_dst=DHCPV6_CLIENT_PORT)
    yield drop(Rule.DROP_OUTSIDE_DHCP, Priority.FLOATING, to_client)


def network(view: View, network: Network) -> Iterator[Flow]:
    """Where a network has none, IPv6 from the wire ends before it gets to a port that is filtered."""
    if not network.ipv6_subnets or not view.present(network):
        return
    key = network.key
    yield from tracking(INGRESS, metadata=key, eth_type=ETH_IPV6)
    for kind, hop_limit in _NEEDED:
        needed = matching(metadata=key, eth_type=ETH_IPV6, ip_proto=PROTO_ICMPV6, icmpv6_type=kind, nw_ttl=hop_limit)
        yield flow(Rule.INGRESS_ND, Priority.GUARD, needed, *INGRESS.passed, key=key)
    if not serves_dhcpv6(network):
        answer = matching(metadata=key, reg0=_FROM_WIRE, **_ANSWERED)
        yield flow(Rule.DHCPV6_ANSWERED, Priority.GUARD, answer, *INGRESS.passed, key=key)
