"""Limits and marks of a port: what is marked, and which packets pass a meter. Time does not pass here."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from flows.compile import compile_node
from flows.fabric import Fabric
from flows.ir import Meter
from flows.model import Bandwidth, PortChange, Qos
from flows.packet import Packet, packet
from flows.pipeline import (
    LOG_METER,
    RELAY_METER,
    SHARED_METER,
    TOO_LARGE_METER,
    dns_meter,
    egress_meter,
    fragment_meter,
    ingress_meter,
    packet_in_meter,
)
from flows.protocols import ETH_IP, PROTO_UDP
from flows.simulate import Result, Switch
from flows.snapshot import Snapshot
from tests.simulate.cloud import BLUE2_1, BLUE_1, BLUE_2, BROADCAST, SERVER, UPLINK, ip, reply_to, world

QOS = Qos(Bandwidth(10_000, 4000), Bandwidth(5000, 4000), 46)
TAG = 0x1000 | 102
ZONE = BLUE_1.key


@cache
def limited() -> Snapshot:
    """BLUE_1 has limits; nobody else has."""
    port = world().ports["port-20"]
    return world().apply(2, [PortChange(port.id, replace(port, qos=QOS))])


@cache
def switch() -> Switch:
    return Switch(compile_node(limited(), "n1").flows())


def metered(result: Result) -> list[int]:
    actions = [action for step in result.steps if step.flow for action in step.flow.actions]
    return [action.id for action in actions if isinstance(action, Meter)]


def part(ip_frag: int) -> Packet:
    ends = {"eth_src": BLUE_1.mac, "eth_dst": BLUE_2.mac, "ip_src": BLUE_1.ip, "ip_dst": BLUE_2.ip}
    return packet(**ends, eth_type=ETH_IP, ip_proto=PROTO_UDP, ip_frag=ip_frag, part_src=4000, part_dst=7)


SENT = {
    "to another node": (BLUE_1.udp(BLUE_2.ip, BLUE_2.mac), [egress_meter(ZONE)]),
    "routed": (BLUE_1.udp(BLUE2_1.ip), [egress_meter(ZONE)]),
    "outside": (BLUE_1.udp(SERVER), [egress_meter(ZONE)]),
    "broadcast": (BLUE_1.udp(0xFFFFFFFF, BROADCAST), [egress_meter(ZONE)]),
    "in parts": (part(1), [fragment_meter(ZONE), egress_meter(ZONE)]),
    "later parts": (part(3), [fragment_meter(ZONE), egress_meter(ZONE)]),
    "ARP": (BLUE_1.arp(BLUE_2.ip), []),
    "DHCP": (BLUE_1.dhcp(), [packet_in_meter(ZONE)]),
    "to itself only": (BLUE_1.echo(ip("10.20.0.1")), [egress_meter(ZONE)]),
    "last hop": (BLUE_1.udp(SERVER, nw_ttl=1), [egress_meter(ZONE), packet_in_meter(ZONE)]),
    "spoofed": (BLUE_1.udp(BLUE_2.ip, BLUE_2.mac, ip_src=1), []),
}


@pytest.mark.parametrize("kind", SENT)
def test_what_it_sends(kind: str) -> None:
    packet, meters = SENT[kind]
    result = switch().receive(packet, BLUE_1.ofport)
    assert metered(result) == meters
    marked = {sent.packet["ip_dscp"] for sent in result.outputs if "ip_dscp" in sent.packet}
    assert marked <= {46}


RECEIVED = {
    "switched": (BLUE_2.udp(BLUE_1.ip, BLUE_1.mac, vlan_vid=TAG), [ingress_meter(ZONE)]),
    "ARP": (BLUE_2.arp(BLUE_1.ip, eth_dst=BLUE_1.mac, arp_op=2, vlan_vid=TAG), []),
    "broadcast": (BLUE_2.udp(0xFFFFFFFF, BROADCAST, vlan_vid=TAG), []),
}


@pytest.mark.parametrize("kind", RECEIVED)
def test_what_it_receives(kind: str) -> None:
    packet, meters = RECEIVED[kind]
    result = switch().receive(packet, UPLINK)
    assert metered(result) == meters and [sent.port for sent in result.outputs] == [BLUE_1.ofport]


def test_who_has_no_limits_has_no_meters_but_for_the_controller() -> None:
    def used(snapshot: Snapshot) -> set[int]:
        return {meter.id for meter in compile_node(snapshot, "n1").meters()}

    assert used(limited()) - used(world()) == {egress_meter(ZONE), ingress_meter(ZONE)}
    assert used(world()) == {
        SHARED_METER,
        LOG_METER,
        TOO_LARGE_METER,
        RELAY_METER,
        *(meter_of(key) for key in (10, 20, 30, 40) for meter_of in (packet_in_meter, dns_meter, fragment_meter)),
    }
    before, after = ({flow.key for flow in compile_node(each, "n1").flows()} for each in (world(), limited()))
    assert before < after and len(after - before) == 1


def test_limits_change_no_packet_but_its_mark() -> None:
    fabrics = [Fabric.of(snapshot) for snapshot in (world(), limited())]
    packet = BLUE_1.udp(BLUE_2.ip, BLUE_2.mac)

    def seen(fabric: Fabric, sent: Packet) -> list[tuple[str, int, Packet]]:
        journey = fabric.send(BLUE_1.node, BLUE_1.ofport, sent)
        return [(node, ofport, got.but(ip_dscp=0)) for node, ofport, got in journey.delivered]

    assert seen(fabrics[0], packet) == seen(fabrics[1], packet) != []
    assert reply_to(packet)["ip_dscp"] == 0


def test_a_copy_for_the_controller_comes_after_the_packet_itself() -> None:
    """A meter that is full drops what comes after it."""
    for snapshot in (world(), limited()):
        for flow in compile_node(snapshot, "n1").flows():
            kinds = [type(action).__name__ for action in flow.actions]
            if "Controller" in kinds:
                assert kinds[-2:] == ["Resubmit", "Controller"]
