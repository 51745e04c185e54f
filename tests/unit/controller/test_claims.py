"""Claims: never two switches that answer for one address, unless one of them had its second."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

import pytest

from controller.claims import HANDOVER, Claim, Claims, claim_of
from controller.session_mailbox import Mailbox, Work
from flows.compile import compile_node
from flows.diff import Delta, diff
from flows.digest import digest
from flows.ir import Flow, FlowKey, Goto, OutputInPort, SetField, flow, matching
from flows.model import Family, GatewayMode, NetworkChange
from flows.pipeline import Priority, Table
from flows.rules import Rule
from tests.ipv6_world import ipv6_cloud
from tests.world import cloud, subnet

NODES = ("n1", "n2", "n3")
ADDRESSES = (1, 2, 3)


def answer(address: int, mac: int = 1, key: int = 7) -> Flow:
    match = matching(metadata=9, eth_type=0x0806, arp_op=1, arp_tpa=address)
    return flow(Rule.FLOATING_ARP, Priority.HIGH, match, SetField("eth_src", mac), OutputInPort(), key=key)


def other(key: int) -> Flow:
    return flow(Rule.CLASSIFY_PORT, Priority.NORMAL, matching(in_port=key), Goto(Table.PORT_SECURITY), key=key)


@dataclass
class Switch:
    """What is on its way to it, and what it holds; `stamp` is the digest that came with that."""

    connected: bool = True
    waiting: Mailbox = field(default_factory=Mailbox)
    flows: dict[FlowKey, Flow] = field(default_factory=dict)
    stamp: int = 0

    def install(self, work: Work) -> None:
        for each in work.delta.deletes:
            self.flows.pop(each.key, None)
        self.flows.update((each.key, each) for each in work.delta.upserts)
        self.stamp = work.delta.digest
        assert self.stamp == digest(self.flows.values()), "the stamp must tell what is installed"

    def claims(self) -> set[Claim]:
        return {claim for each in self.flows.values() if (claim := claim_of(each)) is not None}


class Bed:
    """A keeper reduced to what claims need, and switches that take what they are sent when the test says so."""

    def __init__(self) -> None:
        self.claims = Claims()
        self.programs: dict[str, dict[FlowKey, Flow]] = {name: {} for name in NODES}
        self.switches = {name: Switch() for name in NODES}
        self.revision = 1
        self.confirmed: dict[str, int] = dict.fromkeys(NODES, 1)
        self.announced: list[tuple[str, Claim]] = []
        self.now = 100.0
        for name in NODES:
            self.claims.begin(name, ())

    def change(self, **programs: list[Flow]) -> int:
        first, self.revision = self.revision + 1, self.revision + 1
        deltas = {}
        for name, flows in programs.items():
            new = {each.key: each for each in flows}
            deltas[name] = diff(self.programs[name].values(), new.values(), digest(new.values()))
            self.programs[name] = new
        sent = self.claims.change(deltas, lambda name: self.switches[name].connected, first, self.revision, self.now)
        for name, delta in sent.items():
            self._send(name, delta)
        return self.revision

    def _send(self, name: str, delta: Delta) -> None:
        if self.switches[name].connected:
            self.switches[name].waiting.put(Work(delta, self.revision, self.claims.unclaimed(name)))

    def _hand_over(self) -> None:
        for name, flows in self.claims.free(self.revision, self.now).items():
            self._send(name, Delta(flows, (), self.claims.digest(name, digest(self.programs[name].values()))))

    def confirm(self, name: str) -> bool:
        """The switch installs what waits for it. False when there is nothing."""
        switch = self.switches[name]
        if switch.waiting._work is None:
            return False
        work = switch.waiting.take()
        switch.install(work)
        self.confirmed[name] = work.revision if work.unclaimed is None else work.unclaimed - 1
        self.announced += [(name, claim) for claim in self.claims.confirmed(name, work.revision)]
        self._hand_over()
        return True

    def later(self, seconds: float) -> None:
        self.now += seconds
        self._hand_over()

    def disconnect(self, name: str) -> None:
        self.switches[name].connected = False
        self.switches[name].waiting.clear()

    def connect(self, name: str) -> None:
        """Its session sends the whole program."""
        switch = self.switches[name]
        switch.connected = True
        switch.waiting.clear()
        self.claims.whole(name, self.revision)
        switch.flows = dict(self.programs[name])
        self.confirmed[name] = self.revision
        self.announced += [(name, claim) for claim in self.claims.confirmed(name, self.revision, whole=True)]
        self._hand_over()

    def owners(self, address: int) -> list[str]:
        return [name for name, switch in self.switches.items() if Claim(9, address) in switch.claims()]

    def settle(self) -> None:
        for _ in range(20):
            if not any([self.confirm(name) for name in NODES]):
                return
        raise AssertionError("it never ends")


@pytest.fixture
def bed() -> Bed:
    made = Bed()
    made.change(n1=[answer(1), other(1)], n2=[answer(2), other(2)])
    made.settle()
    return made


def test_only_the_claim_waits_for_the_old_owner(bed: Bed) -> None:
    revision = bed.change(n1=[other(1)], n2=[answer(2), other(2), answer(1), other(3)])
    bed.confirm("n2")
    assert bed.owners(1) == ["n1"] and other(3).key in bed.switches["n2"].flows
    assert bed.confirmed["n2"] == revision - 1 and not bed.claims.holds("n2", Claim(9, 1))
    bed.confirm("n1")
    assert bed.owners(1) == [] and bed.confirmed["n1"] == revision
    bed.confirm("n2")
    assert bed.owners(1) == ["n2"] and bed.confirmed["n2"] == revision
    assert bed.claims.holds("n2", Claim(9, 1)) and not bed.claims.holds("n1", Claim(9, 1))


def test_it_waits_too_when_the_claim_was_given_up_before(bed: Bed) -> None:
    bed.change(n1=[other(1)])
    bed.change(n2=[answer(2), other(2), answer(1)])
    bed.confirm("n2")
    assert bed.owners(1) == ["n1"]
    bed.settle()
    assert bed.owners(1) == ["n2"]


def test_nobody_waits_longer_than_a_second(bed: Bed) -> None:
    bed.change(n1=[other(1)])
    bed.later(HANDOVER / 2)
    bed.change(n2=[answer(1)])
    assert bed.claims.deadline() == pytest.approx(bed.now + HANDOVER / 2)
    bed.later(HANDOVER / 2 - 0.01)
    bed.confirm("n2")
    assert bed.owners(1) == ["n1"]
    bed.later(0.01)
    bed.confirm("n2")
    assert bed.owners(1) == ["n1", "n2"] and bed.claims.deadline() is None


def test_nobody_waits_for_a_node_that_is_not_connected(bed: Bed) -> None:
    bed.disconnect("n1")
    revision = bed.change(n1=[other(1)], n2=[answer(1)])
    bed.confirm("n2")
    assert bed.confirmed["n2"] == revision and Claim(9, 1) in bed.switches["n2"].claims()


def test_two_that_change_places_do_not_wait_for_ever(bed: Bed) -> None:
    revision = bed.change(n1=[other(1), answer(2)], n2=[other(2), answer(1)])
    bed.settle()
    assert (bed.owners(1), bed.owners(2)) == (["n2"], ["n1"])
    assert bed.confirmed == {"n1": revision, "n2": revision, "n3": 1}


def test_a_claim_that_is_withdrawn_while_it_waits_is_never_installed(bed: Bed) -> None:
    bed.change(n1=[other(1)], n2=[answer(1)])
    bed.change(n2=[], n3=[answer(1)])
    bed.confirm("n2")
    bed.confirm("n3")
    assert bed.owners(1) == ["n1"]  # n3 waits for the one that still has it
    bed.settle()
    assert bed.owners(1) == ["n3"] and ("n2", Claim(9, 1)) not in bed.announced


def test_a_claim_that_changes_while_it_waits_is_installed_as_it_is_last(bed: Bed) -> None:
    bed.change(n1=[other(1)], n2=[answer(1, mac=1)])
    bed.change(n2=[answer(1, mac=2)])
    bed.confirm("n2")
    assert bed.owners(1) == ["n1"]
    bed.settle()
    assert bed.switches["n2"].flows[answer(1).key] == answer(1, mac=2)


def test_one_that_gets_its_claim_back_waits_for_nobody(bed: Bed) -> None:
    bed.change(n1=[other(1)], n2=[answer(1)])
    revision = bed.change(n1=[other(1), answer(1)], n2=[])
    bed.confirm("n1")
    assert bed.owners(1) == ["n1"] and bed.confirmed["n1"] == revision
    bed.settle()
    assert bed.owners(1) == ["n1"]


def test_the_address_counts_and_not_the_object(bed: Bed) -> None:
    """Given back and handed out again at once: another floating IP on the wire's same address."""
    bed.change(n1=[other(1)], n2=[answer(1, key=8)])
    bed.confirm("n2")
    assert bed.owners(1) == ["n1"]


def test_what_is_on_the_wire_is_told_once(bed: Bed) -> None:
    assert bed.announced == [("n1", Claim(9, 1)), ("n2", Claim(9, 2))]
    bed.announced.clear()
    bed.change(n1=[answer(1), other(1), other(5)])
    bed.settle()
    assert bed.announced == []
    bed.disconnect("n1")
    bed.connect("n1")
    assert bed.announced == [("n1", Claim(9, 1))]


def test_a_node_that_is_gone_leaves_nothing(bed: Bed) -> None:
    bed.change(n1=[other(1)], n2=[answer(1)])
    bed.claims.drop("n2")
    assert bed.claims.deadline() is None and bed.claims.free(bed.revision, bed.now + 9) == {}
    assert not bed.claims.holds("n2", Claim(9, 2)) and bed.claims.unclaimed("n2") is None


@pytest.mark.parametrize("seed", range(100))
def test_random_changes(seed: int) -> None:
    """Addresses move about between nodes that answer late, go away and come back."""
    rng, bed = random.Random(seed), Bed()
    node_of: dict[int, str | None] = {}
    given_up: dict[tuple[str, int], float] = {}
    excused: set[int] = set()  # a switch that came back got its whole program, claims and all
    for _ in range(120):
        step = rng.random()
        if step < 0.4:
            for address in rng.sample(ADDRESSES, rng.randint(1, 2)):
                old, node_of[address] = node_of.get(address), rng.choice((*NODES, None))
                if old is not None and old != node_of[address]:
                    given_up[old, address] = bed.now
            wanted = {name: [answer(each) for each in ADDRESSES if node_of.get(each) == name] for name in NODES}
            for name in NODES:
                wanted[name] += [other(key) for key in range(1, rng.randint(1, 3))]
            bed.change(**wanted)
        elif step < 0.8:
            bed.confirm(rng.choice(NODES))
        elif step < 0.9:
            bed.later(rng.choice((0.1, 0.6, 1.1)))
        else:
            name = rng.choice(NODES)
            if bed.switches[name].connected:
                bed.disconnect(name)
            else:
                bed.connect(name)
                excused |= {address for address in ADDRESSES if Claim(9, address) in bed.switches[name].claims()}
        for address in ADDRESSES:
            owners = [name for name in bed.owners(address) if bed.switches[name].connected]
            since = [given_up.get((name, address), bed.now) for name in owners if name != node_of.get(address)]
            if len(owners) <= 1:
                excused.discard(address)
            else:
                assert address in excused or bed.now - min(since) >= HANDOVER, (seed, address, owners)
                excused.add(address)  # until one of them has it alone, who is late changes nothing
    for name in NODES:
        if not bed.switches[name].connected:
            bed.connect(name)
    bed.later(HANDOVER)
    bed.settle()
    for name, switch in bed.switches.items():
        assert switch.flows == bed.programs[name], (seed, name)
        assert bed.claims.unclaimed(name) is None
        assert all(bed.claims.holds(name, claim) for claim in switch.claims())
    assert all(bed.owners(each) == ([node] if node else []) for each, node in node_of.items())


def test_an_ipv6_address_of_a_vm_is_a_claim_too() -> None:
    snapshot = ipv6_cloud()
    here = {claim_of(flow) for flow in compile_node(snapshot, "n1").flows()} - {None}
    own = [snapshot.ports[f"port-{key}"].ipv6_addresses[0].address for key in (20, 30, 40)]
    assert here == {Claim(9, int(address), Family.IPV6) for address in own}


def test_the_answer_of_a_gateway_node_is_a_claim_too() -> None:
    blue = cloud().networks["net-blue"]
    subnets = (subnet("10.20.0.0/24", "10.20.0.254"),)
    single = replace(blue, gateway_mode=GatewayMode.SINGLE, gateway_node="n3", subnets=subnets)
    snapshot = cloud().apply(2, [NetworkChange(blue.id, single)])
    found = {name: {claim_of(flow) for flow in compile_node(snapshot, name).flows()} - {None} for name in NODES}
    assert found == {"n1": set(), "n2": set(), "n3": {Claim(blue.key, int(IPv4Address("10.20.0.254")))}}
