"""Floating IPs between nodes, with everything real but the switches: keeper, sessions, claims, announcements."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address

import eventlet
import pytest

from controller import claims
from controller.claims import Claim
from controller.session_counters import Counters
from controller.session_registry import SessionRegistry
from controller.snapshots import SnapshotKeeper
from flows.ir import matching
from flows.model import FloatingIp, FloatingIpChange
from flows.pipeline import Priority, Table
from flows.wire import encode_match
from tests import world as cloud_of
from tests.unit.controller.fake_switch import FakeSwitch, key_of
from tests.unit.controller.test_session import FakeDispatcher
from tests.unit.controller.test_snapshots import FakeStore

PORTS = {"n1": "port-10", "n2": "port-11"}
ADDRESSES = [IPv4Address("203.0.113.50") + number for number in range(3)]


@dataclass
class SlowSwitch(FakeSwitch):
    """Looks at nothing while it is `held`."""

    held: bool = False
    late: list[bytes] = field(default_factory=list)

    def _receive(self, message: bytes) -> None:
        if self.held:
            self.late.append(message)
        else:
            super()._receive(message)

    def let_go(self) -> None:
        self.held, waiting, self.late = False, self.late, []
        for message in waiting:
            super()._receive(message)


class Cloud:
    def __init__(self) -> None:
        self.store = FakeStore(cloud_of.cloud())
        self.keeper = SnapshotKeeper(self.store, Counters())
        self.registry = SessionRegistry(self.keeper, FakeDispatcher, Counters())  # type: ignore[arg-type]
        self.keeper.attach(self.registry)
        self.announced: list[tuple[str, Claim]] = []
        self.keeper.announce_by(lambda node, new: self.announced.extend((node, claim) for claim in new))
        self.switches = {name: SlowSwitch(id=number) for number, name in enumerate(cloud_of.NODES, 1)}
        for name in self.switches:
            self.connect(name)
        self.settle()

    def restart(self, name: str, switch: SlowSwitch) -> None:
        """Another one comes in its place, and nothing is heard of the old one, not even its end."""
        self.switches[name].closed = True
        self.switches[name] = switch
        self.connect(name)
        until(lambda: getattr(self.registry.of_node(name), "connection", None) is switch)

    def connect(self, name: str) -> None:
        self.registry.connected(self.switches[name])  # type: ignore[arg-type]

    def lead(self, **nodes: str | None) -> int:
        """Floating IP `f0` to `f2`: to the port on this node."""
        for name, node in nodes.items():
            number = int(name[1])
            port = None if node is None else self.store.start.ports[PORTS[node]]
            fixed_ip = None if port is None else port.fixed_ips[0].address
            port_id = None if port is None else port.id
            held = FloatingIp(name, number + 1, cloud_of.EXTERNAL, ADDRESSES[number], None, port_id, fixed_ip)
            self.store.commit(FloatingIpChange(name, held))
        return self.keeper.follow()

    def holders(self, number: int) -> list[str]:
        """The switches that answer for an address."""
        match = matching(metadata=9, eth_type=0x0806, arp_op=1, arp_tpa=int(ADDRESSES[number]))
        key = Table.EXTERNAL_IN, Priority.HIGH, encode_match(match)
        return [name for name, switch in self.switches.items() if key in switch.flows]

    def settle(self) -> None:
        until(lambda: not self.keeper.confirmations.missing(self.keeper.current.revision))

    def check(self) -> None:
        for name, switch in self.switches.items():
            program = self.keeper._nodes[name].program
            assert switch.computed() == {key_of(each) for each in program.flows()}, name
            assert switch.stamp == program.digest, name


def until(condition: Callable[[], object], deadline: float = 30.0) -> None:
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, "not in time"
        eventlet.sleep(0.001)


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    made = Cloud()
    yield made
    for session in made.registry:
        session.stop()
    eventlet.sleep(0)


def test_the_new_owner_begins_when_the_old_one_has_ended(cloud: Cloud) -> None:
    cloud.lead(f0="n1")
    cloud.settle()
    old, new = cloud.switches["n1"], cloud.switches["n2"]
    old.held = True
    commits = new.commits
    revision = cloud.lead(f0="n2")
    until(lambda: new.commits == commits + 1)
    assert cloud.holders(0) == ["n1"] and cloud.keeper.confirmations.missing(revision) == ["n1", "n2"]
    old.let_go()
    cloud.settle()
    assert cloud.holders(0) == ["n2"] and cloud.announced[-1] == ("n2", Claim(9, int(ADDRESSES[0])))
    cloud.check()


def test_a_silent_owner_is_waited_for_no_longer_than_that(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "HANDOVER", 0.1)
    cloud.lead(f0="n1")
    cloud.settle()
    cloud.switches["n1"].held = True
    began = time.monotonic()
    revision = cloud.lead(f0="n2")
    until(lambda: cloud.keeper.confirmations.missing(revision) == ["n1"])
    assert time.monotonic() - began >= 0.1 and cloud.holders(0) == ["n1", "n2"]
    cloud.switches["n1"].let_go()
    cloud.settle()
    cloud.check()


def test_a_restarted_switch_has_its_addresses_announced_and_one_that_kept_its_flows_has_not(cloud: Cloud) -> None:
    cloud.lead(f0="n1", f1="n1", f2="n2")
    cloud.settle()
    cloud.announced.clear()
    cloud.restart("n1", SlowSwitch(id=1, flows=cloud.switches["n1"].flows))
    until(lambda: len(list(cloud.registry.live())) == 3)
    assert cloud.announced == []
    cloud.restart("n1", SlowSwitch(id=1))
    until(lambda: len(cloud.announced) == 2)
    assert {node for node, _ in cloud.announced} == {"n1"}
    cloud.check()


@pytest.mark.parametrize("seed", range(10))
def test_random_moves_end_where_they_should(cloud: Cloud, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "HANDOVER", 3600.0)  # nobody may need to wait that long
    rng = random.Random(seed)
    where: dict[str, str | None] = {}
    for _ in range(40):
        moved = {name: rng.choice(("n1", "n2", None)) for name in rng.sample(("f0", "f1", "f2"), rng.randint(1, 3))}
        where |= moved
        cloud.lead(**moved)
        for switch in rng.sample(sorted(cloud.switches.values(), key=lambda each: each.id), 1):
            if switch.held:
                switch.let_go()
            else:
                switch.held = rng.random() < 0.5
        for _ in range(rng.randint(0, 6)):
            eventlet.sleep(0)
            assert all(len(cloud.holders(number)) <= 1 for number in range(3)), (seed, where)
    for switch in cloud.switches.values():
        switch.let_go()
    cloud.settle()
    cloud.check()
    assert {name: node for name, node in where.items() if node} == {
        f"f{number}": name for number in range(3) for name in cloud.holders(number)
    }
