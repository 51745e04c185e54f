"""Advertisements that nobody has asked for: to whom, when, and how many at once."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address, IPv6Network

import pytest

from controller import advertiser
from controller.advertiser import BATCH, Advertiser
from controller.packet_in.outputs import Copies
from controller.session_counters import Counters
from flows import wire
from flows.model import Binding, Change, Ipv6FixedIp, Ipv6Subnet, Migration, MigrationPhase, NetworkChange, PortChange
from flows.snapshot import Snapshot
from tests import world
from tests.unit.packet_in.wire6 import Advertised, advertised

PREFIX = "2001:db8:20::/64"
SUBNET = Ipv6Subnet("six-blue", IPv6Network(PREFIX))
NOW = 100.0
LATER = 400.0


def cloud() -> Snapshot:
    """Of blue's ports, one on n1 (key 20) and one on n2 (21), each has an address."""
    snapshot = world.cloud()
    changes: list[Change] = [
        NetworkChange("net-blue", replace(snapshot.networks["net-blue"], ipv6_subnets=(SUBNET,))),
        *(PortChange(f"port-{key}", addressed(snapshot, key)) for key in (20, 21)),
    ]
    return snapshot.apply(2, changes)


def addressed(snapshot: Snapshot, key: int, **fields: object) -> object:
    own = (Ipv6FixedIp(SUBNET.id, IPv6Address(f"2001:db8:20::{key}")),)
    values: dict[str, object] = {"ipv6_addresses": own, **fields}
    return replace(snapshot.ports[f"port-{key}"], **values)  # type: ignore[arg-type]


@dataclass
class Session:
    node: str | None


@dataclass
class Bed:
    snapshot: Snapshot = field(default_factory=cloud)
    sessions: list[Session] = field(default_factory=lambda: [Session("n1"), Session("n2"), Session(None)])
    connected: bool = True
    sent: list[tuple[str, Copies]] = field(default_factory=list)
    counters: Counters = field(default_factory=Counters)

    def __post_init__(self) -> None:
        self.advertiser = Advertiser(
            lambda: self.snapshot, lambda: self.sessions, self.send, lambda port, _: port.key != 22, self.counters,
            lambda least, most: (least + most) / 2,
        )  # fmt: skip

    def send(self, node: str, copies: Copies) -> bool:
        self.sent.append((node, copies))
        return self.connected

    def sent_at(self, now: float) -> list[tuple[str, tuple[int, ...], Advertised]]:
        self.sent.clear()
        self.advertiser.advertise(now)
        return sorted((node, copies.ofports, advertised(copies.frame)) for node, copies in self.sent)

    def change(self, *changes: Change) -> list[tuple[str, tuple[int, ...], Advertised]]:
        """What is said because of some changes."""
        before, self.snapshot = self.snapshot, self.snapshot.apply(self.snapshot.revision + 1, changes)
        self.advertiser.changed(before, self.snapshot, changes)
        return self.sent_at(NOW)


@pytest.fixture
def bed(monkeypatch: pytest.MonkeyPatch) -> Bed:
    monkeypatch.setattr(time, "monotonic", lambda: NOW)
    return Bed()


@pytest.fixture
def told(bed: Bed) -> Bed:
    """All has been said."""
    bed.advertiser.look()
    assert bed.sent_at(NOW)
    return bed


def to(said: Iterable[tuple[str, tuple[int, ...], Advertised]]) -> list[tuple[str, tuple[int, ...]]]:
    return [(node, ofports) for node, ofports, _ in said]


BOTH = [("n1", (120,)), ("n2", (121,))]


def test_a_node_that_comes_back_is_told_at_once_and_then_in_its_turn(bed: Bed) -> None:
    assert bed.advertiser.advertise(NOW) is None
    bed.advertiser.look()
    said = bed.sent_at(NOW)
    assert to(said) == BOTH and {PREFIX} == set(said[0][2].prefixes)
    assert bed.advertiser.advertise(NOW) == LATER
    bed.advertiser.look()  # the same sessions
    assert bed.sent_at(NOW) == []
    assert to(bed.sent_at(NOW + LATER)) == BOTH
    bed.sessions[1] = Session("n2")
    bed.advertiser.look()
    assert to(bed.sent_at(NOW)) == [("n2", (121,))]
    assert bed.counters.node("n2").router_advertisements == 3


def test_the_ports_of_a_network_hear_the_same_at_once(told: Bed) -> None:
    """But for those that are told something else: of another subnet, or of no default router."""
    second = Ipv6Subnet("six-more", IPv6Network("2001:db8:21::/64"))
    base = told.snapshot
    network = base.networks["net-blue"]
    more = [world.port(key, network, key, "n1") for key in (22, 23, 24)]
    own = (Ipv6FixedIp(SUBNET.id, IPv6Address("2001:db8:20::1")),)
    other = (Ipv6FixedIp(second.id, IPv6Address("2001:db8:21::1")),)
    told.change(
        NetworkChange(network.id, replace(network, ipv6_subnets=(SUBNET, second))),
        *(PortChange(port.id, replace(port, ipv6_addresses=own)) for port in more[:2]),
        PortChange(more[2].id, replace(more[2], ipv6_addresses=other)),
    )
    said = {ofports: one for node, ofports, one in told.sent_at(NOW + LATER) if node == "n1"}
    assert set(said) == {(120, 123), (122,), (124,)}
    assert said[122,].lifetime == 0 and said[120, 123].lifetime > 0
    assert set(said[124,].prefixes) == {"2001:db8:21::/64"}


def test_a_port_that_comes_is_told_alone(told: Bed) -> None:
    moved = addressed(told.snapshot, 21, binding=Binding("n1", 777, 7))
    assert to(told.change(PortChange("port-21", moved))) == [("n1", (777,))]  # type: ignore[arg-type]
    assert told.change(PortChange("port-21", replace(moved, name="new"))) == []  # type: ignore[type-var]
    assert told.change(PortChange("port-21", replace(moved, binding=None))) == []  # type: ignore[type-var]
    assert to(told.sent_at(NOW + LATER)) == [("n1", (120,))]


def test_a_place_that_is_new_is_told_in_its_turn(told: Bed) -> None:
    network = told.snapshot.networks["net-blue"]
    own = (Ipv6FixedIp(SUBNET.id, IPv6Address("2001:db8:20::1")),)
    port = replace(world.port(29, network, 29, "n3"), ipv6_addresses=own)
    assert to(told.change(PortChange(port.id, port))) == [("n3", (129,))]
    assert ("n3", (129,)) in to(told.sent_at(NOW + LATER))


def test_a_vm_that_is_expected_is_told_when_it_is_there(told: Bed) -> None:
    waiting = addressed(told.snapshot, 20, migration=Migration(MigrationPhase.PREPARED, Binding("n3", 33, 3)))
    assert told.change(PortChange("port-20", waiting)) == []  # type: ignore[arg-type]
    here = replace(waiting, binding=Binding("n3", 33, 3), migration=None)  # type: ignore[type-var]
    assert to(told.change(PortChange("port-20", here))) == [("n3", (33,))]
    passed_on = replace(here, migration=Migration(MigrationPhase.MOVED, Binding("n1", 120, 20)))  # type: ignore[type-var]
    assert told.change(PortChange("port-20", passed_on)) == []  # type: ignore[arg-type]
    assert to(told.sent_at(NOW + LATER)) == [("n2", (121,)), ("n3", (33,))]


def test_what_a_port_has_lost_is_over_at_once(told: Bed) -> None:
    without = addressed(told.snapshot, 20, ipv6_addresses=())
    said = told.change(PortChange("port-20", without))  # type: ignore[arg-type]
    assert to(said) == [("n1", (120,))]
    assert said[0][2].prefixes[PREFIX][1:] == (0, 0) and said[0][2].lifetime == 0
    assert to(told.sent_at(NOW + LATER)) == [("n2", (121,))]
    told.change(PortChange("port-20", addressed(told.snapshot, 20)))  # type: ignore[arg-type]
    assert ("n1", (120,)) in to(told.sent_at(NOW + 2 * LATER))


def test_the_last_subnet_goes(told: Bed) -> None:
    network = told.snapshot.networks["net-blue"]
    without = [PortChange(f"port-{key}", addressed(told.snapshot, key, ipv6_addresses=())) for key in (20, 21)]  # type: ignore[arg-type]
    said = told.change(NetworkChange(network.id, replace(network, ipv6_subnets=())), *without)
    assert to(said) == BOTH and all(one.prefixes[PREFIX][1:] == (0, 0) for _, _, one in said)
    assert told.advertiser.advertise(NOW + 2 * LATER) is None


def test_lost_and_found_before_it_was_told(told: Bed) -> None:
    before = told.snapshot
    for own in ((), before.ports["port-20"].ipv6_addresses):
        old, change = told.snapshot, PortChange("port-20", replace(before.ports["port-20"], ipv6_addresses=own))
        told.snapshot = old.apply(old.revision + 1, [change])
        told.advertiser.changed(old, told.snapshot, [change])
    (said,) = told.sent_at(NOW)
    assert said[2].prefixes[PREFIX][1] > 0


def test_a_network_that_changes_is_told_at_once(told: Bed) -> None:
    network = told.snapshot.networks["net-blue"]
    changed = replace(network, ipv6_subnets=(replace(SUBNET, dns_servers=(IPv6Address("2001:db8::53"),)),))
    said = told.change(NetworkChange(network.id, changed))
    assert to(said) == BOTH and said[0][2].servers == ["2001:db8::53"]
    assert told.change(NetworkChange(network.id, replace(changed, lease_time=60))) == []
    red = told.snapshot.networks["net-red"]
    assert told.change(NetworkChange(red.id, replace(red, mtu=1400))) == []
    gone = told.change(NetworkChange(network.id, replace(changed, ipv6_subnets=())))
    assert gone == [] and told.sent_at(NOW + LATER) == []


def test_a_node_that_is_away_is_not_waited_for(told: Bed) -> None:
    told.connected = False
    assert len(told.sent_at(NOW + LATER)) == 2
    assert told.advertiser.advertise(NOW + LATER) is None
    assert told.counters.node("n1").router_advertisements == 1


def test_not_too_many_in_one_turn(bed: Bed) -> None:
    network = bed.snapshot.networks["net-blue"]
    ports = [addressed(bed.snapshot.apply(3, [PortChange(p.id, p)]), p.key) for p in (
        world.port(key, network, key % 200 + 1, "n1", key) for key in range(1000, 1000 + 3 * BATCH)
    )]  # fmt: skip
    assert len(bed.change(*(PortChange(port.id, port) for port in ports))) == BATCH  # type: ignore[attr-defined,arg-type]
    assert bed.advertiser.advertise(NOW) == 0.0
    bed.advertiser.look()
    while bed.advertiser.advertise(NOW) == 0.0:
        pass
    assert len(bed.sent[-2][1].ofports) > 2 * BATCH or len(bed.sent[-1][1].ofports) > 2 * BATCH


def test_a_failure_is_counted_and_ends_nothing(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = iter([RuntimeError("once"), None])

    def advertise(now: float) -> float:
        error = next(failures, KeyboardInterrupt())
        if error is not None:
            raise error
        return 0.001

    monkeypatch.setattr(bed.advertiser, "advertise", advertise)
    with pytest.raises(KeyboardInterrupt):
        bed.advertiser.run()
    assert bed.counters.events == {"background_failures": 1}


def test_the_message_names_every_port() -> None:
    many = tuple(range(1, 5001))
    message = Copies(many, b"\1" * 60).message()
    lengths = []
    at = 0
    while at < len(message):
        lengths.append(int.from_bytes(message[at + 2 : at + 4]))
        at += lengths[-1]
    assert at == len(message) and len(lengths) == 3 and max(lengths) <= 0xFFFF
    assert Copies((7,), b"\1" * 60).message() == wire.packet_out(7, b"\1" * 60)
    assert advertiser.PERIOD[0] < advertiser.PERIOD[1]
