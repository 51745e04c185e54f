"""Leases to the store, and the next hops of external networks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Any

import eventlet
import pytest

from controller import background
from controller.background import HoldKeeper, LeaseWriter, NeighbourWatch, NextHop, WaysOut, next_hops
from controller.packet_in import nd
from controller.packet_in.leases import LeaseEvent, LeaseLog, LeaseState
from controller.packet_in.unresolved import question
from controller.session_counters import Counters
from controller.store.specs import LeaseRecord, Written
from flows.model import (
    Binding,
    FloatingIp,
    FloatingIpChange,
    GatewayMode,
    Ipv6Subnet,
    Migration,
    MigrationPhase,
    Neighbour,
    NetworkChange,
    NodeChange,
    PortChange,
    PortForwarding,
    SnatAddress,
)
from flows.snapshot import Snapshot
from tests import world as cloud_of

NEXT_HOP = IPv4Address("203.0.113.1")
ADDRESS = IPv4Address("10.10.0.10")


class FakeStore:
    def __init__(self) -> None:
        self.leases: list[LeaseRecord] = []
        self.neighbours: list[tuple[str, str, IPv4Address | IPv6Address, str]] = []
        self.away = False
        self.holds: list[float | str] = []

    def record_leases(self, batch: Iterable[LeaseRecord]) -> int:
        if self.away:
            raise OSError("database away")
        self.leases += batch
        return len(self.leases)

    def learn_neighbour(
        self, node: str, network_id: str, address: IPv4Address | IPv6Address, mac: str
    ) -> Written[bool]:
        self.neighbours.append((node, network_id, address, mac))
        return Written(1, True)

    def release_idle_gateways(self, older_than_s: float) -> Written[int]:
        return Written(1, 0)

    def end_holds(self) -> int:
        self.holds.append("end")
        return 0

    def shift_holds(self, seconds: float) -> int:
        self.holds.append(seconds)
        return 1


class FakeSession:
    def __init__(self, node: str) -> None:
        self.node: str | None = node
        self.sent: list[tuple[int, bytes]] = []

    def send_packet(self, ofport: int, frame: bytes) -> bool:
        self.sent.append((ofport, frame))
        return True


def asker(hop: NextHop) -> IPv4Address:
    """From which address a next hop is asked for."""
    return IPv4Address(question(hop.node, hop.network, hop.address)[28:32])


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


def test_threat_35_leases_wait_for_a_database_that_is_away() -> None:
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


def test_b23_a_clock_that_is_set_moves_the_ends_of_what_is_kept_along() -> None:
    store, wall, uptime = FakeStore(), [1000.0], [50.0]
    keeper = HoldKeeper(store, lambda: wall[0], lambda: uptime[0])
    for seconds, set_by in ((2.0, 0.0), (600.0, 1.0), (2.0, 3600.0), (2.0, 0.0), (2.0, -7200.0)):
        uptime[0] += seconds
        wall[0] += seconds + set_by
        keeper.end()
    assert store.holds == ["end", "end", 3600.0, "end", "end", -7200.0, "end"]


@pytest.mark.parametrize("jump", [86400.0, -86400.0])
def test_threat_38_a_clock_that_is_set_by_a_day_ends_nothing(jump: float) -> None:
    store, wall, uptime = FakeStore(), [1_000_000.0], [50.0]
    keeper = HoldKeeper(store, lambda: wall[0], lambda: uptime[0])
    wall[0] += jump
    keeper.end()
    assert store.holds == [jump, "end"]  # first all ends are moved along, then those end that have come


def test_of_several_controllers_the_leader_frees_and_each_knows_its_clock() -> None:
    store, wall, uptime, leads = FakeStore(), [1000.0], [50.0], [False]
    keeper = HoldKeeper(store, lambda: wall[0], lambda: uptime[0], lambda: leads[0])
    wall[0] += 3600  # set while another one led
    keeper.end()
    leads[0] = True
    keeper.end()
    assert store.holds == ["end"]


def test_next_hops_are_asked_for_from_the_snat_address() -> None:
    snapshot = cloud_of.cloud()
    (hop,) = next_hops(snapshot, snapshot.nodes["n1"])
    assert (hop.address, asker(hop), hop.ofport) == (NEXT_HOP, IPv4Address("203.0.113.11"), 65002)


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
    with eventlet.Timeout(30):
        while len(done) < 3:
            eventlet.sleep(0)
    runner.kill()
    assert counters.events["background_failures"] >= 2


FLOATING = FloatingIp("f1", 1, cloud_of.EXTERNAL, IPv4Address("203.0.113.50"), port_id="port-10", fixed_ip=ADDRESS)


def asked_by(session: FakeSession) -> list[IPv4Address]:
    return [IPv4Address(frame[28:32]) for _, frame in session.sent]


def test_a_node_that_only_has_floating_ips_asks_for_their_router() -> None:
    bare = [NodeChange(name, replace(cloud_of.node(name), snat_addresses=(), neighbours=())) for name in cloud_of.NODES]
    current = cloud_of.cloud().apply(2, bare)
    sessions = [FakeSession("n1"), FakeSession("n2")]
    watch = NeighbourWatch(FakeStore(), lambda: current, lambda: sessions)
    watch.ask()
    assert [session.sent for session in sessions] == [[], []]
    current = current.apply(3, [FloatingIpChange("f1", FLOATING)])
    watch.ask()
    assert asked_by(sessions[0]) == [IPv4Address("0.0.0.0")] and sessions[1].sent == []
    forwarding = PortForwarding("pf", 1, 6, 80, 80, "port-11", ADDRESS, 80)
    forwarded = replace(FLOATING, port_id=None, fixed_ip=None, port_forwardings=(forwarding,))
    current = current.apply(4, [FloatingIpChange("f1", forwarded)])
    watch.ask()
    assert len(sessions[0].sent) == 1 and len(sessions[1].sent) == 1
    expected = Migration(MigrationPhase.PREPARED, Binding("n1", 7, 7))
    current = current.apply(5, [PortChange("port-11", replace(current.ports["port-11"], migration=expected))])
    watch.ask()
    assert len(sessions[0].sent) == 2


def test_the_hosts_own_address_is_never_the_asking_one() -> None:
    snapshot = cloud_of.cloud()
    held = SnatAddress(cloud_of.EXTERNAL, IPv4Address("203.0.113.11"), host=True)
    (hop,) = next_hops(snapshot, replace(snapshot.nodes["n1"], snat_addresses=(held,)))
    assert asker(hop) == IPv4Address("0.0.0.0")
    both = (held, SnatAddress(cloud_of.EXTERNAL, IPv4Address("203.0.113.12"), for_network_id="net-blue"))
    (hop,) = next_hops(snapshot, replace(snapshot.nodes["n1"], snat_addresses=both))
    assert asker(hop) == IPv4Address("203.0.113.12")


# IPv6

ROUTER = IPv6Address("2001:db8:f::1")


def with_ipv6(**fields: object) -> Snapshot:
    """The network blue has IPv6, and the external one a router for it."""
    snapshot = cloud_of.cloud()
    blue, outside = (snapshot.networks[id_] for id_ in ("net-blue", cloud_of.EXTERNAL))
    own = (Ipv6Subnet("six-blue", IPv6Network("2001:db8:20::/64")),)
    there = (Ipv6Subnet("six-out", IPv6Network("2001:db8:f::/64"), ROUTER),)
    return snapshot.apply(
        2,
        [
            NetworkChange(blue.id, replace(blue, **{"ipv6_subnets": own, **fields})),
            NetworkChange(outside.id, replace(outside, ipv6_subnets=there)),
        ],
    )


def ipv6_hops(snapshot: Snapshot, node: str) -> list[NextHop]:
    found = next_hops(snapshot, snapshot.nodes[node], (), WaysOut().of(snapshot, node))
    return [hop for hop in found if isinstance(hop.address, IPv6Address)]


def test_the_router_of_ipv6_is_asked_for_where_networks_leave_by_it() -> None:
    snapshot = with_ipv6()
    for node in ("n1", "n2"):
        (hop,) = ipv6_hops(snapshot, node)
        assert (hop.address, hop.network.id, hop.ofport) == (ROUTER, cloud_of.EXTERNAL, 65002)
        asked = nd.parse(question(hop.node, hop.network, hop.address))
        assert asked is not None and asked.kind == 135 and asked.body[4:] == ROUTER.packed
        assert asked.source == nd.node_address(0x02544C010000 | hop.node.key).packed
        assert asked.options == {1: asked.mac} and asked.destination == IPv6Address("ff02::1:ff00:1").packed
    assert ipv6_hops(snapshot, "n3") == []


def test_each_node_asks_also_where_ipv4_leaves_by_one() -> None:
    """Nothing is translated, so nothing has to go by that one."""
    snapshot = with_ipv6(gateway_mode=GatewayMode.SINGLE, gateway_node="n3")
    assert [len(ipv6_hops(snapshot, node)) for node in ("n1", "n2", "n3")] == [1, 1, 0]
    assert all(not ipv6_hops(with_ipv6(gateway_mode=GatewayMode.NONE), node) for node in ("n1", "n2", "n3"))


def test_an_advertisement_of_the_router_is_written_down() -> None:
    snapshot, store = with_ipv6(), FakeStore()
    watch = NeighbourWatch(store, lambda: snapshot, lambda: [])
    watch.heard("n1", Neighbour(cloud_of.EXTERNAL, ROUTER, "00:11:22:33:44:55"))
    writer = eventlet.spawn(watch.run, Counters())
    while not store.neighbours:
        eventlet.sleep(0)
    writer.kill()
    assert store.neighbours == [("n1", cloud_of.EXTERNAL, ROUTER, "00:11:22:33:44:55")]
