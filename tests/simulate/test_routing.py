"""Routing between a project's networks, across nodes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.fabric import Fabric
from flows.model import PortChange
from flows.pipeline import GATEWAY_MAC, ROUTED_GROUP_MAC, node_mac, teacher_mac
from flows.rules import COOKIE_LEARNED, Rule, cookie
from flows.simulate import Drop, Reason
from flows.snapshot import Snapshot
from tests.simulate.cloud import BLUE2_1, BLUE2_2, BLUE_1, BLUE_2, UPLINK, Vm, fabric, ip, send, vm, world
from tests.world import networks, port


def one_network_each() -> Fabric:
    """n1 has only a blue port, n2 only a blue2 port: neither node has a port on the network that it routes to."""
    return Fabric.of(world().apply(2, [PortChange("port-21", None), PortChange("port-30", None)]))


@pytest.mark.parametrize("through", [fabric(), one_network_each()], ids=["both present", "one network each"])
def test_first_frame_to_the_group_then_learned_then_unicast(through: Fabric) -> None:
    asked = BLUE_1.udp(BLUE2_2.ip)
    first = send(BLUE_1, asked, through)
    frame, taught = first.wire
    assert frame.packet["eth_dst"] == ROUTED_GROUP_MAC
    assert frame.packet["eth_src"] == node_mac(1)
    assert frame.packet["vlan_vid"] == 0x1000 | 103
    assert (taught.packet["eth_src"], taught.packet["eth_dst"]) == (teacher_mac(2), node_mac(1))
    assert taught.packet["vlan_vid"] == 0x1000 | 103
    (delivery,) = first.delivered
    assert (delivery.node, delivery.ofport) == ("n2", BLUE2_2.ofport)
    expected = asked.but(eth_src=GATEWAY_MAC, eth_dst=BLUE2_2.mac, nw_ttl=asked["nw_ttl"] - 1)
    assert delivery.packet == expected

    answer = send(BLUE2_2, BLUE2_2.udp(BLUE_1.ip), first.after)
    (frame,) = answer.wire
    assert (frame.packet["eth_src"], frame.packet["eth_dst"]) == (node_mac(2), node_mac(1))
    assert frame.packet["vlan_vid"] == 0x1000 | 103  # back on the segment it came by
    (delivery,) = answer.delivered
    assert (delivery.node, delivery.ofport, delivery.packet["nw_ttl"]) == ("n1", BLUE_1.ofport, 63)
    assert delivery.packet["eth_src"] == GATEWAY_MAC

    again = send(BLUE_1, asked, answer.after)
    (frame,) = again.wire
    assert (frame.packet["eth_src"], frame.packet["eth_dst"]) == (node_mac(1), node_mac(2))
    assert [delivery.packet for delivery in again.delivered] == [expected]
    assert [hop.node for hop in again.hops] == ["n1", "n2"]  # the rack switch knows the way, too


def test_one_way_traffic_goes_to_one_node_from_the_second_frame_on() -> None:
    asked = BLUE_1.udp(BLUE2_2.ip)
    first = send(BLUE_1, asked)
    second = send(BLUE_1, asked, first.after)
    (frame,) = second.wire
    assert (frame.packet["eth_src"], frame.packet["eth_dst"]) == (node_mac(1), teacher_mac(2))
    assert [delivery.packet for delivery in second.delivered] == [delivery.packet for delivery in first.delivered]


def test_learned_flows_are_in_the_state_and_carry_their_own_cookie() -> None:
    first = send(BLUE_1, BLUE_1.udp(BLUE2_2.ip))
    for name in ("n1", "n2"):  # the sender was taught, the receiver saw
        (learned,) = first.after.states[name].learned.values()
        assert learned.cookie == COOKIE_LEARNED
    assert not any(state.learned for state in fabric().states.values())
    answer = send(BLUE2_2, BLUE2_2.udp(BLUE_1.ip), first.after)
    assert Rule.LEARNED_NEXT_HOP in [step.rule for step in answer.hops[0].result.steps]


def test_routing_on_one_node_stays_on_it() -> None:
    journey = send(BLUE_1, BLUE_1.udp(BLUE2_1.ip))
    (delivery,) = journey.delivered
    assert (delivery.node, delivery.ofport) == ("n1", BLUE2_1.ofport)
    assert delivery.packet == BLUE_1.udp(BLUE2_1.ip, BLUE2_1.mac, eth_src=GATEWAY_MAC, nw_ttl=63)
    assert journey.wire == ()


def test_a_port_that_comes_to_this_node_wins_over_what_was_learned() -> None:
    first = send(BLUE_1, BLUE_1.udp(BLUE2_2.ip))
    talked = send(BLUE2_2, BLUE2_2.udp(BLUE_1.ip), first.after).after
    moved = world().apply(2, [PortChange("port-31", port(31, networks()[2], 11, "n1"))])
    there = Fabric(Fabric.of(moved).switches, talked.uplinks, talked.states, talked.stations)
    journey = send(BLUE_1, BLUE_1.udp(BLUE2_2.ip), there)
    assert [(delivery.node, delivery.ofport) for delivery in journey.delivered] == [("n1", vm(31, moved).ofport)]
    assert journey.wire == ()


@pytest.mark.parametrize("target", [BLUE2_1, BLUE2_2], ids=["same node", "other node"])
def test_the_last_hop_punts(target: Vm) -> None:
    journey = send(BLUE_1, BLUE_1.udp(target.ip, nw_ttl=1))
    ((node, punt),) = journey.punts
    assert (node, punt.cookie) == ("n1", cookie(Rule.PUNT_TTL_EXPIRED, 2))
    assert (journey.delivered, journey.wire) == ((), ())


def test_no_ttl_at_all_is_dropped_by_name() -> None:
    drop = send(BLUE_1, BLUE_1.udp(BLUE2_2.ip, nw_ttl=0)).hops[0].result.drop
    assert drop == Drop(Rule.DROP_TTL_EXPIRED, 0, Reason.RULE)


def test_an_address_that_nobody_has_ends_by_name_on_every_node() -> None:
    journey = send(BLUE_1, BLUE_1.udp(ip("10.21.0.200")))
    assert journey.delivered == ()
    assert {hop.node: hop.result.drop for hop in journey.hops[1:]} == {
        "n2": Drop(Rule.DROP_ROUTED_UNKNOWN, 0, Reason.RULE),
        "n3": Drop(Rule.DROP_UNCLASSIFIED, 0, Reason.RULE),
    }


MARTIANS = ("0.0.0.0", "0.0.0.1", "0.255.1.2", "127.0.0.1", "127.255.255.255", "169.254.0.1", "169.254.169.253",
            "240.0.0.1", "247.1.2.3", "255.255.255.255")  # fmt: skip


def _refused(sender: Vm, target: str) -> tuple[Rule | None, int]:
    journey = send(sender, sender.udp(ip(target)))
    assert (journey.delivered, journey.wire, journey.heard, journey.punts) == ((), (), (), ())
    drop = journey.hops[0].result.drop
    assert drop is not None
    return drop.rule, drop.key


@pytest.mark.parametrize("target", MARTIANS)
def test_where_no_router_forwards_to(target: str) -> None:
    assert _refused(BLUE_1, target) == (Rule.DROP_MARTIAN, 0)


@pytest.mark.parametrize("target", ["224.0.0.1", "232.1.2.3", "239.255.255.255"])
def test_groups_are_not_routed(target: str) -> None:
    assert _refused(BLUE_1, target) == (Rule.DROP_NO_ROUTE, 0)


@pytest.mark.parametrize("target", ["1.0.0.0", "126.255.255.255", "128.0.0.1", "169.253.255.255", "169.255.0.0",
                                    "223.255.255.255"])  # fmt: skip
def test_what_is_beside_is_routed(target: str) -> None:
    assert len(send(BLUE_1, BLUE_1.udp(ip(target))).heard) == 1


@pytest.mark.parametrize("source", [*MARTIANS, "224.0.0.1"])
def test_from_where_no_router_forwards_from(source: str) -> None:
    """Of a port without port security, which may say anything."""
    careless = replace(world().ports["port-20"], port_security=False)
    through = Fabric.of(world().apply(2, [PortChange("port-20", careless)]))
    for target in (BLUE2_1.ip, BLUE2_2.ip, ip("198.51.100.7")):
        journey = send(BLUE_1, BLUE_1.udp(target, ip_src=ip(source)), through)
        assert (journey.delivered, journey.wire, journey.heard) == ((), (), ())
        assert journey.hops[0].result.drop == Drop(Rule.DROP_MARTIAN_SOURCE, 0, Reason.RULE)


def test_a_vm_cannot_pose_as_a_node_that_routes() -> None:
    """What is sent to a node's MAC is delivered without losing TTL: only nodes may."""
    for routed in (ROUTED_GROUP_MAC, node_mac(2)):
        journey = send(BLUE_1, BLUE_1.udp(BLUE_2.ip, routed))
        assert journey.delivered == ()
        assert journey.hops[0].result.drop == Drop(Rule.DROP_NODE_MAC, networks()[1].key, Reason.RULE)


def test_the_gateway_of_another_network_of_the_project_answers_ping() -> None:
    gateway = ip("10.21.0.1")
    (answer,) = send(BLUE_1, BLUE_1.echo(gateway)).hops[0].result.answers
    assert (answer["ip_src"], answer["ip_dst"], answer["icmp_type"]) == (gateway, BLUE_1.ip, 0)


def test_a_foreign_machine_may_answer_to_the_mac_that_it_saw() -> None:
    answer = BLUE2_2.udp(BLUE_1.ip, node_mac(1), eth_src=0x020000000009, vlan_vid=0x1000 | 102)
    journey = fabric().send("n1", UPLINK, answer)
    assert [delivery.ofport for delivery in journey.delivered] == [BLUE_1.ofport]
    assert not journey.after.states["n1"].learned


def test_the_anycast_mac_from_the_wire_is_dropped() -> None:
    forged = BLUE_2.udp(BLUE_1.ip, BLUE_1.mac, eth_src=GATEWAY_MAC, vlan_vid=0x1000 | 102)
    drop = fabric().send("n1", UPLINK, forged).hops[0].result.drop
    assert drop == Drop(Rule.DROP_UPLINK_ANYCAST, 0, Reason.RULE)


def test_networks_of_other_routers_are_not_routed_to() -> None:
    flat = world().networks["net-flat"]
    alone = Snapshot.build(
        1, [flat, networks()[1]], [world().ports["port-10"], world().ports["port-20"]], world().nodes.values()
    )
    drop = send(BLUE_1, BLUE_1.udp(ip("10.10.0.10")), Fabric.of(alone)).hops[0].result.drop
    assert drop == Drop(Rule.DROP_NO_ROUTE, 0, Reason.RULE)
