"""An address of pairs: routed to whoever holds it, also by a virtual MAC, and heard of where it is not held."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from flows.fabric import Delivery, Fabric
from flows.model import (
    AddressPair,
    Binding,
    FloatingIpChange,
    Migration,
    MigrationPhase,
    NetworkChange,
    OwnAddress,
    Port,
    PortChange,
    StaticRoute,
)
from flows.packet import Packet, packet
from flows.pipeline import GATEWAY_MAC, node_mac
from flows.protocols import ARP_REQUEST, ETH_ARP
from flows.rules import Rule, cookie
from flows.simulate import Drop, Reason
from flows.snapshot import Snapshot
from flows.view import mac_to_int
from tests.simulate.cloud import (
    BLUE2_1,
    BLUE2_2,
    BLUE_1,
    BLUE_2,
    BROADCAST,
    EXTERNAL_PHYSNET,
    NEXT_HOP,
    SERVER,
    Vm,
    ip,
    reply_to,
    send,
    world,
)
from tests.world import floating_ip, networks, port

VIP = IPv4Address("10.20.0.99")
VIRTUAL_MAC = "00:00:5e:00:01:07"
FLOATING = ip("203.0.113.101")


def shared(holder: Vm | None, mac: str | None = None, *more: Port, **changes: object) -> Fabric:
    return Fabric.of(sharing(holder, mac, *more, **changes))


def sharing(holder: Vm | None, mac: str | None = None, *more: Port, **changes: object) -> Snapshot:
    """The address may be used on n1 and n2, by the port's own MAC or another one."""
    ports = [world().ports[f"port-{one.key}"] for one in (BLUE_1, BLUE_2)]
    made = [_may_use(each, mac, holder is not None and each.key == holder.key) for each in ports]
    moved = [replace(each, **changes if each.key == BLUE_1.key else {}) for each in made]  # type: ignore[arg-type]
    snapshot = world().apply(2, [PortChange(each.id, each) for each in (*moved, *more)])
    if holder is not None:
        led = replace(floating_ip(1, snapshot.ports[f"port-{holder.key}"]), fixed_ip=VIP)
        snapshot = snapshot.apply(3, [FloatingIpChange(led.id, led)])
    return snapshot


def _may_use(port: Port, mac: str | None, holds: bool) -> Port:
    pair = AddressPair(IPv4Network(VIP), mac or port.mac)
    return replace(port, address_pairs=(pair,), held=(OwnAddress(VIP, pair.mac),) if holds else ())


def gratuitous(sender: Vm, mac: str | None = None) -> Packet:
    source = sender.mac if mac is None else mac_to_int(mac)
    fields = {"eth_src": source, "eth_dst": BROADCAST, "eth_type": ETH_ARP, "arp_op": ARP_REQUEST, "arp_sha": source}
    return packet(**fields, arp_spa=int(VIP), arp_tpa=int(VIP))


@pytest.mark.parametrize("mac", [None, VIRTUAL_MAC], ids=["own MAC", "virtual MAC"])
@pytest.mark.parametrize("holder", [BLUE_1, BLUE_2])
@pytest.mark.parametrize("client", [BLUE2_1, BLUE2_2])
def test_routed_to_the_holder_and_back(client: Vm, holder: Vm, mac: str | None) -> None:
    journey = send(client, client.udp(int(VIP)), shared(holder, mac))
    (came,) = journey.delivered
    assert (came.node, came.ofport) == (holder.node, holder.ofport)
    assert came.packet["eth_dst"] == (holder.mac if mac is None else mac_to_int(mac))
    back = send(holder, reply_to(came.packet), journey.after)
    (answered,) = back.delivered
    assert (answered.node, answered.ofport, answered.packet["ip_src"]) == (client.node, client.ofport, int(VIP))


def test_without_a_holder_nobody_gets_it() -> None:
    journey = send(BLUE2_1, BLUE2_1.udp(int(VIP)), shared(None))
    assert not journey.delivered


@pytest.mark.parametrize("holder", [BLUE_1, BLUE_2])
def test_its_floating_ip_leads_there_and_what_it_sends_leaves_by_it(holder: Vm) -> None:
    through = shared(holder)
    fields = {"eth_src": NEXT_HOP, "eth_dst": node_mac(int(holder.node[1:]))}
    asked = replace(BLUE2_1, ip=SERVER).udp(FLOATING).but(**fields)
    journey = through.send_from_outside(EXTERNAL_PHYSNET, asked)
    (came,) = journey.delivered
    assert (came.node, came.ofport, came.packet["ip_dst"]) == (holder.node, holder.ofport, int(VIP))
    (heard,) = send(holder, reply_to(came.packet), journey.after).heard
    assert heard.packet["ip_src"] == FLOATING
    (new,) = send(holder, holder.udp(SERVER, ip_src=int(VIP)), through).heard
    assert new.packet["ip_src"] == FLOATING
    (own,) = send(holder, holder.udp(SERVER), through).heard
    assert own.packet["ip_src"] != FLOATING


@pytest.mark.parametrize("mac", [None, VIRTUAL_MAC], ids=["own MAC", "virtual MAC"])
def test_who_does_not_hold_it_is_heard_and_switched_all_the_same(mac: str | None) -> None:
    journey = send(BLUE_2, gratuitous(BLUE_2, mac), shared(BLUE_1, mac))
    assert journey.delivered == (Delivery("n1", BLUE_1.ofport, gratuitous(BLUE_2, mac)),)
    ((node, punt),) = journey.punts
    assert (node, punt.cookie) == ("n2", cookie(Rule.PUNT_HOLDER, BLUE_2.key))


def test_who_holds_it_is_not_heard_of_again() -> None:
    journey = send(BLUE_1, gratuitous(BLUE_1), shared(BLUE_1))
    assert not journey.punts and [one.node for one in journey.delivered] == ["n2"]


def test_a_third_is_dropped() -> None:
    third = port(22, networks()[1], 12, "n1")
    claimant = replace(BLUE_1, key=third.key, ofport=122, mac=mac_to_int(third.mac))
    journey = send(claimant, gratuitous(claimant), shared(BLUE_1, None, third))
    (hop,) = journey.hops
    assert hop.result.drop == Drop(Rule.DROP_SPOOFED, third.key, Reason.RULE)


def test_the_gateway_answers_who_asks_from_it() -> None:
    asked = gratuitous(BLUE_2).but(arp_tpa=ip("10.20.0.2"))
    journey = send(BLUE_2, asked, shared(BLUE_1))
    (answered,) = journey.delivered
    assert answered.packet["arp_sha"] == GATEWAY_MAC and answered.packet["arp_tpa"] == int(VIP)
    assert len(journey.punts) == 1


@pytest.mark.parametrize("holder", [BLUE_1, BLUE_2])
def test_a_static_route_by_it_leads_to_the_holder(holder: Vm) -> None:
    """Which alone may send from what is behind it."""
    behind = ip("10.99.0.7")
    snapshot = sharing(holder)
    blue = replace(snapshot.networks["net-blue"], routes=(StaticRoute(IPv4Network("10.99.0.0/16"), VIP),))
    through = Fabric.of(snapshot.apply(9, [NetworkChange(blue.id, blue)]))
    (came,) = send(BLUE2_1, BLUE2_1.udp(behind), through).delivered
    assert (came.node, came.ofport, came.packet["eth_dst"]) == (holder.node, holder.ofport, holder.mac)
    for sender in (BLUE_1, BLUE_2):
        journey = send(sender, sender.udp(BLUE2_2.ip, ip_src=behind), through)
        assert bool(journey.delivered) == (sender is holder)


def test_while_its_vm_moves_both_nodes_know_it() -> None:
    """Where it has left, what still comes goes on to where it is."""
    there = Binding("n3", 520, 70)
    binding = world().ports["port-20"].binding
    assert binding is not None
    migration = Migration(MigrationPhase.MOVED, binding)
    through = shared(BLUE_1, binding=there, migration=migration)
    journey = send(BLUE2_1, BLUE2_1.udp(int(VIP)), through)
    assert [(one.node, one.ofport) for one in journey.delivered] == [("n3", 520)]


def test_the_vms_answer_for_it_even_where_the_switch_answers_for_all_ports() -> None:
    """It may move while there is no controller."""
    snapshot = world()
    responding = replace(snapshot.networks["net-blue"], arp_responder=True)
    ports = [_may_use(snapshot.ports[f"port-{one.key}"], None, one is BLUE_1) for one in (BLUE_1, BLUE_2)]
    reserving = port(23, responding, 99, None)
    changes = [NetworkChange(responding.id, responding), *(PortChange(one.id, one) for one in (*ports, reserving))]
    through = Fabric.of(snapshot.apply(2, changes))
    asked = gratuitous(BLUE_2).but(arp_spa=BLUE_2.ip)
    assert [one.node for one in send(BLUE_2, asked, through).delivered] == ["n1"]
    assert [one.node for one in send(BLUE_2, gratuitous(BLUE_2), through).delivered] == ["n1"]
