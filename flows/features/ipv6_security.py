"""Tables 4 and 9: a VM sends IPv6 from its own addresses or not at all, and says of no other address that it has it.

Its own are those of its port, and the link-local one of its MAC. Who sends from none yet may look whether one of them
is taken, join multicast groups, and ask for a router. A message that Open vSwitch cannot read, because an option comes
twice, shows the target ::, and no flow allows that. Where an option has a wrong length Open vSwitch stops reading, and
shows no MAC address, or none but that of an option before: the message is longer than what it shows.
"""

from __future__ import annotations

from collections.abc import Iterator

from flows.features import migration, qos
from flows.ipv6 import LINK_LOCAL, eui64
from flows.ir import Action, CheckLarger, Flow, Goto, drop, flow, matching
from flows.model import GatewayMode, Network, Port
from flows.pipeline import OVERLONG, OVERLONG_BIT, Priority, Reg, Table
from flows.protocols import (
    DHCPV6_CLIENT_PORT,
    ETH_IPV6,
    MLD2_REPORT,
    MLD_DONE,
    MLD_REPORT,
    ND_ADVERTISEMENT,
    ND_HOP_LIMIT,
    ND_REDIRECT,
    ND_ROUTER_ADVERTISEMENT,
    ND_ROUTER_SOLICITATION,
    ND_SOLICITATION,
    PROTO_ICMPV6,
    PROTO_UDP,
)
from flows.rules import Rule
from flows.view import View, mac_to_int

_UNSPECIFIED = 0
_NO_MAC = 0
_PLAIN = 14 + 40 + 24  # bytes of a solicitation's or advertisement's frame without options (RFC 4861, 4.3 and 4.4)
_OPTION = 8  # bytes of that with a MAC address, and of the nonce of a probe (RFC 7527, 4.1)
_ICMPV6: dict[str, int] = {"eth_type": ETH_IPV6, "ip_proto": PROTO_ICMPV6}
_SOUND = {"icmpv6_code": 0, "nw_ttl": ND_HOP_LIMIT}
_SOLICITATION = {**_ICMPV6, "icmpv6_type": ND_SOLICITATION, **_SOUND}
_ADVERTISEMENT = {**_ICMPV6, "icmpv6_type": ND_ADVERTISEMENT, **_SOUND}


def own_addresses(port: Port) -> list[int]:
    """What a port may send from: nothing, if it has no IPv6 address."""
    if not port.ipv6_addresses:
        return []
    return [int(eui64(LINK_LOCAL, port.mac)), *(int(one.address) for one in port.ipv6_addresses)]


def static() -> Iterator[Flow]:
    hidden = matching(**_ICMPV6, icmpv6_type=ND_SOLICITATION, icmpv6_code=0, nd_target=_UNSPECIFIED)
    yield drop(Rule.DROP_ND_MALFORMED, Priority.GUARD, hidden)
    for kind in (ND_ROUTER_SOLICITATION, MLD_REPORT, MLD_DONE, MLD2_REPORT):
        other = matching(**_ICMPV6, icmpv6_type=kind)
        yield flow(Rule.ALLOW_ND_OTHER, Priority.LOCAL, other, Goto(Table.ND_RESPONDER))
    # it teaches nobody anything
    asks = matching(**_SOLICITATION, nd_sll=_NO_MAC)
    yield flow(Rule.ALLOW_ND_SOLICITATION, Priority.NORMAL, asks, *_with_options(0))
    yield flow(Rule.ND_CHECKED, Priority.MISS, (), Goto(Table.SERVICES))


def _with_options(most: int) -> tuple[Action, ...]:
    """On, with a mark if there is more in it than so many options."""
    return CheckLarger(_PLAIN + most * _OPTION, Reg.FLAGS, OVERLONG_BIT), Goto(Table.ND_RESPONDER)


def network(view: View, network: Network) -> Iterator[Flow]:
    """What is for the nodes to say, or for a router of the operator's, from whatever address."""
    if not network.ipv6_subnets or not view.present(network):
        return
    key = network.key
    for kind, rule in (
        (ND_ROUTER_ADVERTISEMENT, Rule.DROP_ROUTER_ADVERTISEMENT),
        (ND_REDIRECT, Rule.DROP_ND_REDIRECT),
    ):
        yield drop(rule, Priority.GUARD, matching(metadata=key, **_ICMPV6, icmpv6_type=kind), key=key)
    yield drop(Rule.DROP_ND_OPTION, Priority.GUARD, matching(metadata=key, reg0=OVERLONG), key=key)
    # a client looks at its own port only
    to_client = matching(metadata=key, eth_type=ETH_IPV6, ip_proto=PROTO_UDP, udp_dst=DHCPV6_CLIENT_PORT)
    yield drop(Rule.DROP_DHCPV6_SERVER, Priority.GUARD, to_client, key=key)


def port(view: View, network: Network, port: Port) -> Iterator[Flow]:
    own = own_addresses(port)
    if not own:
        return
    if not port.port_security:
        yield from _anything(view, port)
        return
    key, mac, speaks = port.key, mac_to_int(port.mac), migration.speaks(view, port)
    sent = {"reg6": key, "eth_src": mac, "eth_type": ETH_IPV6}
    for address in own:
        from_own = matching(**sent, ipv6_src=address)
        yield flow(Rule.ALLOW_IPV6, Priority.NORMAL, from_own, *speaks, Goto(Table.ND_SECURITY), key=key)
    from_none = matching(**sent, ip_proto=PROTO_ICMPV6, ipv6_src=_UNSPECIFIED)
    yield flow(Rule.ALLOW_UNSPECIFIED, Priority.NORMAL, from_none, *speaks, Goto(Table.ND_SECURITY), key=key)
    yield from _router(view, network, port, own)
    yield from _neighbour_discovery(port, mac, own)
    yield from _limited(view, port)


def _router(view: View, network: Network, port: Port, own: list[int]) -> Iterator[Flow]:
    """A VM may be the router of its network, where the nodes are not."""
    gateways = {int(subnet.gateway) for subnet in network.ipv6_subnets if subnet.gateway is not None}
    if network.gateway_mode is not GatewayMode.EXTERNAL or gateways.isdisjoint(own):
        return
    for kind in (ND_ROUTER_ADVERTISEMENT, ND_REDIRECT):
        said = matching(reg6=port.key, eth_src=mac_to_int(port.mac), ipv6_src=own[0], **_ICMPV6, icmpv6_type=kind)
        speaks = migration.speaks(view, port)
        yield flow(Rule.ALLOW_ROUTER, Priority.FLOATING, said, *speaks, Goto(Table.L2_FORWARD), key=port.key)


def _neighbour_discovery(port: Port, mac: int, own: list[int]) -> Iterator[Flow]:
    key = port.key
    for target in own:
        probe = matching(reg6=key, **_SOLICITATION, ipv6_src=_UNSPECIFIED, nd_target=target, nd_sll=_NO_MAC)
        yield flow(Rule.ALLOW_DAD, Priority.LOCAL, probe, *_with_options(1), key=key)
        for said, options in ((mac, 1), (_NO_MAC, 0)):
            advertised = matching(reg6=key, **_ADVERTISEMENT, nd_target=target, nd_tll=said)
            yield flow(Rule.ALLOW_ND_ADVERTISEMENT, Priority.NORMAL, advertised, *_with_options(options), key=key)
    asks = matching(reg6=key, **_SOLICITATION, nd_sll=mac)
    yield flow(Rule.ALLOW_ND_SOURCE, Priority.NORMAL, asks, *_with_options(1), key=key)
    from_none = matching(reg6=key, eth_type=ETH_IPV6, ipv6_src=_UNSPECIFIED)
    yield drop(Rule.DROP_ND_SPOOFED, Priority.HIGH, from_none, key=key)
    for kind in (ND_SOLICITATION, ND_ADVERTISEMENT):
        yield drop(Rule.DROP_ND_SPOOFED, Priority.LOW, matching(reg6=key, **_ICMPV6, icmpv6_type=kind), key=key)


def _limited(view: View, port: Port) -> Iterator[Flow]:
    limit = qos.sent(view, port)
    if limit:
        others = matching(reg6=port.key, eth_type=ETH_IPV6)
        yield flow(Rule.ND_LIMITED, Priority.DEFAULT, others, *limit, Goto(Table.SERVICES), key=port.key)


def _anything(view: View, port: Port) -> Iterator[Flow]:
    """Whatever address; what is for the nodes to say is not for it, either."""
    key, of_type = port.key, matching(reg6=port.key, eth_type=ETH_IPV6)
    speaks = migration.speaks(view, port)
    yield flow(Rule.ALLOW_ANY, Priority.NORMAL, of_type, *speaks, Goto(Table.ND_SECURITY), key=key)
    for kind, rule in ((ND_SOLICITATION, Rule.ALLOW_ND_SOURCE), (ND_ADVERTISEMENT, Rule.ALLOW_ND_ADVERTISEMENT)):
        said = matching(reg6=key, **_ICMPV6, icmpv6_type=kind)
        yield flow(rule, Priority.HIGH, said, Goto(Table.ND_RESPONDER), key=key)
    yield from _limited(view, port)
