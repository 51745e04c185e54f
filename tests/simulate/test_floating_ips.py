"""Floating IPs and forwarded ports: in, out, round to itself, and between nodes."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from flows.compile import compile_node
from flows.fabric import Fabric, Journey
from flows.model import FloatingIp, FloatingIpChange, GatewayMode, NetworkChange, PortForwarding
from flows.packet import Packet, packet
from flows.pipeline import node_mac, teacher_mac
from flows.protocols import ETH_ARP, ETH_IP, PROTO_ICMP, PROTO_UDP
from flows.rules import Rule
from flows.snapshot import Snapshot
from tests.simulate.cloud import (
    BLUE_1,
    BLUE_2,
    BROADCAST,
    EXTERNAL_PHYSNET,
    FLAT_1,
    NEXT_HOP,
    RED_1,
    RED_2,
    SERVER,
    Vm,
    ip,
    reply_to,
    send,
    world,
)
from tests.world import floating_ip

SNAT = {"n1": ip("203.0.113.11"), "n2": ip("203.0.113.12")}
FLOATING = {BLUE_1: ip("203.0.113.101"), BLUE_2: ip("203.0.113.102"), RED_1: ip("203.0.113.103")}
OWNERS = list(FLOATING)


def with_floating_ips(*more: FloatingIp) -> Snapshot:
    made = [floating_ip(key, world().ports[f"port-{owner.key}"]) for key, owner in enumerate(OWNERS, start=1)]
    return world().apply(2, [FloatingIpChange(one.id, one) for one in (*made, *more)])


def cloud(*more: FloatingIp) -> Fabric:
    snapshot = with_floating_ips(*more)
    assert not any(compile_node(snapshot, name).failures for name in snapshot.nodes)
    return Fabric.of(snapshot)


def from_outside(target: int, port: int = 7, **fields: int) -> Packet:
    known = {"eth_src": NEXT_HOP, "eth_dst": node_mac(1), "eth_type": ETH_IP, "ip_proto": PROTO_UDP}
    return packet(**known | {"ip_src": SERVER, "ip_dst": target, "udp_src": 4000, "udp_dst": port} | fields)


def enters(through: Fabric, sent: Packet, node: str) -> Journey:
    return through.send_from_outside(EXTERNAL_PHYSNET, sent.but(eth_dst=node_mac(int(node[1:]))))


def delivered(journey: Journey, to: Vm) -> Packet:
    (one,) = journey.delivered
    assert (one.node, one.ofport, one.packet["eth_dst"]) == (to.node, to.ofport, to.mac)
    return one.packet


@pytest.mark.parametrize("owner", OWNERS)
def test_in_and_back_out(owner: Vm) -> None:
    journey = enters(cloud(), from_outside(FLOATING[owner]), owner.node)
    came = delivered(journey, owner)
    assert (came["ip_src"], came["ip_dst"], came["udp_dst"]) == (SERVER, owner.ip, 7)
    back = send(owner, reply_to(came), journey.after)
    (frame,) = back.heard
    assert (frame.packet["ip_src"], frame.packet["ip_dst"]) == (FLOATING[owner], SERVER)


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize("protocol", ["udp", "echo", "esp"])
def test_out_and_back_in(owner: Vm, protocol: str) -> None:
    esp = {"eth_src": owner.mac, "eth_dst": owner.udp(SERVER)["eth_dst"], "eth_type": ETH_IP, "ip_proto": 50}
    sent = {
        "udp": owner.udp(SERVER),
        "echo": owner.echo(SERVER),
        "esp": packet(**esp, ip_src=owner.ip, ip_dst=SERVER),
    }[protocol]
    journey = send(owner, sent, cloud())
    (frame,) = journey.heard
    assert (frame.packet["ip_src"], frame.packet["eth_src"]) == (FLOATING[owner], node_mac(int(owner.node[1:])))
    came = delivered(enters(journey.after, reply_to(frame.packet), owner.node), owner)
    assert (came["ip_src"], came["ip_dst"]) == (SERVER, owner.ip)


def test_a_vm_without_one_leaves_as_before() -> None:
    (frame,) = send(FLAT_1, FLAT_1.udp(SERVER), cloud()).heard
    assert frame.packet["ip_src"] == SNAT["n1"]


def test_arp_is_answered_by_the_one_node_that_has_the_port() -> None:
    for owner, address in FLOATING.items():
        fields = {"eth_src": NEXT_HOP, "eth_dst": BROADCAST, "eth_type": ETH_ARP, "arp_op": 1, "arp_sha": NEXT_HOP}
        journey = cloud().send_from_outside(EXTERNAL_PHYSNET, packet(**fields, arp_tpa=address))
        assert [frame.packet["arp_sha"] for frame in journey.heard] == [node_mac(int(owner.node[1:]))]


def test_one_without_a_port_is_nowhere() -> None:
    journey = enters(cloud(floating_ip(9)), from_outside(ip("203.0.113.109")), "n1")
    assert journey.delivered == () and {hop.result.drop.rule for hop in journey.hops if hop.result.drop} == {
        Rule.DROP_EXTERNAL
    }


@pytest.mark.parametrize("client", [BLUE_1, RED_1, FLAT_1])
@pytest.mark.parametrize("owner", [BLUE_1, RED_1])
@pytest.mark.parametrize("protocol", ["udp", "echo"])
def test_on_one_node_the_server_sees_the_clients_address_outside(client: Vm, owner: Vm, protocol: str) -> None:
    address = FLOATING[owner]
    sent = client.udp(address) if protocol == "udp" else client.echo(address)
    journey = send(client, sent, cloud())
    came = delivered(journey, owner)
    assert (came["ip_src"], came["ip_dst"]) == (FLOATING.get(client, SNAT["n1"]), owner.ip)
    assert journey.wire == ()
    back = delivered(send(owner, reply_to(came), journey.after), client)
    assert (back["ip_src"], back["ip_dst"]) == (address, client.ip)


@pytest.mark.parametrize("client", [BLUE_1, RED_1, FLAT_1])
def test_to_one_of_another_node_over_the_wire(client: Vm) -> None:
    address = FLOATING[BLUE_2]
    told = {"eth_src": NEXT_HOP, "eth_dst": BROADCAST, "eth_type": ETH_ARP, "arp_op": 2, "arp_sha": node_mac(2)}
    through = cloud().send_from_outside(EXTERNAL_PHYSNET, packet(**told, arp_spa=address, arp_tpa=address)).after
    journey = send(client, client.udp(address), through)
    came = delivered(journey, BLUE_2)
    assert (came["ip_src"], came["ip_dst"]) == (FLOATING.get(client, SNAT["n1"]), BLUE_2.ip)
    back = send(BLUE_2, reply_to(came), journey.after)
    # its node has heard where the client's address is
    assert delivered(back, client)["ip_src"] == address
    assert [frame.packet["eth_dst"] for frame in back.wire] == [node_mac(1)]


def test_icmp_errors_are_translated_both_ways() -> None:
    journey = send(BLUE_1, BLUE_1.udp(SERVER), cloud())
    seen = journey.heard[0].packet
    outer = {"eth_src": NEXT_HOP, "eth_dst": node_mac(1), "eth_type": ETH_IP, "ip_proto": PROTO_ICMP}
    error = packet(seen, **outer, ip_src=ip("192.0.2.1"), ip_dst=seen["ip_src"], icmp_type=3, icmp_code=4)
    came = delivered(journey.after.send_from_outside(EXTERNAL_PHYSNET, error), BLUE_1)
    assert came.inner is not None and (came.inner["ip_src"], came["ip_dst"]) == (BLUE_1.ip, BLUE_1.ip)

    journey = enters(cloud(), from_outside(FLOATING[BLUE_1], 9), "n1")
    asked = delivered(journey, BLUE_1)
    outer = {"eth_src": BLUE_1.mac, "eth_dst": asked["eth_src"], "eth_type": ETH_IP, "ip_proto": PROTO_ICMP}
    refused = packet(asked, **outer, ip_src=BLUE_1.ip, ip_dst=SERVER, icmp_type=3, icmp_code=3)
    (frame,) = send(BLUE_1, refused, journey.after).heard
    assert frame.packet["ip_src"] == FLOATING[BLUE_1]
    assert frame.packet.inner is not None and frame.packet.inner["ip_dst"] == FLOATING[BLUE_1]


def test_two_addresses_of_one_port_both_work_inwards() -> None:
    second = floating_ip(8, world().ports[f"port-{BLUE_1.key}"])
    journey = enters(cloud(second), from_outside(int(second.address)), "n1")
    came = delivered(journey, BLUE_1)
    (frame,) = send(BLUE_1, reply_to(came), journey.after).heard
    assert frame.packet["ip_src"] == int(second.address)
    (frame,) = send(BLUE_1, BLUE_1.udp(SERVER), journey.after).heard
    assert frame.packet["ip_src"] == FLOATING[BLUE_1]


@pytest.mark.parametrize("forced", [False, True])
def test_with_a_router_of_the_operators_the_nodes_take_only_what_they_translate(forced: bool) -> None:
    base = with_floating_ips()
    blue = base.networks["net-blue"]
    router = 0x020000000077
    exempt = replace(blue, gateway_mode=GatewayMode.EXTERNAL, force_snat=() if not forced else _RANGE)
    floating = floating_ip(1, base.ports[f"port-{BLUE_1.key}"])
    bare = base.apply(3, [NetworkChange(blue.id, exempt), FloatingIpChange(floating.id, None)])
    sent = BLUE_1.udp(SERVER, router)
    (frame,) = send(BLUE_1, sent, Fabric.of(bare)).wire
    if forced:
        assert (frame.physical_network, frame.packet["ip_src"]) == (EXTERNAL_PHYSNET, SNAT["n1"])
    else:
        assert (frame.packet["eth_dst"], frame.packet["ip_src"]) == (router, BLUE_1.ip)
    owned = Fabric.of(bare.apply(4, [FloatingIpChange(floating.id, floating)]))
    journey = send(BLUE_1, sent, owned)
    (frame,) = journey.wire
    assert (frame.physical_network, frame.packet["ip_src"]) == (EXTERNAL_PHYSNET, FLOATING[BLUE_1])
    assert delivered(enters(journey.after, reply_to(frame.packet), "n1"), BLUE_1)["ip_src"] == SERVER
    (within,) = send(BLUE_1, BLUE_1.udp(BLUE_2.ip, BLUE_2.mac), owned).delivered
    assert within.packet["ip_src"] == BLUE_1.ip


_RANGE = (IPv4Network("198.51.100.0/24"),)


SHARED = ip("203.0.113.120")


def forwarding(key: int, owner: Vm, first: int, to: int, last: int | None = None) -> PortForwarding:
    port = world().ports[f"port-{owner.key}"]
    return PortForwarding(
        f"forwarding-{key}", key, PROTO_UDP, first, last or first, port.id, port.fixed_ips[0].address, to
    )


def forwarded_ports() -> FloatingIp:
    return replace(
        floating_ip(20),
        port_forwardings=(
            forwarding(1, BLUE_1, 2201, 22),
            forwarding(2, RED_2, 2202, 22),
            forwarding(3, FLAT_1, 5000, 5000, 5099),
        ),
    )


def forwarded() -> Fabric:
    return cloud(forwarded_ports())


@pytest.mark.parametrize(
    ("asked", "owner", "inside"), [(2201, BLUE_1, 22), (2202, RED_2, 22), (5042, FLAT_1, 5042), (5099, FLAT_1, 5099)]
)
def test_ports_are_forwarded_and_replies_leave_directly(asked: int, owner: Vm, inside: int) -> None:
    journey = enters(forwarded(), from_outside(SHARED, asked), "n1")  # n1 has the first of them, and so the address
    came = delivered(journey, owner)
    assert (came["ip_src"], came["ip_dst"], came["udp_dst"]) == (SERVER, owner.ip, inside)
    (frame,) = send(owner, reply_to(came), journey.after).heard
    assert (frame.packet["ip_src"], frame.packet["udp_src"]) == (SHARED, asked)
    assert frame.packet["eth_src"] == node_mac(int(owner.node[1:]))


@pytest.mark.parametrize("client", [BLUE_1, FLAT_1, BLUE_2, RED_2])
@pytest.mark.parametrize("asked", [2201, 2202, 5001])
def test_vms_reach_forwarded_ports_too(client: Vm, asked: int) -> None:
    through = forwarded()
    for node in (1, 2):
        told = {"eth_src": NEXT_HOP, "eth_dst": BROADCAST, "eth_type": ETH_ARP, "arp_op": 2}
        spoken = (SHARED, SNAT["n1"]) if node == 1 else (SNAT["n2"], FLOATING[BLUE_2])
        for address in (*spoken, *((FLOATING[BLUE_1],) if node == 1 else ())):
            claim = packet(**told, arp_sha=node_mac(node), arp_spa=address, arp_tpa=address)
            through = through.send_from_outside(EXTERNAL_PHYSNET, claim).after
    owner = {2201: BLUE_1, 2202: RED_2, 5001: FLAT_1}[asked]
    journey = send(client, client.udp(SHARED, port=asked), through)
    came = delivered(journey, owner)
    back = delivered(send(owner, reply_to(came), journey.after), client)
    assert (back["ip_src"], back["udp_src"], back["ip_dst"]) == (SHARED, asked, client.ip)


def test_other_ports_of_it_are_closed() -> None:
    journey = enters(forwarded(), from_outside(SHARED, 2203), "n1")
    assert journey.delivered == () and journey.wire == ()


def test_an_icmp_error_finds_the_forwarded_port_on_whatever_node() -> None:
    for asked, owner in ((2201, BLUE_1), (2202, RED_2)):
        journey = enters(forwarded(), from_outside(SHARED, asked), "n1")
        back = send(owner, reply_to(delivered(journey, owner)), journey.after)
        seen = back.heard[0].packet
        outer = {"eth_src": NEXT_HOP, "eth_dst": node_mac(1), "eth_type": ETH_IP, "ip_proto": PROTO_ICMP}
        error = packet(seen, **outer, ip_src=ip("192.0.2.1"), ip_dst=SHARED, icmp_type=3, icmp_code=4)
        came = delivered(back.after.send_from_outside(EXTERNAL_PHYSNET, error), owner)
        assert came.inner is not None and (came.inner["ip_src"], came.inner["udp_src"]) == (owner.ip, 22)


def test_an_icmp_error_that_another_node_has_asked_about_is_not_asked_on() -> None:
    outer = {"eth_src": teacher_mac(2), "eth_dst": node_mac(1), "eth_type": ETH_IP, "ip_proto": PROTO_ICMP}
    error = packet(from_outside(SHARED), **outer, ip_src=ip("192.0.2.1"), ip_dst=SHARED, icmp_type=3, icmp_code=4)
    (hop,) = (one for one in forwarded().send_from_outside(EXTERNAL_PHYSNET, error).hops if one.node == "n1")
    assert any(step.rule is Rule.FORWARDING_ERROR for step in hop.result.steps)
    assert hop.result.outputs == ()


@pytest.mark.parametrize("source", ["0.0.0.1", "127.0.0.1", "169.254.169.254", "224.0.0.9", "255.255.255.255"])
def test_from_where_no_router_forwards_from(source: str) -> None:
    """A VM that answered would send it to its own loopback, to the metadata service, or to all."""
    journey = enters(cloud(), from_outside(FLOATING[BLUE_1], ip_src=ip(source)), "n1")
    named = [hop.result.drop.rule for hop in journey.hops if hop.node == "n1" and hop.result.drop is not None]
    assert (journey.delivered, named) == ((), [Rule.DROP_MARTIAN_SOURCE])
