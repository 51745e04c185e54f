"""Hostile frames: nothing raises, nothing is slow, nothing answers for an address that is not the port's own."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.packet_in import icmp, icmpv6, nd, neighbours, outcomes
from controller.packet_in.dispatch import Dispatcher
from controller.packet_in.leases import LeaseLog
from controller.packet_in.services import DEFAULT_LIMITS, Limit, Services
from flows.pipeline import GATEWAY_MAC
from flows.rules import Rule, cookie
from tests.unit.dns.scene import Bench, question
from tests.unit.dns.test_server import answering
from tests.unit.packet_in import model, test_dhcp_relay, test_dhcpv6, test_dns, test_ipv6_errors, wire, wire6
from tests.unit.packet_in.test_frames import TestNeighbours, packet
from tests.unit.packet_in.wire import Message, take_apart

LIMIT_SECONDS = 0.050
SIX = tuple(wire6.PREFIXES)  # a subnet of each mode
_RELAYED = test_dhcp_relay.world()
_PORT = _RELAYED.ports["port-per_host"]
SNAPSHOT = test_dhcp_relay.world(
    replace(_RELAYED.networks["net-per_host"], ipv6_subnets=wire6.network(*SIX).ipv6_subnets),
    test_ipv6_errors.world().networks["net-out"],
    *(network for network in _RELAYED.networks.values() if network.id not in ("net-per_host", "net-out")),
    ports=(*_RELAYED.ports.values(), replace(_PORT, ipv6_addresses=wire6.port(*SIX).ipv6_addresses)),
)
COUNTERS: dict[str, int] = {}
NAMES = Bench(snapshot=SNAPSHOT, answers=answering)
DISPATCHER = Dispatcher(
    "n1",
    Services(
        snapshot=lambda: SNAPSHOT,
        leases=LeaseLog(),
        neighbour_seen=lambda node, neighbour: None,
        counters=COUNTERS,
        limits={rule: Limit(1e9, 1e9) for rule in DEFAULT_LIMITS},
        dns=NAMES.server,
        mute=0,  # each test is a flood, and answers are what it looks at
    ),
)
PUNTS = ((cookie(Rule.PUNT_DHCP, 10), 100),) + (
    (cookie(Rule.PUNT_TTL_EXPIRED, 1), 100),
    (cookie(Rule.PUNT_NEIGHBOUR, model.EXTERNAL_KEY), model.UPLINK),
    (cookie(Rule.PUNT_TOO_LARGE, 1), 100),
    (cookie(Rule.PUNT_TOO_LARGE_IN, 1), 100),
    (cookie(Rule.PUNT_TOO_LARGE_IN, 1), model.UPLINK),
    (cookie(Rule.PUNT_UNRESOLVED, model.EXTERNAL_KEY), 100),
    (cookie(Rule.PUNT_ON_LINK, model.EXTERNAL_KEY), 100),
    (cookie(Rule.PUNT_HOLDER, 10), 100),
    (cookie(Rule.PUNT_RELAYED_DHCP, model.EXTERNAL_KEY), model.UPLINK),
    (cookie(Rule.PUNT_RA, 10), 100),
    (cookie(Rule.PUNT_DHCPV6, 10), 100),
    (cookie(Rule.PUNT_HOP_LIMIT, 1), 100),
    (cookie(Rule.PUNT_TOO_BIG, 1), 100),
    (cookie(Rule.PUNT_TOO_BIG_IN, 1), 100),
    (cookie(Rule.PUNT_TOO_BIG_IN, 1), model.UPLINK),
    (cookie(Rule.PUNT_ROUTER_ND, model.EXTERNAL_KEY), model.UPLINK),
    (cookie(Rule.PUNT_UNRESOLVED_IPV6, model.EXTERNAL_KEY), 100),
    (cookie(Rule.PUNT_DNS, 1), 100),
)
TO_THE_PORT = {
    cookie(rule, key)
    for rule, key in (
        *((Rule.PUNT_DHCP, 10), (Rule.PUNT_TTL_EXPIRED, 1), (Rule.PUNT_RA, 10), (Rule.PUNT_DHCPV6, 10)),
        *((Rule.PUNT_HOP_LIMIT, 1), (Rule.PUNT_TOO_BIG, 1)),
    )
}
ADDRESS = IPv4Address("10.0.0.5")
SEEDS = (
    Message(options=((55, bytes(range(1, 60))), (61, b"\x01abcdef"), (57, b"\x05\xdc"), (12, b"host"))).frame(),
    Message(type=wire.REQUEST, options=((50, ADDRESS.packed), (54, b"\x0a\x00\x00\x02"))).frame(),
    Message(type=wire.REQUEST, ciaddr=ADDRESS, source=ADDRESS).frame(),
    Message(type=wire.INFORM, ciaddr=ADDRESS, source=ADDRESS).frame(),
    Message(type=None, options=((52, b"\x03"),), file=b"\x35\x01\x01\xff", sname=b"\x37\x02\x01\x03\xff").frame(),
    test_dhcp_relay.RELAYED.frame(),
    test_dhcp_relay.REQUEST.change(ciaddr=test_dhcp_relay.ADDRESS).frame(),
    packet(),
    packet(payload=bytes(600), protocol=17, options=bytes(40)),
    packet(payload=bytes(1600), protocol=17, ttl=63, options=b"\x83\x07" + bytes(10)),
    packet(payload=bytes(1600), protocol=17, ttl=63, fragment=0x4000),
    TestNeighbours.reply(),
    wire6.Nd().frame(),
    wire6.Nd(source=wire6.ANY, options=b"").frame(),
    test_ipv6_errors.claim().frame(),
    wire6.Message(options=(wire6.ia(wire6.address(wire6.ADDRESSES[wire6.STATEFUL])), wire6.ia(code=25))).frame(),
    test_dhcpv6.to_server(wire6.RENEW, wire6.ia(wire6.address(test_dhcpv6.OTHER)), test_dhcpv6.ORO).frame(),
    wire6.Message(kind=wire6.INFORMATION, options=(test_dhcpv6.ORO, (39, b"\0\1a"))).frame(),
    test_ipv6_errors.packet(),
    test_ipv6_errors.packet(1450, hops=63),
    test_ipv6_errors.packet(protocol=0, payload=b"\x3c\0" + bytes(6) + b"\x3a\0" + bytes(6) + b"\x80" + bytes(99)),
    test_dns.ipv4(question("web1.cloud.example", size=1232)),
    test_dns.ipv6(question("5.0.0.10.in-addr.arpa", "PTR")),
)


def feed(frame: bytes) -> None:
    """Hands a frame to every handler. The dispatcher's own last fence must not have been needed."""
    for cookie_, in_port in PUNTS:
        best = float("inf")
        for _ in range(3):  # a busy machine may stop us once, hardly three times
            began = time.monotonic()
            answered = DISPATCHER.handle(cookie_, in_port, frame)
            NAMES.run()  # what was asked elsewhere is answered
            best = min(best, time.monotonic() - began)
            if best < LIMIT_SECONDS:
                break
        assert best < LIMIT_SECONDS
        assert outcomes.INTERNAL_ERROR not in COUNTERS
        for output in answered:
            assert len(output.frame) <= 14 + 1500
        if answered and cookie_ in TO_THE_PORT:
            assert [output.ofport for output in answered] == [in_port]
        if answered and cookie_ == PUNTS[0][0]:
            reply = take_apart(answered[0].frame)
            start = 14 + (frame[14] & 0xF) * 4 + 8
            assert frame[6:12] == frame[start + 28 : start + 34] == Message().mac == reply.chaddr[:6]
            assert reply.yiaddr in (ADDRESS, wire.ZERO) and reply.xid.to_bytes(4, "big") == frame[start + 4 : start + 8]


@pytest.mark.parametrize("seed", SEEDS, ids=range(len(SEEDS)))
def test_cut_at_every_byte(seed: bytes) -> None:
    for size in range(len(seed) + 1):
        feed(seed[:size])


@pytest.mark.parametrize("seed", SEEDS, ids=range(len(SEEDS)))
def test_every_byte_wrong(seed: bytes) -> None:
    for at in range(len(seed)):
        for value in (0x00, 0x7F, 0xFF, seed[at] ^ 1):
            feed(seed[:at] + bytes((value,)) + seed[at + 1 :])


@given(st.binary(max_size=2000))
@settings(max_examples=500, deadline=None)
def test_random_frames(frame: bytes) -> None:
    feed(frame)
    neighbours.parse_claim(frame)
    nd.parse_claim(frame)
    icmp.time_exceeded(frame, ADDRESS, GATEWAY_MAC)
    icmpv6.time_exceeded(frame, wire6.GATEWAY, GATEWAY_MAC)


@given(st.sampled_from(SEEDS), st.data())
@settings(max_examples=500, deadline=None)
def test_mutated_frames(seed: bytes, data: st.DataObject) -> None:
    frame = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 8))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(frame)))
    feed(bytes(frame[:cut]) + data.draw(st.binary(max_size=64)))


@given(st.binary(max_size=1200), st.binary(max_size=64), st.binary(max_size=128), st.integers(0, 255))
@settings(max_examples=500, deadline=None)
def test_random_options(tail: bytes, sname: bytes, file: bytes, kind: int) -> None:
    """Right up to the options, then anything: what gets past all the cheap checks."""
    feed(Message(type=kind, tail=tail, sname=sname, file=file).frame())
    feed(Message(type=1, options=((52, bytes((kind,))), (55, tail[:255])), sname=sname, file=file).frame())


@given(st.binary(max_size=1300), st.integers(0, 255), st.booleans())
@settings(max_examples=500, deadline=None)
def test_random_dhcpv6_options(tail: bytes, kind: int, named: bool) -> None:
    feed(wire6.Message(kind=kind, server=wire6.SERVER_DUID if named else None, options=(), tail=tail).frame())
    feed(wire6.Message(kind=kind, options=((3, tail),)).frame())
    feed(wire6.Message(kind=kind, options=((6, tail), (39, tail))).frame())


@given(st.binary(max_size=1300), st.integers(0, 255), st.integers(0, 255))
@settings(max_examples=500, deadline=None)
def test_random_icmpv6(tail: bytes, kind: int, code: int) -> None:
    """With right checksums, so that they are looked at."""
    feed(wire6.Nd(kind=kind, options=tail).frame())
    feed(test_ipv6_errors.claim(options=tail).frame())
    feed(test_ipv6_errors.packet(protocol=kind % 61, payload=tail or b"\0"))
    feed(wire6.Nd(kind=kind, code=code, body=tail, options=b"").frame())


@pytest.mark.parametrize("tail", [bytes(64_000), b"\x0c\x00" * 32_000, b"\x37\x01\x01" * 480, b"\x01\x01\x01" * 480])
def test_as_much_work_as_a_frame_can_make(tail: bytes) -> None:
    feed(Message(tail=tail).frame())
    feed(wire6.Message(tail=tail[:60_000]).frame())
    feed(wire6.Nd(options=tail[:60_000]).frame())


@given(st.binary(min_size=6, max_size=6), st.binary(min_size=6, max_size=6))
@settings(max_examples=200, deadline=None)
def test_only_the_ports_own_mac_is_answered(source: bytes, chaddr: bytes) -> None:
    own = Message().mac
    for message in (Message(eth_source=source), Message(chaddr=chaddr), Message(eth_source=source, chaddr=chaddr)):
        answered = DISPATCHER.handle(*PUNTS[0], message.frame())
        assert not answered or (message.eth_source or own) == (message.chaddr or own) == own


TCP_OPTIONS = (bytes(40), b"\x02\x00" * 20, b"\x05\xff" + bytes(38), b"\x13\x00", b"\xff" * 40, b"\x01" * 39 + b"\x02")


@pytest.mark.parametrize("port", [179, 646, 2123, 2600, 53, 80])
@pytest.mark.parametrize("tcp_options", TCP_OPTIONS, ids=range(len(TCP_OPTIONS)))
def test_threat_11_nothing_reads_what_is_inside_tcp(port: int, tcp_options: bytes) -> None:
    """Options of length 0, and ports whose protocols a general parser would go into: BGP, LDP, GTP, zebra."""
    words = 5 + (len(tcp_options) + 3) // 4
    header = port.to_bytes(2) * 2 + bytes(8) + bytes((words << 4 & 0xF0, 2)) + bytes(6)
    segment = header + tcp_options.ljust((words - 5) * 4, b"\0") + b"\xff" * 16 + bytes((0, 0, 1))
    feed(packet(payload=segment, protocol=6))
    feed(test_ipv6_errors.packet(protocol=6, payload=segment))
    feed(packet(payload=segment, protocol=132))  # SCTP: chunks of length 0


def test_threat_11_ryus_packet_library_is_not_used() -> None:
    sources = Path(__file__).resolve().parents[2]
    found = [
        path
        for part in ("controller", "flows", "agent")
        for path in (sources / part).rglob("*.py")
        if re.search(r"^\s*(from|import) ryu\.lib\.packet", path.read_text(), re.MULTILINE)
    ]
    assert found == []
