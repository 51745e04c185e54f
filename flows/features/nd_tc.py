"""Tables 5 and 11: a neighbour advertisement (RFC 4861 §4.4) on the kernel's datapath, which can write neither its
flags nor the type of its option.

The frame leaves by the service port, whose other end writes both by tc(8) and sends it back (agent/nd_tc.py): without
the controller, the agent or ovs-vswitchd. Its ICMPv6 code says which flags it gets, its source MAC where it goes then.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows.features.uplink_out import tag_on
from flows.ir import Action, Flow, Goto, Match, Output, SetField, flow, matching
from flows.model import Network, Port
from flows.pipeline import (
    GATEWAY_MAC,
    METADATA_LINK_LOCAL,
    SERVICE_OFPORT,
    Priority,
    Reg,
    Table,
    nd_code,
    nd_network_mac,
    nd_port_mac,
)
from flows.protocols import ETH_IPV6, ND_ADVERTISEMENT, ND_IS_ROUTER, ND_OVERRIDE, ND_SOLICITED, PROTO_ICMPV6
from flows.rules import Rule
from flows.view import View

_ADVERTISEMENT: dict[str, int] = {"eth_type": ETH_IPV6, "ip_proto": PROTO_ICMPV6, "icmpv6_type": ND_ADVERTISEMENT}
_GATEWAY_FLAGS = ND_IS_ROUTER | ND_SOLICITED | ND_OVERRIDE
_HOST_FLAGS = ND_SOLICITED | ND_OVERRIDE


def to_tc(flags: int, back: int) -> tuple[Action, ...]:
    """Return the actions that have an advertisement written; `back` is the MAC that says where it goes then."""
    return SetField("icmpv6_code", nd_code(flags)), SetField("eth_src", back), Output(SERVICE_OFPORT)


def _from_tc(back: int) -> Match:
    return matching(eth_src=back, **_ADVERTISEMENT)


def port(view: View, network: Network, port: Port) -> Iterator[Flow]:
    if not view.node.on_kernel or not port.ipv6_addresses:
        return
    key, back = port.key, nd_port_mac(port.key)
    asked = matching(reg6=key, **_ADVERTISEMENT)
    yield flow(Rule.ND_TO_TC, Priority.NORMAL, asked, *to_tc(_GATEWAY_FLAGS, back), key=key)
    from_metadata = matching(reg6=key, **_ADVERTISEMENT, ipv6_src=METADATA_LINK_LOCAL)
    yield flow(Rule.ND_TO_TC, Priority.LOCAL, from_metadata, *to_tc(_HOST_FLAGS, back), key=key)
    answer = (SetField("eth_src", GATEWAY_MAC), SetField(Reg.TARGET_PORT, key), Goto(Table.OUTPUT))
    yield flow(Rule.ND_FROM_TC, Priority.HIGH, _from_tc(back), *answer, key=key)


def network(view: View, network: Network) -> Iterator[Flow]:
    """Answers that leave by an external network's uplink. Their questions: `ipv6_outside`."""
    uplink = view.uplink(network)
    if not view.node.on_kernel or not network.external or not network.ipv6_subnets or uplink is None:
        return
    answer = (SetField("eth_src", view.mac), *tag_on(network), Output(uplink))
    yield flow(Rule.ND_FROM_TC_OUTSIDE, Priority.HIGH, _from_tc(nd_network_mac(network.key)), *answer, key=network.key)
