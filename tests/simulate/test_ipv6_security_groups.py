"""Security groups over IPv6."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.fabric import Fabric, Journey
from flows.model import Direction, Ipv6Mode, NetworkChange, SecurityGroup, SecurityGroupChange
from flows.packet import Packet, packet
from flows.pipeline import node_mac
from flows.protocols import ICMPV6_ECHO_REPLY, PROTO_ICMPV6, PROTO_UDP, VLAN_PRESENT
from flows.rules import Rule
from flows.snapshot import Snapshot
from tests.ipv6_world import ipv6_rule, with_subnet
from tests.simulate.cloud import EXTERNAL_PHYSNET, UPLINK
from tests.simulate.ipv6 import (
    ALL_NODES,
    BLUE2_1,
    BLUE_1,
    BLUE_2,
    DHCP_SERVERS,
    ROUTER,
    SERVER6,
    answer_to,
    group_mac,
    send6,
    world6,
)
from tests.world import OPEN, filtered, rule, security_group

OUT = ipv6_rule(901, direction=Direction.EGRESS)
OPEN6 = security_group(9, OUT, ipv6_rule(902))
OUTSIDE = replace(BLUE_1, node="", mac=ROUTER, ip=SERVER6)


def cloud(*groups: SecurityGroup, same_net: bool = False) -> Snapshot:
    """The VM under test is blue's on n2, in the groups; everybody else is open."""
    base = world6()
    changes = [NetworkChange(net.id, replace(net, allow_same_net_traffic=same_net)) for net in base.networks.values()]
    everybody = filtered(base.apply(8, changes), OPEN6)
    return filtered(everybody, *groups, members=(21,))


def through(*groups: SecurityGroup, same_net: bool = False) -> Fabric:
    return Fabric.of(cloud(*groups, same_net=same_net))


def arrives(journey: Journey) -> bool:
    return bool(journey.delivered)


def refused(journey: Journey) -> Rule | None:
    """By which rule of tables 53 and on, or 16 and on; a frame to nobody known goes to all nodes."""
    drops = {drop.rule for hop in journey.hops if (drop := hop.result.drop)}
    return next(iter(drops & {Rule.DROP_EGRESS, Rule.DROP_INGRESS, Rule.DROP_OUTSIDE_DHCP}), None)


def with_rules(*rules: object, **flags: object) -> SecurityGroup:
    return security_group(5, *rules, **flags)  # type: ignore[arg-type]


TO_80 = BLUE_1.udp(BLUE_2.ip, BLUE_2.mac, port=80)
PING = BLUE_1.echo(BLUE_2.ip, BLUE_2.mac)
# rules, packet, whether it arrives
MATRIX = {
    "none": ((), TO_80, False),
    "of IPv4": ((rule(1),), TO_80, False),
    "all": ((ipv6_rule(1),), TO_80, True),
    "port": ((ipv6_rule(1, PROTO_UDP, 80),), TO_80, True),
    "range": ((ipv6_rule(1, PROTO_UDP, 79, 90),), TO_80, True),
    "other port": ((ipv6_rule(1, PROTO_UDP, 81),), TO_80, False),
    "icmp": ((ipv6_rule(1, PROTO_ICMPV6),), PING, True),
    "echo": ((ipv6_rule(1, PROTO_ICMPV6, icmp_type=128),), PING, True),
    "echo, code 0": ((ipv6_rule(1, PROTO_ICMPV6, icmp_type=128, icmp_code=0),), PING, True),
    "other type": ((ipv6_rule(1, PROTO_ICMPV6, icmp_type=129),), PING, False),
    "udp is not icmp": ((ipv6_rule(1, PROTO_ICMPV6),), TO_80, False),
    "range of addresses": ((ipv6_rule(1, PROTO_UDP, 80, remote="2001:db8:20::/64"),), TO_80, True),
    "all from a range": ((ipv6_rule(1, remote="2001:db8:20::/64"),), TO_80, True),
    "another range": ((ipv6_rule(1, PROTO_UDP, 80, remote="2001:db8:21::/64"),), TO_80, False),
    "everybody": ((ipv6_rule(1, PROTO_UDP, 80, remote="::/0"),), TO_80, True),
    "members": ((ipv6_rule(1, PROTO_UDP, 80, remote="group-9"),), TO_80, True),
    "all from members": ((ipv6_rule(1, remote="group-9"),), TO_80, True),
    "members of itself": ((ipv6_rule(1, remote="group-5"),), TO_80, False),
}


@pytest.mark.parametrize("stateful", [True, False], ids=["stateful", "stateless"])
@pytest.mark.parametrize("case", MATRIX)
def test_what_is_let_in(case: str, stateful: bool) -> None:
    rules, sent, expected = MATRIX[case]
    journey = send6(BLUE_1, sent, through(with_rules(*rules, stateful=stateful)))
    assert arrives(journey) is expected
    assert refused(journey) is (None if expected else Rule.DROP_INGRESS)


@pytest.mark.parametrize("case", MATRIX)
def test_what_is_let_out(case: str) -> None:
    rules, sent, expected = MATRIX[case]
    outwards = tuple(replace(one, direction=Direction.EGRESS) for one in rules)
    turned = {"eth_src": BLUE_2.mac, "eth_dst": BLUE_1.mac, "ipv6_src": BLUE_2.ip, "ipv6_dst": BLUE_1.ip}
    journey = send6(BLUE_2, sent.but(**turned), through(with_rules(*outwards)))
    assert arrives(journey) is expected
    assert refused(journey) is (None if expected else Rule.DROP_EGRESS)


def test_answers_pass_and_end_with_the_rule() -> None:
    allowed = with_rules(ipv6_rule(1, PROTO_UDP, 80))
    first = send6(BLUE_1, TO_80, through(allowed))
    answer = answer_to(TO_80)
    assert arrives(send6(BLUE_2, answer, first.after))
    assert not arrives(send6(BLUE_2, answer, through(allowed)))
    snapshot = cloud(allowed).apply(20, [SecurityGroupChange("group-5", with_rules())])
    after = replace(first.after, switches=Fabric.of(snapshot).switches)
    assert refused(send6(BLUE_2, answer, after)) is Rule.DROP_EGRESS


def test_an_echo_and_an_error_come_back() -> None:
    closed = with_rules(OUT)
    asked = BLUE_2.echo(BLUE_1.ip, BLUE_1.mac)
    first = send6(BLUE_2, asked, through(closed))
    assert arrives(send6(BLUE_1, answer_to(asked, icmpv6_type=ICMPV6_ECHO_REPLY), first.after))
    assert not arrives(send6(BLUE_1, answer_to(asked, icmp_id=2), first.after))
    outwards = BLUE_2.udp(SERVER6)
    left = send6(BLUE_2, outwards, through(closed))
    (seen,) = left.heard
    link = {"eth_src": ROUTER, "eth_dst": node_mac(2), "eth_type": 0x86DD, "ip_proto": PROTO_ICMPV6}
    ends = {"ipv6_src": OUTSIDE.ip + 1, "ipv6_dst": BLUE_2.ip}
    too_big = packet(seen.packet, **link, **ends, icmpv6_type=2)
    assert arrives(left.after.send_from_outside(EXTERNAL_PHYSNET, too_big))
    assert not arrives(through(closed).send_from_outside(EXTERNAL_PHYSNET, too_big))


NEEDED: dict[str, Packet] = {
    "solicitation": BLUE_1.solicits(BLUE_2.ip),
    "probe": BLUE_1.probes(BLUE_1.ip),
    "advertisement": BLUE_1.advertises(BLUE_1.ip),
    "answer": BLUE_1.advertises(BLUE_1.ip, eth_dst=BLUE_2.mac, ipv6_dst=BLUE_2.ip),
}


@pytest.mark.parametrize("stateful", [True, False], ids=["stateful", "stateless"])
@pytest.mark.parametrize("what", NEEDED)
def test_neighbour_discovery_needs_no_rule(what: str, stateful: bool) -> None:
    closed = through(with_rules(stateful=stateful))
    assert arrives(send6(BLUE_1, NEEDED[what], closed))
    assert send6(BLUE_2, BLUE_2.solicits(BLUE_1.ip), closed).delivered
    assert refused(send6(BLUE_2, BLUE_2.udp(BLUE_1.ip, BLUE_1.mac), closed)) is Rule.DROP_EGRESS


def test_dhcpv6_needs_no_rule_where_others_answer_it() -> None:
    blue = replace(world6().networks["net-blue"], allow_same_net_traffic=False)
    slaac = NetworkChange(blue.id, with_subnet(blue, Ipv6Mode.SLAAC))
    closed = Fabric.of(cloud(with_rules()).apply(20, [slaac]))
    asked = BLUE_2.udp(DHCP_SERVERS, group_mac(DHCP_SERVERS), 546, 547, ipv6_src=BLUE_2.local)
    assert send6(BLUE_2, asked, closed).wire
    tag = VLAN_PRESENT | 102
    answer = OUTSIDE.udp(BLUE_2.local, BLUE_2.mac, 547, 546, ipv6_src=OUTSIDE.local, vlan_vid=tag)
    assert closed.send("n2", UPLINK, answer).hops[0].result.outputs
    assert refused(closed.send("n2", UPLINK, answer.but(udp_src=53))) is Rule.DROP_INGRESS


def test_what_looks_like_it_from_outside_needs_one() -> None:
    """A router has counted it down, so no host would believe it."""
    sent = OUTSIDE.advertises(BLUE_2.ip, eth_dst=node_mac(2), ipv6_dst=BLUE_2.ip, nw_ttl=255)
    journey = through(with_rules()).send_from_outside(EXTERNAL_PHYSNET, sent)
    assert not arrives(journey)


def test_a_dhcpv6_server_outside_is_not_believed() -> None:
    sent = OUTSIDE.udp(BLUE_2.ip, node_mac(2), 547, 546)
    journey = through(OPEN6).send_from_outside(EXTERNAL_PHYSNET, sent)
    assert refused(journey) is Rule.DROP_OUTSIDE_DHCP


def test_the_network_itself_is_let_in_where_that_is_enough() -> None:
    itself = through(with_rules(), same_net=True)
    for source, target in ((BLUE_1.ip, BLUE_2.ip), (BLUE_1.local, BLUE_2.local)):
        assert arrives(send6(BLUE_1, BLUE_1.udp(target, BLUE_2.mac, ipv6_src=source), itself))
    assert not arrives(send6(BLUE2_1, BLUE2_1.udp(BLUE_2.ip), itself))
    forged = OUTSIDE.udp(BLUE_2.ip, node_mac(2), ipv6_src=BLUE_1.ip)
    assert not arrives(itself.send_from_outside(EXTERNAL_PHYSNET, forged))


def test_a_member_is_known_by_its_address_but_not_from_outside() -> None:
    members = through(with_rules(ipv6_rule(1, remote="group-9")))
    assert arrives(send6(BLUE2_1, BLUE2_1.udp(BLUE_2.ip), members))
    forged = OUTSIDE.udp(BLUE_2.ip, node_mac(2), ipv6_src=BLUE2_1.ip)
    assert not arrives(members.send_from_outside(EXTERNAL_PHYSNET, forged))


def test_both_families_in_one_group() -> None:
    both = through(with_rules(rule(1, PROTO_UDP, 81), ipv6_rule(2, PROTO_UDP, 80, remote="group-9")))
    assert arrives(send6(BLUE_1, TO_80, both))
    assert not arrives(send6(BLUE_1, TO_80.but(udp_dst=81), both))


def test_multicast_is_filtered_for_each_receiver() -> None:
    sent = BLUE_1.udp(ALL_NODES, group_mac(ALL_NODES), port=5353)
    assert arrives(send6(BLUE_1, sent, through(with_rules(ipv6_rule(1, PROTO_UDP, 5353)))))
    assert not arrives(send6(BLUE_1, sent, through(with_rules())))


def test_parts_of_a_port_that_is_filtered() -> None:
    """Whatever its groups let out."""
    to_all = (ALL_NODES, group_mac(ALL_NODES))
    for kind, rule_ in ((134, Rule.DROP_ND_PART), (128, None)):
        part = BLUE_2.frame(*to_all, ip_proto=PROTO_ICMPV6, ip_frag=1, part_src=kind)
        drop = send6(BLUE_2, part, through(OPEN6)).hops[0].result.drop
        assert (drop and drop.rule) is rule_
    for to, rule_ in ((546, Rule.DROP_DHCPV6_SERVER_PART), (53, None)):
        part = BLUE_2.frame(*to_all, ip_proto=PROTO_UDP, ip_frag=1, part_src=547, part_dst=to)
        drop = send6(BLUE_2, part, through(OPEN6)).hops[0].result.drop
        assert (drop and drop.rule) is rule_


def test_ipv4_alone_lets_no_ipv6_in() -> None:
    assert not arrives(send6(BLUE_1, TO_80, through(OPEN)))
