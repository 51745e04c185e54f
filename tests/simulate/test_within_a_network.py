"""Switching, ARP, DHCP and broadcast within one network, on one node and across nodes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.fabric import Delivery, Fabric
from flows.model import NetworkChange, PortChange
from flows.packet import packet
from flows.pipeline import GATEWAY_MAC, Table
from flows.protocols import ETH_ARP, ETH_IP, PROTO_UDP
from flows.rules import Rule, cookie
from flows.simulate import Drop, Reason
from tests.simulate.cloud import (
    BLUE2_1,
    BLUE_1,
    BLUE_2,
    BROADCAST,
    FLAT_1,
    FLAT_2,
    PHYSNET,
    RED_1,
    UPLINK,
    VMS,
    Vm,
    fabric,
    ip,
    send,
    vm,
    world,
)
from tests.world import networks, port

PAIRS = [(VMS[index], VMS[index + 1]) for index in range(0, len(VMS), 2)]
GATEWAYS = {"net-flat": "10.10.0", "net-blue": "10.20.0", "net-blue2": "10.21.0", "net-red": "10.20.0"}
EACH_VM = pytest.mark.parametrize("sender", VMS, ids=lambda one: f"port-{one.key}")


def two_on_one_node() -> tuple[Fabric, Vm, Vm]:
    """The cloud with a second blue port on n1."""
    blue = networks()[1]
    snapshot = world().apply(2, [PortChange("port-22", port(22, blue, 12, "n1"))])
    return Fabric.of(snapshot), vm(20, snapshot), vm(22, snapshot)


def test_unicast_on_one_node_stays_on_it() -> None:
    through, sender, receiver = two_on_one_node()
    sent = sender.udp(receiver.ip, receiver.mac)
    journey = send(sender, sent, through)
    assert journey.delivered == (Delivery("n1", receiver.ofport, sent),)
    assert journey.wire == ()


@pytest.mark.parametrize(("sender", "receiver"), PAIRS + [pair[::-1] for pair in PAIRS])
def test_unicast_across_nodes_arrives_unchanged(sender: Vm, receiver: Vm) -> None:
    sent = sender.udp(receiver.ip, receiver.mac)
    journey = send(sender, sent)
    assert journey.delivered == (Delivery(receiver.node, receiver.ofport, sent),)
    assert [frame.packet["eth_src"] for frame in journey.wire] == [sender.mac]


def test_a_frame_carries_the_tag_of_its_network_on_the_wire() -> None:
    assert send(BLUE_1, BLUE_1.udp(BLUE_2.ip, BLUE_2.mac)).wire[0].packet["vlan_vid"] == 0x1000 | 102
    assert send(FLAT_1, FLAT_1.udp(FLAT_2.ip, FLAT_2.mac)).wire[0].packet["vlan_vid"] == 0


def test_broadcast_reaches_each_port_of_the_network_once_and_never_its_sender() -> None:
    through, sender, neighbour = two_on_one_node()
    for one in (sender, neighbour, BLUE_2):
        journey = send(one, one.arp(ip("10.20.0.99")), through)
        places = [(delivery.node, delivery.ofport) for delivery in journey.delivered]
        others = {sender, neighbour, BLUE_2} - {one}
        assert sorted(places) == sorted((other.node, other.ofport) for other in others)
        assert len(journey.wire) == 1


@EACH_VM
def test_arp_for_any_gateway_is_answered_in_place_and_never_crosses_the_uplink(sender: Vm) -> None:
    for index in (1, 2, 3):
        gateway = ip(f"{GATEWAYS[sender.network]}.{index}")
        journey = send(sender, sender.arp(gateway))
        assert journey.wire == ()
        (answer,) = journey.hops[0].result.answers
        assert answer["arp_op"] == 2
        assert (answer["arp_sha"], answer["arp_spa"]) == (GATEWAY_MAC, gateway)
        assert (answer["arp_tha"], answer["arp_tpa"]) == (sender.mac, sender.ip)
        assert (answer["eth_src"], answer["eth_dst"]) == (GATEWAY_MAC, sender.mac)


@EACH_VM
def test_echo_to_the_gateway_is_answered_in_place(sender: Vm) -> None:
    gateway = ip(f"{GATEWAYS[sender.network]}.2")
    journey = send(sender, sender.echo(gateway, id_=77))
    assert journey.wire == ()
    (answer,) = journey.hops[0].result.answers
    assert (answer["ip_src"], answer["ip_dst"], answer["icmp_type"]) == (gateway, sender.ip, 0)
    assert (answer["eth_src"], answer["eth_dst"], answer["icmp_id"]) == (GATEWAY_MAC, sender.mac, 77)


@pytest.mark.parametrize("ip_frag", [1, 3], ids=["first", "later"])
def test_so_is_one_in_fragments_part_by_part(ip_frag: int) -> None:
    gateway = ip("10.20.0.1")
    known = {"eth_type": ETH_IP, "ip_proto": 1, "ip_frag": ip_frag, "nw_ttl": 64}
    part = packet(eth_src=BLUE_1.mac, eth_dst=GATEWAY_MAC, ip_src=BLUE_1.ip, ip_dst=gateway, **known)
    (answer,) = send(BLUE_1, part).hops[0].result.answers
    assert (answer["ip_src"], answer["ip_dst"], answer["ip_frag"]) == (gateway, BLUE_1.ip, ip_frag)
    assert (answer["eth_src"], answer["eth_dst"]) == (GATEWAY_MAC, BLUE_1.mac)


@pytest.mark.parametrize(("mtu", "size", "answered"), [(1400, 1400, True), (1400, 1401, False), (1500, 1500, True)])
@pytest.mark.parametrize("alone", [True, False])
def test_echo_that_is_larger_than_its_senders_network_goes_to_the_controller(
    mtu: int, size: int, answered: bool, alone: bool
) -> None:
    """Whichever gateway of its router it is to; `alone`: the other networks there have MTU 1500."""
    networks = [one for one in world().networks.values() if one.id == BLUE_1.network or not alone]
    changed = [NetworkChange(one.id, replace(one, mtu=mtu)) for one in networks]
    through = Fabric.of(world().apply(2, changed))
    for gateway in ("10.20.0.1", "10.21.0.1"):
        echo = BLUE_1.echo(ip(gateway), id_=77).but(size=size + 14)
        journey = send(BLUE_1, echo, through)
        assert bool(journey.hops[0].result.answers) is answered, gateway
        assert [punt.rule for _, punt in journey.punts] == ([] if answered else [Rule.PUNT_LARGE_ECHO])


def test_the_gateway_offers_nothing_else() -> None:
    gateway = ip("10.20.0.1")
    drop = send(BLUE_1, BLUE_1.udp(gateway)).hops[0].result.drop
    assert drop == Drop(Rule.DROP_GATEWAY, 2, Reason.RULE)


@EACH_VM
def test_dhcp_goes_to_the_controller_under_the_port(sender: Vm) -> None:
    for request in (sender.dhcp(), sender.udp(ip("10.20.0.1"), GATEWAY_MAC, 68, 67)):
        journey = send(sender, request)
        ((node, punt),) = journey.punts
        assert (node, punt.cookie, punt.in_port) == (sender.node, cookie(Rule.PUNT_DHCP, sender.key), sender.ofport)
        assert punt.packet == request
        assert (journey.delivered, journey.wire) == ((), ())


def test_foreign_dhcp_servers_are_not_heard() -> None:
    from_vm = BLUE_1.udp(BLUE_2.ip, BLUE_2.mac, 67, 68)
    assert send(BLUE_1, from_vm).hops[0].result.drop == Drop(Rule.DROP_DHCP_SERVER, 0, Reason.RULE)
    from_wire = fabric().send_from_outside(PHYSNET, from_vm.but(vlan_vid=0x1000 | 102))
    assert {hop.result.drop for hop in from_wire.hops if hop.node != "n3"} == {
        Drop(Rule.DROP_UPLINK_DHCP, 2, Reason.RULE)
    }


@pytest.mark.parametrize("vid", [0x1000, 0x1000 | 102, 0x1000 | 4094])
def test_a_vm_sends_no_tags(vid: int) -> None:
    journey = send(BLUE_1, BLUE_1.udp(BLUE_2.ip, BLUE_2.mac, vlan_vid=vid))
    assert journey.hops[0].result.drop == Drop(Rule.DROP_UNCLASSIFIED, 0, Reason.RULE)


def test_an_unclassified_interface_passes_nothing() -> None:
    for sent in (BLUE_1.dhcp(), BLUE_1.arp(BLUE_2.ip), BLUE_1.udp(BLUE_2.ip, BLUE_2.mac)):
        result = fabric().send("n1", 999, sent).hops[0].result
        assert result.drop == Drop(Rule.DROP_UNCLASSIFIED, 0, Reason.RULE)
        assert len(result.steps) == 1


def test_a_tag_of_no_network_here_is_not_classified() -> None:
    unknown = fabric().send("n1", UPLINK, BLUE_2.udp(BLUE_1.ip, BLUE_1.mac, vlan_vid=0x1000 | 999))
    absent = fabric().send("n3", UPLINK, BLUE_2.udp(BLUE_1.ip, BLUE_1.mac, vlan_vid=0x1000 | 102))
    for journey in (unknown, absent):
        assert journey.hops[0].result.drop == Drop(Rule.DROP_UNCLASSIFIED, 0, Reason.RULE)


def test_what_is_not_ipv4_or_arp_is_dropped_by_name() -> None:
    for ethertype, rule in ((0x86DD, Rule.DROP_IPV6), (0x88CC, Rule.DROP_SPOOFED)):
        sent = packet(eth_src=BLUE_1.mac, eth_dst=BLUE_2.mac, eth_type=ethertype)
        assert send(BLUE_1, sent).hops[0].result.drop == Drop(rule, BLUE_1.key, Reason.RULE)


@pytest.mark.parametrize("last", [0x0, 0x2, 0xE, 0xF, 0x20, 0x21, 0x2F])
def test_nothing_goes_to_the_groups_of_bridges_even_if_it_is_ipv4(last: int) -> None:
    group = 0x0180C2000000
    for sent in (BLUE_1.udp(BLUE_2.ip, group | last), packet(eth_src=BLUE_1.mac, eth_dst=group | last, eth_type=38)):
        assert send(BLUE_1, sent).hops[0].result.drop == Drop(Rule.DROP_BRIDGE_GROUP, 0, Reason.RULE)
    for other in (0x10, 0x1F, 0x30):  # groups as any other
        assert send(BLUE_1, BLUE_1.udp(BLUE_2.ip, group | other)).delivered


def test_unknown_unicast_from_the_wire_does_not_go_back() -> None:
    stray = BLUE_2.udp(ip("10.20.0.50"), 0x020000000001, vlan_vid=0x1000 | 102)
    result = fabric().send("n1", UPLINK, stray).hops[0].result
    assert result.drop == Drop(Rule.DROP_UNKNOWN_UNICAST, 0, Reason.RULE)


def test_gateway_arp_from_the_wire_stops_at_the_node() -> None:
    gateway = ip("10.20.0.2")
    asking = BLUE_2.arp(gateway, vlan_vid=0x1000 | 102)
    claiming = BLUE_2.arp(BLUE_1.ip, arp_op=2, arp_spa=gateway, vlan_vid=0x1000 | 102)
    for sent in (asking, claiming):
        result = fabric().send("n1", UPLINK, sent).hops[0].result
        assert result.drop == Drop(Rule.DROP_UPLINK_GATEWAY, 2, Reason.RULE)


def test_known_ports_are_answered_where_the_network_asks_for_it() -> None:
    blue = replace(networks()[1], arp_responder=True)
    through = Fabric.of(world().apply(2, [NetworkChange(blue.id, blue)]))
    journey = send(BLUE_1, BLUE_1.arp(BLUE_2.ip), through)
    assert journey.wire == ()
    assert journey.hops[0].result.answers[0]["arp_sha"] == BLUE_2.mac
    probe = send(BLUE_1, BLUE_1.arp(BLUE_1.ip, arp_spa=0), through)
    assert probe.hops[0].result.answers == ()
    assert [(delivery.node, delivery.ofport) for delivery in probe.delivered] == [("n2", BLUE_2.ofport)]


def test_steps_tell_the_way() -> None:
    steps = send(BLUE_1, BLUE_1.udp(BLUE_2.ip, BLUE_2.mac)).hops[0].result.steps
    assert [step.rule for step in steps] == [
        Rule.CLASSIFY_PORT,
        Rule.ALLOW_IP,
        Rule.SERVICES_DONE,
        Rule.EGRESS_UNFILTERED,
        Rule.SWITCH,
        Rule.L2_UPLINK,
        Rule.OUTPUT_UPLINK,
    ]
    assert [step.key for step in steps] == [20, 20, 0, 20, 0, 2, 2]
    assert steps[0].table == Table.CLASSIFY


def test_a_frame_to_oneself_is_dropped_by_name() -> None:
    drop = send(BLUE_1, BLUE_1.udp(BLUE_1.ip, BLUE_1.mac)).hops[0].result.drop
    assert drop is not None and drop.reason is Reason.RULE


def test_the_anycast_mac_is_never_a_target_on_the_wire() -> None:
    for sent in (BLUE_1.arp(BLUE_2.ip, eth_dst=GATEWAY_MAC), BLUE_1.arp(BLUE_2.ip, arp_op=2, eth_dst=GATEWAY_MAC)):
        assert send(BLUE_1, sent).wire == ()


SPOOFED = {
    "mac": BLUE_1.udp(BLUE_2.ip, BLUE_2.mac, eth_src=BLUE_2.mac),
    "ip": BLUE_1.udp(BLUE_2.ip, BLUE_2.mac, ip_src=ip("10.20.0.77")),
    "gateway ip": BLUE_1.udp(BLUE_2.ip, BLUE_2.mac, ip_src=ip("10.20.0.1")),
    "arp sender mac": BLUE_1.arp(BLUE_2.ip, arp_sha=BLUE_2.mac),
    "arp sender ip": BLUE_1.arp(BLUE_2.ip, arp_spa=ip("10.20.0.77")),
    "arp gateway claim": BLUE_1.arp(BLUE_2.ip, arp_op=2, arp_spa=ip("10.20.0.1")),
    "arp reply as probe": BLUE_1.arp(BLUE_2.ip, arp_op=2, arp_spa=0),
    "arp probe for another's": BLUE_1.arp(BLUE_2.ip, arp_spa=0),
    "arp probe for the gateway's": BLUE_1.arp(ip("10.20.0.1"), arp_spa=0),
    "gateway mac": BLUE_1.udp(BLUE_2.ip, BLUE_2.mac, eth_src=GATEWAY_MAC),
    "other network": BLUE_1.udp(BLUE_2.ip, BLUE_2.mac, ip_src=BLUE2_1.ip),
    "no address": BLUE_1.udp(BLUE_2.ip, BLUE_2.mac, ip_src=0),
    "dhcp of another": BLUE_1.dhcp(eth_src=RED_1.mac),
}


@pytest.mark.parametrize("what", SPOOFED)
def test_spoofing_is_dropped_under_the_port(what: str) -> None:
    assert send(BLUE_1, SPOOFED[what]).hops[0].result.drop == Drop(Rule.DROP_SPOOFED, BLUE_1.key, Reason.RULE)


def test_a_dhcp_answer_does_not_hide_in_fragments() -> None:
    fragment = packet(
        eth_src=BLUE_1.mac,
        eth_dst=BROADCAST,
        eth_type=ETH_IP,
        ip_frag=1,
        ip_proto=PROTO_UDP,
        ip_src=BLUE_1.ip,
        ip_dst=0xFFFFFFFF,
    )
    assert send(BLUE_1, fragment).hops[0].result.drop == Drop(Rule.DROP_BROADCAST_FRAGMENT, 0, Reason.RULE)


def test_arp_is_an_own_kind_of_packet() -> None:
    assert "ip_src" not in BLUE_1.arp(BLUE_2.ip)
    with pytest.raises(ValueError, match="ip_src"):
        packet(eth_type=ETH_ARP, ip_src=1)
