"""What senders of IPv6 are told of packets that are not passed on, and how next hops are resolved by ND."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network

import pytest

from controller.packet_in import icmpv6, nd, outcomes
from controller.packet_in.outputs import Output, Resubmit
from flows.model import Ipv6Subnet, Neighbour
from flows.pipeline import Table, node_mac
from flows.rules import Rule, cookie
from flows.snapshot import Snapshot
from flows.wire import FROM_CONTROLLER
from tests.unit.packet_in import model, wire6
from tests.unit.packet_in.test_dispatch import Bed
from tests.unit.packet_in.wire6 import ADDRESSES, GATEWAY, GATEWAY_MAC, MAC, SLAAC, Nd, summed

OWN = ADDRESSES[SLAAC]
OUTSIDE = IPv6Address("2001:db8:ffff::9")
ROUTER = IPv6Address("2001:db8:f::1")
ROUTER_MAC = bytes.fromhex("001122334455")
SMALL = 1300


def packet(
    size: int = 1400,
    *,
    source: IPv6Address = OWN,
    destination: IPv6Address = OUTSIDE,
    hops: int = 1,
    protocol: int = 17,
    payload: bytes | None = None,
    eth: bytes = GATEWAY_MAC + MAC,
) -> bytes:
    body = bytes(size - 40) if payload is None else payload
    return eth + b"\x86\xdd" + wire6.ipv6(source, destination, protocol, body, hops)


def world(**fields: object) -> Snapshot:
    there = Ipv6Subnet("six-out", IPv6Network("2001:db8:f::/64"), ROUTER)
    outside = replace(model.external(), ipv6_subnets=(there,), mtu=SMALL)
    return model.cloud(networks=(wire6.network(SLAAC, **fields), outside), ports=(wire6.port(SLAAC),))


def error(output: Output | Resubmit, kind: int, rest: int, asked: bytes) -> tuple[bytes, IPv6Address, IPv6Address]:
    """Asserts that it is a sound error about a packet. Its Ethernet addresses, its source and destination."""
    frame = output.frame
    assert frame[12:14] == b"\x86\xdd" and len(frame) <= 14 + 1280
    size, protocol, hops = struct.unpack_from("!HBB", frame, 18)
    source, destination = IPv6Address(frame[22:38]), IPv6Address(frame[38:54])
    message = frame[54:]
    assert (size, protocol, hops) == (len(message), 58, 64) and summed(source, destination, 58, message) == 0xFFFF
    assert message[:2] == bytes((kind, 0)) and int.from_bytes(message[4:8]) == rest
    assert asked[14:].startswith(message[8:]) and len(message) == min(1240, 8 + len(asked) - 14)
    return frame[:12], source, destination


def test_a_hop_limit_that_is_used_up() -> None:
    bed = Bed(world())
    (got,) = bed.dispatcher.handle(cookie(Rule.PUNT_HOP_LIMIT, 1), 100, packet())
    assert isinstance(got, Output) and got.ofport == 100
    assert error(got, 3, 0, packet()) == (MAC + GATEWAY_MAC, GATEWAY, OWN)
    assert bed.counters == {outcomes.TTL_EXPIRED: 1}


def test_the_gateway_speaks_from_its_own_address_if_it_has_one() -> None:
    own = IPv6Address("2001:db8:1::1")
    bed = Bed(world(ipv6_subnets=(wire6.subnet(SLAAC, gateway=own),)))
    (got,) = bed.dispatcher.handle(cookie(Rule.PUNT_HOP_LIMIT, 1), 100, packet())
    assert error(got, 3, 0, packet())[1] == own  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (packet(hops=2), outcomes.TTL_SILENT),
        (packet(source=wire6.LINK_LOCAL), outcomes.SPOOFED_SOURCE),
        (packet(source=OUTSIDE), outcomes.SPOOFED_SOURCE),
        (packet(eth=GATEWAY_MAC + b"\2" * 6), outcomes.SPOOFED_SOURCE),
        (packet(destination=IPv6Address("ff0e::1")), outcomes.TTL_SILENT),
        (packet(protocol=58, payload=b"\1\0" + bytes(60)), outcomes.TTL_SILENT),
        (packet(protocol=58, payload=b"\x89\0" + bytes(60)), outcomes.TTL_SILENT),
        (packet(protocol=0, payload=b"\x3a\0" + bytes(6) + b"\1\0" + bytes(60)), outcomes.TTL_SILENT),
        (packet(protocol=44, payload=b"\x3a\0\0\x08" + bytes(60)), outcomes.TTL_SILENT),
        (packet(protocol=60, payload=b"\x3a\x09" + bytes(60)), outcomes.TTL_SILENT),
        (packet(protocol=58, payload=b"\x80\0" + bytes(60)), outcomes.TTL_EXPIRED),
        (packet(protocol=44, payload=b"\x11\0\0\x08" + bytes(60)), outcomes.TTL_SILENT),
        (packet(protocol=44, payload=b"\x11\0\0\x01" + bytes(60)), outcomes.TTL_EXPIRED),
        (packet()[:60], outcomes.MALFORMED),
        (b"", outcomes.MALFORMED),
    ],
)
def test_who_is_told_and_who_is_not(frame: bytes, expected: str) -> None:
    bed = Bed(world())
    answered = bed.dispatcher.handle(cookie(Rule.PUNT_HOP_LIMIT, 1), 100, frame)
    assert bed.counters == {expected: 1} and bool(answered) is (expected == outcomes.TTL_EXPIRED)


def test_too_big_for_the_outside() -> None:
    bed = Bed(world())
    asked = packet(hops=63)
    (got,) = bed.dispatcher.handle(cookie(Rule.PUNT_TOO_BIG, 1), 100, asked)
    assert isinstance(got, Output) and error(got, 2, SMALL, asked) == (MAC + GATEWAY_MAC, GATEWAY, OWN)
    assert bed.dispatcher.handle(cookie(Rule.PUNT_TOO_BIG, 1), 100, packet(SMALL)) == ()
    assert bed.counters == {outcomes.TOO_LARGE: 1, outcomes.TOO_LARGE_SILENT: 1}


def test_too_big_for_another_network_of_the_router() -> None:
    base = world()
    small = replace(base.networks["net-shared"], mtu=SMALL)
    bed = Bed(model.cloud(networks=(base.networks["net-per_host"], small), ports=(wire6.port(SLAAC),)))
    routed = packet(eth=b"\2" * 6 + GATEWAY_MAC, hops=63)
    (got,) = bed.dispatcher.handle(cookie(Rule.PUNT_TOO_BIG_IN, small.key), 100, routed)
    assert isinstance(got, Output) and error(got, 2, SMALL, routed) == (MAC + GATEWAY_MAC, GATEWAY, OWN)


def test_too_big_from_outside_is_told_outside() -> None:
    bed = Bed(world(mtu=SMALL))
    asked = packet(source=OUTSIDE, destination=OWN, eth=MAC + GATEWAY_MAC, hops=63)
    (got,) = bed.dispatcher.handle(cookie(Rule.PUNT_TOO_BIG_IN, 1), model.UPLINK, asked)
    assert isinstance(got, Resubmit) and (got.table, got.network_key) == (Table.NAT_EGRESS, 1)
    assert error(got, 2, SMALL, asked) == (GATEWAY_MAC + MAC, OWN, OUTSIDE)


# next hops


def claim(**fields: object) -> Nd:
    advertisement = Nd(
        kind=136, source=ROUTER, destination=nd_address(), mac=ROUTER_MAC, body=b"\xe0\0\0\0" + ROUTER.packed,
        options=b"\2\1" + ROUTER_MAC,
    )  # fmt: skip
    return advertisement.change(**fields)


def nd_address() -> IPv6Address:
    return nd.node_address(node_mac(1))


PUNT_ND = cookie(Rule.PUNT_ROUTER_ND, model.EXTERNAL_KEY)
KNOWN = ("n1", Neighbour("net-out", ROUTER, "00:11:22:33:44:55"))


def test_a_router_is_learned() -> None:
    bed = Bed(world())
    unasked = claim(destination=wire6.ALL_NODES, body=b"\xa0\0\0\0" + ROUTER.packed)
    for good in (claim(), claim(options=b""), unasked):
        assert bed.handle(PUNT_ND, model.UPLINK, good.frame()) is None
    assert bed.seen == [KNOWN] * 3 and bed.counters == {outcomes.NEIGHBOUR_SEEN: 3}


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (claim(hops=64), outcomes.MALFORMED),
        (claim(kind=135), outcomes.MALFORMED),
        (claim(checksum=1), outcomes.MALFORMED),
        (claim(mac=b"\2" * 6), outcomes.MALFORMED),
        (claim(mac=b"\1" * 6, options=b"\2\1" + b"\1" * 6), outcomes.MALFORMED),
        (claim(destination=wire6.ALL_NODES), outcomes.MALFORMED),
        (claim(body=bytes(4) + IPv6Address("ff02::9").packed), outcomes.MALFORMED),
        (claim(body=bytes(4) + OUTSIDE.packed), outcomes.NEIGHBOUR_UNWANTED),
    ],
)
def test_what_is_not_learned(bad: Nd, expected: str) -> None:
    bed = Bed(world())
    bed.handle(PUNT_ND, model.UPLINK, bad.frame())
    assert bed.seen == [] and bed.counters == {expected: 1}


def test_only_from_the_uplink() -> None:
    bed = Bed(world())
    bed.handle(PUNT_ND, 100, claim().frame())
    assert bed.seen == [] and bed.counters == {outcomes.WRONG_IN_PORT: 1}


def test_a_packet_without_a_way_on_is_kept_and_its_router_asked_for() -> None:
    bed = Bed(world())
    punt = cookie(Rule.PUNT_UNRESOLVED_IPV6, model.EXTERNAL_KEY)
    for target, hop in ((OUTSIDE, ROUTER), (ROUTER + 8, ROUTER + 8)):
        (got,) = bed.dispatcher.handle(punt, 100, packet(100, destination=target))
        asked = nd.parse(got.frame) if isinstance(got, Output) else None
        assert asked is not None and asked.kind == 135 and asked.body[4:] == hop.packed
        assert got.frame[:6] == b"\x33\x33\xff" + hop.packed[13:]  # type: ignore[union-attr]
    assert bed.dispatcher.handle(punt, 100, packet(100)) == ()
    assert bed.kept == 3 and len(bed.unresolved) == 2
    assert bed.dispatcher.handle(punt, FROM_CONTROLLER, b"") == ()


def test_errors_quote_no_more_than_there_is() -> None:
    padded = packet(100) + bytes(30)
    told = icmpv6.time_exceeded(padded, GATEWAY, 1)
    assert told is not None and len(told) == 14 + 40 + 8 + 100
