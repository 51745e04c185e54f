"""Packets that wait for a MAC: what is kept, how often the hop is asked for, and what happens to the packet."""

from __future__ import annotations

import time
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import eventlet
import pytest

from controller.packet_in import frames, neighbours, outcomes, unresolved
from controller.packet_in.outputs import Output, Resubmit
from controller.packet_in.unresolved import Hop, Unresolved, asking_address, next_hop
from controller.resolver import Resolver
from controller.session_counters import Counters
from flows.model import Neighbour, Network, NetworkKind, SnatAddress, Subnet
from flows.pipeline import Table, node_mac
from flows.rules import Rule, cookie
from flows.snapshot import Snapshot
from flows.wire import FROM_CONTROLLER
from tests.unit.packet_in import model
from tests.unit.packet_in.test_dispatch import Bed
from tests.unit.packet_in.test_frames import packet
from tests.unit.packet_in.wire import ip

UNRESOLVED = cookie(Rule.PUNT_UNRESOLVED, model.EXTERNAL_KEY)
ON_LINK = cookie(Rule.PUNT_ON_LINK, model.EXTERNAL_KEY)
FAR = IPv4Address("198.51.100.9")
NEAR = IPv4Address("203.0.113.77")
FIRST = Hop("n1", "net-out", NEAR)
MAC = "00:11:22:33:44:55"


def outgoing(destination: IPv4Address = FAR, source: IPv4Address = model.SNAT, **fields: object) -> bytes:
    """As table 39 has it: translated, from the node's MAC to none."""
    made = packet(source=source.packed, destination=destination.packed, ttl=63, **fields)  # type: ignore[arg-type]
    return frames.NO_MAC + frames.mac_bytes(node_mac(1)) + made[12:]


def asked(output: Output | None) -> tuple[str, str]:
    """Who is asked for, by whom."""
    assert output is not None and output.ofport == model.UPLINK and output.frame[:6] == frames.BROADCAST_MAC
    arp = frames.parse_arp(output.frame, 14)
    assert arp is not None and arp.operation == frames.ARP_REQUEST
    assert arp.sender_mac == output.frame[6:12] == frames.mac_bytes(node_mac(1))
    return str(IPv4Address(arp.target_ip)), str(IPv4Address(arp.sender_ip))


class TestNextHop:
    NETWORK = replace(
        model.external(),
        subnets=(
            Subnet("a", IPv4Network("203.0.113.0/24"), IPv4Address("203.0.113.1")),
            Subnet("b", IPv4Network("192.0.2.0/24"), IPv4Address("192.0.2.254")),
            Subnet("c", IPv4Network("198.18.0.0/24")),
        ),
    )

    @pytest.mark.parametrize(
        ("source", "destination", "expected"),
        [
            ("203.0.113.11", "198.51.100.9", "203.0.113.1"),
            ("192.0.2.5", "198.51.100.9", "192.0.2.254"),
            ("10.0.0.5", "198.51.100.9", "203.0.113.1"),  # exempt: keeps its own address
            ("192.0.2.5", "203.0.113.77", "203.0.113.77"),
            ("203.0.113.11", "203.0.113.1", "203.0.113.1"),
            ("198.18.0.5", "198.51.100.9", None),
        ],
    )
    def test_next_hop(self, source: str, destination: str, expected: str | None) -> None:
        found = next_hop(self.NETWORK, IPv4Address(source), IPv4Address(destination))
        assert found == (IPv4Address(expected) if expected else None)

    def test_a_network_without_subnets_leads_nowhere(self) -> None:
        assert next_hop(replace(self.NETWORK, subnets=()), model.SNAT, FAR) is None

    @pytest.mark.parametrize(
        ("held", "expected"),
        [
            ((SnatAddress("net-out", model.SNAT),), "203.0.113.11"),
            ((SnatAddress("net-out", model.SNAT, host=True),), "0.0.0.0"),
            ((), "0.0.0.0"),
            ((SnatAddress("net-other", model.SNAT),), "0.0.0.0"),
            ((SnatAddress("net-out", IPv4Address("192.0.2.5")),), "0.0.0.0"),
            ((SnatAddress("net-out", model.SNAT, for_network_id="net-per_host"),), "203.0.113.11"),
        ],
    )
    def test_who_asks(self, held: tuple[SnatAddress, ...], expected: str) -> None:
        assert str(asking_address(model.node(snat_addresses=held), self.NETWORK, NEAR)) == expected


class TestUnresolved:
    def test_one_packet_is_kept_the_last(self) -> None:
        kept = Unresolved()
        kept.keep(FIRST, 50, b"old", 0.0)
        kept.keep(FIRST, 50, b"new", 0.01)
        assert kept.next_due() == unresolved.RETRIES[0] and kept.due(0.04) == []
        assert [each.frame for each in kept.due(0.05)] == [b"new"]
        assert kept.due(0.05) == [] and kept.next_due() is None

    def test_a_packet_that_comes_again_is_tried_a_few_times(self) -> None:
        kept, now = Unresolved(), 0.0
        for delay in unresolved.RETRIES:
            kept.keep(FIRST, 50, b"x", now)
            assert kept.next_due() == now + delay
            now += delay
            assert [each.frame for each in kept.due(now)] == [b"x"]
        kept.keep(FIRST, 50, b"x", now)
        assert kept.next_due() is None and kept.due(now + 1) == []
        kept.keep(FIRST, 50, b"x", unresolved.LIFETIME)  # begins anew
        assert kept.next_due() == unresolved.LIFETIME + unresolved.RETRIES[0]

    def test_the_hop_is_asked_for_at_once_and_then_once_a_second_three_times(self) -> None:
        kept = Unresolved()
        times = [each / 10 for each in range(30)]
        assert [now for now in times if kept.keep(FIRST, 50, b"x", now)] == [0.0, 1.0, 2.0]
        assert kept.keep(FIRST, 50, b"x", 3.0)

    def test_who_answers_the_second_question_gets_the_packet(self) -> None:
        kept, now = Unresolved(), 0.0
        questions = []
        for delay in unresolved.RETRIES:
            if kept.keep(FIRST, 50, b"x", now):
                questions.append(now)
            now += delay
            assert [each.frame for each in kept.due(now)] == [b"x"]
        assert len(questions) == 2 and now - questions[1] >= unresolved.RETRIES[0]

    def test_an_answer_gives_the_packet_back(self) -> None:
        kept = Unresolved()
        kept.keep(FIRST, 50, b"x", 0.0)
        got = kept.answered(FIRST)
        assert got is not None and got.frame == b"x" and kept.answered(FIRST) is None and len(kept) == 0
        kept.ask(FIRST, 50, 0.0)
        assert kept.answered(FIRST) is None

    def test_what_is_given_up_has_a_name(self) -> None:
        counters: dict[str, int] = {}
        kept, now = Unresolved(counters), 0.0
        kept.keep(FIRST, 50, b"old", now)
        kept.keep(FIRST, 50, b"new", now)
        assert counters == {outcomes.UNRESOLVED: 1}
        kept.keep(FIRST, 50, b"old", now, again=True)  # tried meanwhile: the newer one stays
        assert counters == {outcomes.UNRESOLVED: 2}
        for delay in unresolved.RETRIES:
            now += delay
            assert [each.frame for each in kept.due(now)] == [b"new"]
            kept.keep(FIRST, 50, b"new", now, again=True)
        assert counters == {outcomes.UNRESOLVED: 3} and kept.next_due() is None

    def test_what_waits_at_the_end_is_tried_and_not_dropped(self) -> None:
        counters: dict[str, int] = {}
        kept = Unresolved(counters)
        kept.ask(FIRST, 50, 0.0)
        kept.keep(FIRST, 50, b"x", unresolved.LIFETIME - 0.01)
        assert [each.frame for each in kept.due(unresolved.LIFETIME)] == [b"x"]
        assert counters == {} and len(kept) == 0

    def test_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(unresolved, "CAPACITY", 3)
        kept = Unresolved()
        for number in range(5):
            kept.keep(FIRST._replace(address=NEAR + number), 50, bytes((number,)), 0.0)
        assert [each.frame for each in kept.due(1.0)] == [b"\2", b"\3", b"\4"]
        kept.due(unresolved.LIFETIME)
        assert len(kept) == 0


def test_a_packet_without_a_mac_is_kept_and_its_router_asked_for() -> None:
    bed = Bed()
    assert asked(bed.handle(UNRESOLVED, 100, outgoing())) == ("203.0.113.1", "203.0.113.11")
    assert bed.handle(UNRESOLVED, 100, outgoing()) is None
    assert asked(bed.handle(UNRESOLVED, FROM_CONTROLLER, outgoing(NEAR))) == ("203.0.113.77", "203.0.113.11")
    assert bed.counters == {outcomes.PACKET_KEPT: 3} and bed.kept == 3
    assert len(bed.unresolved.due(1.0)) == 2


def test_only_the_question_for_a_packet_that_has_gone_by_the_router() -> None:
    bed = Bed()
    copy = outgoing(NEAR, payload=bytes(1400))[:128]
    assert asked(bed.handle(ON_LINK, 100, copy)) == ("203.0.113.77", "203.0.113.11")
    assert bed.handle(ON_LINK, 100, copy) is None
    bed.now += 1.0
    assert bed.handle(ON_LINK, 100, copy) is not None
    assert bed.counters == {outcomes.NEIGHBOUR_ASKED: 2, outcomes.RATE_LIMITED: 1}
    assert bed.unresolved.next_due() is None and bed.kept == 0


@pytest.mark.parametrize(
    ("cookie_", "in_port", "frame", "expected"),
    [
        (cookie(Rule.PUNT_UNRESOLVED, 999), 100, outgoing(), outcomes.UNKNOWN_OBJECT),
        (UNRESOLVED, 100, b"", outcomes.MALFORMED),
        (UNRESOLVED, 100, outgoing()[:30], outcomes.MALFORMED),
        (UNRESOLVED, 100, outgoing(version=6), outcomes.MALFORMED),
        (ON_LINK, 100, outgoing()[:33], outcomes.MALFORMED),
    ],
)
def test_what_is_not_kept(cookie_: int, in_port: int, frame: bytes, expected: str) -> None:
    bed = Bed()
    assert bed.handle(cookie_, in_port, frame) is None
    assert bed.counters == {expected: 1} and len(bed.unresolved) == 0


def test_no_router_no_uplink() -> None:
    lone = replace(model.external(), subnets=(Subnet("s-out", IPv4Network("203.0.113.0/24")),))
    for snapshot, expected in (
        (model.cloud(networks=(lone,)), outcomes.NO_NEXT_HOP),
        (model.cloud(node_=model.node(uplinks=())), outcomes.UNKNOWN_OBJECT),
    ):
        bed = Bed(snapshot)
        assert bed.handle(UNRESOLVED, 100, outgoing()) is None and bed.counters == {expected: 1}


def test_a_vm_that_scans_has_its_own_allowance_and_what_comes_again_none() -> None:
    bed = Bed()
    for number in range(150):
        bed.handle(UNRESOLVED, 100, outgoing(NEAR + number % 100))
    assert bed.counters == {outcomes.PACKET_KEPT: 100, outcomes.RATE_LIMITED: 50}
    bed.handle(UNRESOLVED, 101, outgoing())
    bed.handle(UNRESOLVED, FROM_CONTROLLER, outgoing())
    assert bed.counters[outcomes.PACKET_KEPT] == 102


class TestResolver:
    def made(self, network: Network | None = None) -> tuple[Resolver, Unresolved, list[tuple[str, Output | Resubmit]]]:
        sent: list[tuple[str, Output | Resubmit]] = []
        snapshot: Snapshot = model.cloud(networks=(network,) if network else ())
        kept = Unresolved()

        def send(node: str, packet_: Output | Resubmit) -> bool:
            sent.append((node, packet_))
            return True

        return Resolver(kept, lambda: snapshot, send), kept, sent

    def test_a_routers_answer_sends_its_packet_at_once(self) -> None:
        resolver, kept, sent = self.made()
        hop = Hop("n1", "net-out", model.NEXT_HOP)
        kept.keep(hop, model.EXTERNAL_KEY, outgoing(), 0.0)
        resolver.heard("n2", Neighbour("net-out", model.NEXT_HOP, MAC))
        resolver.heard("n1", Neighbour("net-out", NEAR, MAC))
        assert sent == []
        resolver.heard("n1", Neighbour("net-out", model.NEXT_HOP, MAC))
        resolver.heard("n1", Neighbour("net-out", model.NEXT_HOP, MAC))
        assert sent == [("n1", Output(model.UPLINK, frames.mac_bytes(MAC) + outgoing()[6:]))]

    def test_under_the_networks_tag(self) -> None:
        resolver, kept, sent = self.made(replace(model.external(), kind=NetworkKind.VLAN, segment=300))
        kept.keep(Hop("n1", "net-out", model.NEXT_HOP), model.EXTERNAL_KEY, outgoing(), 0.0)
        resolver.heard("n1", Neighbour("net-out", model.NEXT_HOP, MAC))
        frame = sent[0][1].frame
        assert frame[12:18].hex() == "8100012c0800" and frame[18:] == outgoing()[14:]
        assert frame[:12] == frames.mac_bytes(MAC) + frames.mac_bytes(node_mac(1))

    def test_what_waits_for_a_neighbour_is_given_back_to_the_switch(self) -> None:
        resolver, kept, sent = self.made()
        kept.keep(FIRST, model.EXTERNAL_KEY, outgoing(NEAR), 0.0)
        resolver.retry(0.01)
        assert sent == []
        resolver.retry(0.06)
        assert sent == [("n1", Resubmit(Table.EXTERNAL_NEXT_HOP, model.EXTERNAL_KEY, outgoing(NEAR)))]

    def test_the_thread_wakes_for_what_is_kept_and_outlives_a_failure(self) -> None:
        kept, counters = Unresolved(), Counters()
        sent: list[Output | Resubmit] = []

        def send(node: str, packet_: Output | Resubmit) -> bool:
            sent.append(packet_)
            if len(sent) == 1:
                raise OSError("no")
            return True

        resolver = Resolver(kept, model.cloud, send)
        runner: Any = eventlet.spawn(resolver.run, counters)
        eventlet.sleep(0)
        for number in (1, 2):
            kept.keep(FIRST, model.EXTERNAL_KEY, outgoing(NEAR), time.monotonic() - 1)
            resolver.packet_kept()
            with eventlet.Timeout(30):
                while len(sent) < number:
                    eventlet.sleep(0.001)
        runner.kill()
        assert counters.events == {"background_failures": 1}


def test_announcement() -> None:
    request, reply = neighbours.announcement(node_mac(7), IPv4Address("203.0.113.50"))
    mac, address = "02544c010007", ip("203.0.113.50").hex()
    head = "ffffffffffff" + mac + "0806" + "000108000604"
    assert request.hex() == head + "0001" + mac + address + "00" * 6 + address + "00" * 18
    assert reply.hex() == head + "0002" + mac + address + mac + address + "00" * 18
    tagged = neighbours.announcement(node_mac(7), IPv4Address("203.0.113.50"), vlan=300)
    assert all(frame[12:18].hex() == "8100012c0806" and len(frame) == 60 for frame in tagged)
    assert neighbours.parse_claim(request) == neighbours.parse_claim(reply) is not None
