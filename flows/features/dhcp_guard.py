"""Tables 12 and 14, 3 and 53: nobody gives a VM a lease in our place, in fragments or from outside.

`port_security` and `uplink_in` drop a DHCP server's answers where they show their port. A fragment shows none, and a
client may take one for the whole: so conntrack, which puts a datagram together, is asked where it goes, also for ports
that are not filtered.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows.features import policy
from flows.ir import Ct, CtClear, Flow, Goto, drop, flow, matching
from flows.model import Network, Port
from flows.pipeline import TO_FLOATING, Priority, Reg, Table
from flows.protocols import ANY_FRAGMENT, CT_INVALID, CT_REPLY, CT_TRACKED, DHCP_CLIENT_PORT, ETH_IP, PROTO_UDP
from flows.rules import Rule
from flows.view import View

_TO_CLIENT: dict[str, int] = {"eth_type": ETH_IP, "ip_proto": PROTO_UDP, "udp_dst": DHCP_CLIENT_PORT}
_PART: dict[str, int | tuple[int, int]] = {"eth_type": ETH_IP, "ip_proto": PROTO_UDP, "ip_frag": ANY_FRAGMENT}
_KNOWN = CT_TRACKED | CT_INVALID | CT_REPLY
# (ct_state, the field of the connection's first packet that now is the target port)
_WAYS = (((CT_TRACKED, _KNOWN), "ct_tp_dst"), ((CT_TRACKED | CT_REPLY, _KNOWN), "ct_tp_src"))
_INVALID = (CT_TRACKED | CT_INVALID, CT_TRACKED | CT_INVALID)
_UNTRACKED = (0, CT_TRACKED)


def static() -> Iterator[Flow]:
    yield flow(Rule.UDP_PART, Priority.DEFAULT, matching(**_PART), Ct(Table.EGRESS_PARTS, Reg.SOURCE_ZONE))
    # as the kernel's conntrack has put it together, and as the userspace datapath's hands on its parts
    yield drop(Rule.DROP_DHCP_SERVER_PART, Priority.GUARD, matching(**_TO_CLIENT))
    for state, port in _WAYS:
        to_client = matching(eth_type=ETH_IP, ct_state=state, ct_nw_proto=PROTO_UDP, **{port: DHCP_CLIENT_PORT})
        yield drop(Rule.DROP_DHCP_SERVER_PART, Priority.GUARD, to_client)
    for state in (_INVALID, _UNTRACKED):
        yield drop(Rule.DROP_PART_UNKNOWN, Priority.HIGH, matching(ct_state=state))
    yield flow(Rule.PART_KNOWN, Priority.MISS, (), CtClear(), Goto(Table.EGRESS_CONNTRACK))
    # from outside: to a floating IP, a forwarded port, or untranslated
    yield drop(Rule.DROP_OUTSIDE_DHCP, Priority.FLOATING, matching(reg0=TO_FLOATING, **_TO_CLIENT))
    state, port = _WAYS[0]
    part = matching(reg0=TO_FLOATING, **_PART, ct_state=state, ct_nw_proto=PROTO_UDP, **{port: DHCP_CLIENT_PORT})
    yield drop(Rule.DROP_OUTSIDE_DHCP_PART, Priority.GUARD, part)


def port(view: View, network: Network, port: Port) -> Iterator[Flow]:
    """Of a port whose connections are not tracked."""
    seat = view.seat(port)
    assert seat is not None
    if policy.zone(view, port, seat):
        return
    of_port = matching(reg6=port.key, **_PART)
    yield flow(Rule.UDP_PART_UNTRACKED, Priority.DEFAULT + 1, of_port, Ct(Table.EGRESS_PARTS, seat.zone), key=port.key)
