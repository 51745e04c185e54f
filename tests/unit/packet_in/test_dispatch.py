"""From cookie to answer: who may ask, how often, and what is counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

import pytest
from structlog.testing import capture_logs

from controller.packet_in import frames, outcomes
from controller.packet_in.dispatch import Dispatcher
from controller.packet_in.floods import Mute
from controller.packet_in.holding import Claim, Place
from controller.packet_in.leases import LeaseEvent, LeaseLog, LeaseState
from controller.packet_in.limits import TokenBuckets
from controller.packet_in.outputs import Output
from controller.packet_in.services import DEFAULT_LIMITS, Limit, Services
from controller.packet_in.unresolved import Unresolved
from flows.model import AddressPair, Binding, GatewayMode, Neighbour, OwnAddress, StaticRoute
from flows.rules import Rule, cookie
from flows.snapshot import Snapshot
from tests.unit.packet_in import model, wire
from tests.unit.packet_in.test_frames import TestNeighbours, packet
from tests.unit.packet_in.wire import Message, take_apart

ADDRESS = IPv4Address("10.0.0.5")
DHCP = cookie(Rule.PUNT_DHCP, 10)
NEIGHBOUR = cookie(Rule.PUNT_NEIGHBOUR, model.EXTERNAL_KEY)
TTL = cookie(Rule.PUNT_TTL_EXPIRED, 1)


@dataclass
class Bed:
    """A dispatcher with everything around it in the hand of the test."""

    snapshot: Snapshot = field(default_factory=model.cloud)
    node: str = "n1"
    now: float = 0.0
    counters: dict[str, int] = field(default_factory=dict)
    leases: LeaseLog = field(default_factory=LeaseLog)
    seen: list[tuple[str, Neighbour]] = field(default_factory=list)
    unresolved: Unresolved = field(default_factory=Unresolved)
    holding: list[tuple[Place, Claim]] = field(default_factory=list)
    kept: int = 0
    muted: Callable[[str, Mute], None] = lambda node, mute: None

    def __post_init__(self) -> None:
        services = Services(
            snapshot=lambda: self.snapshot,
            leases=self.leases,
            neighbour_seen=lambda node, neighbour: self.seen.append((node, neighbour)),
            unresolved=self.unresolved,
            packet_kept=self._packet_kept,
            holds=lambda place, claim: self.holding.append((place, claim)),
            counters=self.counters,
            muted=self.muted,
            limits={**DEFAULT_LIMITS, Rule.PUNT_DHCP: Limit(rate=2, burst=4)},
            monotonic=lambda: self.now,
            wall_clock=lambda: 1_000_000.0,
        )
        self.dispatcher = Dispatcher(self.node, services)

    def _packet_kept(self) -> None:
        self.kept += 1

    def handle(self, cookie_: int, in_port: int, frame: bytes) -> Output | None:
        """What is sent, when that is one packet at most."""
        outputs = self.dispatcher.handle(cookie_, in_port, frame)
        assert len(outputs) <= 1
        return outputs[0] if outputs else None

    def counted(self) -> list[str]:
        return sorted(self.counters)


def test_dhcp_goes_back_to_the_port() -> None:
    bed = Bed()
    got = bed.handle(DHCP, 100, Message().frame())
    assert got is not None and got[0] == 100 and take_apart(got[1]).yiaddr == ADDRESS
    assert bed.dispatcher.handle(DHCP, 100, memoryview(Message().frame())) == (got,)
    assert bed.counters == {outcomes.DHCP_OFFER: 2} and not len(bed.leases)


def test_leases_are_recorded() -> None:
    bed = Bed()
    bed.handle(DHCP, 100, Message(type=wire.REQUEST, options=((50, ADDRESS.packed),)).frame())
    bed.handle(DHCP, 100, Message(type=wire.RELEASE, ciaddr=ADDRESS).frame())
    assert bed.leases.drain() == [
        LeaseEvent(10, ADDRESS, LeaseState.BOUND, 1_086_400.0),
        LeaseEvent(10, ADDRESS, LeaseState.RELEASED, 1_000_000.0),
    ]
    assert bed.leases.drain() == []


def test_a_decline_is_logged_once_until_it_is_stored() -> None:
    bed = Bed()
    decline = Message(type=wire.DECLINE, options=((50, ADDRESS.packed),)).frame()
    with capture_logs() as logged:
        assert [bed.handle(DHCP, 100, decline) for _ in range(3)] == [None] * 3
        assert bed.counters == {outcomes.DHCP_DECLINE: 3} and [one["event"] for one in logged] == ["address_declined"]
        assert [event.state for event in bed.leases.drain()] == [LeaseState.DECLINED]
        bed.handle(DHCP, 100, decline)
    assert len(logged) == 2


@pytest.mark.parametrize(
    ("cookie_", "in_port", "expected"),
    [
        (0, 100, outcomes.UNKNOWN_COOKIE),
        (1 << 63, 100, outcomes.UNKNOWN_COOKIE),
        (cookie(Rule.ROUTE_SUBNET, 1), 100, outcomes.UNKNOWN_COOKIE),
        (cookie(Rule.PUNT_DHCP, 999), 100, outcomes.UNKNOWN_OBJECT),
        (cookie(Rule.PUNT_NEIGHBOUR, 999), model.UPLINK, outcomes.UNKNOWN_OBJECT),
        (cookie(Rule.PUNT_TTL_EXPIRED, 999), 100, outcomes.UNKNOWN_OBJECT),
        (DHCP, 101, outcomes.WRONG_IN_PORT),
        (DHCP, model.UPLINK, outcomes.WRONG_IN_PORT),
        (NEIGHBOUR, 100, outcomes.WRONG_IN_PORT),
        (TTL, 101, outcomes.WRONG_IN_PORT),
        (TTL, 555, outcomes.WRONG_IN_PORT),
    ],
)
def test_the_object_must_be_where_the_packet_came_from(cookie_: int, in_port: int, expected: str) -> None:
    bed = Bed()
    assert bed.handle(cookie_, in_port, Message().frame()) is None
    assert bed.counters == {expected: 1}


def test_a_port_of_another_node_is_not_served() -> None:
    elsewhere = model.cloud(ports=(model.port(binding=Binding("n2", 100, 1)),))
    for bed in (Bed(elsewhere), Bed(node="n2"), Bed(model.cloud(ports=(model.port(binding=None),)))):
        assert bed.handle(DHCP, 100, Message().frame()) is None
        assert bed.counters == {outcomes.WRONG_IN_PORT: 1}


def test_a_flooding_port_gets_its_allowance_and_no_more() -> None:
    bed = Bed()
    for _ in range(10):
        bed.handle(DHCP, 100, b"rubbish")
    assert bed.counters == {outcomes.MALFORMED: 4, outcomes.RATE_LIMITED: 6}
    other = cookie(Rule.PUNT_DHCP, 11)
    assert bed.handle(other, 101, Message().frame()) is not None
    bed.now += 0.5
    assert bed.handle(DHCP, 100, Message().frame()) is not None
    assert bed.handle(DHCP, 100, Message().frame()) is None


def test_a_next_hop_is_learned() -> None:
    bed = Bed()
    assert bed.handle(NEIGHBOUR, model.UPLINK, TestNeighbours.reply()) is None
    assert bed.seen == [("n1", Neighbour("net-out", model.NEXT_HOP, "00:11:22:33:44:55"))]
    bed.handle(NEIGHBOUR, model.UPLINK, TestNeighbours.reply(sender="203.0.113.99"))
    bed.handle(NEIGHBOUR, model.UPLINK, b"")
    assert len(bed.seen) == 1
    assert bed.counted() == sorted([outcomes.NEIGHBOUR_SEEN, outcomes.NEIGHBOUR_UNWANTED, outcomes.MALFORMED])


def test_an_expired_packet_is_answered_by_the_gateway() -> None:
    bed = Bed()
    got = bed.handle(TTL, 100, packet())
    assert got is not None and got[0] == 100 and got[1][26:30] == IPv4Address("10.0.0.2").packed
    shared = bed.handle(cookie(Rule.PUNT_TTL_EXPIRED, 2), 101, packet())
    assert shared is not None and shared[1][26:30] == IPv4Address("10.0.0.1").packed
    assert bed.counters == {outcomes.TTL_EXPIRED: 2}


@pytest.mark.parametrize(
    ("mode", "frame", "expected"),
    [
        (GatewayMode.PER_HOST, packet(source=IPv4Address("10.0.0.6").packed), outcomes.SPOOFED_SOURCE),
        (GatewayMode.PER_HOST, packet()[:6] + b"\x02" * 6 + packet()[12:], outcomes.SPOOFED_SOURCE),
        (GatewayMode.PER_HOST, packet(total=4000), outcomes.MALFORMED),
        (GatewayMode.PER_HOST, b"", outcomes.MALFORMED),
        (GatewayMode.PER_HOST, packet(ttl=9), outcomes.TTL_SILENT),
        (GatewayMode.EXTERNAL, packet(), outcomes.NO_GATEWAY),
        (GatewayMode.NONE, packet(), outcomes.NO_GATEWAY),
    ],
)
def test_an_expired_packet_that_gets_no_answer(mode: GatewayMode, frame: bytes, expected: str) -> None:
    bed = Bed()
    number = model.MODES.index(mode)
    assert bed.handle(cookie(Rule.PUNT_TTL_EXPIRED, number + 1), 100 + number, frame) is None
    assert bed.counters == {expected: 1}


def test_an_expired_packet_from_behind_the_next_hop_of_a_route() -> None:
    behind = packet(source=IPv4Address("10.99.0.7").packed)
    bed = Bed()
    assert bed.handle(TTL, 100, behind) is None and bed.counters == {outcomes.SPOOFED_SOURCE: 1}
    route = StaticRoute(IPv4Network("10.99.0.0/16"), ADDRESS)
    got = Bed(model.cloud(networks=(model.network(routes=(route,)),))).handle(TTL, 100, behind)
    assert got is not None and got.frame[26:34] == IPv4Address("10.0.0.2").packed + IPv4Address("10.99.0.7").packed


def test_an_expired_packet_from_an_address_that_the_port_holds() -> None:
    """By the MAC that it has there."""
    virtual, mac = IPv4Address("10.0.0.99"), "00:00:5e:00:01:07"
    pair = AddressPair(IPv4Network(virtual), mac)
    holding = model.port(address_pairs=(pair,), held=(OwnAddress(virtual, mac),))
    sent = packet(source=virtual.packed)
    sent = sent[:6] + frames.mac_bytes(mac) + sent[12:]
    assert Bed().handle(TTL, 100, sent) is None
    got = Bed(model.cloud(ports=(holding,))).handle(TTL, 100, sent)
    assert got is not None and got.frame[30:34] == virtual.packed


def test_who_holds_an_address_is_passed_on() -> None:
    virtual = IPv4Address("10.0.0.99")
    bed = Bed(model.cloud(ports=(model.port(address_pairs=(AddressPair(IPv4Network(virtual), model.MAC),)),)))
    mac = frames.mac_bytes(model.MAC)
    body = frames.arp(frames.Arp(1, mac, virtual.packed, bytes(6), virtual.packed))
    said = frames.ethernet(frames.BROADCAST_MAC, mac, frames.ETHERTYPE_ARP, body)
    for _ in range(200):
        assert bed.handle(cookie(Rule.PUNT_HOLDER, 10), 100, said) is None
    assert set(bed.holding) == {(Place("net-per_host", virtual), Claim("port-per_host", model.MAC))}
    assert bed.counters == {outcomes.HOLDER_HEARD: 100, outcomes.RATE_LIMITED: 100}


def test_a_fault_of_ours_costs_one_packet() -> None:
    bed = Bed(model.cloud(ports=(model.port(mac="not a MAC"),)))
    with capture_logs() as logged:
        assert bed.handle(DHCP, 100, Message().frame()) is None
    assert bed.counters == {outcomes.INTERNAL_ERROR: 1} and logged[0]["exc_info"]


def test_every_count_is_declared() -> None:
    assert outcomes.DHCP_OFFER in outcomes.ALL and outcomes.TTL_SILENT in outcomes.ALL
    assert len(set(outcomes.ALL)) == len(outcomes.ALL)
    assert all(isinstance(name, str) and name.islower() for name in outcomes.ALL)


class TestTokenBuckets:
    def test_burst_then_rate(self) -> None:
        buckets = TokenBuckets(rate=10, burst=3)
        assert [buckets.allow(1, 0.0) for _ in range(4)] == [True, True, True, False]
        assert [buckets.allow(1, 0.1), buckets.allow(1, 0.1)] == [True, False]
        assert [buckets.allow(1, 99.0) for _ in range(4)] == [True, True, True, False]

    def test_bounded(self) -> None:
        buckets = TokenBuckets(rate=1, burst=1, capacity=2)
        assert [buckets.allow(key, 0.0) for key in (1, 2, 1, 3)] == [True, True, False, True]
        assert len(buckets) == 2
        assert not buckets.allow(1, 0.0)  # used later than 2, so it was 2 that made room


class TestLeaseLog:
    def test_latest_event_of_a_port_and_state(self) -> None:
        log = LeaseLog()
        events = [LeaseEvent(key, ADDRESS, LeaseState.BOUND, float(at)) for at, key in enumerate((1, 2, 1))]
        assert [log.record(event) for event in events] == [True, True, False]
        assert log.drain() == events[1:]

    def test_bounded(self) -> None:
        log = LeaseLog(capacity=2)
        for key in range(5):
            log.record(LeaseEvent(key, ADDRESS, LeaseState.BOUND, 0.0))
        assert [event.port_key for event in log.drain()] == [3, 4] and log.dropped == 3


def test_frames_helper_matches_the_model() -> None:
    assert frames.mac_text(Message().mac) == model.MAC
