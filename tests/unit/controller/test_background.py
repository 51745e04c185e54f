"""Leases to the store, and the next hops of external networks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import eventlet
import pytest

from controller import background
from controller.background import LeaseWriter, NeighbourWatch, next_hops
from controller.packet_in.leases import LeaseEvent, LeaseLog, LeaseState
from controller.session_counters import Counters
from controller.store.specs import LeaseRecord, Written
from flows.model import Neighbour, NodeChange
from flows.snapshot import Snapshot
from tests import world as cloud_of

NEXT_HOP = IPv4Address("203.0.113.1")
ADDRESS = IPv4Address("10.10.0.10")


class FakeStore:
    def __init__(self) -> None:
        self.leases: list[LeaseRecord] = []
        self.neighbours: list[tuple[str, str, IPv4Address, str]] = []
        self.away = False

    def record_leases(self, batch: Iterable[LeaseRecord]) -> int:
        if self.away:
            raise OSError("database away")
        self.leases += batch
        return len(self.leases)

    def learn_neighbour(self, node: str, network_id: str, address: IPv4Address, mac: str) -> Written[bool]:
        self.neighbours.append((node, network_id, address, mac))
        return Written(1, True)

    def release_idle_gateways(self, older_than_s: float) -> Written[int]:
        return Written(1, 0)


class FakeSession:
    def __init__(self, node: str) -> None:
        self.node: str | None = node
        self.sent: list[tuple[int, bytes]] = []

    def send_packet(self, ofport: int, frame: bytes) -> bool:
        self.sent.append((ofport, frame))
        return True


def unresolved(snapshot: Snapshot) -> Snapshot:
    return snapshot.apply(2, [NodeChange("n1", replace(snapshot.nodes["n1"], neighbours=()))])


def test_leases_reach_the_store_once() -> None:
    log, store = LeaseLog(), FakeStore()
    writer = LeaseWriter(log, store, cloud_of.cloud)
    log.record(LeaseEvent(10, ADDRESS, LeaseState.BOUND, 1000.0))
    log.record(LeaseEvent(999, ADDRESS, LeaseState.BOUND, 1000.0))  # a port that is gone
    writer.write()
    writer.write()
    assert [(lease.port_id, lease.address, lease.state, lease.expires_at) for lease in store.leases] == [
        ("port-10", ADDRESS, "bound", 1000.0)
    ]


def test_leases_wait_for_a_database_that_is_away() -> None:
    log, store = LeaseLog(), FakeStore()
    writer = LeaseWriter(log, store, cloud_of.cloud)
    store.away = True
    for expires in (1000.0, 2000.0):
        log.record(LeaseEvent(10, ADDRESS, LeaseState.BOUND, expires))
        with pytest.raises(OSError, match="away"):
            writer.write()
    store.away = False
    writer.write()
    assert [lease.expires_at for lease in store.leases] == [2000.0]


def test_next_hops_are_asked_for_from_the_snat_address() -> None:
    snapshot = cloud_of.cloud()
    (hop,) = next_hops(snapshot, snapshot.nodes["n1"])
    assert (hop.address, hop.source, hop.ofport) == (NEXT_HOP, IPv4Address("203.0.113.11"), 65002)


def test_an_unresolved_next_hop_is_asked_for_each_time_and_a_resolved_one_seldom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session, current = FakeSession("n1"), unresolved(cloud_of.cloud())
    watch = NeighbourWatch(FakeStore(), lambda: current, lambda: [session])
    for _ in range(3):
        watch.ask()
    assert len(session.sent) == 3
    ofport, frame = session.sent[0]
    assert ofport == 65002 and frame[:6] == b"\xff" * 6 and NEXT_HOP.packed in frame
    current = cloud_of.cloud()
    watch.ask()
    assert len(session.sent) == 3
    monkeypatch.setattr(background, "REFRESH_PERIOD", 0.0)
    watch.ask()
    assert len(session.sent) == 4


def test_only_news_is_written_down() -> None:
    store, snapshot, counters = FakeStore(), cloud_of.cloud(), Counters()
    watch = NeighbourWatch(store, lambda: snapshot, list)
    runner: Any = eventlet.spawn(watch.run, counters)
    watch.heard("n1", Neighbour(cloud_of.EXTERNAL, NEXT_HOP, cloud_of.NEXT_HOP_MAC))
    watch.heard("n9", Neighbour(cloud_of.EXTERNAL, NEXT_HOP, "02:00:00:00:00:01"))
    eventlet.sleep(0)
    assert store.neighbours == []
    watch.heard("n1", Neighbour(cloud_of.EXTERNAL, NEXT_HOP, "02:00:00:00:00:01"))
    eventlet.sleep(0)
    eventlet.sleep(0)
    assert store.neighbours == [("n1", cloud_of.EXTERNAL, NEXT_HOP, "02:00:00:00:00:01")]
    runner.kill()


def test_a_job_that_fails_is_done_again() -> None:
    counters, done = Counters(), []

    def job() -> None:
        done.append(1)
        raise ValueError("once")

    runner: Any = eventlet.spawn(background.every, 0.0, job, counters)
    with eventlet.Timeout(5):
        while len(done) < 3:
            eventlet.sleep(0)
    runner.kill()
    assert counters.events["background_failures"] >= 2
