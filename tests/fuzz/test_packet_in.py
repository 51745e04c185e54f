"""Hostile frames: nothing raises, nothing is slow, nothing answers for an address that is not the port's own."""

from __future__ import annotations

import time
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.packet_in import icmp, neighbours, outcomes
from controller.packet_in.dispatch import DEFAULT_LIMITS, Dispatcher, Limit, Services
from controller.packet_in.leases import LeaseLog
from flows.pipeline import GATEWAY_MAC
from flows.rules import Rule, cookie
from tests.unit.dns.scene import Bench, question
from tests.unit.dns.test_server import answering
from tests.unit.packet_in import model, test_dhcp_relay, test_dns, wire
from tests.unit.packet_in.test_frames import TestNeighbours, packet
from tests.unit.packet_in.wire import Message, take_apart

LIMIT_SECONDS = 0.050
SNAPSHOT = test_dhcp_relay.world()
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
    (cookie(Rule.PUNT_DNS, 1), 100),
)
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
        if answered and cookie_ in (PUNTS[0][0], PUNTS[1][0]):
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
    icmp.time_exceeded(frame, ADDRESS, GATEWAY_MAC)


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


@pytest.mark.parametrize("tail", [bytes(64_000), b"\x0c\x00" * 32_000, b"\x37\x01\x01" * 480, b"\x01\x01\x01" * 480])
def test_as_much_work_as_a_frame_can_make(tail: bytes) -> None:
    feed(Message(tail=tail).frame())


@given(st.binary(min_size=6, max_size=6), st.binary(min_size=6, max_size=6))
@settings(max_examples=200, deadline=None)
def test_only_the_ports_own_mac_is_answered(source: bytes, chaddr: bytes) -> None:
    own = Message().mac
    for message in (Message(eth_source=source), Message(chaddr=chaddr), Message(eth_source=source, chaddr=chaddr)):
        answered = DISPATCHER.handle(*PUNTS[0], message.frame())
        assert not answered or (message.eth_source or own) == (message.chaddr or own) == own
