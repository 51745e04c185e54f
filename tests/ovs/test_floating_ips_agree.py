"""Floating IPs, forwarded ports and next hops: the simulator and a real Open vSwitch do the same with every frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from flows.compile import compile_node
from flows.model import FloatingIpChange, GatewayMode, NetworkChange, StaticRoute
from flows.packet import Packet, packet
from flows.pipeline import node_mac
from flows.protocols import ETH_ARP, ETH_IP, PROTO_ICMP
from flows.snapshot import Snapshot
from tests.ovs.pair import NODE, OFPORTS, Pair
from tests.ovs.real_switch import RealSwitch
from tests.simulate.cloud import (
    BLUE2_1,
    BLUE_1,
    BROADCAST,
    EXTERNAL_UPLINK,
    FLAT_1,
    NEXT_HOP,
    RED_1,
    SERVER,
    Vm,
    ip,
    reply_to,
)
from tests.simulate.test_floating_ips import FLOATING, SHARED, forwarded_ports, with_floating_ips

DMZ = ip("192.0.2.99")
NEIGHBOUR, NEIGHBOUR_MAC = ip("203.0.113.50"), 0x020000000050


def everything() -> Snapshot:
    """Also forwardings to this node and another, a route behind a VM, an exempt range, a smaller MTU outside."""
    base = with_floating_ips(forwarded_ports())
    flat, external = base.networks["net-flat"], base.networks["net-external"]
    routes = (StaticRoute(IPv4Network("10.99.0.0/16"), base.ports[f"port-{FLAT_1.key}"].fixed_ips[0].address),)
    changed = replace(flat, routes=routes, snat_exempt=(IPv4Network("192.0.2.0/24"),))
    return base.apply(3, [NetworkChange(flat.id, changed), NetworkChange(external.id, replace(external, mtu=1400))])


@pytest.fixture
def pair() -> Iterator[Pair]:
    snapshot = everything()
    program = compile_node(snapshot, NODE)
    assert not program.failures
    with RealSwitch.running(OFPORTS, program.flows()) as switch:
        yield Pair(switch, snapshot)


def came_in(target: int, port: int = 7, **fields: int) -> Packet:
    known = {"eth_src": NEXT_HOP, "eth_dst": node_mac(1), "eth_type": ETH_IP, "ip_proto": 17}
    return packet(**known | {"ip_src": SERVER, "ip_dst": target, "udp_src": 4000, "udp_dst": port} | fields)


def arp(**fields: int) -> Packet:
    return packet(**{"eth_src": NEXT_HOP, "eth_dst": BROADCAST, "eth_type": ETH_ARP, "arp_op": 1} | fields)


@pytest.mark.parametrize("owner", [BLUE_1, RED_1])
def test_in_and_back_out(pair: Pair, owner: Vm) -> None:
    _, ((port, seen),) = pair.receive(came_in(FLOATING[owner]), EXTERNAL_UPLINK)
    assert (port, seen["ip_dst"]) == (owner.ofport, owner.ip)
    _, ((port, seen),) = pair.receive(reply_to(seen), owner.ofport)
    assert (port, seen["ip_src"]) == (EXTERNAL_UPLINK, FLOATING[owner])


@pytest.mark.parametrize("owner", [BLUE_1, RED_1])
def test_out_and_back_in(pair: Pair, owner: Vm) -> None:
    for sent in (owner.udp(SERVER), owner.echo(SERVER)):
        _, ((port, seen),) = pair.receive(sent, owner.ofport)
        assert (port, seen["ip_src"]) == (EXTERNAL_UPLINK, FLOATING[owner])
        _, ((port, seen),) = pair.receive(reply_to(seen), EXTERNAL_UPLINK)
        assert (port, seen["ip_dst"]) == (owner.ofport, owner.ip)


@pytest.mark.parametrize(
    ("client", "kind"), [(BLUE_1, "udp"), (RED_1, "udp"), *((vm, "echo") for vm in (BLUE_1, BLUE2_1, RED_1, FLAT_1))]
)
@pytest.mark.parametrize("owner", [BLUE_1, RED_1])
def test_round_to_a_floating_ip_of_the_same_node(pair: Pair, client: Vm, owner: Vm, kind: str) -> None:
    address = FLOATING[owner]
    sent = client.udp(address) if kind == "udp" else client.echo(address)
    _, ((port, seen),) = pair.receive(sent, client.ofport)
    assert (port, seen["ip_dst"]) == (owner.ofport, owner.ip)
    if client in FLOATING:
        assert seen["ip_src"] == FLOATING[client]
    _, ((port, seen),) = pair.receive(reply_to(seen), owner.ofport)
    assert (port, seen["ip_src"], seen["ip_dst"]) == (client.ofport, address, client.ip)


def test_icmp_errors(pair: Pair) -> None:
    _, ((_, seen),) = pair.receive(BLUE_1.udp(SERVER), BLUE_1.ofport)
    outer = {"eth_type": ETH_IP, "ip_proto": PROTO_ICMP, "icmp_type": 3, "icmp_code": 4, "ip_src": ip("192.0.2.1")}
    known = {"eth_src": NEXT_HOP, "eth_dst": node_mac(1), "ip_dst": FLOATING[BLUE_1]}
    _, ((port, came),) = pair.receive(packet(seen, **outer | known), EXTERNAL_UPLINK)
    assert port == BLUE_1.ofport and came.inner is not None and came.inner["ip_src"] == BLUE_1.ip
    _, ((_, asked),) = pair.receive(came_in(FLOATING[BLUE_1], 9), EXTERNAL_UPLINK)
    known = {"eth_src": BLUE_1.mac, "eth_dst": asked["eth_src"], "ip_dst": SERVER, "ip_src": BLUE_1.ip}
    _, ((port, left),) = pair.receive(packet(asked, **outer | known), BLUE_1.ofport)
    assert (port, left["ip_src"]) == (EXTERNAL_UPLINK, FLOATING[BLUE_1])
    assert left.inner is not None and left.inner["ip_dst"] == FLOATING[BLUE_1]
    wrong = packet(asked.but(udp_dst=5), **outer | known)
    assert pair.receive(wrong, BLUE_1.ofport)[1] == []


def test_forwarded_ports(pair: Pair) -> None:
    for asked, owner, inside in ((2201, BLUE_1, 22), (5042, FLAT_1, 5042)):
        _, ((port, seen),) = pair.receive(came_in(SHARED, asked), EXTERNAL_UPLINK)
        assert (port, seen["ip_dst"], seen["udp_dst"]) == (owner.ofport, owner.ip, inside)
        _, ((port, left),) = pair.receive(reply_to(seen), owner.ofport)
        assert (port, left["ip_src"], left["udp_src"]) == (EXTERNAL_UPLINK, SHARED, asked)
    _, ((port, handed),) = pair.receive(came_in(SHARED, 2202), EXTERNAL_UPLINK)
    assert (port, handed["eth_dst"], handed["ip_dst"]) == (EXTERNAL_UPLINK, node_mac(2), SHARED)
    assert pair.receive(came_in(SHARED, 2203), EXTERNAL_UPLINK)[1] == []
    _, ((port, seen),) = pair.receive(RED_1.udp(SHARED, port=2201), RED_1.ofport)
    assert (port, seen["ip_src"], seen["udp_dst"]) == (BLUE_1.ofport, FLOATING[RED_1], 22)
    pair.receive(RED_1.udp(SHARED, port=2202), RED_1.ofport)


def test_an_icmp_error_about_a_forwarded_port(pair: Pair) -> None:
    _, ((_, seen),) = pair.receive(came_in(SHARED, 5001), EXTERNAL_UPLINK)
    _, ((_, left),) = pair.receive(reply_to(seen), FLAT_1.ofport)
    outer = {"eth_type": ETH_IP, "ip_proto": PROTO_ICMP, "icmp_type": 11, "ip_src": ip("192.0.2.1"), "ip_dst": SHARED}
    error = packet(left, **outer, eth_src=NEXT_HOP, eth_dst=node_mac(1))
    _, seen_at = pair.receive(error, EXTERNAL_UPLINK)
    assert sorted(port for port, _ in seen_at) == sorted([FLAT_1.ofport, EXTERNAL_UPLINK])


def test_arp_for_a_floating_ip(pair: Pair) -> None:
    for address, answered in ((FLOATING[BLUE_1], True), (SHARED, True), (ip("203.0.113.102"), False)):
        _, seen = pair.receive(arp(arp_sha=NEXT_HOP, arp_spa=ip("203.0.113.1"), arp_tpa=address), EXTERNAL_UPLINK)
        assert [(one["arp_sha"], one["arp_spa"]) for _, one in seen] == [(node_mac(1), address)] * answered


def test_neighbours_are_learned(pair: Pair) -> None:
    sent = BLUE2_1.udp(NEIGHBOUR)
    result, ((_, first),) = pair.receive(sent, BLUE2_1.ofport)
    assert first["eth_dst"] == NEXT_HOP and len(result.punts) == 1
    result, ((_, again),) = pair.receive(sent, BLUE2_1.ofport)
    assert again["eth_dst"] == NEXT_HOP and not result.punts
    claim = arp(eth_src=NEIGHBOUR_MAC, arp_op=2, arp_sha=NEIGHBOUR_MAC, arp_spa=NEIGHBOUR, arp_tpa=SERVER)
    pair.receive(claim, EXTERNAL_UPLINK)
    _, ((_, direct),) = pair.receive(sent, BLUE2_1.ofport)
    assert direct["eth_dst"] == NEIGHBOUR_MAC


def test_exempt_ranges(pair: Pair) -> None:
    _, ((port, seen),) = pair.receive(FLAT_1.udp(DMZ), FLAT_1.ofport)
    assert (port, seen["ip_src"], seen["eth_dst"]) == (EXTERNAL_UPLINK, FLAT_1.ip, NEXT_HOP)
    _, ((port, _),) = pair.receive(came_in(FLAT_1.ip, ip_src=DMZ), EXTERNAL_UPLINK)
    assert port == FLAT_1.ofport
    assert pair.receive(came_in(FLAT_1.ip), EXTERNAL_UPLINK)[1] == []


def test_what_is_behind_a_static_route(pair: Pair) -> None:
    behind = ip("10.99.1.2")
    _, ((port, seen),) = pair.receive(FLAT_1.echo(SERVER, ip_src=behind), FLAT_1.ofport)
    assert (port, seen["ip_src"]) == (EXTERNAL_UPLINK, ip("203.0.113.11"))
    _, ((port, back),) = pair.receive(reply_to(seen), EXTERNAL_UPLINK)
    assert (port, back["ip_dst"], back["eth_dst"]) == (FLAT_1.ofport, behind, FLAT_1.mac)


@pytest.mark.parametrize("size", [1200, 1413, 1414, 1415, 1514])
def test_what_is_too_large_for_the_outside_goes_to_the_controller(pair: Pair, size: int) -> None:
    result, seen = pair.receive(BLUE_1.udp(SERVER, size=size), BLUE_1.ofport)
    assert (len(seen), [punt.key for punt in result.punts]) == ((1, []) if size <= 1414 else (0, [2]))


@pytest.fixture
def lifted() -> Iterator[Pair]:
    """A router of the operator's is blue's gateway; one range is forced."""
    base = everything()
    blue = base.networks["net-blue"]
    forced = (IPv4Network("192.0.2.0/24"),)
    changed = replace(blue, gateway_mode=GatewayMode.EXTERNAL, force_snat=forced)
    snapshot = base.apply(4, [NetworkChange(blue.id, changed)])
    with RealSwitch.running(OFPORTS, compile_node(snapshot, NODE).flows()) as switch:
        yield Pair(switch, snapshot)


def test_with_a_router_of_the_operators(lifted: Pair) -> None:
    router = 0x020000000077
    _, ((port, seen),) = lifted.receive(BLUE_1.udp(SERVER, router), BLUE_1.ofport)
    assert (port, seen["ip_src"]) == (EXTERNAL_UPLINK, FLOATING[BLUE_1])
    _, ((port, _),) = lifted.receive(reply_to(seen), EXTERNAL_UPLINK)
    assert port == BLUE_1.ofport


def test_without_its_floating_ip_only_the_forced_range_is_lifted(lifted: Pair) -> None:
    snapshot = everything()
    blue = snapshot.networks["net-blue"]
    changed = replace(blue, gateway_mode=GatewayMode.EXTERNAL, force_snat=(IPv4Network("192.0.2.0/24"),))
    bare = snapshot.apply(4, [NetworkChange(blue.id, changed), FloatingIpChange("floating-1", None)])
    router = 0x020000000077
    with RealSwitch.running(OFPORTS, compile_node(bare, NODE).flows()) as switch:
        pair = Pair(switch, bare)
        _, ((_, seen),) = pair.receive(BLUE_1.udp(SERVER, router), BLUE_1.ofport)
        assert (seen["ip_src"], seen["eth_dst"]) == (BLUE_1.ip, router)
        _, ((port, seen),) = pair.receive(BLUE_1.udp(DMZ, router), BLUE_1.ofport)
        assert (port, seen["ip_src"]) == (EXTERNAL_UPLINK, ip("203.0.113.11"))
