"""IPv6 within a network: who may say what, neighbour discovery, the gateway."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.fabric import Delivery, Fabric
from flows.ir import Meter
from flows.model import Bandwidth, GatewayMode, Ipv6FixedIp, Ipv6Mode, NetworkChange, PortChange, Qos
from flows.packet import Packet
from flows.pipeline import GATEWAY_MAC
from flows.protocols import (
    ICMPV6_ECHO_REPLY,
    ND_ADVERTISEMENT,
    ND_HOP_LIMIT,
    ND_IS_ROUTER,
    ND_OVERRIDE,
    ND_REDIRECT,
    ND_ROUTER_ADVERTISEMENT,
    ND_ROUTER_SOLICITATION,
    ND_SOLICITATION,
    ND_SOLICITED,
    PROTO_IPV6_FRAGMENT,
)
from flows.rules import Rule
from tests.ipv6_world import with_subnet
from tests.simulate.cloud import FLAT_1, PHYSNET, UPLINK
from tests.simulate.ipv6 import (
    ALL_NODES,
    ALL_ROUTERS,
    BLUE2_1,
    BLUE_1,
    BLUE_2,
    DHCP_SERVERS,
    GATEWAY,
    RED_1,
    Host,
    advertisement_to,
    answer_to,
    fabric6,
    group_mac,
    host,
    ip6,
    send6,
    world6,
)
from tests.world import port

GLOBAL_GATEWAY = ip6("2001:db8:20::1")
BLUE_TAG = 0x1000 | 102
PLAIN = 14 + 40 + 24
"""Bytes of the frame of a solicitation, or an advertisement, without options."""


def dropped(sender: Host, sent: Packet, through: Fabric | None = None) -> Rule | None:
    """By which rule; None: it was not."""
    journey = send6(sender, sent, through)
    assert not journey.delivered and not journey.wire and not journey.punts
    drop = journey.hops[0].result.drop
    return None if drop is None else drop.rule


def dropped_from_wire(sent: Packet, through: Fabric | None = None) -> Rule | None:
    result = (through or fabric6()).send("n1", UPLINK, sent).hops[0].result
    assert not result.outputs
    return None if result.drop is None else result.drop.rule


def with_network(**values: object) -> Fabric:
    blue = replace(world6().networks["net-blue"], **values)  # type: ignore[arg-type]
    return Fabric.of(world6().apply(9, [NetworkChange(blue.id, blue)]))


@pytest.mark.parametrize("receiver", [BLUE_2], ids=["across nodes"])
@pytest.mark.parametrize("field", ["ip", "local"])
def test_unicast_arrives_unchanged(receiver: Host, field: str) -> None:
    sent = BLUE_1.udp(getattr(receiver, field), receiver.mac, ipv6_src=getattr(BLUE_1, field))
    journey = send6(BLUE_1, sent)
    assert journey.delivered == (Delivery(receiver.node, receiver.ofport, sent),)
    assert [frame.packet["eth_src"] for frame in journey.wire] == [BLUE_1.mac]


def test_a_neighbour_is_found_and_an_address_probed_for() -> None:
    for asked in (BLUE_1.solicits(BLUE_2.ip), BLUE_1.solicits(BLUE_2.local, ipv6_src=BLUE_1.local)):
        assert send6(BLUE_1, asked).delivered == (Delivery("n2", BLUE_2.ofport, asked),)
    for target in (BLUE_1.ip, BLUE_1.local):
        probe = BLUE_1.probes(target)
        assert send6(BLUE_1, probe).delivered == (Delivery("n2", BLUE_2.ofport, probe),)
    for flags in (ND_SOLICITED | ND_OVERRIDE, ND_OVERRIDE):
        answer = BLUE_2.advertises(BLUE_2.ip, ipv6_dst=BLUE_1.ip, eth_dst=BLUE_1.mac, nd_reserved=flags)
        assert send6(BLUE_2, answer).delivered == (Delivery("n1", BLUE_1.ofport, answer),)
    # as Linux answers who makes sure that it is still there
    bare = answer.but(nd_tll=0, nd_options_type=0)
    assert send6(BLUE_2, bare).delivered == (Delivery("n1", BLUE_1.ofport, bare),)
    # by their real lengths; a probe has a nonce (RFC 7527)
    for sent in (answer.but(size=PLAIN + 8), bare.but(size=PLAIN), BLUE_2.solicits(BLUE_1.ip, size=PLAIN + 8)):
        assert send6(BLUE_2, sent).delivered == (Delivery("n1", BLUE_1.ofport, sent),)
    for probe in (BLUE_1.probes(BLUE_1.ip, size=size) for size in (PLAIN, PLAIN + 8)):
        assert send6(BLUE_1, probe).delivered == (Delivery("n2", BLUE_2.ofport, probe),)


def test_groups_are_joined_and_queries_heard() -> None:
    report = BLUE_1.icmp(143, ip6("ff02::16"), group_mac(0x16), nw_ttl=1, ipv6_src=0)
    assert send6(BLUE_1, report).wire
    query = BLUE_2.icmp(130, ALL_NODES, group_mac(ALL_NODES), nw_ttl=1, ipv6_src=ip6("fe80::9"), vlan_vid=BLUE_TAG)
    (sent,) = fabric6().send("n1", UPLINK, query).hops[0].result.outputs
    assert sent.port == BLUE_1.ofport


SPOOFED: dict[str, tuple[Packet, Rule]] = {
    "another's address": (BLUE_1.udp(BLUE_2.ip, BLUE_2.mac, ipv6_src=BLUE_2.ip), Rule.DROP_SPOOFED),
    "another's MAC": (BLUE_1.udp(BLUE_2.ip, BLUE_2.mac, eth_src=BLUE_2.mac), Rule.DROP_SPOOFED),
    "a link-local address of no MAC": (BLUE_1.udp(BLUE_2.ip, BLUE_2.mac, ipv6_src=ip6("fe80::1")), Rule.DROP_SPOOFED),
    "a temporary address": (BLUE_1.udp(BLUE_2.ip, BLUE_2.mac, ipv6_src=BLUE_1.ip ^ 1), Rule.DROP_SPOOFED),
    "the gateway's": (BLUE_1.udp(BLUE_2.ip, BLUE_2.mac, ipv6_src=GATEWAY), Rule.DROP_SPOOFED),
    "none, and no ICMPv6": (BLUE_1.udp(BLUE_2.ip, BLUE_2.mac, ipv6_src=0), Rule.DROP_SPOOFED),
    "none, and an echo request": (BLUE_1.echo(ALL_NODES, group_mac(ALL_NODES), ipv6_src=0), Rule.DROP_ND_SPOOFED),
    "advertises another's address": (BLUE_1.advertises(BLUE_2.ip), Rule.DROP_ND_SPOOFED),
    "advertises the gateway": (BLUE_1.advertises(GATEWAY), Rule.DROP_ND_SPOOFED),
    "advertises another's MAC": (BLUE_1.advertises(BLUE_1.ip, nd_tll=BLUE_2.mac), Rule.DROP_ND_SPOOFED),
    "advertises what was routed": (BLUE_1.advertises(BLUE_1.ip, nw_ttl=64), Rule.DROP_ND_SPOOFED),
    "advertises with a code": (
        BLUE_1.icmp(ND_ADVERTISEMENT, ALL_NODES, group_mac(ALL_NODES), nw_ttl=255, icmpv6_code=1),
        Rule.DROP_ND_SPOOFED,
    ),
    "asks with a code": (BLUE_1.icmp(ND_SOLICITATION, BLUE_2.ip, nw_ttl=255, icmpv6_code=1), Rule.DROP_ND_SPOOFED),
    "asks with another's MAC": (BLUE_1.solicits(BLUE_2.ip, nd_sll=BLUE_2.mac), Rule.DROP_ND_SPOOFED),
    "asks from another's address": (BLUE_1.solicits(GATEWAY, ipv6_src=BLUE_2.ip), Rule.DROP_SPOOFED),
    "asks, twice with a MAC": (BLUE_1.solicits(0, nd_sll=0), Rule.DROP_ND_MALFORMED),
    "probes for another's address": (BLUE_1.probes(BLUE_2.ip), Rule.DROP_ND_SPOOFED),
    "probes for the gateway's": (BLUE_1.probes(GATEWAY), Rule.DROP_ND_SPOOFED),
    "probes, and says a MAC": (BLUE_1.probes(BLUE_1.ip, nd_sll=BLUE_1.mac, nd_options_type=1), Rule.DROP_ND_SPOOFED),
    "is a router": (
        BLUE_1.icmp(ND_ROUTER_ADVERTISEMENT, ALL_NODES, group_mac(ALL_NODES), nw_ttl=255, ipv6_src=BLUE_1.local),
        Rule.DROP_ROUTER_ADVERTISEMENT,
    ),
    "redirects": (
        BLUE_1.icmp(ND_REDIRECT, BLUE_2.ip, BLUE_2.mac, nw_ttl=255, ipv6_src=GATEWAY),
        Rule.DROP_ND_REDIRECT,
    ),
    "is a DHCPv6 server": (BLUE_1.udp(BLUE_2.local, BLUE_2.mac, 547, 546), Rule.DROP_DHCPV6_SERVER),
    "is one, from another port": (BLUE_1.udp(BLUE_2.local, BLUE_2.mac, 999, 546), Rule.DROP_DHCPV6_SERVER),
    "hides what it is in parts": (
        BLUE_1.frame(ALL_NODES, group_mac(ALL_NODES), ip_proto=58, ip_frag=1, part_src=134),
        Rule.DROP_ND_PART,
    ),
    "is a DHCPv6 server in parts": (
        BLUE_1.frame(BLUE_2.ip, BLUE_2.mac, ip_proto=17, ip_frag=1, part_src=547, part_dst=546),
        Rule.DROP_DHCPV6_SERVER_PART,
    ),
}


@pytest.mark.parametrize("lie", SPOOFED)
def test_a_lie_does_not_leave_the_port(lie: str) -> None:
    sent, rule = SPOOFED[lie]
    assert dropped(BLUE_1, sent) is rule


@pytest.mark.parametrize("sent", [
    BLUE_1.solicits(BLUE_2.ip, nd_sll=0, nd_options_type=0, size=PLAIN + 1),
    BLUE_1.solicits(BLUE_2.ip, size=PLAIN + 9),
    BLUE_1.solicits(GATEWAY, nd_sll=0, nd_options_type=0, size=PLAIN + 8),
    BLUE_1.probes(BLUE_1.ip, size=PLAIN + 9),
    BLUE_1.advertises(BLUE_1.ip, nd_tll=0, nd_options_type=0, size=PLAIN + 1),
    BLUE_1.advertises(BLUE_1.local, size=PLAIN + 9),
])  # fmt: skip
def test_an_option_of_a_wrong_length(sent: Packet) -> None:
    """Open vSwitch shows the message as one without it. A port without port security may send any."""
    assert dropped(BLUE_1, sent) is Rule.DROP_ND_OPTION
    careless = replace(world6().ports["port-20"], port_security=False)
    through = Fabric.of(world6().apply(9, [PortChange(careless.id, careless)]))
    assert send6(BLUE_1, sent, through).hops[0].result.drop is None


def test_parts_of_what_is_allowed_go_on() -> None:
    for made in (
        BLUE_1.frame(BLUE_2.ip, BLUE_2.mac, ip_proto=17, ip_frag=1, part_src=4000, part_dst=7),
        BLUE_1.frame(BLUE_2.ip, BLUE_2.mac, ip_proto=58, ip_frag=1, part_src=128),
        BLUE_1.frame(BLUE_2.ip, BLUE_2.mac, ip_proto=PROTO_IPV6_FRAGMENT, ip_frag=3),
    ):
        assert send6(BLUE_1, made).delivered == (Delivery("n2", BLUE_2.ofport, made),)


def test_a_port_without_an_address_and_a_network_without_a_subnet_have_no_ipv6() -> None:
    bare = replace(world6().ports["port-20"], ipv6_addresses=())
    through = Fabric.of(world6().apply(9, [PortChange(bare.id, bare)]))
    for sent in (BLUE_1.udp(BLUE_2.ip, BLUE_2.mac), BLUE_1.probes(BLUE_1.local)):
        assert dropped(BLUE_1, sent, through) is Rule.DROP_IPV6
    flat = replace(BLUE_1, node=FLAT_1.node, ofport=FLAT_1.ofport, mac=FLAT_1.mac)
    assert dropped(flat, flat.udp(BLUE_2.ip, BLUE_2.mac)) is Rule.DROP_IPV6


def test_a_filtered_port_of_a_network_without_it_hears_none_from_the_wire() -> None:
    base = world6()
    closed = [PortChange(id_, replace(base.ports[id_], security_groups=())) for id_ in ("port-10", "port-20")]
    through = Fabric.of(base.apply(9, closed))
    said = BLUE_2.solicits(BLUE_1.ip)
    assert dropped_from_wire(said, through) is Rule.DROP_NOT_IP  # untagged: of the flat network
    (heard,) = through.send("n1", UPLINK, said.but(vlan_vid=BLUE_TAG)).hops[0].result.outputs
    assert heard.port == BLUE_1.ofport


@pytest.mark.parametrize("target", [GATEWAY, GLOBAL_GATEWAY], ids=["link-local", "global"])
def test_the_gateway_is_found_in_place(target: int) -> None:
    for node_of in (BLUE_1, BLUE_2):
        journey = send6(node_of, node_of.solicits(target))
        answer = advertisement_to(node_of, GATEWAY_MAC, target, ND_IS_ROUTER | ND_SOLICITED | ND_OVERRIDE)
        assert journey.delivered == (Delivery(node_of.node, node_of.ofport, answer),)
        assert not journey.wire


def test_who_says_no_mac_gets_none() -> None:
    """An answer to who has one already (RFC 4861, 4.4)."""
    asked = BLUE_1.solicits(GATEWAY, nd_sll=0, nd_options_type=0, eth_dst=GATEWAY_MAC, ipv6_dst=GATEWAY)
    ((_, _, answer),) = send6(BLUE_1, asked).delivered
    assert (answer["nd_target"], answer["nd_tll"], answer["eth_dst"]) == (GATEWAY, 0, BLUE_1.mac)


@pytest.mark.parametrize(("sender", "to"), [(BLUE_1, GATEWAY), (BLUE_1, GLOBAL_GATEWAY), (BLUE2_1, GLOBAL_GATEWAY)])
def test_the_gateway_answers_an_echo_request(sender: Host, to: int) -> None:
    ((_, _, answer),) = send6(sender, sender.echo(to, nw_ttl=3)).delivered
    assert answer == answer_to(sender.echo(to), eth_src=GATEWAY_MAC, icmpv6_type=ICMPV6_ECHO_REPLY)


def test_the_gateway_offers_nothing_else() -> None:
    for to in (GATEWAY, GLOBAL_GATEWAY):
        assert dropped(BLUE_1, BLUE_1.udp(to)) is Rule.DROP_GATEWAY_IPV6
        part = BLUE_1.frame(to, GATEWAY_MAC, ip_proto=58, ip_frag=1, part_src=128)
        assert dropped(BLUE_1, part) is Rule.DROP_GATEWAY_IPV6


def punted(sender: Host, sent: Packet, through: Fabric | None = None) -> tuple[Rule | None, int]:
    journey = send6(sender, sent, through)
    ((_, punt),) = journey.punts
    assert not journey.delivered and not journey.wire
    return punt.rule, punt.key


SOLICITS_ROUTER = BLUE_1.icmp(ND_ROUTER_SOLICITATION, ALL_ROUTERS, group_mac(ALL_ROUTERS), nw_ttl=255)
ASKS_DHCP = BLUE_1.udp(DHCP_SERVERS, group_mac(DHCP_SERVERS), 546, 547, ipv6_src=BLUE_1.local)


def test_who_asks_for_a_router_or_by_dhcp_is_heard_by_the_controller() -> None:
    assert punted(BLUE_1, SOLICITS_ROUTER) == (Rule.PUNT_RA, 20)
    assert punted(BLUE_1, SOLICITS_ROUTER.but(ipv6_src=0)) == (Rule.PUNT_RA, 20)
    assert punted(BLUE_1, ASKS_DHCP) == (Rule.PUNT_DHCPV6, 20)


def test_dhcpv6_is_asked_of_others_where_the_nodes_do_not_answer() -> None:
    slaac = with_network(ipv6_subnets=with_subnet(world6().networks["net-blue"], Ipv6Mode.SLAAC).ipv6_subnets)
    assert send6(BLUE_1, ASKS_DHCP, slaac).wire
    answer = BLUE_2.udp(BLUE_1.local, BLUE_1.mac, 547, 546, vlan_vid=BLUE_TAG)
    assert slaac.send("n1", UPLINK, answer).hops[0].result.outputs
    assert dropped_from_wire(answer) is Rule.DROP_UPLINK_DHCP


FROM_WIRE: dict[str, tuple[Packet, Rule]] = {
    "a router": (BLUE_2.icmp(ND_ROUTER_ADVERTISEMENT, ALL_NODES, group_mac(ALL_NODES)), Rule.DROP_UPLINK_RA),
    "a redirect": (BLUE_2.icmp(ND_REDIRECT, BLUE_1.ip, BLUE_1.mac), Rule.DROP_UPLINK_RA),
    "parts to all": (
        BLUE_2.frame(ALL_NODES, group_mac(ALL_NODES), ip_proto=PROTO_IPV6_FRAGMENT, ip_frag=3),
        Rule.DROP_UPLINK_RA,
    ),
    "asks for the gateway": (BLUE_2.solicits(GATEWAY), Rule.DROP_UPLINK_GATEWAY),
    "says it is the gateway": (BLUE_2.advertises(GLOBAL_GATEWAY), Rule.DROP_UPLINK_GATEWAY),
    "asks in its name": (BLUE_2.solicits(BLUE_1.ip, ipv6_src=GATEWAY), Rule.DROP_UPLINK_GATEWAY),
    "the anycast MAC": (BLUE_2.udp(BLUE_1.ip, BLUE_1.mac, eth_src=GATEWAY_MAC), Rule.DROP_UPLINK_ANYCAST),
}


@pytest.mark.parametrize("what", FROM_WIRE)
def test_what_the_nodes_are_does_not_come_from_the_wire(what: str) -> None:
    sent, rule = FROM_WIRE[what]
    assert dropped_from_wire(sent.but(vlan_vid=BLUE_TAG)) is rule


def test_a_router_of_the_operators_is_heard_and_may_be_a_vm() -> None:
    outside = with_network(gateway_mode=GatewayMode.EXTERNAL)
    said = BLUE_2.icmp(ND_ROUTER_ADVERTISEMENT, ALL_NODES, group_mac(ALL_NODES), nw_ttl=ND_HOP_LIMIT)
    (heard,) = outside.send("n1", UPLINK, said.but(vlan_vid=BLUE_TAG)).hops[0].result.outputs
    assert heard.port == BLUE_1.ofport
    assert send6(BLUE_1, SOLICITS_ROUTER, outside).wire
    assert dropped(BLUE_1, said.but(eth_src=BLUE_1.mac), outside) is Rule.DROP_ROUTER_ADVERTISEMENT
    blue = replace(world6().networks["net-blue"], gateway_mode=GatewayMode.EXTERNAL)
    itself = replace(world6().ports["port-20"], ipv6_addresses=(Ipv6FixedIp("s", blue.ipv6_subnets[0].cidr[1]),))
    by_vm = Fabric.of(world6().apply(9, [NetworkChange(blue.id, blue), PortChange(itself.id, itself)]))
    from_vm = said.but(eth_src=BLUE_1.mac, ipv6_src=BLUE_1.local)
    assert send6(BLUE_1, from_vm, by_vm).delivered == (Delivery("n2", BLUE_2.ofport, from_vm),)
    assert dropped(BLUE_1, from_vm.but(ipv6_src=BLUE_2.local), by_vm) is Rule.DROP_ROUTER_ADVERTISEMENT


def test_without_a_gateway_nobody_is_one() -> None:
    without = with_network(gateway_mode=GatewayMode.NONE)
    asked = BLUE_1.solicits(GATEWAY)
    assert send6(BLUE_1, asked, without).delivered == (Delivery("n2", BLUE_2.ofport, asked),)
    assert send6(BLUE_1, BLUE_1.udp(BLUE_2.ip, BLUE_2.mac), without).delivered
    assert punted(BLUE_1, SOLICITS_ROUTER, without) == (Rule.PUNT_RA, 20)


def test_a_port_without_port_security_sends_from_any_address_but_is_no_router() -> None:
    trusted = replace(world6().ports["port-20"], port_security=False)
    through = Fabric.of(world6().apply(9, [PortChange(trusted.id, trusted)]))
    for sent in (BLUE_1.udp(BLUE_2.ip, BLUE_2.mac, ipv6_src=ip6("2001:db8::9")), BLUE_1.advertises(ip6("2001:db8::9"))):
        assert send6(BLUE_1, sent, through).delivered == (Delivery("n2", BLUE_2.ofport, sent),)
    assert send6(BLUE_1, BLUE_1.solicits(GATEWAY), through).delivered[0].packet["nd_tll"] == GATEWAY_MAC
    assert dropped(BLUE_1, SPOOFED["is a router"][0], through) is Rule.DROP_ROUTER_ADVERTISEMENT


@pytest.mark.parametrize("port_security", [True, False])
def test_neighbour_discovery_is_not_counted_to_a_ports_rate(port_security: bool) -> None:
    limits = Qos(Bandwidth(10_000, 4000), Bandwidth(10_000, 4000))
    limited = replace(world6().ports["port-20"], qos=limits, port_security=port_security)
    through = Fabric.of(world6().apply(9, [PortChange(limited.id, limited)]))

    def metered(sender: Host, sent: Packet) -> bool:
        hops = send6(sender, sent, through).hops
        return any(isinstance(it, Meter) for hop in hops for step in hop.result.steps if step.flow
                   for it in step.flow.actions)  # fmt: skip

    unicast = {"eth_dst": BLUE_2.mac, "ipv6_dst": BLUE_2.ip}
    assert metered(BLUE_1, BLUE_1.udp(BLUE_2.ip, BLUE_2.mac)) and metered(BLUE_2, BLUE_2.udp(BLUE_1.ip, BLUE_1.mac))
    assert not metered(BLUE_1, BLUE_1.solicits(BLUE_2.ip, **unicast))
    assert not metered(BLUE_2, BLUE_2.advertises(BLUE_2.ip, eth_dst=BLUE_1.mac, ipv6_dst=BLUE_1.ip))


def test_a_group_is_heard_by_its_network_alone() -> None:
    sent = BLUE_1.udp(ip6("ff02::fb"), group_mac(0xFB), port=5353)
    journey = send6(BLUE_1, sent)
    assert [delivery.ofport for delivery in journey.delivered] == [BLUE_2.ofport]
    assert {frame.physical_network for frame in journey.wire} == {PHYSNET}
    assert RED_1.ofport not in [delivery.ofport for delivery in journey.delivered]


def test_a_second_port_on_the_node_is_found_there() -> None:
    blue = world6().networks["net-blue"]
    second = replace(port(22, blue, 12, "n1"), ipv6_addresses=(Ipv6FixedIp("subnet", blue.ipv6_subnets[0].cidr[0x22]),))
    snapshot = world6().apply(9, [PortChange(second.id, second)])
    receiver = host(22, snapshot)
    asked = BLUE_1.solicits(receiver.ip)
    journey = send6(BLUE_1, asked, Fabric.of(snapshot))
    assert Delivery("n1", receiver.ofport, asked) in journey.delivered
