"""Out to the external network behind the node's SNAT address, and back in."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from flows.fabric import Fabric, Journey
from flows.model import FloatingIpChange, NetworkChange, NodeChange, StaticRoute
from flows.packet import Packet, packet
from flows.pipeline import CtZone, nat_zone, node_mac
from flows.protocols import ETH_ARP, ETH_IP
from flows.rules import Rule, cookie
from flows.simulate import Drop, Reason
from tests.simulate.cloud import (
    BLUE_1,
    BROADCAST,
    EXTERNAL_PHYSNET,
    EXTERNAL_UPLINK,
    FLAT_1,
    NEXT_HOP,
    RED_1,
    SERVER,
    VMS,
    Vm,
    error_about,
    fabric,
    ip,
    reply_to,
    send,
    world,
)
from tests.world import floating_ip

SNAT = {"n1": ip("203.0.113.11"), "n2": ip("203.0.113.12")}
ROUTER = ip("203.0.113.1")


def out(sender: Vm, sent: Packet, through: Fabric | None = None) -> tuple[Packet, Journey]:
    """What the outside sees of a packet."""
    journey = send(sender, sent, through)
    assert journey.delivered == ()
    (frame,) = journey.heard
    assert frame.physical_network == EXTERNAL_PHYSNET
    return frame.packet, journey


def came_back(to: Vm, journey: Journey) -> Packet:
    (delivery,) = journey.delivered
    assert (delivery.node, delivery.ofport) == (to.node, to.ofport)
    assert delivery.packet["eth_dst"] == to.mac
    assert delivery.packet["ip_dst"] == to.ip
    return delivery.packet


@pytest.mark.parametrize("sender", VMS, ids=lambda one: f"port-{one.key}")
@pytest.mark.parametrize("kind", ["udp", "echo"])
def test_out_under_the_nodes_address_and_back_to_the_vm(sender: Vm, kind: str) -> None:
    sent = sender.udp(SERVER) if kind == "udp" else sender.echo(SERVER, id_=4000)
    seen, journey = out(sender, sent)
    assert seen["ip_src"] == SNAT[sender.node]
    assert (seen["eth_src"], seen["eth_dst"]) == (node_mac(int(sender.node[1:])), NEXT_HOP)
    assert (seen["ip_dst"], seen["nw_ttl"], seen["vlan_vid"]) == (SERVER, 63, 0)
    back = came_back(sender, journey.after.send_from_outside(EXTERNAL_PHYSNET, reply_to(seen)))
    assert (back["ip_src"], back["nw_ttl"]) == (SERVER, 63)
    assert back["udp_dst" if kind == "udp" else "icmp_id"] == 4000


@pytest.mark.parametrize("kind", ["udp", "echo"])
def test_two_vms_of_one_address_and_one_source_port_at_once(kind: str) -> None:
    assert (BLUE_1.ip, BLUE_1.node) == (RED_1.ip, RED_1.node)
    through = fabric()
    seen = {}
    for sender in (BLUE_1, RED_1, FLAT_1):
        sent = sender.udp(SERVER) if kind == "udp" else sender.echo(SERVER)
        seen[sender], journey = out(sender, sent, through)
        through = journey.after
    assert {one["ip_src"] for one in seen.values()} == {SNAT["n1"]}
    assert len(set(seen.values())) == 3
    for _ in range(2):
        for sender in (RED_1, FLAT_1, BLUE_1):
            journey = through.send_from_outside(EXTERNAL_PHYSNET, reply_to(seen[sender]))
            came_back(sender, journey)
            through = journey.after
    again, _ = out(RED_1, RED_1.udp(SERVER) if kind == "udp" else RED_1.echo(SERVER), through)
    assert again == seen[RED_1]


@pytest.mark.parametrize("sender", [BLUE_1, RED_1], ids=["plain", "carrier"])
def test_icmp_errors_find_the_vm_and_quote_its_own_packet(sender: Vm) -> None:
    sent = sender.udp(SERVER)
    seen, journey = out(sender, sent)
    back = came_back(sender, journey.after.send_from_outside(EXTERNAL_PHYSNET, error_about(seen)))
    assert (back["icmp_type"], back["ip_src"]) == (11, ip("192.0.2.1"))
    assert back.inner is not None
    assert {name: back.inner[name] for name in ("ip_src", "ip_dst", "udp_src", "udp_dst")} == {
        name: sent[name] for name in ("ip_src", "ip_dst", "udp_src", "udp_dst")
    }


def to_snat_address(**fields: int) -> Packet:
    known = {"eth_src": NEXT_HOP, "eth_dst": node_mac(1), "eth_type": ETH_IP, "ip_proto": 17}
    return packet(**known | {"ip_src": SERVER, "ip_dst": SNAT["n1"], "udp_src": 7, "udp_dst": 4000} | fields)


def test_unsolicited_packets_are_dropped_by_name() -> None:
    from_outside = fabric().send("n1", EXTERNAL_UPLINK, to_snat_address()).hops[0].result
    assert from_outside.drop == Drop(Rule.DROP_UNSOLICITED, 0, Reason.RULE)
    seen, journey = out(BLUE_1, BLUE_1.udp(SERVER))
    for wrong in (reply_to(seen).but(ip_src=SERVER + 1), reply_to(seen).but(udp_dst=seen["udp_src"] + 1)):
        result = journey.after.send("n1", EXTERNAL_UPLINK, wrong).hops[0].result
        assert result.drop == Drop(Rule.DROP_UNSOLICITED, 0, Reason.RULE)


def test_errors_about_nothing_are_invalid() -> None:
    about = error_about(to_snat_address(ip_src=SNAT["n1"], ip_dst=SERVER))
    result = fabric().send("n1", EXTERNAL_UPLINK, about.but(ip_dst=SNAT["n1"])).hops[0].result
    assert result.drop == Drop(Rule.DROP_INVALID, 0, Reason.RULE)


@pytest.mark.parametrize("target", [BLUE_1.ip, SNAT["n2"], ip("100.64.0.40"), ip("203.0.113.77")])
def test_addresses_that_are_not_this_nodes_do_not_come_in(target: int) -> None:
    result = fabric().send("n1", EXTERNAL_UPLINK, to_snat_address(ip_dst=target)).hops[0].result
    assert result.drop == Drop(Rule.DROP_EXTERNAL, 0, Reason.RULE)


def test_expired_replies_are_dropped_by_name() -> None:
    seen, journey = out(BLUE_1, BLUE_1.udp(SERVER))
    result = journey.after.send("n1", EXTERNAL_UPLINK, reply_to(seen).but(nw_ttl=1)).hops[0].result
    assert result.drop == Drop(Rule.DROP_TTL_EXPIRED, 0, Reason.RULE)


def test_arp_for_the_snat_address_is_answered_by_its_node_alone() -> None:
    ask = packet(
        eth_src=NEXT_HOP,
        eth_dst=BROADCAST,
        eth_type=ETH_ARP,
        arp_op=1,
        arp_sha=NEXT_HOP,
        arp_spa=ROUTER,
        arp_tpa=SNAT["n2"],
    )
    journey = fabric().send_from_outside(EXTERNAL_PHYSNET, ask)
    assert [frame.packet["arp_sha"] for frame in journey.heard] == [node_mac(2)]
    assert journey.heard[0].packet["eth_dst"] == NEXT_HOP
    assert {hop.result.drop for hop in journey.hops if hop.node != "n2"} == {Drop(Rule.DROP_EXTERNAL, 0, Reason.RULE)}


def test_the_next_hops_answer_goes_to_the_controller() -> None:
    answer = packet(
        eth_src=NEXT_HOP,
        eth_dst=node_mac(1),
        eth_type=ETH_ARP,
        arp_op=2,
        arp_sha=NEXT_HOP,
        arp_spa=ROUTER,
        arp_tpa=SNAT["n1"],
        arp_tha=node_mac(1),
    )
    (punt,) = fabric().send("n1", EXTERNAL_UPLINK, answer).hops[0].result.punts
    assert punt.cookie == cookie(Rule.PUNT_NEIGHBOUR, 9)


def test_the_ways_out_that_are_closed_have_names() -> None:
    own = send(BLUE_1, BLUE_1.udp(SNAT["n1"])).hops[0].result
    assert own.drop == Drop(Rule.DROP_UNSOLICITED, 0, Reason.RULE)
    n1 = world().nodes["n1"]
    bare = Fabric.of(world().apply(2, [NodeChange("n1", replace(n1, snat_addresses=()))]))
    drop = send(BLUE_1, BLUE_1.udp(SERVER), bare).hops[0].result.drop
    assert drop == Drop(Rule.DROP_NO_SNAT, 0, Reason.RULE)


def test_the_last_hop_to_the_outside_punts() -> None:
    ((_, punt),) = send(BLUE_1, BLUE_1.udp(SERVER, nw_ttl=1)).punts
    assert punt.cookie == cookie(Rule.PUNT_TTL_EXPIRED, 2)


def test_flushing_a_ports_zone_forgets_it_and_nothing_else() -> None:
    _, journey = out(RED_1, RED_1.udp(SERVER))
    conntrack = journey.after.states["n1"].conntrack
    zones = {zone for zone, _ in conntrack.entries}
    assert zones == {nat_zone(RED_1.key), CtZone.SNAT}
    assert {zone for zone, _ in conntrack.flush(nat_zone(RED_1.key)).entries} == {CtZone.SNAT}


@pytest.mark.parametrize("sender", [BLUE_1, RED_1], ids=["plain", "carrier"])
@pytest.mark.parametrize("icmp_type", [0, 3, 11])
def test_what_conntrack_finds_invalid_does_not_leave(sender: Vm, icmp_type: int) -> None:
    unasked = sender.echo(SERVER, icmp_type=icmp_type)
    assert send(sender, unasked).wire == ()


@pytest.mark.parametrize("second", [FLAT_1, RED_1], ids=["plain", "carrier"])
def test_what_conntrack_has_no_translation_for_does_not_leave(second: Vm) -> None:
    """Two VMs ping one server with one id: Open vSwitch's userspace conntrack cannot tell them apart."""
    _, journey = out(BLUE_1, BLUE_1.echo(SERVER), fabric(userspace=True))
    assert send(second, second.echo(SERVER), journey.after).wire == ()


def test_port_0_does_not_leave() -> None:
    assert send(BLUE_1, BLUE_1.udp(SERVER, source_port=0), fabric(userspace=True)).wire == ()


@pytest.mark.parametrize("posed", ["203.0.113.101", "203.0.113.11", "10.99.0.5"])
def test_an_exempt_range_sees_the_networks_own_addresses_and_none_that_a_route_lets_a_vm_send_from(posed: str) -> None:
    """Somebody's floating IP, the node's SNAT address, one from behind the route."""
    blue, next_hop = world().networks[BLUE_1.network], world().ports["port-20"].fixed_ips[0].address
    route = StaticRoute(IPv4Network(posed), next_hop)
    exempt = replace(blue, snat_exempt=(IPv4Network("198.51.100.0/25"),), routes=(route,))
    somebodys = floating_ip(1, world().ports[f"port-{RED_1.key}"])
    changed = world().apply(2, [NetworkChange(blue.id, exempt), FloatingIpChange(somebodys.id, somebodys)])
    through = Fabric.of(changed)
    assert out(BLUE_1, BLUE_1.udp(SERVER), through)[0]["ip_src"] == BLUE_1.ip
    seen, _ = out(BLUE_1, BLUE_1.udp(SERVER, ip_src=ip(posed)), through)
    assert seen["ip_src"] == SNAT["n1"] and seen["udp_src"] >= 1024
    step = [step.rule for step in send(BLUE_1, BLUE_1.udp(SERVER, ip_src=ip(posed)), through).hops[0].result.steps]
    assert Rule.CARRIER in step and Rule.EXEMPT not in step
