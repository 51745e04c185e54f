"""Gateway mode `single`: VMs leave by one node, whichever they are on, and nothing else of theirs does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from flows.compile import compile_node
from flows.fabric import Fabric, Journey
from flows.ir import Flow
from flows.model import Binding, FloatingIpChange, GatewayMode, NetworkChange, NodeChange, PortChange, Uplink
from flows.packet import Packet, packet
from flows.pipeline import GATEWAY_MAC, gateway_node_mac, node_mac
from flows.protocols import ETH_ARP, ETH_IP, PROTO_ICMP, PROTO_UDP
from flows.rules import Rule
from flows.snapshot import Snapshot
from tests.simulate.cloud import (
    BLUE2_1,
    BLUE2_2,
    BLUE_1,
    BLUE_2,
    BROADCAST,
    EXTERNAL_PHYSNET,
    PHYSNET,
    SERVER,
    UPLINK,
    Vm,
    error_about,
    ip,
    reply_to,
    send,
    world,
)
from tests.world import NODES, floating_ip, subnet

GATEWAY = ip("10.20.0.254")
SNAT = {f"n{key}": ip(f"203.0.113.{10 + key}") for key in (1, 2, 3)}
VLAN, BLUE_ROUTER = 102, 2
ETHERNET_HEADER = 14
MACHINE, MACHINE_IP = 0x020000000077, ip("10.20.0.77")


def single(gateway_node: str | None, base: Snapshot | None = None, **fields: object) -> Snapshot:
    """The world with blue in mode single."""
    snapshot = base or world()
    blue = replace(
        snapshot.networks[BLUE_1.network],
        gateway_mode=GatewayMode.SINGLE,
        gateway_node=gateway_node,
        subnets=(subnet("10.20.0.0/24", "10.20.0.254"),),
        **fields,  # type: ignore[arg-type]
    )
    return snapshot.apply(snapshot.revision + 1, [NetworkChange(blue.id, blue)])


def heard_outside(journey: Journey) -> Packet:
    """The one frame on the external network."""
    (frame,) = [frame for frame in journey.heard if frame.physical_network == EXTERNAL_PHYSNET]
    return frame.packet


def on_segment(journey: Journey) -> list[Packet]:
    return [frame.packet for frame in journey.wire if frame.physical_network == PHYSNET]


def reached(journey: Journey) -> Iterable[tuple[str, int]]:
    return [(delivery.node, delivery.ofport) for delivery in journey.delivered]


@pytest.mark.parametrize("gateway_node", NODES)
@pytest.mark.parametrize("sender", [BLUE_1, BLUE_2], ids=["on n1", "on n2"])
@pytest.mark.parametrize("kind", ["udp", "echo"])
def test_out_by_the_gateway_node_alone_and_back(gateway_node: str, sender: Vm, kind: str) -> None:
    through = Fabric.of(single(gateway_node))
    sent = sender.udp(SERVER) if kind == "udp" else sender.echo(SERVER, id_=4000)
    journey = send(sender, sent, through)
    assert journey.delivered == ()
    seen = heard_outside(journey)
    assert (seen["ip_src"], seen["eth_src"]) == (SNAT[gateway_node], node_mac(int(gateway_node[1:])))
    assert (seen["ip_dst"], seen["nw_ttl"]) == (SERVER, 63)
    between = on_segment(journey)
    if gateway_node == sender.node:
        assert not between
    else:
        (frame,) = between
        ends = node_mac(int(sender.node[1:])), gateway_node_mac(int(gateway_node[1:]))
        assert (frame["eth_src"], frame["eth_dst"], frame["vlan_vid"] & 0xFFF) == (*ends, VLAN)
    for _ in range(2):
        back = journey.after.send_from_outside(EXTERNAL_PHYSNET, reply_to(seen))
        (delivery,) = back.delivered
        assert (delivery.node, delivery.ofport) == (sender.node, sender.ofport)
        assert (delivery.packet["ip_src"], delivery.packet["ip_dst"]) == (SERVER, sender.ip)
        assert (delivery.packet["eth_src"], delivery.packet["eth_dst"]) == (GATEWAY_MAC, sender.mac)
        assert delivery.packet["nw_ttl"] == 63
        assert len(on_segment(back)) == len(between)
    told = journey.after.send_from_outside(EXTERNAL_PHYSNET, error_about(seen))
    assert [delivery.packet["icmp_type"] for delivery in told.delivered] == [11]


def test_an_answer_finds_a_vm_that_has_been_silent_and_teaches_where_it_is() -> None:
    through = Fabric.of(single("n3"))
    journey = send(BLUE_1, BLUE_1.udp(SERVER), through)
    state = journey.after.states["n3"]
    forgotten = replace(journey.after, states={**journey.after.states, "n3": replace(state, learned={})})
    back = forgotten.send_from_outside(EXTERNAL_PHYSNET, reply_to(heard_outside(journey)))
    assert reached(back) == [(BLUE_1.node, BLUE_1.ofport)]
    again = back.after.send_from_outside(EXTERNAL_PHYSNET, reply_to(heard_outside(journey)))
    assert reached(again) == [(BLUE_1.node, BLUE_1.ofport)]
    assert [frame["eth_src"] for frame in on_segment(again)] == [gateway_node_mac(3)]


def test_the_gateway_node_may_be_the_only_one_that_reaches_the_outside() -> None:
    base = world()
    inside = [
        NodeChange(name, replace(base.nodes[name], uplinks=(Uplink(PHYSNET, UPLINK),), snat_addresses=()))
        for name in ("n1", "n2")
    ]
    through = Fabric.of(single("n3", base.apply(2, inside)))
    journey = send(BLUE_1, BLUE_1.udp(SERVER), through)
    assert heard_outside(journey)["ip_src"] == SNAT["n3"]
    back = journey.after.send_from_outside(EXTERNAL_PHYSNET, reply_to(heard_outside(journey)))
    assert reached(back) == [(BLUE_1.node, BLUE_1.ofport)]


def test_network_and_outside_on_one_wire() -> None:
    """What came in by the uplink leaves by it."""
    base = world()
    external = replace(base.networks["net-external"], physical_network=PHYSNET, kind=base.networks["net-blue"].kind)
    external = replace(external, segment=300)
    through = Fabric.of(single("n2", base.apply(2, [NetworkChange(external.id, external)])))
    journey = send(BLUE_1, BLUE_1.udp(SERVER), through)
    seen = next(frame.packet for frame in journey.wire if frame.packet["vlan_vid"] & 0xFFF == 300)
    assert seen["ip_src"] == SNAT["n2"]
    back = journey.after.send_from_outside(PHYSNET, reply_to(seen))
    assert reached(back) == [(BLUE_1.node, BLUE_1.ofport)]


def test_the_gateway_itself_is_on_every_node() -> None:
    through = Fabric.of(single("n3"))
    for sender in (BLUE_1, BLUE_2):
        asked = send(sender, sender.arp(GATEWAY), through)
        assert [one.packet["arp_sha"] for one in asked.delivered] == [GATEWAY_MAC]
        assert not asked.wire
        echoed = send(sender, sender.echo(GATEWAY), through)
        assert [one.packet["icmp_type"] for one in echoed.delivered] == [0]
        assert not echoed.wire
        ((node, _),) = send(sender, sender.udp(SERVER, nw_ttl=1), through).punts
        assert node == sender.node


@pytest.mark.parametrize("sibling", [BLUE2_1, BLUE2_2], ids=["on n1", "on n2"])
def test_between_the_networks_of_a_router_nothing_goes_by_the_gateway_node(sibling: Vm) -> None:
    """One is single, the other has a gateway on each node."""
    through = Fabric.of(single("n3"))
    for sender, target in ((BLUE_1, sibling), (sibling, BLUE_1)):
        journey = send(sender, sender.udp(target.ip), through)
        assert reached(journey) == [(target.node, target.ofport)]
        out = gateway_node_mac(3)
        assert not [frame for frame in on_segment(journey) if out in (frame["eth_src"], frame["eth_dst"])]
        through = journey.after
    leaving = send(sibling, sibling.udp(SERVER), through)
    assert heard_outside(leaving)["ip_src"] == SNAT[sibling.node]


def _announced(through: Fabric, address: int, node: str) -> Fabric:
    mac = node_mac(int(node[1:]))
    claim = packet(
        eth_src=mac, eth_dst=BROADCAST, eth_type=ETH_ARP, arp_op=1, arp_sha=mac, arp_spa=address, arp_tpa=address
    )
    return through.send_from_outside(EXTERNAL_PHYSNET, claim).after


def test_a_floating_ip_stays_with_its_vm() -> None:
    base = world()
    own = floating_ip(1, base.ports[f"port-{BLUE_1.key}"])
    through = Fabric.of(single("n3", base.apply(2, [FloatingIpChange(own.id, own)])))
    journey = send(BLUE_1, BLUE_1.udp(SERVER), through)
    assert heard_outside(journey)["ip_src"] == int(own.address)
    assert {frame.node for frame in journey.wire} == {"n1"}
    inwards = packet(
        eth_src=0x0200000000FE,
        eth_dst=node_mac(1),
        eth_type=ETH_IP,
        ip_proto=PROTO_UDP,
        ip_src=SERVER,
        ip_dst=int(own.address),
        udp_src=5,
        udp_dst=6,
    )
    assert reached(through.send_from_outside(EXTERNAL_PHYSNET, inwards)) == [(BLUE_1.node, BLUE_1.ofport)]
    # a VM without one reaches it by the gateway node, once that has heard of it
    through = _announced(through, int(own.address), "n1")
    other = send(BLUE_2, BLUE_2.udp(int(own.address)), through)
    assert reached(other) == [(BLUE_1.node, BLUE_1.ofport)]
    assert other.delivered[0].packet["ip_src"] == SNAT["n3"]
    back = send(BLUE_1, reply_to(other.delivered[0].packet), other.after)
    assert reached(back) == [(BLUE_2.node, BLUE_2.ofport)]
    assert back.delivered[0].packet["ip_src"] == int(own.address)


def test_what_is_exempt_leaves_by_the_gateway_node_and_comes_back_by_it() -> None:
    base = world()
    own = floating_ip(1, base.ports[f"port-{BLUE_1.key}"])
    kept = IPv4Network("198.51.100.0/24")
    through = Fabric.of(single("n3", base.apply(2, [FloatingIpChange(own.id, own)]), snat_exempt=(kept,)))
    journey = send(BLUE_1, BLUE_1.udp(SERVER), through)
    seen = heard_outside(journey)
    assert (seen["ip_src"], seen["eth_src"]) == (BLUE_1.ip, node_mac(3))
    back = journey.after.send_from_outside(EXTERNAL_PHYSNET, reply_to(seen))
    assert reached(back) == [(BLUE_1.node, BLUE_1.ofport)]


@pytest.mark.parametrize("gateway_node", [None, "gone"])
def test_without_a_gateway_node_nothing_leaves(gateway_node: str | None) -> None:
    through = Fabric.of(single(gateway_node))
    journey = send(BLUE_1, BLUE_1.udp(SERVER), through)
    assert not journey.wire
    assert [hop.result.drop and hop.result.drop.rule for hop in journey.hops] == [Rule.DROP_NO_ROUTE]


def test_a_vm_that_moves_keeps_its_connections() -> None:
    snapshot = single("n3")
    journey = send(BLUE_1, BLUE_1.udp(SERVER), Fabric.of(snapshot))
    seen = heard_outside(journey)
    port = snapshot.ports[f"port-{BLUE_1.key}"]
    moved = snapshot.apply(9, [PortChange(port.id, replace(port, binding=Binding("n2", 777, 777), node="n2"))])
    after = replace(Fabric.of(moved), states=journey.after.states, stations=journey.after.stations)
    again = after.send("n2", 777, BLUE_1.udp(SERVER))
    assert heard_outside(again) == seen
    assert reached(again.after.send_from_outside(EXTERNAL_PHYSNET, reply_to(seen))) == [("n2", 777)]


# machines on the segment


def from_machine(**fields: int) -> Packet:
    link = {"eth_src": MACHINE, "eth_dst": gateway_node_mac(3), "vlan_vid": 0x1000 | VLAN, "eth_type": ETH_IP}
    what = {"ip_proto": PROTO_ICMP, "icmp_type": 8, "icmp_id": 3}
    return packet(**link | what | {"ip_src": MACHINE_IP} | fields)


def test_a_machine_finds_the_gateway_node_and_gets_out_by_it() -> None:
    through = Fabric.of(single("n3"))
    ask = packet(
        eth_src=MACHINE,
        eth_dst=BROADCAST,
        vlan_vid=0x1000 | VLAN,
        eth_type=ETH_ARP,
        arp_op=1,
        arp_sha=MACHINE,
        arp_spa=MACHINE_IP,
        arp_tpa=GATEWAY,
    )
    asked = through.send_from_outside(PHYSNET, ask)
    assert [(frame.node, frame.packet["arp_sha"]) for frame in asked.heard] == [("n3", gateway_node_mac(3))]
    assert not asked.delivered
    echoed = asked.after.send_from_outside(PHYSNET, from_machine(ip_dst=GATEWAY))
    assert [(frame.packet["eth_dst"], frame.packet["icmp_type"]) for frame in echoed.heard] == [(MACHINE, 0)]
    journey = asked.after.send_from_outside(PHYSNET, from_machine(ip_dst=SERVER))
    seen = heard_outside(journey)
    assert (seen["ip_src"], seen["nw_ttl"]) == (SNAT["n3"], 63)
    back = journey.after.send_from_outside(EXTERNAL_PHYSNET, reply_to(seen))
    (frame,) = [frame.packet for frame in back.heard]
    assert (frame["eth_src"], frame["eth_dst"], frame["ip_dst"]) == (gateway_node_mac(3), MACHINE, MACHINE_IP)
    assert not back.delivered


@pytest.mark.parametrize("target", [BLUE_1.ip, BLUE2_1.ip])
def test_a_machine_does_not_get_inside_by_the_gateway_node(target: int) -> None:
    journey = Fabric.of(single("n3")).send_from_outside(PHYSNET, from_machine(ip_dst=target))
    assert not journey.wire and not journey.delivered
    assert Rule.DROP_NOT_OUTWARDS in [hop.result.drop and hop.result.drop.rule for hop in journey.hops]


# what nobody may


@pytest.mark.parametrize("gateway_node", NODES)
def test_no_vm_sends_to_the_gateway_node_itself(gateway_node: str) -> None:
    sent = BLUE_1.udp(SERVER, mac=gateway_node_mac(int(gateway_node[1:])))
    journey = send(BLUE_1, sent, Fabric.of(single(gateway_node)))
    assert [hop.result.drop and hop.result.drop.rule for hop in journey.hops] == [Rule.DROP_NODE_MAC]


@pytest.mark.parametrize("name", NODES)
def test_networks_of_other_modes_have_the_flows_that_they_had(name: str) -> None:
    def of_others(snapshot: Snapshot) -> set[Flow]:
        keys = {network.key for network in snapshot.networks.values() if network.router_key != BLUE_ROUTER}
        flows = compile_node(snapshot, name).flows()
        return {flow for flow in flows if dict((field[0], field[1]) for field in flow.match).get("metadata") in keys}

    assert of_others(world()) == of_others(single("n3"))
    assert of_others(world())


# what is too large


def sized(network: int, outside: int) -> Fabric:
    base = world()
    external = replace(base.networks["net-external"], mtu=outside)
    return Fabric.of(single("n3", base.apply(2, [NetworkChange(external.id, external)]), mtu=network))


@pytest.mark.parametrize(("size", "too_large"), [(1400, False), (1401, True)])
def test_what_is_too_large_for_the_outside_is_told_by_the_vms_own_node(size: int, too_large: bool) -> None:
    journey = send(BLUE_1, BLUE_1.udp(SERVER, size=size + ETHERNET_HEADER), sized(1500, 1400))
    punts = [(node, punt.rule) for node, punt in journey.punts if punt.rule is Rule.PUNT_TOO_LARGE]
    assert punts == ([("n1", Rule.PUNT_TOO_LARGE)] if too_large else [])
    assert bool(on_segment(journey)) is not too_large


@pytest.mark.parametrize(("size", "too_large"), [(1400, False), (1401, True)])
def test_what_is_too_large_for_the_network_is_told_by_the_gateway_node(size: int, too_large: bool) -> None:
    journey = send(BLUE_1, BLUE_1.udp(SERVER), sized(1400, 1500))
    answer = reply_to(heard_outside(journey)).but(size=size + ETHERNET_HEADER)
    back = journey.after.send_from_outside(EXTERNAL_PHYSNET, answer)
    assert [(node, punt.rule) for node, punt in back.punts] == ([("n3", Rule.PUNT_TOO_LARGE_IN)] if too_large else [])
    assert reached(back) == ([] if too_large else [(BLUE_1.node, BLUE_1.ofport)])
