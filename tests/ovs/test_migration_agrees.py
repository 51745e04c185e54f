"""A VM that moves: the simulator and a real Open vSwitch do the same with every frame, on each of the nodes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from flows.compile import compile_node
from flows.ir import MeterConfig
from flows.model import MigrationPhase
from flows.packet import Packet
from flows.pipeline import COPY_MAC_PREFIX, node_mac, packet_in_meter
from flows.rules import Rule
from flows.simulate import Switch
from tests.ovs.pair import Pair
from tests.ovs.real_switch import RealSwitch
from tests.simulate.cloud import BLUE2_1, BLUE_2, EXTERNAL_UPLINK, SERVER, UPLINK, reply_to
from tests.simulate.test_migration import (
    ARRIVED,
    BYSTANDER,
    FIP,
    HERE,
    MOVER,
    ROUTED_BYSTANDER,
    THERE,
    VLAN_PRESENT,
    at,
    inbound,
    rarp,
)

TAG = VLAN_PRESENT | 102
COPY = COPY_MAC_PREFIX | MOVER.key


@contextmanager
def on(node: str, phase: MigrationPhase) -> Iterator[Pair]:
    snapshot = at(phase)
    program = compile_node(snapshot, node)
    assert not program.failures
    ofports = [
        binding.ofport for port in snapshot.local_ports(node) for binding in port.bindings if binding.node == node
    ]
    with RealSwitch.running([*ofports, UPLINK, EXTERNAL_UPLINK], program.flows()) as switch:
        pair = Pair(switch, snapshot)
        pair.simulated = Switch(program.flows())
        yield pair


def copy(made: Packet, node: int) -> Packet:
    return made.but(eth_src=COPY, eth_dst=node_mac(node), vlan_vid=TAG)


def test_the_node_that_serves_it_sends_copies() -> None:
    with on("n1", MigrationPhase.PREPARED) as pair:
        for sent, port in (
            (BLUE_2.udp(MOVER.ip, MOVER.mac, vlan_vid=TAG), UPLINK),  # out where it came in
            (BLUE2_1.udp(MOVER.ip), BLUE2_1.ofport),
            (inbound(), EXTERNAL_UPLINK),
        ):
            _, seen = pair.receive(sent, port)
            (copied,) = [one for ofport, one in seen if ofport == UPLINK]
            assert (copied["eth_src"], copied["eth_dst"], copied["vlan_vid"]) == (COPY, node_mac(3), TAG)
            assert [one["ip_dst"] for ofport, one in seen if ofport == HERE.ofport] == [MOVER.ip]


def test_the_node_that_expects_it_hands_on_what_comes_once_it_has_spoken() -> None:
    with on("n3", MigrationPhase.PREPARED) as pair:
        copied = copy(BLUE_2.udp(MOVER.ip), 3)
        assert pair.receive(copied, UPLINK)[1] == []
        _, ((port, _),) = pair.receive(BYSTANDER.udp(MOVER.ip, MOVER.mac), BYSTANDER.ofport)
        assert port == UPLINK
        _, ((port, _),) = pair.receive(ROUTED_BYSTANDER.udp(MOVER.ip), ROUTED_BYSTANDER.ofport)
        assert port == UPLINK
        result, _ = pair.receive(rarp(), THERE.ofport)
        assert [punt.rule for punt in result.punts] == [Rule.PUNT_ACTIVATE]
        for sent, came in (
            (copied, UPLINK),
            (BYSTANDER.udp(MOVER.ip, MOVER.mac), BYSTANDER.ofport),
            (ROUTED_BYSTANDER.udp(MOVER.ip), ROUTED_BYSTANDER.ofport),
            (BLUE_2.udp(MOVER.ip, MOVER.mac, vlan_vid=TAG), UPLINK),
        ):
            _, seen = pair.receive(sent, came)
            assert [port for port, _ in seen] == [THERE.ofport]
        _, ((port, left),) = pair.receive(MOVER.udp(SERVER), THERE.ofport)
        assert (port, left["ip_src"], left["eth_src"]) == (EXTERNAL_UPLINK, FIP, node_mac(3))


def test_the_node_that_it_has_left_passes_on() -> None:
    with on("n1", MigrationPhase.MOVED) as pair:
        for sent, port in (
            (BLUE_2.udp(MOVER.ip, MOVER.mac, vlan_vid=TAG), UPLINK),
            (BLUE_2.udp(MOVER.ip, node_mac(1), vlan_vid=TAG, eth_src=node_mac(2)), UPLINK),
            (BLUE2_1.udp(MOVER.ip), BLUE2_1.ofport),
            (inbound(), EXTERNAL_UPLINK),
        ):
            _, ((out, passed),) = pair.receive(sent, port)
            assert (out, passed["eth_src"], passed["eth_dst"]) == (UPLINK, COPY, node_mac(3))
        assert pair.receive(copy(BLUE_2.udp(MOVER.ip), 1), UPLINK)[1] == []
        assert pair.receive(MOVER.udp(SERVER), HERE.ofport)[1] == []


@pytest.mark.parametrize("begun", ["outside", "inside"])
def test_a_connection_of_a_floating_ip_goes_on_where_conntrack_has_not_seen_its_beginning(begun: str) -> None:
    with on("n3", MigrationPhase.MOVED) as pair:
        came = inbound(eth_dst=node_mac(3))
        if begun == "outside":
            _, ((port, seen),) = pair.receive(came, EXTERNAL_UPLINK)
            assert (port, seen["ip_dst"]) == (THERE.ofport, MOVER.ip)
            _, ((port, left),) = pair.receive(reply_to(seen), THERE.ofport)
            assert (port, left["ip_src"], left["udp_src"]) == (EXTERNAL_UPLINK, FIP, 7)
        else:
            answer = MOVER.udp(SERVER, source_port=7, port=4000)
            _, ((port, left),) = pair.receive(answer, THERE.ofport)
            assert (port, left["ip_src"], left["udp_src"]) == (EXTERNAL_UPLINK, FIP, 7)
            _, ((port, seen),) = pair.receive(came, EXTERNAL_UPLINK)
            assert (port, seen["ip_dst"], seen["udp_dst"]) == (THERE.ofport, MOVER.ip, 7)


def test_a_vm_that_floods_where_it_arrives_is_reported_within_its_meter_and_loses_nothing() -> None:
    """Nobody has moved the port: without a controller that lasts."""
    with on("n3", MigrationPhase.PREPARED) as pair:
        meter = MeterConfig(packet_in_meter(THERE.zone), 1, 10, packets=True)
        pair.real.limit(meter)
        for kind in (rarp(), ARRIVED.arp(BYSTANDER.ip)):
            before = pair.real.exceeded(meter.id)
            out = [port for port, _ in pair.real.receive_many([kind] * 90, THERE.ofport, 180)]
            assert out.count(UPLINK) == 90, "each goes on, there and to the bystander"
            assert pair.real.exceeded(meter.id) - before > 70
