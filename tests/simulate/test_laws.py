"""Laws that hold for every frame that a VM or the wire may send, the hostile ones first."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from flows.fabric import Delivery, Fabric, Journey
from flows.packet import Packet
from flows.pipeline import GATEWAY_MAC, SERVICE_MAC, SERVICE_OFPORT, carrier_address, node_mac
from flows.protocols import ETH_ARP, ETH_IP
from flows.simulate import Reason
from tests.simulate.cloud import EXTERNAL_PHYSNET, EXTERNAL_UPLINK, SERVER, UPLINK, VMS, Vm, fabric, ip, send, world
from tests.simulate.hostile import Pick, frame, rolling

_SNAT = {"n1": ip("203.0.113.11"), "n2": ip("203.0.113.12")}
_GATEWAYS = [(held.network_id, int(held.address)) for node in world().nodes.values() for held in node.gateways]
_GROUPS = [{"net-flat"}, {"net-blue", "net-blue2"}, {"net-red"}]
_REACHABLE = {network: group for group in _GROUPS for network in group}


def honest(sender: Vm, sent: Packet) -> bool:
    if sent["eth_src"] != sender.mac or sent["vlan_vid"]:
        return False
    if sent["eth_type"] == ETH_ARP:
        return sent["arp_sha"] == sender.mac and sent["arp_spa"] in (sender.ip, 0)
    dhcp = (sent.get("ip_src"), sent.get("ip_dst"), sent.get("udp_src"), sent.get("udp_dst")) == (0, 0xFFFFFFFF, 68, 67)
    return sent["eth_type"] == ETH_IP and (sent["ip_src"] == sender.ip or dhcp)


def to_relay(delivery: Delivery) -> bool:
    return delivery.ofport == SERVICE_OFPORT


def no_packet_reaches_another_project(sender: Vm, sent: Packet, journey: Journey) -> None:
    by_place = {(vm.node, vm.ofport): vm for vm in VMS}
    places = {(delivery.node, delivery.ofport) for delivery in journey.delivered if not to_relay(delivery)}
    assert {by_place[place].network for place in places} <= _REACHABLE[sender.network]


def the_relay_knows_who_asks(sender: Vm, sent: Packet, journey: Journey) -> None:
    for delivery in filter(to_relay, journey.delivered):
        assert delivery.node == sender.node and honest(sender, sent)
        assert delivery.packet["ip_src"] == carrier_address(sender.key)
        assert (delivery.packet["eth_dst"], delivery.packet["tcp_dst"]) in {(SERVICE_MAC, 53), (SERVICE_MAC, 80)}


def lies_about_the_sender_never_leave_the_port(sender: Vm, sent: Packet, journey: Journey) -> None:
    if not honest(sender, sent):
        assert (journey.delivered, journey.wire, journey.punts) == ((), (), ())


def the_anycast_mac_is_never_a_source_on_the_wire(sender: Vm, sent: Packet, journey: Journey) -> None:
    for on_wire in journey.wire:
        assert on_wire.packet["eth_src"] != GATEWAY_MAC
        assert on_wire.packet.get("arp_sha") != GATEWAY_MAC


def gateway_requests_and_claims_never_cross_the_uplink(sender: Vm, sent: Packet, journey: Journey) -> None:
    held = {address for network, address in _GATEWAYS if network == sender.network}
    for on_wire in journey.wire:
        if on_wire.packet["eth_type"] == ETH_ARP:
            assert on_wire.packet["arp_spa"] not in held
            assert on_wire.packet["arp_op"] != 1 or on_wire.packet["arp_tpa"] not in held


def every_drop_has_a_name(sender: Vm, sent: Packet, journey: Journey) -> None:
    if sent.get("ip_dst") == sender.ip or sent["eth_dst"] == sender.mac:
        return  # to oneself: see test_a_frame_to_oneself_is_dropped_by_name
    for hop in journey.hops:
        if hop.result.drop is not None:
            assert hop.result.drop.reason is Reason.RULE
            assert hop.result.drop.rule is not None and hop.result.drop.rule.drop


def routed_once_means_one_off_the_ttl(sender: Vm, sent: Packet, journey: Journey) -> None:
    for delivery in journey.delivered:
        elsewhere = (delivery.node, delivery.ofport) != (sender.node, sender.ofport)
        if sent["eth_type"] == ETH_IP and elsewhere and not to_relay(delivery):
            assert delivery.packet["nw_ttl"] == sent["nw_ttl"] - (sent["eth_dst"] == GATEWAY_MAC)


def nobody_gets_a_frame_twice_and_nobody_his_own(sender: Vm, sent: Packet, journey: Journey) -> None:
    places = [(delivery.node, delivery.ofport) for delivery in journey.delivered]
    assert len(places) == len(set(places))
    if (sender.node, sender.ofport) in places:
        assert len(places) == 1 and journey.hops[0].result.answers


def only_the_nodes_own_addresses_leave_for_the_outside(sender: Vm, sent: Packet, journey: Journey) -> None:
    for on_wire in journey.wire:
        if on_wire.physical_network == EXTERNAL_PHYSNET:
            assert on_wire.node == sender.node
            assert on_wire.packet["ip_src"] == _SNAT[sender.node]
            assert on_wire.packet["eth_src"] == node_mac(int(sender.node[1:]))


LAWS = (
    no_packet_reaches_another_project,
    the_relay_knows_who_asks,
    lies_about_the_sender_never_leave_the_port,
    the_anycast_mac_is_never_a_source_on_the_wire,
    gateway_requests_and_claims_never_cross_the_uplink,
    every_drop_has_a_name,
    routed_once_means_one_off_the_ttl,
    nobody_gets_a_frame_twice_and_nobody_his_own,
    only_the_nodes_own_addresses_leave_for_the_outside,
)


@cache
def busy() -> Fabric:
    """The fabric after everybody has talked to everybody that it may talk to, and to the outside."""
    through = fabric()
    for sender in VMS:
        for target in (*(vm.ip for vm in VMS if vm.network in _REACHABLE[sender.network]), SERVER):
            through = send(sender, sender.udp(target), through).after
    return through


def drawing(draw: st.DrawFn) -> Pick:
    def pick(values: Sequence[int], bits: int) -> int:
        chosen = draw(st.integers(0, len(values) - (0 if bits else 1)))
        return values[chosen] if chosen < len(values) else draw(st.integers(0, (1 << bits) - 1))

    return pick


@st.composite
def sent_frames(draw: st.DrawFn) -> tuple[Vm, Packet]:
    sender = draw(st.sampled_from(VMS))
    return sender, frame(drawing(draw), sender)


@given(sent_frames(), st.booleans())
@settings(max_examples=500, deadline=None)
def test_laws_hold_for_a_frame(sent: tuple[Vm, Packet], used: bool) -> None:
    sender, made = sent
    journey = send(sender, made, busy() if used else fabric())
    for law in LAWS:
        law(sender, made, journey)


def test_laws_hold_while_everybody_talks_at_once() -> None:
    """Many more frames than hypothesis has time for, each into what the earlier ones left behind."""
    for seed in range(100):
        dice = random.Random(seed)
        through = busy()
        for _ in range(200):
            sender = dice.choice(VMS)
            made = frame(rolling(dice), sender)
            journey = send(sender, made, through)
            for law in LAWS:
                law(sender, made, journey)
            through = journey.after


def test_no_frame_from_the_wire_reaches_two_networks_or_goes_back() -> None:
    dice = random.Random(1)
    for _ in range(3000):
        made = frame(rolling(dice), dice.choice(VMS)).but(vlan_vid=dice.choice([0, 0x1066, 0x1067, 0x1068, 0x1FFF]))
        node = dice.choice(["n1", "n2", "n3"])
        in_port = dice.choice([UPLINK, EXTERNAL_UPLINK, 5])
        result = busy().send(node, in_port, made).hops[0].result
        reached = {vm.network for vm in VMS for sent in result.outputs if (vm.node, vm.ofport) == (node, sent.port)}
        assert len(reached) <= 1
        assert {sent.port for sent in result.outputs} <= {vm.ofport for vm in VMS if vm.node == node} | {in_port}
        for answer in result.answers:  # the node's own ARP on the external network
            assert (in_port, answer["eth_type"], answer["arp_op"]) == (EXTERNAL_UPLINK, ETH_ARP, 2)
