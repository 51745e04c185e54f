"""A node whose SNAT address is its host's: what is no VM's is given back, and what leads nowhere is dropped by name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.fabric import Fabric
from flows.model import FloatingIpChange, NodeChange, SnatAddress
from flows.packet import Packet, packet
from flows.pipeline import HOST_SNAT_PORTS
from flows.protocols import ETH_ARP, ETH_IP, PROTO_ICMP, PROTO_UDP
from flows.rules import Rule
from flows.simulate import Reason
from tests.simulate.cloud import BLUE_1, BROADCAST, EXTERNAL_UPLINK, FLAT_1, NEXT_HOP, SERVER, ip, send, world
from tests.world import EXTERNAL, floating_ip

HOST, FLOATING = ip("203.0.113.11"), ip("203.0.113.101")
HOST_MAC = 0x0200000000AA


@pytest.fixture(scope="module")
def through() -> Fabric:
    """n1 shares its host's address. BLUE_1 on it has a floating IP, FLAT_1 has none."""
    node = world().nodes["n1"]
    shared = SnatAddress(EXTERNAL, node.snat_addresses[0].address, host=True)
    floating = floating_ip(1, world().ports[f"port-{BLUE_1.key}"])
    changed = NodeChange("n1", replace(node, snat_addresses=(shared,)))
    return Fabric.of(world().apply(2, [changed, FloatingIpChange(floating.id, floating)]))


def to_host(**fields: int) -> Packet:
    known = {"eth_src": NEXT_HOP, "eth_dst": HOST_MAC, "eth_type": ETH_IP, "ip_proto": PROTO_UDP}
    return packet(**known | {"ip_src": SERVER, "ip_dst": HOST, "udp_src": 7, "udp_dst": 62000} | fields)


@pytest.mark.parametrize(
    "sent",
    [to_host(), to_host(udp_dst=53), to_host(ip_proto=PROTO_ICMP, icmp_type=0, icmp_id=9, udp_src=0, udp_dst=0)],
    ids=["udp", "below", "echo reply"],
)
def test_what_is_no_vms_goes_back_as_it_came(through: Fabric, sent: Packet) -> None:
    (hop,) = through.send("n1", EXTERNAL_UPLINK, sent).hops[:1]
    assert hop.result.answers == (sent,)


def test_a_vm_leaves_by_the_hosts_address_and_its_answer_comes_back(through: Fabric) -> None:
    journey = send(FLAT_1, FLAT_1.udp(SERVER), through)
    (seen,) = (frame.packet for frame in journey.heard)
    first, last = HOST_SNAT_PORTS
    assert seen["ip_src"] == HOST and first <= seen["udp_src"] <= last
    answer = to_host(udp_dst=seen["udp_src"])
    (delivery,) = journey.after.send("n1", EXTERNAL_UPLINK, answer).delivered
    assert (delivery.ofport, delivery.packet["ip_dst"], delivery.packet["udp_dst"]) == (FLAT_1.ofport, FLAT_1.ip, 4000)


def test_nobody_but_the_host_answers_arp_for_it(through: Fabric) -> None:
    asked = packet(eth_src=NEXT_HOP, eth_dst=BROADCAST, eth_type=ETH_ARP, arp_op=1, arp_sha=NEXT_HOP, arp_tpa=HOST)
    (hop,) = through.send("n1", EXTERNAL_UPLINK, asked).hops[:1]
    assert not hop.result.outputs


def test_a_vm_that_has_no_other_address_does_not_reach_its_own_host(through: Fabric) -> None:
    drop = send(FLAT_1, FLAT_1.udp(HOST), through).hops[-1].result.drop
    assert drop is not None and (drop.rule, drop.reason) == (Rule.DROP_UNSOLICITED, Reason.RULE)


def test_a_vm_with_a_floating_ip_does(through: Fabric) -> None:
    (hop,) = send(BLUE_1, BLUE_1.udp(HOST, port=53), through).hops[:1]
    (sent,) = hop.result.outputs
    assert (sent.port, sent.packet["ip_src"], sent.packet["ip_dst"]) == (EXTERNAL_UPLINK, FLOATING, HOST)
