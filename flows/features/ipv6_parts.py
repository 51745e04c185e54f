"""Tables 12 and 14: fragments of IPv6, as `dhcp_guard` has them of IPv4's UDP.

A fragment shows neither ports nor a type, and in all but the first Open vSwitch sees no protocol, either (44 stands
there). Conntrack puts the packet together: of ICMPv6 it knows only echo requests and answers, so that no neighbour
discovery gets through in parts (RFC 6980, RFC 7113).
"""

from __future__ import annotations

from collections.abc import Iterator

from flows.features import policy
from flows.ir import Ct, Flow, drop, flow, matching
from flows.model import Network, Port
from flows.pipeline import Priority, Reg, Table
from flows.protocols import (
    ANY_FRAGMENT,
    CT_INVALID,
    CT_REPLY,
    CT_TRACKED,
    DHCPV6_CLIENT_PORT,
    ETH_IPV6,
    PROTO_UDP,
)
from flows.rules import Rule
from flows.view import View

_KNOWN = CT_TRACKED | CT_INVALID | CT_REPLY
# (ct_state, the field of the connection's first packet that now is the target port)
_WAYS = (((CT_TRACKED, _KNOWN), "ct_tp_dst"), ((CT_TRACKED | CT_REPLY, _KNOWN), "ct_tp_src"))
_INVALID = (CT_TRACKED | CT_INVALID, CT_TRACKED | CT_INVALID)


def static() -> Iterator[Flow]:
    part = matching(eth_type=ETH_IPV6, ip_frag=ANY_FRAGMENT)
    yield flow(Rule.IPV6_PART, Priority.FLOATING, part, Ct(Table.EGRESS_PARTS, Reg.SOURCE_ZONE))
    # as the kernel's conntrack has put it together, and as the userspace datapath's hands on its parts
    whole = matching(eth_type=ETH_IPV6, ip_proto=PROTO_UDP, udp_dst=DHCPV6_CLIENT_PORT)
    yield drop(Rule.DROP_DHCPV6_SERVER_PART, Priority.GUARD, whole)
    for state, port in _WAYS:
        to_client = matching(eth_type=ETH_IPV6, ct_state=state, ct_nw_proto=PROTO_UDP, **{port: DHCPV6_CLIENT_PORT})
        yield drop(Rule.DROP_DHCPV6_SERVER_PART, Priority.GUARD, to_client)
    yield drop(Rule.DROP_ND_PART, Priority.LOCAL, matching(eth_type=ETH_IPV6, ct_state=_INVALID))


def port(view: View, network: Network, port: Port) -> Iterator[Flow]:
    """Of a port whose connections are not tracked."""
    seat = view.seat(port)
    assert seat is not None
    if not port.ipv6_addresses or policy.zone(view, port, seat):
        return
    part = matching(reg6=port.key, eth_type=ETH_IPV6, ip_frag=ANY_FRAGMENT)
    own_zone = Ct(Table.EGRESS_PARTS, seat.zone)
    yield flow(Rule.IPV6_PART_UNTRACKED, Priority.FORWARDING, part, own_zone, key=port.key)
