"""Tables 10, 12, 28 and 39: a port that goes on flooding the controller with something is not asked for it for a while.

These flows are not computed: the controller adds one when it sees a flood, and the switch ends it by itself. They carry
a mark of their own, are never part of the digest, and outlive a controller harmlessly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from flows.ir import Flow, drop, matching
from flows.pipeline import Priority, Reg
from flows.protocols import (
    DHCP_CLIENT_PORT,
    DHCP_SERVER_PORT,
    DHCPV6_CLIENT_PORT,
    DHCPV6_SERVER_PORT,
    ETH_IP,
    ETH_IPV6,
    ND_ROUTER_SOLICITATION,
    PROTO_ICMPV6,
    PROTO_UDP,
)
from flows.rules import COOKIE_MUTED, COOKIE_OURS, Rule

_UNKNOWN_MAC = 0
# what is handed up -> the drop in its place, and what both have in common. A packet that is too large is not among
# them: who is not told that learns no size that would pass.
_MUTES: Final[Mapping[Rule, tuple[Rule, Mapping[str, int]]]] = {
    Rule.PUNT_DHCP: (
        Rule.DROP_FLOOD_DHCP,
        {"eth_type": ETH_IP, "ip_proto": PROTO_UDP, "udp_src": DHCP_CLIENT_PORT, "udp_dst": DHCP_SERVER_PORT},
    ),
    Rule.PUNT_TTL_EXPIRED: (Rule.DROP_FLOOD_TTL, {"eth_type": ETH_IP, "nw_ttl": 1}),
    Rule.PUNT_UNRESOLVED: (Rule.DROP_FLOOD_UNRESOLVED, {"eth_type": ETH_IP, "eth_dst": _UNKNOWN_MAC}),
    Rule.PUNT_RA: (
        Rule.DROP_FLOOD_RA,
        {"eth_type": ETH_IPV6, "ip_proto": PROTO_ICMPV6, "icmpv6_type": ND_ROUTER_SOLICITATION},
    ),
    Rule.PUNT_DHCPV6: (
        Rule.DROP_FLOOD_DHCPV6,
        {"eth_type": ETH_IPV6, "ip_proto": PROTO_UDP, "udp_src": DHCPV6_CLIENT_PORT, "udp_dst": DHCPV6_SERVER_PORT},
    ),
    Rule.PUNT_HOP_LIMIT: (Rule.DROP_FLOOD_HOP_LIMIT, {"eth_type": ETH_IPV6, "nw_ttl": 1}),
    Rule.PUNT_UNRESOLVED_IPV6: (Rule.DROP_FLOOD_UNRESOLVED_IPV6, {"eth_type": ETH_IPV6, "eth_dst": _UNKNOWN_MAC}),
}

MUTABLE: Final = tuple(_MUTES)
"""The rules by which a port may hand up so much that it is not heard for a while."""


def muted(rule: Rule, port_key: int) -> Flow | None:
    """The flow that drops what a port has the controller handed by a rule; None where that is not to be dropped."""
    found = _MUTES.get(rule)
    if found is None:
        return None
    named, fields = found
    match = matching(**{Reg.SOURCE_PORT: port_key}, **fields)
    made = drop(named, Priority.MUTED, match, key=port_key)
    return replace(made, cookie=made.cookie ^ COOKIE_OURS ^ COOKIE_MUTED)
