"""Over IPv6, too, the simulator does what a real Open vSwitch does, and that turns solicitations into answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from etc.lab.processes import wait_until
from flows.compile import compile_node
from flows.model import Binding, Direction, Migration, MigrationPhase, NetworkChange, PortChange
from flows.packet import Packet
from flows.pipeline import GATEWAY_MAC, METADATA_LINK_LOCAL, ROUTED_GROUP_MAC, copy_mac, node_mac, teacher_mac
from flows.protocols import ICMPV6_ECHO_REPLY, PROTO_ICMPV6, PROTO_UDP
from flows.snapshot import Snapshot
from tests.ipv6_world import ROUTER as ROUTER_ADDRESS
from tests.ipv6_world import ipv6_rule
from tests.ovs.frames import decode, encode
from tests.ovs.ipv6_frames import HIDING, hidden, in_two
from tests.ovs.pair import NODE, OFPORTS, Pair
from tests.ovs.real_switch import RealSwitch
from tests.ovs.test_simulator_agrees import same_lookups
from tests.simulate.cloud import EXTERNAL_UPLINK, UPLINK
from tests.simulate.ipv6 import (
    ALL_NODES,
    BLUE2_1,
    BLUE2_2,
    BLUE_1,
    BLUE_2,
    GATEWAY,
    ROUTER,
    SERVER6,
    answer_to,
    group_mac,
    ip6,
    world6,
)
from tests.simulate.test_ipv6 import ASKS_DHCP, FROM_WIRE, GLOBAL_GATEWAY, SOLICITS_ROUTER, SPOOFED
from tests.world import filtered, security_group

BLUE_TAG = 0x1000 | 102
OUTSIDE = replace(BLUE_1, node="", mac=ROUTER, ip=SERVER6)
ASKING = replace(OUTSIDE, ip=int(ROUTER_ADDRESS))
# conntrack puts fragments together, or waits for the rest
WHOLE = [(sent, BLUE_1.ofport) for sent, _ in SPOOFED.values() if not sent["ip_frag"]]
FEATURES: dict[str, list[tuple[Packet, int]]] = {
    "switching": [
        (BLUE_1.udp(BLUE_2.ip, BLUE_2.mac), BLUE_1.ofport),
        (BLUE_1.udp(BLUE_2.local, BLUE_2.mac, ipv6_src=BLUE_1.local), BLUE_1.ofport),
        (BLUE_2.udp(BLUE_1.ip, BLUE_1.mac, vlan_vid=BLUE_TAG), UPLINK),
        (BLUE_1.udp(ip6("ff02::fb"), group_mac(0xFB)), BLUE_1.ofport),
    ],
    "neighbours": [
        (BLUE_1.solicits(BLUE_2.ip), BLUE_1.ofport),
        (BLUE_1.solicits(BLUE_2.ip, nd_sll=0, nd_options_type=0), BLUE_1.ofport),
        (BLUE_1.probes(BLUE_1.ip), BLUE_1.ofport),
        (BLUE_1.probes(BLUE_1.local), BLUE_1.ofport),
        (BLUE_1.advertises(BLUE_1.ip), BLUE_1.ofport),
        (BLUE_1.advertises(BLUE_1.local, nd_tll=0, nd_options_type=0), BLUE_1.ofport),
        (BLUE_2.solicits(BLUE_1.ip, vlan_vid=BLUE_TAG), UPLINK),
        (BLUE_1.icmp(143, ip6("ff02::16"), group_mac(0x16), nw_ttl=1, ipv6_src=0), BLUE_1.ofport),
    ],
    "gateway": [
        (BLUE_1.solicits(GATEWAY), BLUE_1.ofport),
        (BLUE_1.solicits(GLOBAL_GATEWAY), BLUE_1.ofport),
        (BLUE_1.solicits(GATEWAY, nd_sll=0, nd_options_type=0), BLUE_1.ofport),
        (BLUE_1.solicits(METADATA_LINK_LOCAL), BLUE_1.ofport),
        (BLUE_1.tcp(METADATA_LINK_LOCAL, 443), BLUE_1.ofport),
        (BLUE_1.echo(GATEWAY), BLUE_1.ofport),
        (BLUE2_1.echo(GLOBAL_GATEWAY), BLUE2_1.ofport),
        (BLUE_1.udp(GATEWAY), BLUE_1.ofport),
        (SOLICITS_ROUTER, BLUE_1.ofport),
        (ASKS_DHCP, BLUE_1.ofport),
    ],
    "port security": WHOLE,
    "the wire": [(sent.but(vlan_vid=BLUE_TAG), UPLINK) for sent, _ in FROM_WIRE.values()],
    "routing": [
        (BLUE_1.udp(BLUE2_1.ip), BLUE_1.ofport),
        (BLUE_1.udp(BLUE2_2.ip), BLUE_1.ofport),
        (BLUE_1.udp(BLUE2_2.ip, nw_ttl=1), BLUE_1.ofport),
        (BLUE_1.udp(ip6("fe80::9")), BLUE_1.ofport),
        (BLUE2_2.udp(BLUE_1.ip, ROUTED_GROUP_MAC, eth_src=node_mac(2), vlan_vid=BLUE_TAG), UPLINK),
        (BLUE2_2.udp(BLUE_1.ip, node_mac(1), eth_src=teacher_mac(2), vlan_vid=BLUE_TAG), UPLINK),
    ],
    "outside": [
        (BLUE_1.udp(SERVER6), BLUE_1.ofport),
        (BLUE_1.udp(ip6("2001:db8:ff::9")), BLUE_1.ofport),
        (OUTSIDE.udp(BLUE_1.ip, node_mac(1)), EXTERNAL_UPLINK),
        (OUTSIDE.udp(BLUE_2.ip, node_mac(1)), EXTERNAL_UPLINK),
        (ASKING.solicits(BLUE_1.ip), EXTERNAL_UPLINK),
        (ASKING.solicits(BLUE_1.ip, nd_sll=0, nd_options_type=0, eth_dst=node_mac(1)), EXTERNAL_UPLINK),
        (ASKING.solicits(BLUE_2.ip), EXTERNAL_UPLINK),
        (ASKING.probes(BLUE_1.ip), EXTERNAL_UPLINK),
        (ASKING.advertises(int(ROUTER_ADDRESS)), EXTERNAL_UPLINK),
    ],
}


@pytest.fixture(scope="module")
def shared() -> Iterator[RealSwitch]:
    """For tests that leave nothing behind."""
    with RealSwitch.running(OFPORTS, compile_node(world6(), NODE).flows()) as switch:
        yield switch


@contextmanager
def on(snapshot: Snapshot) -> Iterator[Pair]:
    with RealSwitch.running(OFPORTS, compile_node(snapshot, NODE).flows()) as switch:
        yield Pair(switch, snapshot)


def test_frames_of_each_feature() -> None:
    with on(world6()) as pair:
        for frames in FEATURES.values():
            for made, in_port in frames:
                pair.receive(made, in_port)


@pytest.mark.parametrize("feature", FEATURES)
def test_lookups_of_each_feature(shared: RealSwitch, feature: str) -> None:
    pair = Pair(shared, world6())
    for made, in_port in FEATURES[feature]:
        same_lookups(pair, made, in_port)


def test_an_option_that_comes_twice_is_not_believed(shared: RealSwitch) -> None:
    """Linux takes the first, others may take the last."""
    honest = encode(BLUE_1.solicits(BLUE_2.ip))
    second = bytes((1, 1)) + BLUE_2.mac.to_bytes(6)
    frame = bytearray(honest + second)
    frame[19] += len(second)  # a wrong checksum is the receiver's to see
    shared.command("netdev-dummy/receive", f"p{BLUE_1.ofport}", bytes(frame).hex())
    seen = shared.receive_many([BLUE_1.probes(BLUE_1.ip)], BLUE_1.ofport, 1)
    assert [packet["ipv6_src"] for _, packet in seen] == [0], "only the second frame gets out"


def policed() -> Snapshot:
    """BLUE_1 takes UDP 80 of its network, and pings."""
    blue = replace(world6().networks["net-blue"], allow_same_net_traffic=False)
    base = world6().apply(8, [NetworkChange(blue.id, blue)])
    own = security_group(5, ipv6_rule(1, PROTO_UDP, 80, remote="2001:db8:20::/64"), ipv6_rule(2, PROTO_ICMPV6))
    return filtered(base, own, members=(20,))


def test_security_groups_and_their_connections() -> None:
    with on(policed()) as pair:
        _security_groups(pair)


def _security_groups(pair: Pair) -> None:
    to_80 = BLUE_2.udp(BLUE_1.ip, BLUE_1.mac, port=80, vlan_vid=BLUE_TAG)
    asked = BLUE_2.echo(BLUE_1.ip, BLUE_1.mac, vlan_vid=BLUE_TAG)
    _, seen = pair.receive(to_80, UPLINK)
    assert seen
    assert pair.receive(answer_to(to_80, vlan_vid=0), BLUE_1.ofport)[1]
    assert pair.receive(asked, UPLINK)[1]
    assert pair.receive(answer_to(asked, vlan_vid=0, icmpv6_type=ICMPV6_ECHO_REPLY), BLUE_1.ofport)[1]
    for refused, in_port in (
        (to_80.but(udp_dst=81), UPLINK),
        (BLUE2_2.udp(BLUE_1.ip, node_mac(1), port=80, eth_src=node_mac(2), vlan_vid=BLUE_TAG), UPLINK),
        (BLUE_1.udp(BLUE_2.ip, BLUE_2.mac), BLUE_1.ofport),
    ):
        assert not pair.receive(refused, in_port)[1]
    for needed in (BLUE_2.solicits(BLUE_1.ip, vlan_vid=BLUE_TAG), BLUE_2.advertises(BLUE_2.ip, vlan_vid=BLUE_TAG)):
        assert pair.receive(needed, UPLINK)[1]
    assert pair.receive(BLUE_1.solicits(BLUE_2.ip), BLUE_1.ofport)[1]


def test_a_vm_that_is_expected() -> None:
    """What its own node hands on is handed to conntrack, too."""
    base = filtered(world6(), security_group(9, ipv6_rule(901, direction=Direction.EGRESS)), members=(21,))
    mover = base.ports["port-21"]
    coming = Migration(MigrationPhase.PREPARED, Binding(NODE, 5, 77))
    copied = BLUE2_2.udp(BLUE_2.ip, node_mac(1), eth_src=copy_mac(mover.key, reply=True), vlan_vid=BLUE_TAG)
    with on(base.apply(30, [PortChange(mover.id, replace(mover, migration=coming))])) as pair:
        assert not pair.receive(copied, UPLINK)[1]
        pair.receive(BLUE_2.advertises(BLUE_2.ip), 5)
        assert [port for port, _ in pair.receive(copied, UPLINK)[1]] == [5]
        assert pair.receive(answer_to(copied, eth_src=BLUE_2.mac, eth_dst=GATEWAY_MAC, vlan_vid=0), 5)[1]


@pytest.mark.parametrize("behind", HIDING)
def test_a_router_does_not_hide_behind_other_headers(shared: RealSwitch, behind: str) -> None:
    """RFC 7113. A ping arrives behind the same ones; neighbour discovery has none, as it has no other option."""
    router = BLUE_1.icmp(134, ALL_NODES, group_mac(ALL_NODES), nw_ttl=255)
    for said, out in ((router, 0), (BLUE_1.advertises(BLUE_1.ip), 0), (BLUE_1.echo(BLUE_2.ip, BLUE_2.mac), 1)):
        assert len(sent_out(shared, hidden(encode(said), behind))) == out, said


def test_parts_are_put_together_before_anybody_says_what_they_are(shared: RealSwitch) -> None:
    """A router advertisement, and an echo request, each in two fragments."""
    for kind, out in ((134, 0), (128, 2)):
        whole = encode(BLUE_1.icmp(kind, ALL_NODES, group_mac(ALL_NODES), nw_ttl=255, payload=7, size=1400))
        assert len(sent_out(shared, *in_two(whole, kind))) == out, kind


def sent_out(switch: RealSwitch, *frames: bytes) -> list[bytes]:
    """What gets to the wire of frames of BLUE_1, before one that is allowed does."""
    last = encode(BLUE_1.udp(ALL_NODES, group_mac(ALL_NODES), payload=0x1A57))
    switch.command("netdev-dummy/receive", f"p{BLUE_1.ofport}", *(frame.hex() for frame in (*frames, last)))
    seen: list[bytes] = []

    def arrived() -> bool:
        switch.command("version")  # waits for a turn of the main loop, which forwards what is queued
        seen.extend(switch.new_frames(UPLINK))
        return bool(seen) and last[14:] in seen[-1]

    wait_until(arrived, 20, "the frame that is allowed")
    return seen[:-1]


def test_frames_are_encoded_as_they_are_decoded() -> None:
    for made, _ in (one for frames in FEATURES.values() for one in frames):
        if made.get("nd_options_type", 0) == 0 or made.get("nd_sll") or made.get("nd_tll"):
            assert decode(encode(made)) == made
