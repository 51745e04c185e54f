"""A VM that moves from n1 to n3, at each step: who gets what, and who must not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.fabric import Fabric, Journey
from flows.model import Binding, FloatingIpChange, GatewayMode, Migration, MigrationPhase, NetworkChange, PortChange
from flows.packet import Packet, packet
from flows.pipeline import GATEWAY_MAC, ROUTED_GROUP_MAC, copy_mac, node_mac, teacher_mac
from flows.protocols import ETH_ARP, ETH_IP, ETH_RARP, VLAN_PRESENT
from flows.rules import Rule
from flows.snapshot import Snapshot
from tests.simulate.cloud import (
    BLUE2_1,
    BLUE2_2,
    BLUE_1,
    BLUE_2,
    BROADCAST,
    EXTERNAL_PHYSNET,
    NEXT_HOP,
    PHYSNET,
    SERVER,
    Vm,
    ip,
    send,
    world,
)
from tests.world import floating_ip, port

HERE, THERE = Binding("n1", 120, 20), Binding("n3", 520, 70)
FIP = ip("203.0.113.101")
MOVER = BLUE_1
COPY = copy_mac(MOVER.key)
ARRIVED = replace(MOVER, node="n3", ofport=520)
BYSTANDER = Vm(88, "n3", 188, 0xFA163E000058, ip("10.20.0.88"), "net-blue")
ROUTED_BYSTANDER = Vm(89, "n3", 189, 0xFA163E000059, ip("10.21.0.89"), "net-blue2")


def cloud() -> Snapshot:
    base = world()
    known = [
        port(one.key, base.networks[one.network], one.ip & 255, one.node, one.ofport)
        for one in (BYSTANDER, ROUTED_BYSTANDER)
    ]
    changes = [PortChange(one.id, one) for one in known]
    return base.apply(2, [*changes, FloatingIpChange("floating-1", floating_ip(1, base.ports["port-20"]))])


def at(phase: MigrationPhase | None, base: Snapshot | None = None) -> Snapshot:
    """None: not moving yet."""
    base = base or cloud()
    plain = replace(base.ports["port-20"], binding=HERE)
    match phase:
        case MigrationPhase.PREPARED:
            plain = replace(plain, migration=Migration(phase, THERE))
        case MigrationPhase.MOVED:
            plain = replace(plain, binding=THERE, migration=Migration(phase, HERE))
    return base.apply(base.revision + 1, [PortChange(plain.id, plain)])


def mixed(**phases: MigrationPhase | None) -> Fabric:
    """Nodes that have not all heard yet. n2 is as n1."""
    fabrics = {name: Fabric.of(at(phases.get(name))) for name in ("n1", "n3")}
    switches = {name: fabrics.get(name, fabrics["n1"]).switches[name] for name in ("n1", "n2", "n3")}
    return replace(fabrics["n1"], switches=switches)


def after(fabric: Fabric, journey: Journey) -> Fabric:
    """The same with what all of them have learned."""
    return replace(fabric, states=journey.after.states, stations=journey.after.stations)


def places(journey: Journey) -> list[tuple[str, int]]:
    return sorted((one.node, one.ofport) for one in journey.delivered)


def rarp() -> Packet:
    return packet(
        eth_src=MOVER.mac, eth_dst=BROADCAST, eth_type=ETH_RARP, arp_op=3, arp_sha=MOVER.mac, arp_tha=MOVER.mac
    )


def inbound(**fields: int) -> Packet:
    known = {"eth_src": NEXT_HOP, "eth_dst": node_mac(1), "eth_type": ETH_IP, "ip_proto": 17}
    return packet(**known | {"ip_src": SERVER, "ip_dst": FIP, "udp_src": 4000, "udp_dst": 7} | fields)


def to_mover(fabric: Fabric) -> dict[str, Journey]:
    """One packet of each kind to the VM."""
    return {
        "routed, its node": send(BLUE2_1, BLUE2_1.udp(MOVER.ip), fabric),
        "switched": send(BLUE_2, BLUE_2.udp(MOVER.ip, MOVER.mac), fabric),
        "routed": send(BLUE2_2, BLUE2_2.udp(MOVER.ip), fabric),
        "switched, target": send(BYSTANDER, BYSTANDER.udp(MOVER.ip, MOVER.mac), fabric),
        "routed, target": send(ROUTED_BYSTANDER, ROUTED_BYSTANDER.udp(MOVER.ip), fabric),
        "floating IP": fabric.send_from_outside(EXTERNAL_PHYSNET, inbound()),
    }


BEFORE, AFTER = (HERE.node, HERE.ofport), (THERE.node, THERE.ofport)


def test_before_it_moves() -> None:
    for kind, journey in to_mover(mixed()).items():
        assert places(journey) == [BEFORE], kind


def test_prepared_its_node_serves_it_and_the_other_keeps_its_copies() -> None:
    fabric = mixed(n1=MigrationPhase.PREPARED, n3=MigrationPhase.PREPARED)
    for kind, journey in to_mover(fabric).items():
        assert places(journey) == [BEFORE], kind
        assert any(frame.packet["eth_dst"] == node_mac(3) for frame in journey.wire), kind
        copies = [hop.result.drop for hop in journey.hops if hop.node == "n3" and hop.packet["eth_src"] == COPY]
        assert [drop and drop.rule for drop in copies] == [Rule.DROP_ASLEEP], kind
    assert places(send(MOVER, MOVER.udp(BLUE_2.ip, BLUE_2.mac), fabric)) == [("n2", BLUE_2.ofport)]
    broadcast = send(BLUE_2, BLUE_2.arp(MOVER.ip), fabric)
    assert AFTER not in places(broadcast) and BEFORE in places(broadcast)


def awake(fabric: Fabric) -> Fabric:
    """The VM has spoken at its new node."""
    journey = send(ARRIVED, rarp(), fabric)
    assert [(node, punt.rule, punt.key) for node, punt in journey.punts] == [("n3", Rule.PUNT_ACTIVATE, MOVER.key)]
    return journey.after


def test_its_arrival_is_reported_by_its_first_packet_and_by_every_announcement() -> None:
    fabric = mixed(n1=MigrationPhase.PREPARED, n3=MigrationPhase.PREPARED)
    first = send(ARRIVED, MOVER.udp(BLUE_2.ip, BLUE_2.mac), fabric)
    assert [(node, punt.rule, punt.key) for node, punt in first.punts] == [("n3", Rule.PUNT_ACTIVATE, MOVER.key)]
    assert not send(ARRIVED, MOVER.udp(BLUE_2.ip, BLUE_2.mac), first.after).punts
    for announcing in (rarp(), MOVER.arp(MOVER.ip)):
        assert [punt.rule for _, punt in send(ARRIVED, announcing, first.after).punts] == [Rule.PUNT_ACTIVATE]
    spoofed = MOVER.udp(BLUE_2.ip, BLUE_2.mac, ip_src=BLUE_2.ip)
    assert not send(ARRIVED, spoofed, fabric).punts
    assert not send(ARRIVED, MOVER.arp(BLUE_2.ip, arp_spa=BLUE_2.ip), fabric).punts


def without_its_old_interface(journey: Journey) -> list[tuple[str, int]]:
    return [place for place in places(journey) if place != BEFORE]


@pytest.mark.parametrize(
    "phases",
    [
        {"n1": MigrationPhase.PREPARED, "n3": MigrationPhase.PREPARED},
        {"n1": MigrationPhase.MOVED, "n3": MigrationPhase.PREPARED},
        {"n1": MigrationPhase.PREPARED, "n3": MigrationPhase.MOVED},
        {"n1": MigrationPhase.MOVED, "n3": MigrationPhase.MOVED},
    ],
    ids=["prepared", "old node first", "new node first", "moved"],
)
def test_once_it_has_spoken_it_gets_everything(phases: dict[str, MigrationPhase]) -> None:
    """Also while only one of the nodes has heard of the activation."""
    prepared = mixed(n1=MigrationPhase.PREPARED, n3=MigrationPhase.PREPARED)
    spoken = send(ARRIVED, rarp(), prepared).after
    fabric = replace(mixed(**phases), states=spoken.states, stations=spoken.stations)
    for kind, journey in to_mover(fabric).items():
        assert AFTER in places(journey), kind
        assert places(journey).count(AFTER) <= 2, kind  # for a moment, rather too much than nothing
        if set(phases.values()) == {MigrationPhase.MOVED}:
            assert without_its_old_interface(journey) == [AFTER], kind


@pytest.mark.parametrize("phase", list(MigrationPhase))
def test_it_sends_from_its_new_node_at_once(phase: MigrationPhase) -> None:
    fabric = mixed(n1=phase, n3=phase)
    assert places(send(ARRIVED, MOVER.udp(BLUE_2.ip, BLUE_2.mac), fabric)) == [("n2", BLUE_2.ofport)]
    assert places(send(ARRIVED, MOVER.udp(BLUE2_2.ip), fabric)) == [("n2", BLUE2_2.ofport)]
    (frame,) = send(ARRIVED, MOVER.udp(SERVER), fabric).heard
    assert (frame.packet["ip_src"], frame.packet["eth_src"]) == (FIP, node_mac(3))


def test_a_route_that_was_learned_before_leads_on_to_the_new_node() -> None:
    """n2 has learned that the VM is behind n1, and the switches have, too."""
    plain = mixed()
    fabric = send(MOVER, MOVER.udp(BLUE2_2.ip), plain).after
    fabric = send(MOVER, MOVER.arp(BLUE_2.ip), fabric).after
    moved = after(mixed(n1=MigrationPhase.MOVED, n3=MigrationPhase.MOVED), send(MOVER, rarp(), fabric))
    for kind, journey in to_mover(moved).items():
        assert without_its_old_interface(journey) == [AFTER], kind


def test_the_old_node_no_longer_knows_the_old_interface() -> None:
    fabric = mixed(n1=MigrationPhase.MOVED, n3=MigrationPhase.MOVED)
    journey = send(MOVER, MOVER.udp(BLUE_2.ip, BLUE_2.mac), fabric)
    assert not journey.delivered
    assert journey.hops[0].result.drop is not None and journey.hops[0].result.drop.rule is Rule.DROP_UNCLASSIFIED


def arp_for_floating_ip(fabric: Fabric) -> list[int]:
    asked = packet(
        eth_src=NEXT_HOP, eth_dst=BROADCAST, eth_type=ETH_ARP, arp_op=1, arp_sha=NEXT_HOP, arp_spa=1, arp_tpa=FIP
    )
    return [frame.packet["arp_sha"] for frame in fabric.send_from_outside(EXTERNAL_PHYSNET, asked).heard]


def test_one_node_answers_for_the_floating_ip() -> None:
    prepared = mixed(n1=MigrationPhase.PREPARED, n3=MigrationPhase.PREPARED)
    assert arp_for_floating_ip(prepared) == [node_mac(1)]
    assert arp_for_floating_ip(mixed(n1=MigrationPhase.MOVED, n3=MigrationPhase.MOVED)) == [node_mac(3)]


def test_nodes_that_each_think_that_the_vm_is_at_the_other_send_nothing_in_circles() -> None:
    base = cloud()
    there_and_back = replace(base.ports["port-20"], binding=HERE, migration=Migration(MigrationPhase.MOVED, THERE))
    back = Fabric.of(base.apply(3, [PortChange(there_and_back.id, there_and_back)]))
    late = Fabric.of(at(MigrationPhase.MOVED))
    fabric = replace(late, switches={**late.switches, "n3": back.switches["n3"]})
    for kind, journey in to_mover(fabric).items():
        assert len(journey.hops) < 10, kind


def test_all_nodes_can_be_taught_where_an_address_is() -> None:
    fabric = send(MOVER, MOVER.udp(BLUE2_2.ip), mixed(n1=MigrationPhase.MOVED, n3=MigrationPhase.MOVED)).after
    taught = packet(
        eth_src=teacher_mac(3),
        eth_dst=ROUTED_GROUP_MAC,
        eth_type=ETH_IP,
        vlan_vid=VLAN_PRESENT | 102,
        ip_src=MOVER.ip,
        ip_dst=MOVER.ip,
    )
    journey = fabric.send_from_outside(PHYSNET, taught)
    assert not journey.delivered
    stations = {**journey.after.stations, (PHYSNET, VLAN_PRESENT | 102, teacher_mac(3)): "n3"}
    learned = replace(journey.after, stations=stations)
    (first, *_) = send(BLUE2_2, BLUE2_2.udp(MOVER.ip), learned).wire
    assert first.packet["eth_dst"] == teacher_mac(3)
    assert places(send(BLUE2_2, BLUE2_2.udp(MOVER.ip), learned)) == [AFTER]


@pytest.mark.parametrize("mode", list(GatewayMode))
def test_copies_and_redirects_in_every_gateway_mode(mode: GatewayMode) -> None:
    base = cloud()
    blue = replace(base.networks["net-blue"], gateway_mode=mode)
    base = base.apply(3, [NetworkChange(blue.id, blue)])
    prepared = Fabric.of(at(MigrationPhase.PREPARED, base))
    spoken = send(ARRIVED, rarp(), prepared).after
    sent = BLUE_2.udp(MOVER.ip, MOVER.mac)
    assert AFTER in places(send(BLUE_2, sent, spoken))
    stale = send(MOVER, MOVER.arp(BLUE_2.ip), prepared).after
    moved = replace(Fabric.of(at(MigrationPhase.MOVED, base)), stations=stale.stations)
    assert places(send(BLUE_2, sent, moved)) == [AFTER]


def test_the_vms_own_broadcast_is_not_doubled() -> None:
    prepared = mixed(n1=MigrationPhase.PREPARED, n3=MigrationPhase.PREPARED)
    asked = MOVER.arp(BLUE_2.ip)
    heard = [place for place in places(send(ARRIVED, asked, awake(prepared))) if place != BEFORE]
    assert len(heard) == len(set(heard)) and AFTER not in heard
    assert GATEWAY_MAC not in {one.packet["eth_src"] for one in send(ARRIVED, asked, prepared).delivered}
