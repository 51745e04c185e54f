"""IPv6 between a project's networks, to the outside and back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.fabric import Delivery, Fabric, Journey
from flows.ipv6 import LINK_LOCAL, eui64
from flows.model import Binding, GatewayMode, Migration, MigrationPhase, NetworkChange, NodeChange, PortChange
from flows.packet import Packet
from flows.pipeline import GATEWAY_MAC, ROUTED_GROUP_MAC, copy_mac, node_mac, teacher_mac
from flows.protocols import ND_ADVERTISEMENT, ND_OVERRIDE, ND_REDIRECT, ND_SOLICITED
from flows.rules import Rule
from flows.simulate import Drop, Reason
from flows.snapshot import Snapshot
from flows.view import mac_text
from tests.ipv6_world import ROUTER as ROUTER_ADDRESS
from tests.simulate.cloud import EXTERNAL_PHYSNET, EXTERNAL_UPLINK, UPLINK
from tests.simulate.ipv6 import (
    ALL_NODES,
    BLUE2_1,
    BLUE2_2,
    BLUE_1,
    BLUE_2,
    RED_1,
    ROUTER,
    SERVER6,
    Host,
    advertisement_to,
    answer_to,
    fabric6,
    group_mac,
    ip6,
    send6,
    world6,
)
from tests.world import EXTERNAL

HEADER = 14
OUTSIDE = replace(BLUE_1, node="", mac=ROUTER, ip=SERVER6)


def routed(sent: Packet, to: Host) -> Packet:
    return sent.but(eth_src=GATEWAY_MAC, eth_dst=to.mac, nw_ttl=sent["nw_ttl"] - 1)


def drop_of(journey: Journey, hop: int = 0) -> tuple[Rule | None, Reason] | None:
    drop = journey.hops[hop].result.drop
    return None if drop is None else (drop.rule, drop.reason)


def with_network(id_: str, **values: object) -> Fabric:
    changed = replace(world6().networks[id_], **values)  # type: ignore[arg-type]
    return Fabric.of(world6().apply(9, [NetworkChange(id_, changed)]))


def from_outside(sent: Packet, through: Fabric | None = None) -> Journey:
    return (through or fabric6()).send_from_outside(EXTERNAL_PHYSNET, sent)


def test_on_one_node_it_never_leaves_it() -> None:
    sent = BLUE_1.udp(BLUE2_1.ip)
    journey = send6(BLUE_1, sent)
    assert journey.delivered == (Delivery("n1", BLUE2_1.ofport, routed(sent, BLUE2_1)),)
    assert not journey.wire


def test_to_another_node_by_the_group_then_learned_then_unicast() -> None:
    asked = BLUE_1.udp(BLUE2_2.ip)
    first = send6(BLUE_1, asked)
    frame, taught = first.wire
    assert (frame.packet["eth_src"], frame.packet["eth_dst"]) == (node_mac(1), ROUTED_GROUP_MAC)
    assert (taught.packet["eth_src"], taught.packet["eth_dst"]) == (teacher_mac(2), node_mac(1))
    assert first.delivered == (Delivery("n2", BLUE2_2.ofport, routed(asked, BLUE2_2)),)
    second = send6(BLUE_1, asked, first.after)
    assert [frame.packet["eth_dst"] for frame in second.wire] == [teacher_mac(2)]
    assert second.delivered == first.delivered
    back = BLUE2_2.udp(BLUE_1.ip)
    answer = send6(BLUE2_2, back, first.after)
    assert [frame.packet["eth_dst"] for frame in answer.wire] == [node_mac(1)]
    assert answer.delivered == (Delivery("n1", BLUE_1.ofport, routed(back, BLUE_1)),)


def test_another_project_is_reached_by_way_of_the_outside_alone() -> None:
    journey = send6(BLUE_1, BLUE_1.udp(RED_1.ip))
    assert not journey.delivered
    assert [frame.packet["eth_dst"] for frame in journey.heard] == [ROUTER]


MARTIANS = ("::", "::1", "::10.20.0.10", "::ffff:10.20.0.10", "64:ff9b::c633:6407", "ff:ffff::1", "fe80::9", "febf::1")


def refused(sent: Packet) -> Rule | None:
    journey = send6(BLUE_1, sent)
    assert (journey.delivered, journey.wire, journey.heard, journey.punts) == ((), (), (), ())
    rule, reason = drop_of(journey) or (None, None)
    assert reason is Reason.RULE
    return rule


@pytest.mark.parametrize("to", MARTIANS)
def test_where_no_router_forwards_to(to: str) -> None:
    assert refused(BLUE_1.udp(ip6(to))) is Rule.DROP_MARTIAN


@pytest.mark.parametrize("to", ["ff02::1", "ff0e::9"])
def test_groups_are_not_routed(to: str) -> None:
    assert refused(BLUE_1.udp(ip6(to))) is Rule.DROP_NO_ROUTE


@pytest.mark.parametrize("to", ["100::1", "2001:db8:f::1", "fe7f::1", "fec0::1"])
def test_what_is_beside_is_routed(to: str) -> None:
    assert len(send6(BLUE_1, BLUE_1.udp(ip6(to))).heard) == 1


@pytest.mark.parametrize("source", [*MARTIANS, "ff0e::9"])
def test_from_where_no_router_forwards_from(source: str) -> None:
    from_it = OUTSIDE.udp(BLUE_1.ip, node_mac(1), ipv6_src=ip6(source))
    came = fabric6().send("n1", EXTERNAL_UPLINK, from_it)
    assert came.delivered == () and drop_of(came) == (Rule.DROP_MARTIAN_SOURCE, Reason.RULE)
    assert from_outside(OUTSIDE.udp(BLUE_1.ip, node_mac(1))).delivered


def test_a_link_local_source_is_not_routed() -> None:
    assert refused(BLUE_1.udp(BLUE2_1.ip, ipv6_src=BLUE_1.local)) is Rule.DROP_MARTIAN_SOURCE


def test_a_hop_limit_that_is_used_up() -> None:
    for to in (BLUE2_1.ip, BLUE2_2.ip, SERVER6):
        ((node, punt),) = send6(BLUE_1, BLUE_1.udp(to, nw_ttl=1)).punts
        assert (node, punt.rule, punt.key) == ("n1", Rule.PUNT_HOP_LIMIT, 2)
    assert drop_of(send6(BLUE_1, BLUE_1.udp(BLUE2_1.ip, nw_ttl=0))) == (Rule.DROP_TTL_EXPIRED, Reason.RULE)
    last = fabric6().send("n1", EXTERNAL_UPLINK, OUTSIDE.udp(BLUE_1.ip, node_mac(1), nw_ttl=1))
    assert drop_of(last) == (Rule.DROP_TTL_EXPIRED, Reason.RULE)


def test_larger_than_the_network_that_it_goes_to() -> None:
    through = with_network("net-blue2", mtu=1400)
    assert send6(BLUE_1, BLUE_1.udp(BLUE2_1.ip, size=1400 + HEADER), through).delivered
    ((_, punt),) = send6(BLUE_1, BLUE_1.udp(BLUE2_1.ip, size=1401 + HEADER), through).punts
    assert punt.rule is Rule.PUNT_TOO_BIG_IN


def test_out_as_it_is_and_back() -> None:
    sent = BLUE_1.udp(SERVER6)
    journey = send6(BLUE_1, sent)
    (heard,) = journey.heard
    assert heard.physical_network == EXTERNAL_PHYSNET
    assert heard.packet == sent.but(eth_src=node_mac(1), eth_dst=ROUTER, nw_ttl=63)
    answer = answer_to(heard.packet)
    back = from_outside(answer, journey.after)
    assert back.delivered == (Delivery("n1", BLUE_1.ofport, routed(answer, BLUE_1)),)


def test_out_by_each_node_itself_also_with_a_single_way_out() -> None:
    through = with_network("net-blue", gateway_mode=GatewayMode.SINGLE, gateway_node="n2")
    (heard,) = send6(BLUE_1, BLUE_1.udp(SERVER6), through).heard
    assert heard.packet["eth_src"] == node_mac(1)


@pytest.mark.parametrize("mode", [GatewayMode.NONE, GatewayMode.EXTERNAL])
def test_an_isolated_network_does_not_get_out_or_in(mode: GatewayMode) -> None:
    through = with_network("net-blue", gateway_mode=mode)
    assert not send6(BLUE_1, BLUE_1.udp(SERVER6), through).heard
    assert not from_outside(OUTSIDE.solicits(BLUE_1.ip), through).heard
    assert not from_outside(OUTSIDE.udp(BLUE_1.ip, node_mac(1)), through).delivered


def test_nobody_gets_out_where_the_external_network_has_no_ipv6() -> None:
    through = with_network(EXTERNAL, ipv6_subnets=())
    assert drop_of(send6(BLUE_1, BLUE_1.udp(SERVER6), through)) == (Rule.DROP_NO_ROUTE, Reason.RULE)


def test_a_router_without_a_mac_is_asked_for() -> None:
    n1 = world6().nodes["n1"]
    through = Fabric.of(world6().apply(9, [NodeChange("n1", replace(n1, neighbours=n1.neighbours[:1]))]))
    journey = send6(BLUE_1, BLUE_1.udp(SERVER6), through)
    ((_, punt),) = journey.punts
    assert (punt.rule, punt.key, journey.heard) == (Rule.PUNT_UNRESOLVED_IPV6, 9, ())


def test_the_routers_answer_goes_to_the_controller() -> None:
    local = int(eui64(LINK_LOCAL, mac_text(node_mac(1))))
    answer = OUTSIDE.advertises(int(ROUTER_ADDRESS), eth_dst=node_mac(1), ipv6_dst=local, nd_reserved=0xE0000000)
    ((node, punt),) = fabric6().send("n1", EXTERNAL_UPLINK, answer).punts
    assert (node, punt.rule, punt.key) == ("n1", Rule.PUNT_ROUTER_ND, 9)


def test_one_node_answers_for_a_vm_outside() -> None:
    asked = OUTSIDE.solicits(BLUE_2.ip, ipv6_src=int(ROUTER_ADDRESS))
    asker = replace(OUTSIDE, ip=int(ROUTER_ADDRESS))
    (heard,) = from_outside(asked).heard
    assert (heard.node, heard.packet) == ("n2", advertisement_to(asker, node_mac(2), BLUE_2.ip))


def test_who_probes_outside_for_a_vms_address_hears_that_it_is_taken() -> None:
    (heard,) = from_outside(OUTSIDE.probes(BLUE_1.ip)).heard
    expected = {"eth_dst": group_mac(ALL_NODES), "ipv6_dst": ALL_NODES, "nd_target": BLUE_1.ip}
    expected |= {"icmpv6_type": ND_ADVERTISEMENT, "nd_reserved": ND_OVERRIDE, "eth_src": node_mac(1)}
    assert {name: heard.packet[name] for name in expected} == expected


def test_a_node_has_a_link_local_address_outside() -> None:
    own = int(eui64(LINK_LOCAL, mac_text(node_mac(2))))
    asker = replace(OUTSIDE, ip=ip6("fe80::fd"))
    (heard,) = from_outside(asker.solicits(own)).heard
    assert heard.packet == advertisement_to(asker, node_mac(2), own, ND_SOLICITED | ND_OVERRIDE)


@pytest.mark.parametrize("sent", [OUTSIDE.solicits(BLUE_1.ip, nw_ttl=64), OUTSIDE.solicits(BLUE_1.local)])
def test_what_is_not_answered_outside(sent: Packet) -> None:
    journey = from_outside(sent)
    assert not journey.heard
    assert {drop.rule for hop in journey.hops if (drop := hop.result.drop)} == {Rule.DROP_EXTERNAL}


def test_from_outside_to_nobody() -> None:
    sent = OUTSIDE.udp(BLUE_2.ip, node_mac(1))
    journey = fabric6().send("n1", EXTERNAL_UPLINK, sent)
    assert journey.hops[0].result.drop == Drop(Rule.DROP_ROUTED_UNKNOWN, 0, Reason.RULE)


def test_a_neighbour_outside_is_reached_directly_once_it_is_heard() -> None:
    neighbour = replace(OUTSIDE, mac=0x0200_0000_0077, ip=ip6("2001:db8:ff::77"))
    asked = BLUE_1.udp(neighbour.ip)
    first = send6(BLUE_1, asked)
    assert [frame.packet["eth_dst"] for frame in first.heard] == [ROUTER]
    said = from_outside(neighbour.udp(BLUE_1.ip, node_mac(1)), first.after)
    assert said.delivered
    again = send6(BLUE_1, asked, said.after)
    assert [frame.packet["eth_dst"] for frame in again.heard] == [neighbour.mac]
    # what the router has passed on says nothing of the neighbour itself
    passed_on = from_outside(neighbour.udp(BLUE_1.ip, node_mac(1), eth_src=ROUTER))
    assert not passed_on.after.states["n1"].learned


def test_a_redirect_from_outside_goes_nowhere() -> None:
    """The router sees that two VMs' packets go back where they came from."""
    journey = fabric6().send("n1", EXTERNAL_UPLINK, OUTSIDE.icmp(ND_REDIRECT, BLUE_1.ip, node_mac(1), nw_ttl=255))
    assert drop_of(journey) == (Rule.DROP_REDIRECT, Reason.RULE)


def test_larger_than_the_outside_takes() -> None:
    through = with_network(EXTERNAL, mtu=1400)
    ((_, punt),) = send6(BLUE_1, BLUE_1.udp(SERVER6, size=1401 + HEADER), through).punts
    assert (punt.rule, punt.key) == (Rule.PUNT_TOO_BIG, 2)
    assert send6(BLUE_1, BLUE_1.udp(SERVER6, size=1400 + HEADER), through).heard


def moving(phase: MigrationPhase) -> Snapshot:
    """From n1 to n3."""
    mover, here, there = world6().ports["port-20"], Binding("n1", 120, 20), Binding("n3", 520, 70)
    at, other = (here, there) if phase is MigrationPhase.PREPARED else (there, here)
    return world6().apply(9, [PortChange(mover.id, replace(mover, binding=at, migration=Migration(phase, other)))])


ARRIVED = replace(BLUE_1, node="n3", ofport=520)


def test_a_vm_that_moves_is_served_where_it_is() -> None:
    prepared = Fabric.of(moving(MigrationPhase.PREPARED))
    copied = send6(BLUE2_2, BLUE2_2.udp(BLUE_1.ip), prepared)
    assert [(one.node, one.ofport) for one in copied.delivered] == [("n1", 120)]
    awake = send6(ARRIVED, ARRIVED.advertises(BLUE_1.ip), prepared)
    assert awake.wire and awake.punts
    both = send6(BLUE2_2, BLUE2_2.udp(BLUE_1.ip), awake.after)
    assert ("n3", 520) in [(one.node, one.ofport) for one in both.delivered]
    moved = Fabric.of(moving(MigrationPhase.MOVED))
    late = moved.send("n1", EXTERNAL_UPLINK, OUTSIDE.udp(BLUE_1.ip, node_mac(1)))
    assert [(one.node, one.ofport) for one in late.delivered] == [("n3", 520)]
    assert {frame.packet["eth_src"] for frame in late.wire} == {copy_mac(20)}
    (answer,) = from_outside(OUTSIDE.solicits(BLUE_1.ip), moved).heard
    assert answer.node == "n3"


def test_from_another_node_without_having_been_asked() -> None:
    """A machine on the segment that sends to a node's own MAC."""
    sent = BLUE2_2.udp(BLUE_1.ip, node_mac(1), vlan_vid=0x1000 | 102)
    (out,) = fabric6().send("n1", UPLINK, sent).hops[0].result.outputs
    assert out.port == BLUE_1.ofport
