"""What is larger than the way out takes: cut, or its sender told."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from controller.packet_in import frames, icmp, outcomes
from controller.packet_in.fragments import fragments, with_ttl
from controller.packet_in.outputs import Output, Outputs, Resubmit
from flows.model import (
    Binding,
    FixedIp,
    FloatingIp,
    FloatingIpChange,
    GatewayMode,
    NetworkChange,
    PortChange,
    PortForwarding,
    StaticRoute,
)
from flows.pipeline import GATEWAY_MAC, Table
from flows.rules import Rule, cookie
from flows.snapshot import Snapshot
from tests.unit.packet_in import model
from tests.unit.packet_in.test_dispatch import Bed
from tests.unit.packet_in.test_frames import VM_MAC, packet
from tests.unit.packet_in.wire import internet_sum, ip

TOO_LARGE = cookie(Rule.PUNT_TOO_LARGE, 1)
DF, MF = 0x4000, 0x2000
MTU = 576
FIXED = IPv4Address("10.0.0.5")


def cloud(mtu: int = MTU, mode: GatewayMode = GatewayMode.PER_HOST) -> Snapshot:
    return model.cloud(networks=(replace(model.external(), mtu=mtu), model.network(mode, mtu=1500)))


def large(size: int = 1400, **fields: object) -> bytes:
    """A UDP packet of `size` bytes of payload as the VM sent it, its TTL one less."""
    values = {"payload": bytes(range(250)) * 6, "protocol": 17, "ttl": 63} | fields
    values["payload"] = values["payload"][:size]  # type: ignore[index]
    return packet(**values)  # type: ignore[arg-type]


def read(part: bytes, offset: int = 14) -> tuple[int, int, bool, bytes, bytes]:
    """(id, fragment offset in bytes, more follow, options, data). Asserts that the header is sound."""
    words, _, length, identification, fragment = struct.unpack_from(">BBHHH", part, offset)
    size = (words & 15) * 4
    assert length == len(part) - offset and internet_sum(part[offset : offset + size]) == 0xFFFF
    assert not fragment & DF
    data = part[offset + size :]
    return identification, (fragment & 0x1FFF) * 8, bool(fragment & MF), part[offset + 20 : offset + size], data


def joined(parts: list[bytes], offset: int = 0) -> bytes:
    """What a receiver makes of the parts, which begin at `offset` of the whole."""
    data = b""
    for part in parts:
        _, at, _, _, piece = read(part, 0)
        assert at == offset + len(data)
        data += piece
    return data


class TestFragments:
    @pytest.mark.parametrize("mtu", [68, 575, 576, 1420])
    @pytest.mark.parametrize("size", [1401, 1400, 1399, 1393])
    def test_the_parts_are_the_whole(self, mtu: int, size: int) -> None:
        datagram = large(size)[14:]
        parts = fragments(datagram, mtu)
        assert joined(parts) == datagram[20:] and all(len(part) <= mtu for part in parts)
        assert [read(part, 0)[2] for part in parts] == [True] * (len(parts) - 1) + [False]
        assert {(read(part, 0)[0], part[8], part[9], part[12:20]) for part in parts} == {
            (7, 63, 17, FIXED.packed + ip("198.51.100.9"))
        }
        assert all(len(part) > mtu - 8 for part in parts[:-1]), "as few as possible"

    def test_golden(self) -> None:
        datagram = large(60)[14:]
        first, second = fragments(datagram, 68)
        assert first.hex() == "4500004400072000" + "3f112761" + "0a000005c6336409" + bytes(range(48)).hex()
        assert second.hex() == "4500002000070006" + "3f11477f" + "0a000005c6336409" + bytes(range(48, 60)).hex()

    def test_a_fragment_is_cut_into_fragments(self) -> None:
        for flag, last in ((MF, True), (0, False)):
            datagram = large(1000, fragment=flag | 185)[14:]
            parts = fragments(datagram, 500)
            assert joined(parts, 185 * 8) == datagram[20:]
            assert [read(part, 0)[2] for part in parts] == [True, True, last]

    @pytest.mark.parametrize(("size", "mtu"), [(1480, 1400), (1480, 576), (1400, 1396), (1376, 1396)])
    def test_no_part_of_what_others_follow_is_small(self, size: int, mtu: int) -> None:
        """Conntrack takes a small fragment for an attack unless it is the last of its datagram."""
        parts = fragments(large(size, fragment=MF)[14:], mtu)
        assert joined(parts) == large(size)[34:] and max(map(len, parts)) <= mtu
        assert max(map(len, parts)) - min(map(len, parts)) < 8 * len(parts)
        assert len(parts) == -(-size // (mtu - 20 & ~7))

    @pytest.mark.parametrize(
        ("options", "later"),
        [
            ("830704" + "01020304" + "00", "83070401020304" + "00"),  # loose source route: copied
            ("0707040a0a0a0a" + "00", ""),  # record route: not
            ("01" + "0703" + "04" + "820b0102030405060708" + "09" + "00", "820b010203040506070809" + "00"),
            ("00830704" + "01020304", ""),  # behind the end
            ("8300" + "0000", ""),  # of no length
            ("83ff" + "0000", ""),  # longer than the header
            ("01010183", ""),  # cut
        ],
    )
    def test_options(self, options: str, later: str) -> None:
        datagram = large(1000, options=bytes.fromhex(options))[14:]
        parts = fragments(datagram, 500)
        assert [read(part, 0)[3].hex() for part in parts] == [options, later, later]
        assert joined(parts) == datagram[20 + len(options) // 2 :]

    def test_what_fits_stays_whole(self) -> None:
        datagram = large(100)[14:]
        (part,) = fragments(datagram, 1500)
        assert part[20:] == datagram[20:] and read(part, 0)[1:3] == (0, False)

    def test_ttl(self) -> None:
        datagram = large(100, options=b"\x01" * 4)[14:]
        assert with_ttl(datagram, 64)[8] == 64 and internet_sum(with_ttl(datagram, 64)[:24]) == 0xFFFF
        assert with_ttl(datagram, 64)[12:] == datagram[12:]


def again(outputs: Outputs) -> set[tuple[int, ...]]:
    """Where parts go in again: table, network, port, router, flags."""
    assert all(isinstance(each, Resubmit) for each in outputs)
    return {(one.table, *one[1:2], *one[3:]) for one in outputs if isinstance(one, Resubmit)}


def test_what_may_be_cut_is_cut_and_is_routed_again() -> None:
    bed = Bed(cloud())
    network = bed.snapshot.networks["net-per_host"]
    outputs = bed.dispatcher.handle(TOO_LARGE, 100, large() + b"padding")
    assert len(outputs) == 3
    assert again(outputs) == {(Table.ROUTING, network.key, 10, network.router_key, 0)}
    assert {each.frame[:14] for each in outputs} == {large()[:14]}
    assert {each.frame[22] for each in outputs} == {64}, "table 28 takes one off again"
    assert joined([each.frame[14:] for each in outputs]) == large()[34:]
    assert bed.counters == {outcomes.FRAGMENTED: 1}


def told(got: Output | None) -> tuple[IPv4Address, int]:
    """Who says it, and what fits. Asserts that the answer is sound."""
    assert got is not None and got.ofport == 100
    frame = got.frame
    assert frame[:6] == VM_MAC and frame[23] == 1 and frame[30:34] == FIXED.packed
    assert internet_sum(frame[14:34]) == 0xFFFF and internet_sum(frame[34:] + bytes(len(frame) % 2)) == 0xFFFF
    assert frame[34:36] == b"\x03\x04" and frame[38:40] == bytes(2) and len(frame) - 14 <= 576
    return IPv4Address(frame[26:30]), int.from_bytes(frame[40:42], "big")


def test_who_forbids_to_cut_is_told_what_fits() -> None:
    bed = Bed(cloud())
    asked = large(fragment=DF)
    got = bed.handle(TOO_LARGE, 100, asked)
    assert told(got) == (IPv4Address("10.0.0.2"), MTU)
    assert got is not None and got.frame[6:12] == frames.mac_bytes(GATEWAY_MAC)
    quote = got.frame[42:]
    assert quote[8] == 64 and quote[12:] == asked[26 : 14 + 548], "the packet as it was sent"
    assert bed.counters == {outcomes.TOO_LARGE: 1}


def test_golden_answer() -> None:
    asked = large(20, fragment=DF)
    got = icmp.fragmentation_needed(asked, IPv4Address("10.0.0.2"), 1400)
    assert got is not None and got.hex() == (
        "fa163e00000102544c0000010800" "4500004400004000400126b30a0000020a000005"
        "0304a49c0000" "0578" "4500002800074000" "3f110000" "0a000005c6336409" + bytes(range(20)).hex()
    )  # fmt: skip


def test_a_router_of_the_operators_answers_by_its_own_mac() -> None:
    bed = Bed(cloud(mode=GatewayMode.EXTERNAL))
    number = model.MODES.index(GatewayMode.EXTERNAL)
    asked = large(fragment=DF, eth=bytes.fromhex("020000000099"))
    got = bed.handle(cookie(Rule.PUNT_TOO_LARGE, number + 1), 100 + number, asked)
    assert got is not None and told(got._replace(ofport=100)) == (IPv4Address("10.0.0.1"), MTU)
    assert got.frame[6:12].hex() == "020000000099"


# to the gateway itself

ECHO = cookie(Rule.PUNT_LARGE_ECHO, 1)
GATEWAY = IPv4Address("10.0.0.2")


def small(mtu: int = 1400) -> Bed:
    """A network whose VMs were told an MTU that this one pays no heed to."""
    return Bed(model.cloud(networks=(model.external(), model.network(GatewayMode.PER_HOST, mtu=mtu))))


def large_echo(size: int = 1401, **fields: object) -> bytes:
    """An echo request to the gateway, a datagram of `size` bytes."""
    message = b"\x08\0\0\0" + b"\x12\x34\0\x01" + bytes(range(256)) * 6
    values = {"payload": message[: size - 20], "protocol": 1, "ttl": 255, "destination": GATEWAY.packed} | fields
    return packet(**values)  # type: ignore[arg-type]


def test_a10_the_gateway_tells_what_fits() -> None:
    bed = small()
    assert told(bed.handle(ECHO, 100, large_echo(fragment=DF))) == (GATEWAY, 1400)
    assert bed.counters == {outcomes.TOO_LARGE: 1}


def test_a10_the_gateway_answers_in_parts_who_may_be_cut() -> None:
    bed = small()
    outputs = bed.dispatcher.handle(ECHO, 100, large_echo() + b"padding")
    assert all(isinstance(each, Output) and each.ofport == 100 for each in outputs)
    parts = [each.frame for each in outputs]
    assert {part[:14] for part in parts} == {VM_MAC + frames.mac_bytes(GATEWAY_MAC) + b"\x08\0"}
    assert {(part[22], part[26:30], part[30:34]) for part in parts} == {(64, GATEWAY.packed, FIXED.packed)}
    assert [len(part) - 14 <= 1400 for part in parts] == [True, True]
    message = joined([part[14:] for part in parts])
    assert message[:2] == bytes(2) and message[4:] == large_echo()[38:] and internet_sum(message + b"\0") == 0xFFFF
    assert bed.counters == {outcomes.FRAGMENTED: 1}


@pytest.mark.parametrize(
    ("frame", "outcome"),
    [
        (large_echo(1400), outcomes.TOO_LARGE_SILENT),  # the flow that sent it here is on its way out
        (large_echo(source=ip("10.0.0.99")), outcomes.SPOOFED_SOURCE),
        (large_echo()[:400], outcomes.MALFORMED),
        (large_echo(fragment=DF, payload=b"\x03" + bytes(1400)), outcomes.TOO_LARGE_SILENT),
    ],
)
def test_a10_what_gets_no_answer(frame: bytes, outcome: str) -> None:
    bed = small()
    assert bed.dispatcher.handle(ECHO, 100, frame) == ()
    assert bed.counters == {outcome: 1}


def floating(mtu: int, network_mtu: int = MTU) -> Snapshot:
    other = replace(model.external(), id="net-floating", key=51, mtu=mtu)
    snapshot = model.cloud(networks=(replace(model.external(), mtu=network_mtu), other))
    held = FloatingIp("f", 1, "net-floating", IPv4Address("203.0.113.50"), port_id="port-per_host", fixed_ip=FIXED)
    return snapshot.apply(2, [FloatingIpChange("f", held)])


def test_the_floating_ips_network_counts_whatever_the_ports_own_takes() -> None:
    assert told(Bed(floating(500)).handle(TOO_LARGE, 100, large(fragment=DF)))[1] == 500
    assert told(Bed(floating(1000)).handle(TOO_LARGE, 100, large(fragment=DF)))[1] == 1000
    assert Bed(floating(1500)).handle(TOO_LARGE, 100, large(fragment=DF)) is None


def forwarded(mtu: int) -> Snapshot:
    """UDP ports from 5000 on of a floating IP on a network with an MTU of its own lead to 53 and on."""
    other = replace(model.external(), id="net-floating", key=51, mtu=mtu)
    snapshot = model.cloud(networks=(replace(model.external(), mtu=MTU), other))
    led = PortForwarding("fw", 1, 17, 5000, 5009, "port-per_host", FIXED, 53)
    held = FloatingIp("f", 1, "net-floating", IPv4Address("203.0.113.50"), port_forwardings=(led,))
    return snapshot.apply(2, [FloatingIpChange("f", held)])


@pytest.mark.parametrize(("source_port", "mtu"), [(52, MTU), (53, 1000), (62, 1000), (63, MTU)])
def test_a_forwarded_ports_answers_leave_by_the_network_of_its_floating_ip(source_port: int, mtu: int) -> None:
    asked = large(fragment=DF, payload=source_port.to_bytes(2, "big") + bytes(1400))
    assert told(Bed(forwarded(1000)).handle(TOO_LARGE, 100, asked))[1] == mtu


@pytest.mark.parametrize(("other", "most"), [(500, 500), (1000, MTU)])
def test_a_fragment_that_may_be_an_answer_of_a_forwarded_port_is_cut_for_both_ways(other: int, most: int) -> None:
    asked = large(fragment=MF, payload=bytes((0, 53)) + bytes(1398))
    parts = Bed(forwarded(other)).dispatcher.handle(TOO_LARGE, 100, asked)
    assert most - 200 < max(len(each.frame) - 14 for each in parts if isinstance(each, Resubmit)) <= most


INTO = cookie(Rule.PUNT_TOO_LARGE_IN, 1)
ROUTED = frames.mac_bytes(GATEWAY_MAC)


def narrow(*floating_ips: FloatingIp) -> Snapshot:
    """A network with a small MTU, beside a larger one of its router; outside there is room."""
    small = replace(model.network(), mtu=MTU)
    wide = model.network(GatewayMode.SHARED, router_key=1, subnets=(replace(model.subnet(), id="s-shared", cidr=WIDE),))
    fixed = FixedIp("s-shared", WIDE[5])
    sender = replace(model.port(GatewayMode.SHARED), fixed_ips=(fixed,))
    snapshot = model.cloud(networks=(model.external(), small, wide)).apply(2, [PortChange(sender.id, sender)])
    return snapshot.apply(3, [FloatingIpChange(each.id, each) for each in floating_ips])


WIDE = IPv4Network("10.1.0.0/24")


def test_from_a_network_with_a_larger_mtu() -> None:
    gateway = replace(model.subnet(), id="s-shared", cidr=WIDE, gateway=WIDE[1])
    snapshot = narrow()
    wide = replace(snapshot.networks["net-shared"], subnets=(gateway,))
    bed = Bed(snapshot.apply(4, [NetworkChange(wide.id, wide)]))
    sent = large(fragment=DF, source=WIDE[5].packed, destination=FIXED.packed, eth=bytes.fromhex("03544c000001"))
    routed = sent[:6] + ROUTED + sent[12:]
    (told_,) = bed.dispatcher.handle(INTO, 101, routed)
    assert isinstance(told_, Output) and told_.ofport == 101
    assert told_.frame[:12] == VM_MAC + ROUTED and told_.frame[26:34] == WIDE[1].packed + WIDE[5].packed
    assert told_.frame[34:36] == b"\x03\x04" and int.from_bytes(told_.frame[40:42], "big") == MTU
    sent = large(source=WIDE[5].packed, destination=FIXED.packed)
    parts = bed.dispatcher.handle(INTO, 101, sent[:6] + ROUTED + sent[12:])
    assert again(parts) == {(Table.ROUTING, wide.key, 11, wide.router_key, 0)}
    assert {each.frame[:12] for each in parts} == {ROUTED + VM_MAC}
    assert joined([each.frame[14:] for each in parts]) == sent[34:]
    assert bed.counters == {outcomes.TOO_LARGE: 1, outcomes.FRAGMENTED: 1}


def from_outside(**fields: object) -> bytes:
    return large(source=ip("198.51.100.9"), destination=FIXED.packed, **fields)


OWN = FloatingIp("f", 1, "net-out", IPv4Address("203.0.113.50"), port_id="port-per_host", fixed_ip=FIXED)
LED = replace(
    OWN,
    port_id=None,
    fixed_ip=None,
    port_forwardings=(PortForwarding("fw", 1, 17, 53, 53, "port-per_host", FIXED, 53),),
)


@pytest.mark.parametrize(("led", "as_ports"), [((), [0]), ((OWN,), [10]), ((LED,), [10, 0])])
def test_a_sender_outside_is_told_by_the_ways_that_its_packet_may_have_come(
    led: tuple[FloatingIp, ...], as_ports: list[int]
) -> None:
    bed = Bed(narrow(*led))
    asked = from_outside(fragment=DF)
    outputs = bed.dispatcher.handle(INTO, model.UPLINK, asked)
    assert [(each.table, each.network_key, each.port_key) for each in outputs if isinstance(each, Resubmit)] == [
        (Table.NAT_EGRESS, 1, key) for key in as_ports
    ]
    frame = outputs[0].frame
    assert frame[:12] == ROUTED + VM_MAC and frame[26:34] == FIXED.packed + ip("198.51.100.9")
    assert frame[34:36] == b"\x03\x04" and int.from_bytes(frame[40:42], "big") == MTU
    assert frame[42:] == asked[14 : 14 + 548]


def test_what_comes_from_outside_is_cut_behind_the_translation() -> None:
    bed = Bed(narrow(OWN))
    outputs = bed.dispatcher.handle(INTO, model.UPLINK, from_outside())
    assert {(each.table, each.network_key, each.frame[:12]) for each in outputs if isinstance(each, Resubmit)} == {
        (Table.L2_FORWARD, 1, VM_MAC + ROUTED)
    }
    assert joined([each.frame[14:] for each in outputs]) == from_outside()[34:] and len(outputs) == 3


@pytest.mark.parametrize(
    ("cookie_", "frame", "expected"),
    [
        (cookie(Rule.PUNT_TOO_LARGE_IN, 999), from_outside(), outcomes.UNKNOWN_OBJECT),
        (INTO, large(destination=ip("10.0.0.77")), outcomes.NO_RECEIVER),
        (INTO, b"", outcomes.NO_RECEIVER),
        (INTO, from_outside(size=500), outcomes.TOO_LARGE_SILENT),
        (INTO, from_outside(fragment=DF | 1), outcomes.TOO_LARGE_SILENT),
        (INTO, from_outside()[:900], outcomes.MALFORMED),
    ],
)
def test_what_comes_from_outside_and_is_not_answered(cookie_: int, frame: bytes, expected: str) -> None:
    bed = Bed(narrow())
    assert bed.dispatcher.handle(cookie_, model.UPLINK, frame) == () and bed.counters == {expected: 1}


def test_cutting_is_rate_limited_by_the_port_that_gets_it() -> None:
    bed = Bed(narrow())
    for _ in range(110):
        bed.dispatcher.handle(INTO, model.UPLINK, from_outside())
    assert bed.counters == {outcomes.FRAGMENTED: 100, outcomes.RATE_LIMITED: 10}


def test_from_behind_the_next_hop_of_a_route() -> None:
    behind = ip("10.99.0.7")
    bed = Bed(cloud())
    assert bed.dispatcher.handle(TOO_LARGE, 100, large(source=behind)) == ()
    assert bed.counters == {outcomes.SPOOFED_SOURCE: 1}
    routed = model.network(routes=(StaticRoute(IPv4Network("10.99.0.0/16"), FIXED),))
    bed = Bed(model.cloud(networks=(replace(model.external(), mtu=MTU), routed)))
    assert len(bed.dispatcher.handle(TOO_LARGE, 100, large(source=behind))) == 3


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (large(500), outcomes.TOO_LARGE_SILENT),
        (large(fragment=DF, protocol=1, payload=b"\x03" + bytes(1400)), outcomes.TOO_LARGE_SILENT),
        (large(fragment=DF | 1), outcomes.TOO_LARGE_SILENT),
        (large(fragment=DF, destination=ip("224.0.0.5")), outcomes.TOO_LARGE_SILENT),
        (large(source=ip("10.0.0.6")), outcomes.SPOOFED_SOURCE),
        (large()[:6] + b"\x02" * 6 + large()[12:], outcomes.SPOOFED_SOURCE),
        (large()[:900], outcomes.MALFORMED),
        (large(ttl=255), outcomes.MALFORMED),
        (b"", outcomes.MALFORMED),
    ],
)
def test_what_is_not_answered(frame: bytes, expected: str) -> None:
    bed = Bed(cloud())
    assert bed.dispatcher.handle(TOO_LARGE, 100, frame) == ()
    assert bed.counters == {expected: 1}


@pytest.mark.parametrize(
    ("cookie_", "in_port", "expected"),
    [
        (cookie(Rule.PUNT_TOO_LARGE, 999), 100, outcomes.UNKNOWN_OBJECT),
        (TOO_LARGE, 101, outcomes.WRONG_IN_PORT),
        (TOO_LARGE, model.UPLINK, outcomes.WRONG_IN_PORT),
    ],
)
def test_the_object_must_be_where_the_packet_came_from(cookie_: int, in_port: int, expected: str) -> None:
    bed = Bed(cloud())
    assert bed.dispatcher.handle(cookie_, in_port, large()) == () and bed.counters == {expected: 1}


def test_without_a_gateway_address_only_what_may_be_cut_goes_on() -> None:
    snapshot = model.cloud(networks=(replace(model.external(), mtu=MTU),), node_=model.node(gateways=()))
    bed = Bed(snapshot)
    assert len(bed.dispatcher.handle(TOO_LARGE, 100, large())) == 3
    assert bed.dispatcher.handle(TOO_LARGE, 100, large(fragment=DF)) == ()
    assert bed.counters == {outcomes.FRAGMENTED: 1, outcomes.NO_GATEWAY: 1}


def test_rate_limited_by_port() -> None:
    bed = Bed(cloud())
    for _ in range(110):
        bed.dispatcher.handle(TOO_LARGE, 100, large())
    assert bed.counters == {outcomes.FRAGMENTED: 100, outcomes.RATE_LIMITED: 10}


def test_what_comes_in_by_a_networks_only_way_out_is_cut_for_a_port_of_another_node() -> None:
    small = replace(model.network(GatewayMode.SINGLE), mtu=MTU, gateway_node="n1")
    elsewhere = replace(model.port(GatewayMode.SINGLE), binding=Binding("n2", 101, 1))
    into = cookie(Rule.PUNT_TOO_LARGE_IN, small.key)
    for gateway_node, expected in (("n1", {(Table.L2_FORWARD, small.key, 0, 0, 0)}), ("n2", set())):
        networks = (model.external(), replace(small, gateway_node=gateway_node))
        bed = Bed(model.cloud(networks=networks, ports=(elsewhere,)))
        outputs = bed.dispatcher.handle(into, model.UPLINK, from_outside())
        assert again(outputs) == expected
        assert {each.frame[:12] for each in outputs} == ({VM_MAC + ROUTED} if expected else set())
    bed = Bed(model.cloud(networks=(model.external(), small), ports=(elsewhere,)))
    (told_,) = bed.dispatcher.handle(into, model.UPLINK, from_outside(fragment=DF))
    assert again((told_,)) == {(Table.NAT_EGRESS, small.key, 0, 0, 0)}
