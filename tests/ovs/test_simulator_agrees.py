"""The simulator does what a real Open vSwitch does: the same lookups, and the same frames out of the same ports."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from flows.compile import compile_node
from flows.ir import CheckLarger
from flows.packet import Packet, packet
from flows.pipeline import GATEWAY_MAC, ROUTED_GROUP_MAC, node_mac
from flows.protocols import ETH_ARP, ETH_IP
from flows.rules import Rule
from tests.ovs.frames import decode, encode
from tests.ovs.pair import LOCAL, NODE, OFPORTS, Pair, comparable
from tests.ovs.real_switch import RealSwitch
from tests.simulate.cloud import (
    BLUE2_1,
    BLUE2_2,
    BLUE_1,
    BLUE_2,
    BROADCAST,
    EXTERNAL_UPLINK,
    FLAT_1,
    FLAT_2,
    NEXT_HOP,
    RED_1,
    RED_2,
    SERVER,
    UPLINK,
    Vm,
    error_about,
    ip,
    reply_to,
    world,
)
from tests.simulate.hostile import frame, rolling

SNAT = ip("203.0.113.11")
LARGER = 9000
BLUE_TAG, BLUE2_TAG = 0x1000 | 102, 0x1000 | 103


@pytest.fixture(scope="module")
def shared() -> Iterator[RealSwitch]:
    """For tests that leave nothing behind."""
    with RealSwitch.running(OFPORTS, compile_node(world(), NODE).flows()) as switch:
        yield switch


@pytest.fixture
def pair() -> Iterator[Pair]:
    with RealSwitch.running(OFPORTS, compile_node(world(), NODE).flows()) as switch:
        yield Pair(switch, world())


GATEWAY = ip("10.20.0.1")
# feature -> frames with the port they come in by
FEATURES: dict[str, list[tuple[Packet, int]]] = {
    "switching": [
        (BLUE_1.udp(BLUE_2.ip, BLUE_2.mac), BLUE_1.ofport),
        (FLAT_1.udp(FLAT_2.ip, FLAT_2.mac), FLAT_1.ofport),
        (BLUE_2.udp(BLUE_1.ip, BLUE_1.mac, vlan_vid=BLUE_TAG), UPLINK),
        (BLUE_1.udp(BLUE_1.ip, BLUE_1.mac), BLUE_1.ofport),
    ],
    "broadcast": [
        (BLUE_1.arp(BLUE_2.ip), BLUE_1.ofport),
        (BLUE_2.arp(BLUE_1.ip, vlan_vid=BLUE_TAG), UPLINK),
        (FLAT_1.udp(0xFFFFFFFF, BROADCAST), FLAT_1.ofport),
    ],
    "gateway": [
        (BLUE_1.arp(GATEWAY), BLUE_1.ofport),
        (RED_1.arp(GATEWAY + 1, arp_spa=0), RED_1.ofport),
        (BLUE_1.echo(GATEWAY), BLUE_1.ofport),
        (BLUE_1.udp(GATEWAY), BLUE_1.ofport),
        (BLUE_2.arp(GATEWAY, vlan_vid=BLUE_TAG), UPLINK),
    ],
    "services": [
        (BLUE_1.dhcp(), BLUE_1.ofport),
        (BLUE_1.udp(GATEWAY, source_port=68, port=67), BLUE_1.ofport),
        (BLUE_1.udp(BLUE_2.ip, BLUE_2.mac, 67, 68), BLUE_1.ofport),
        (BLUE_2.udp(BLUE_1.ip, BLUE_1.mac, 67, 68, vlan_vid=BLUE_TAG), UPLINK),
    ],
    "port security": [
        (BLUE_1.udp(BLUE_2.ip, BLUE_2.mac, eth_src=BLUE_2.mac), BLUE_1.ofport),
        (BLUE_1.udp(BLUE_2.ip, BLUE_2.mac, ip_src=BLUE_2.ip), BLUE_1.ofport),
        (BLUE_1.arp(BLUE_2.ip, arp_sha=BLUE_2.mac), BLUE_1.ofport),
        (packet(eth_src=BLUE_1.mac, eth_dst=BLUE_2.mac, eth_type=0x86DD), BLUE_1.ofport),
    ],
    "classification": [
        (BLUE_1.udp(BLUE_2.ip, vlan_vid=BLUE_TAG), BLUE_1.ofport),
        (BLUE_1.udp(BLUE_2.ip, vlan_vid=0x1000), BLUE_1.ofport),
        (BLUE_1.udp(BLUE_2.ip), 5),
        (BLUE_2.udp(BLUE_1.ip, vlan_vid=0x1FFF), UPLINK),
    ],
    "routing": [
        (BLUE_1.udp(BLUE2_1.ip), BLUE_1.ofport),
        (BLUE_1.udp(BLUE2_2.ip), BLUE_1.ofport),
        (BLUE_1.udp(BLUE2_2.ip, nw_ttl=1), BLUE_1.ofport),
        (BLUE_1.udp(BLUE2_2.ip, nw_ttl=0), BLUE_1.ofport),
        (BLUE_1.udp(ip("224.0.0.1")), BLUE_1.ofport),
        (BLUE2_2.udp(BLUE_1.ip, ROUTED_GROUP_MAC, vlan_vid=BLUE_TAG), UPLINK),
        (BLUE2_2.udp(BLUE_1.ip, node_mac(1), vlan_vid=BLUE_TAG), UPLINK),
        (BLUE2_2.udp(BLUE_1.ip, eth_src=GATEWAY_MAC, vlan_vid=BLUE_TAG), UPLINK),
    ],
    "nat": [
        (BLUE_1.udp(SERVER), BLUE_1.ofport),
        (RED_1.udp(SERVER), RED_1.ofport),
        (RED_1.echo(SERVER), RED_1.ofport),
        (BLUE_1.udp(SNAT), BLUE_1.ofport),
        (BLUE_1.udp(SERVER, eth_src=NEXT_HOP, ip_src=SERVER, ip_dst=SNAT), EXTERNAL_UPLINK),
        (BLUE_1.udp(SERVER, eth_src=NEXT_HOP), EXTERNAL_UPLINK),
    ],
}


@pytest.mark.parametrize("feature", FEATURES)
def test_lookups_of_each_feature(shared: RealSwitch, feature: str) -> None:
    pair = Pair(shared, world())
    for made, in_port in FEATURES[feature]:
        same_lookups(pair, made, in_port)


def same_lookups(pair: Pair, made: Packet, in_port: int) -> None:
    expected, measured = _lookups(pair, made, in_port)
    if measured:
        # a trace goes both ways from where a packet is measured, first as if it were larger
        larger, _ = _lookups(pair, made.but(size=LARGER), in_port)
        expected = larger + expected[measured:]
    assert pair.real.steps(made, in_port) == expected, made


def _lookups(pair: Pair, made: Packet, in_port: int) -> tuple[list[tuple[int, int | None]], int]:
    """Those of the simulator, and how many there are until the packet is measured; 0: it is not."""
    steps = pair.simulated.receive(made, in_port).steps
    cookies = [(step.table, None if step.flow is None else step.flow.cookie) for step in steps]
    measuring = (
        step.flow is not None and any(isinstance(it, CheckLarger) for it in step.flow.actions) for step in steps
    )
    return cookies, next((number for number, found in enumerate(measuring, start=1) if found), 0)


def test_lookups_of_random_frames(shared: RealSwitch) -> None:
    pair = Pair(shared, world())
    dice = random.Random(7)
    for _ in range(400):
        sender = dice.choice(LOCAL)
        made = frame(rolling(dice), sender)
        if made["eth_type"] == ETH_IP and not made["ip_frag"] & 1 and encodable(made):
            same_lookups(pair, made, sender.ofport)


@pytest.mark.parametrize("feature", FEATURES)
def test_frames_of_each_feature(pair: Pair, feature: str) -> None:
    for made, in_port in FEATURES[feature]:
        pair.receive(made, in_port)


def encodable(made: Packet | None) -> bool:
    """A double tag would need a packet of another shape, and conntrack reassembles fragments."""
    if made is None:
        return True
    quotes = made.get("icmp_type") in (3, 11)
    if quotes and made.inner is not None and (made.inner["eth_type"] != ETH_IP or made.inner.inner is not None):
        return False
    return made["eth_type"] != 0x8100 and not made.get("ip_frag", 0) and encodable(made.inner)


def test_random_frames_into_what_the_earlier_ones_left(pair: Pair) -> None:
    dice = random.Random(11)
    outputs = 0
    for _ in range(900):
        sender = dice.choice(LOCAL)
        made = frame(rolling(dice), sender)
        if encodable(made):
            result, _ = pair.receive(made, sender.ofport)
            outputs += bool(result.outputs)
    assert outputs > 100


def test_random_frames_from_the_wire(pair: Pair) -> None:
    dice = random.Random(13)
    routed = 0
    for _ in range(900):
        made = frame(rolling(dice), dice.choice([BLUE_2, BLUE2_2, RED_2, FLAT_2]))
        if not encodable(made):
            continue
        changes = {"vlan_vid": dice.choice([0, BLUE_TAG, BLUE2_TAG, 0x1000 | 104])}
        if dice.random() < 0.3:
            changes |= {"eth_src": node_mac(2), "eth_dst": dice.choice([node_mac(1), ROUTED_GROUP_MAC])}
        result, _ = pair.receive(made.but(**changes), dice.choice([UPLINK, UPLINK, EXTERNAL_UPLINK]))
        routed += any(step.rule is Rule.UPLINK_ROUTED for step in result.steps)
    assert routed > 10
    assert pair.state.learned


def test_learned_next_hop(pair: Pair) -> None:
    asked = BLUE_1.udp(BLUE2_2.ip)
    _, ((_, first),) = pair.receive(asked, BLUE_1.ofport)
    assert first["eth_dst"] == ROUTED_GROUP_MAC
    pair.receive(BLUE2_2.udp(BLUE_1.ip, node_mac(1), eth_src=node_mac(2), vlan_vid=BLUE_TAG), UPLINK)
    _, ((_, again),) = pair.receive(asked, BLUE_1.ofport)
    assert again["eth_dst"] == node_mac(2)


@pytest.mark.parametrize("back", [reply_to, error_about], ids=["reply", "error"])
@pytest.mark.parametrize("first", [BLUE_1, RED_1], ids=["plain first", "carrier first"])
def test_translation_there_and_back(pair: Pair, first: Vm, back: Callable[[Packet], Packet]) -> None:
    """Each switch chooses its own ports, so each gets the answer to what it sent; the VMs must see the same."""
    second = RED_1 if first is BLUE_1 else BLUE_1
    sent = {vm: pair.receive(vm.udp(SERVER), vm.ofport) for vm in (first, second)}
    for vm, (result, ((_, seen),)) in sent.items():
        simulated = pair.simulated.receive(back(result.outputs[0].packet), EXTERNAL_UPLINK, pair.state)
        ((port, delivered),) = pair.real.receive(back(seen), EXTERNAL_UPLINK, 1)
        assert [(port, delivered)] == [comparable(sent) for sent in simulated.outputs]
        assert (port, delivered["ip_dst"]) == (vm.ofport, vm.ip)
        if back is error_about:
            assert delivered.inner is not None and delivered.inner["udp_src"] == 4000


def test_echo_there_and_back(pair: Pair) -> None:
    for vm, id_ in ((BLUE_1, 1), (RED_1, 2)):
        _, ((_, seen),) = pair.receive(vm.echo(SERVER, id_=id_), vm.ofport)
        _, ((port, delivered),) = pair.receive(reply_to(seen), EXTERNAL_UPLINK)
        assert (port, delivered["ip_dst"], delivered["icmp_id"]) == (vm.ofport, vm.ip, id_)


def test_one_echo_id_of_two_vms(pair: Pair) -> None:
    pair.receive(BLUE_1.echo(SERVER), BLUE_1.ofport)
    pair.receive(RED_1.echo(SERVER), RED_1.ofport)
    pair.receive(FLAT_1.echo(SERVER), FLAT_1.ofport)


def test_arp_for_the_snat_address(pair: Pair) -> None:
    ask = packet(
        eth_src=NEXT_HOP,
        eth_dst=BROADCAST,
        eth_type=ETH_ARP,
        arp_op=1,
        arp_sha=NEXT_HOP,
        arp_spa=ip("203.0.113.1"),
        arp_tpa=SNAT,
    )
    _, ((port, seen),) = pair.receive(ask, EXTERNAL_UPLINK)
    assert (port, seen["arp_sha"]) == (EXTERNAL_UPLINK, node_mac(1))


def test_frames_are_encoded_as_they_are_decoded() -> None:
    for made, _ in (one for frames in FEATURES.values() for one in frames):
        assert decode(encode(made)) == made
    error = error_about(BLUE_1.udp(SERVER))
    assert decode(encode(error)).inner is not None
