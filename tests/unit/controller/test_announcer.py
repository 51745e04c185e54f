"""Announcements: what is sent, when, and when no more."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import eventlet
import pytest

from controller import announcer
from controller.announcer import TIMES, Announcer
from controller.claims import Claim
from controller.packet_in import nd, neighbours
from controller.packet_in.outputs import Output
from controller.session_counters import Counters
from flows.model import Family, GatewayMode, NetworkChange
from flows.pipeline import gateway_node_mac, node_mac
from flows.snapshot import Snapshot
from flows.view import mac_text
from tests import world

ADDRESS = IPv4Address("203.0.113.50")
CLAIM = Claim(9, int(ADDRESS))


@dataclass
class Bed:
    snapshot: Snapshot = field(default_factory=world.cloud)
    held: set[tuple[str, Claim]] = field(default_factory=lambda: {("n1", CLAIM)})
    sent: list[tuple[str, Output]] = field(default_factory=list)
    connected: bool = True

    def __post_init__(self) -> None:
        self.announcer = Announcer(lambda: self.snapshot, lambda *claim: claim in self.held, self.send)

    def send(self, node: str, output: Output) -> bool:
        self.sent.append((node, output))
        return self.connected

    def sent_at(self, now: float) -> list[tuple[str, Output]]:
        self.sent.clear()
        self.announcer.announce(now)
        return list(self.sent)


@pytest.fixture
def bed(monkeypatch: pytest.MonkeyPatch) -> Bed:
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    return Bed()


EXPECTED = [("n1", Output(65002, frame)) for frame in neighbours.announcement(node_mac(1), ADDRESS)]


def test_ipv6_is_advertised_unasked(bed: Bed) -> None:
    address = IPv6Address("2001:db8:20::9")
    claim = Claim(9, int(address), Family.IPV6)
    bed.held.add(("n1", claim))
    bed.announcer.claimed("n1", [claim])
    ((_, output),) = bed.sent_at(100.0)
    assert output == Output(65002, nd.announcement(node_mac(1), address))
    assert nd.parse_claim(output.frame) == (address, mac_text(node_mac(1)))


def test_three_times_in_both_forms(bed: Bed) -> None:
    bed.announcer.claimed("n1", [CLAIM])
    times = [100.0 + step / 10 for step in range(40)]
    found = {now: sent for now in times if (sent := bed.sent_at(now))}
    assert list(found) == [100.0 + after for after in TIMES] and all(sent == EXPECTED for sent in found.values())
    assert bed.announcer.announce(200.0) is None


def test_it_says_how_long_there_is_nothing_to_do(bed: Bed) -> None:
    assert bed.announcer.announce(100.0) is None
    bed.announcer.claimed("n1", [CLAIM])
    assert bed.announcer.announce(100.0) == pytest.approx(0.5)
    assert bed.announcer.announce(100.5) == pytest.approx(1.0)
    assert bed.announcer.announce(101.5) is None


def test_a_late_one_does_not_send_what_it_missed_at_once(bed: Bed) -> None:
    bed.announcer.claimed("n1", [CLAIM])
    assert len(bed.sent_at(100.9)) == 2 and bed.sent_at(101.0) == [] and len(bed.sent_at(101.5)) == 2


def test_it_ends_when_the_claim_is_gone(bed: Bed) -> None:
    bed.announcer.claimed("n1", [CLAIM])
    assert bed.sent_at(100.0) == EXPECTED
    bed.held.clear()
    assert bed.sent_at(100.5) == []
    bed.held.add(("n1", CLAIM))
    assert bed.sent_at(101.5) == [] and bed.announcer.announce(200.0) is None


def test_it_ends_when_the_switch_is_gone_or_was_never_there(bed: Bed) -> None:
    bed.connected = False
    bed.held |= {("n9", CLAIM), ("n1", Claim(77, 1)), ("n1", Claim(2, 1))}
    bed.announcer.claimed("n1", [CLAIM, Claim(77, 1)])
    bed.announcer.claimed("n9", [CLAIM])
    assert len(bed.sent_at(100.0)) == 2 and bed.announcer.announce(200.0) is None


def test_a_claim_that_is_made_again_begins_again(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    bed.announcer.claimed("n1", [CLAIM])
    bed.announcer.claimed("n1", [CLAIM])  # at the very same time
    assert bed.sent_at(100.0) == EXPECTED
    monkeypatch.setattr(time, "monotonic", lambda: 100.4)
    bed.announcer.claimed("n1", [CLAIM])
    assert bed.sent_at(100.4) == EXPECTED and bed.sent_at(100.5) == [] and bed.sent_at(100.9) == EXPECTED


def test_many_go_in_batches(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcer, "BATCH", 10)
    claims = [Claim(9, int(ADDRESS) + number) for number in range(25)]
    bed.held = {("n1", claim) for claim in claims}
    bed.announcer.claimed("n1", claims)
    assert [len(bed.sent_at(100.0)) for _ in range(4)] == [20, 20, 10, 0]
    assert bed.announcer.announce(100.1) == pytest.approx(0.4)


def test_the_thread_outlives_a_failure_and_wakes_for_a_claim_and_for_what_is_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(announcer, "TIMES", (0.0, 0.01, 0.02))
    bed = Bed()
    counters = Counters()
    runner: Any = eventlet.spawn(bed.announcer.run, counters)
    eventlet.sleep(0)
    whole, bed.snapshot = bed.snapshot, None  # type: ignore[assignment]
    bed.announcer.claimed("n1", [CLAIM])
    with eventlet.Timeout(30):
        while not counters.events:
            eventlet.sleep(0.001)
    bed.snapshot = whole
    bed.announcer.claimed("n1", [CLAIM])
    with eventlet.Timeout(30):
        while len(bed.sent) < 6:
            eventlet.sleep(0.001)
    runner.kill()
    assert bed.sent == EXPECTED * 3


def test_a_gateway_is_announced_at_the_mac_for_what_leaves_by_its_node(bed: Bed) -> None:
    blue = bed.snapshot.networks["net-blue"]
    single = replace(blue, gateway_mode=GatewayMode.SINGLE, gateway_node="n1")
    bed.snapshot = bed.snapshot.apply(2, [NetworkChange(blue.id, single)])
    gateway = IPv4Address("10.20.0.254")
    claim = Claim(blue.key, int(gateway))
    bed.held = {("n1", claim)}
    bed.announcer.claimed("n1", [claim])
    frames = neighbours.announcement(gateway_node_mac(1), gateway, blue.segment)
    assert bed.sent_at(100.0) == [("n1", Output(65001, frame)) for frame in frames]
