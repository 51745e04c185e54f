"""Metadata and DNS over TCP: from a VM to the relay of its node, under its carrier address, and back."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from flows.compile import compile_node
from flows.fabric import Fabric, Journey
from flows.ir import Output
from flows.model import AddressPair, Binding, GatewayMode, Migration, MigrationPhase, NetworkChange, PortChange
from flows.packet import Packet, packet
from flows.pipeline import GATEWAY_MAC, METADATA_ADDRESS, RESOLVER_ADDRESS, SERVICE_MAC, SERVICE_OFPORT, carrier_address
from flows.protocols import ETH_ARP, ETH_IP, PROTO_TCP, PROTO_UDP
from flows.rules import Rule
from flows.simulate import Drop, Reason
from tests.simulate.cloud import BLUE2_1, BLUE_1, BLUE_2, BROADCAST, FLAT_1, RED_1, VMS, Vm, fabric, ip, send, vm, world
from tests.world import filtered, security_group

OWN_GATEWAY, OTHER_GATEWAY = ip("10.20.0.1"), ip("10.20.0.2")
NOTHING_ALLOWED = security_group(7)


def tcp(sender: Vm, to: int, port: int, mac: int = GATEWAY_MAC, **fields: int) -> Packet:
    return packet(
        **{"eth_src": sender.mac, "eth_dst": mac, "eth_type": ETH_IP, "ip_proto": PROTO_TCP}
        | {"ip_src": sender.ip, "ip_dst": to, "tcp_src": 4000, "tcp_dst": port}
        | fields
    )


def metadata(sender: Vm, **fields: int) -> Packet:
    return tcp(sender, METADATA_ADDRESS, 80, **fields)


def heard(sender: Vm, journey: Journey) -> Packet:
    """What the relay of the sender's node sees."""
    (delivery,) = journey.delivered
    assert (delivery.node, delivery.ofport, journey.wire) == (sender.node, SERVICE_OFPORT, ())
    assert delivery.packet["eth_dst"] == SERVICE_MAC
    return delivery.packet


def answered(node: str, seen: Packet, through: Fabric, **fields: int) -> Journey:
    back = {"eth_src": SERVICE_MAC, "eth_dst": SERVICE_MAC, "ip_src": seen["ip_dst"], "ip_dst": seen["ip_src"]}
    ports = {"tcp_src": seen["tcp_dst"], "tcp_dst": seen["tcp_src"]}
    return through.send(node, SERVICE_OFPORT, seen.but(**back | ports | fields))


def dropped(journey: Journey) -> Drop | None:
    assert (journey.delivered, journey.wire, journey.punts) == ((), (), ())
    return journey.hops[-1].result.drop


def there_and_back(sender: Vm, sent: Packet, through: Fabric) -> Fabric:
    journey = send(sender, sent, through)
    seen = heard(sender, journey)
    assert (seen["ip_src"], seen["ip_dst"]) == (carrier_address(sender.key), sent["ip_dst"])
    back = answered(sender.node, seen, journey.after)
    (delivery,) = back.delivered
    assert (delivery.node, delivery.ofport) == (sender.node, sender.ofport)
    it = delivery.packet
    assert (it["eth_src"], it["eth_dst"], it["ip_dst"]) == (GATEWAY_MAC, sender.mac, sent["ip_src"])
    assert (it["ip_src"], it["tcp_src"], it["tcp_dst"]) == (sent["ip_dst"], sent["tcp_dst"], sent["tcp_src"])
    return back.after


@pytest.mark.parametrize("sender", VMS, ids=lambda one: f"port-{one.key}")
def test_metadata_under_the_ports_own_carrier_address_and_back(sender: Vm) -> None:
    there_and_back(sender, metadata(sender), fabric())


def test_one_address_in_two_projects_is_two_vms() -> None:
    assert (BLUE_1.ip, BLUE_1.node) == (RED_1.ip, RED_1.node)
    through = there_and_back(BLUE_1, metadata(BLUE_1), fabric())
    there_and_back(RED_1, metadata(RED_1), through)


@pytest.mark.parametrize("gateway", [OWN_GATEWAY, OTHER_GATEWAY, ip("10.21.0.1")])
def test_dns_over_tcp_to_any_gateway_of_the_router(gateway: int) -> None:
    there_and_back(BLUE_1, tcp(BLUE_1, gateway, 53), fabric())


@pytest.mark.parametrize("mode", [GatewayMode.NONE, GatewayMode.EXTERNAL])
def test_a_network_that_is_not_routed_here_has_metadata_whatever_mac_it_is_sent_to(mode: GatewayMode) -> None:
    network = replace(world().networks["net-blue"], gateway_mode=mode)
    through = Fabric.of(world().apply(2, [NetworkChange(network.id, network)]))
    for mac in (GATEWAY_MAC, 0x0200000000FE):
        through = there_and_back(BLUE_1, metadata(BLUE_1, mac=mac), through)
        through = there_and_back(BLUE_1, tcp(BLUE_1, RESOLVER_ADDRESS, 53, mac, tcp_src=4001), through)


def test_a_guest_that_has_it_on_link_is_answered_by_arp() -> None:
    (answer,) = send(BLUE_1, BLUE_1.arp(METADATA_ADDRESS)).hops[0].result.answers
    assert (answer["arp_op"], answer["arp_spa"], answer["arp_sha"]) == (2, METADATA_ADDRESS, GATEWAY_MAC)
    assert answer["eth_dst"] == BLUE_1.mac
    announced = packet(
        **{"eth_src": BLUE_1.mac, "eth_dst": BROADCAST, "eth_type": ETH_ARP, "arp_op": 1},
        **{"arp_sha": BLUE_1.mac, "arp_spa": METADATA_ADDRESS, "arp_tpa": METADATA_ADDRESS},
    )
    assert dropped(send(BLUE_1, announced)) == Drop(Rule.DROP_SPOOFED, BLUE_1.key, Reason.RULE)


def test_security_groups_have_no_say_in_it() -> None:
    through = Fabric.of(filtered(world(), NOTHING_ALLOWED))
    there_and_back(BLUE_1, tcp(BLUE_1, OWN_GATEWAY, 53), there_and_back(BLUE_1, metadata(BLUE_1), through))


@pytest.mark.parametrize("fields", [{"ip_src": BLUE_2.ip}, {"eth_src": RED_1.mac}, {"ip_src": carrier_address(41)}])
def test_under_anothers_address_it_gets_nothing(fields: dict[str, int]) -> None:
    drop = dropped(send(BLUE_1, metadata(BLUE_1, **fields)))
    assert drop == Drop(Rule.DROP_SPOOFED, BLUE_1.key, Reason.RULE)


def test_an_address_that_is_anothers_carrier_is_translated_all_the_same() -> None:
    """A network may have any range, that of the carrier addresses too."""
    port = world().ports["port-20"]
    theirs = carrier_address(RED_1.key)
    paired = replace(port, address_pairs=(AddressPair(IPv4Network(theirs), port.mac),))
    through = Fabric.of(world().apply(2, [PortChange(port.id, paired)]))
    there_and_back(BLUE_1, metadata(BLUE_1, ip_src=theirs), through)


@pytest.mark.parametrize(
    "fields",
    [{"tcp_dst": 443}, {"tcp_dst": 53}, {"ip_frag": 1, "tcp_src": 0, "tcp_dst": 0}, {"ip_proto": PROTO_UDP}],
)
def test_nothing_else_is_there(fields: dict[str, int]) -> None:
    is_udp = fields.get("ip_proto") == PROTO_UDP
    sent = BLUE_1.udp(METADATA_ADDRESS, port=80) if is_udp else metadata(BLUE_1).but(**fields)
    assert dropped(send(BLUE_1, sent)) == Drop(Rule.DROP_METADATA, 0, Reason.RULE)


@pytest.mark.parametrize("port", [80, 22, 0])
def test_a_gateway_has_nothing_else_either(port: int) -> None:
    drop = dropped(send(BLUE_1, tcp(BLUE_1, OWN_GATEWAY, port)))
    assert drop is not None and drop.rule is Rule.DROP_GATEWAY


def test_only_what_is_translated_gets_to_the_relay() -> None:
    """Conntrack leaves as it is what it finds invalid, and what it has no room for."""
    flows = compile_node(world(), "n1").flows()
    towards = [each for each in flows if Output(SERVICE_OFPORT) in each.actions]
    sources = {(match["reg6"], match["ip_src"]) for match in ({n: v for n, v, _ in each.match} for each in towards)}
    local = {sender.key for sender in VMS if sender.node == "n1"}
    assert sources == {(key, carrier_address(key)) for key in local} and len(towards) == len(local)


def test_the_relay_begins_nothing() -> None:
    seen = heard(BLUE_1, send(BLUE_1, metadata(BLUE_1)))
    unasked = answered("n1", seen, fabric())
    assert dropped(unasked) == Drop(Rule.DROP_SERVICE_UNASKED, 0, Reason.RULE)
    elsewhere = answered("n1", seen, fabric(), ip_dst=carrier_address(BLUE_2.key))
    assert dropped(elsewhere) == Drop(Rule.DROP_SERVICE, 0, Reason.RULE)


def test_an_address_pair_with_a_mac_of_its_own_is_answered_there() -> None:
    port, virtual, mac = world().ports["port-20"], "10.20.0.200", "00:00:5e:00:01:07"
    paired = replace(port, address_pairs=(AddressPair(IPv4Network(virtual), mac),))
    through = Fabric.of(world().apply(2, [PortChange(port.id, paired)]))
    journey = send(BLUE_1, metadata(BLUE_1, ip_src=ip(virtual), eth_src=0x00005E000107), through)
    (delivery,) = answered("n1", heard(BLUE_1, journey), journey.after).delivered
    assert (delivery.packet["eth_dst"], delivery.packet["ip_dst"]) == (0x00005E000107, ip(virtual))


def test_a_vm_that_has_arrived_asks_where_it_is() -> None:
    port = world().ports["port-20"]
    moving = replace(port, migration=Migration(MigrationPhase.PREPARED, Binding("n2", 777, 99)))
    through = Fabric.of(world().apply(2, [PortChange(port.id, moving)]))
    arrived = replace(vm(20), node="n2", ofport=777)
    asked = through.send("n2", 777, metadata(arrived))
    seen = [one.packet for one in asked.delivered if one.ofport == SERVICE_OFPORT]
    assert [one["ip_src"] for one in seen] == [carrier_address(20)]
    (delivery,) = answered("n2", seen[0], asked.after).delivered
    assert (delivery.node, delivery.ofport) == ("n2", 777)


def test_who_has_left_is_not_served_any_more() -> None:
    port = world().ports["port-20"]
    moved = replace(port, binding=Binding("n2", 777, 99), migration=Migration(MigrationPhase.MOVED, port.bindings[0]))
    through = Fabric.of(world().apply(2, [PortChange(port.id, moved)]))
    assert dropped(send(BLUE_1, metadata(BLUE_1), through)) == Drop(Rule.DROP_UNCLASSIFIED, 0, Reason.RULE)
    assert heard(FLAT_1, send(FLAT_1, metadata(FLAT_1), through)) and heard(BLUE2_1, send(BLUE2_1, metadata(BLUE2_1)))
