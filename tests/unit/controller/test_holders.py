"""Who holds an address: written down one at a time, asked for where nobody is known, and told to the other nodes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from controller import holders
from controller.holders import ASK_PERIOD, BATCH, PAUSE, Holders
from controller.packet_in import frames, holding, outcomes
from controller.packet_in.holding import Claim, Place
from controller.packet_in.outputs import Output
from controller.session_counters import Counters
from controller.store.specs import NotFound, Written
from flows.model import AddressPair, GatewayMode, NetworkChange, OwnAddress, Port, PortChange
from flows.pipeline import GATEWAY_MAC, ROUTED_GROUP_MAC
from flows.snapshot import Snapshot
from tests.world import cloud, networks, port

VIP = IPv4Address("10.20.0.99")
PLACE = Place("net-blue", VIP)
FIRST, SECOND = (cloud().ports[id_] for id_ in ("port-20", "port-21"))


@dataclass
class Session:
    node: str | None
    sent: list[tuple[int, bytes]] = field(default_factory=list)

    def send_packet(self, ofport: int, frame: bytes) -> bool:
        self.sent.append((ofport, frame))
        return True


@dataclass
class Bed:
    """A store that does what it is told, and two nodes."""

    snapshot: Snapshot
    written: list[str] = field(default_factory=list)
    failing: Exception | None = None
    active: bool = True
    told: list[tuple[str, Output]] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=lambda: [Session("n1"), Session("n2")])
    counters: Counters = field(default_factory=Counters)

    def __post_init__(self) -> None:
        self.it = Holders(self, lambda: self.snapshot, lambda: self.sessions, lambda port: self.active, self._send)

    def hold_address(self, port_id: str, address: IPv4Address, mac: str) -> Written[bool]:
        if self.failing is not None:
            raise self.failing
        self.written.append(port_id)
        self.hold(port_id)
        return Written(self.snapshot.revision, True)

    def hold(self, port_id: str | None) -> None:
        changes = []
        for one in (FIRST, SECOND):
            known = self.snapshot.ports[one.id]
            held = (OwnAddress(VIP, known.mac),) if one.id == port_id else ()
            changes.append(PortChange(one.id, replace(known, held=held)))
        self.snapshot = self.snapshot.apply(self.snapshot.revision + 1, changes)

    def says(self, port: Port, *, asked: bool = False) -> None:
        self.it.heard(PLACE, Claim(port.id, port.mac, asked))

    def write(self, now: float) -> float | None:
        """Until there is nothing to do at once."""
        while (left := self.it.write(now, self.counters)) == 0:
            pass
        return left

    def asked(self) -> list[tuple[str | None, int]]:
        """Whom, and forgets it."""
        found = [(session.node, ofport) for session in self.sessions for ofport, _ in session.sent]
        for session in self.sessions:
            session.sent.clear()
        return found

    def _send(self, node: str, output: Output) -> bool:
        self.told.append((node, output))
        return True


def sharing(*more: Port) -> Snapshot:
    ports = [replace(one, address_pairs=(AddressPair(IPv4Network(VIP), one.mac),)) for one in (FIRST, SECOND, *more)]
    return cloud().apply(2, [PortChange(one.id, one) for one in ports])


@pytest.fixture
def bed() -> Bed:
    return Bed(sharing())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(holders.time, "monotonic", lambda: now[0])  # type: ignore[attr-defined]
    return now


def test_at_most_one_change_a_second_and_the_last_word_counts(bed: Bed) -> None:
    bed.says(FIRST)
    assert bed.write(10.0) is None and bed.written == [FIRST.id]
    bed.says(SECOND)
    assert bed.write(10.2) == pytest.approx(PAUSE - 0.2)
    bed.says(FIRST)
    bed.says(SECOND)
    assert bed.write(10.9) == pytest.approx(0.1) and bed.written == [FIRST.id]
    assert bed.write(11.0) is None and bed.written == [FIRST.id, SECOND.id]


def test_what_is_known_is_not_written(bed: Bed) -> None:
    bed.hold(FIRST.id)
    bed.says(FIRST)
    assert bed.write(10.0) is None and not bed.written
    bed.says(SECOND)  # and needs no pause
    bed.write(10.0)
    assert bed.written == [SECOND.id]


def test_what_cannot_be_written_is_kept_and_what_is_refused_is_not(bed: Bed) -> None:
    bed.failing = RuntimeError("no database")
    bed.says(FIRST)
    assert bed.write(10.0) == pytest.approx(PAUSE) and bed.counters.events["background_failures"] == 1
    bed.failing = None
    bed.write(11.0)
    assert bed.written == [FIRST.id]
    bed.failing = NotFound("address_pair_unknown", "gone")
    bed.says(SECOND)
    assert bed.write(20.0) is None and bed.counters.events["background_failures"] == 1


def test_all_who_may_have_it_are_asked_until_one_says_so(bed: Bed, clock: list[float]) -> None:
    both = [("n1", FIRST.binding.ofport), ("n2", SECOND.binding.ofport)]  # type: ignore[union-attr]
    bed.it.ask()
    (frame,) = [frame for _, frame in bed.sessions[0].sent]
    arp = frames.parse_arp(frame, 14)
    assert arp == frames.Arp(1, frames.mac_bytes(GATEWAY_MAC), IPv4Address("10.20.0.1").packed, bytes(6), VIP.packed)
    assert bed.asked() == both
    clock[0] += ASK_PERIOD / 2
    bed.it.ask()
    assert not bed.asked()
    clock[0] += ASK_PERIOD / 2
    bed.it.ask()
    assert bed.asked() == both
    bed.hold(FIRST.id)
    clock[0] += ASK_PERIOD
    bed.it.ask()
    assert not bed.asked()
    unplugged = replace(bed.snapshot.ports[FIRST.id], binding=None)
    bed.snapshot = bed.snapshot.apply(9, [PortChange(FIRST.id, unplugged)])
    bed.it.ask()
    assert bed.asked() == both[1:]


def test_the_own_address_of_a_port_on_a_node_is_nobody_elses(bed: Bed, clock: list[float]) -> None:
    """While it is there nobody is asked, and who says that he has it has said nothing."""
    owner = port(70, networks()[1], 99, "n3")
    bed.snapshot = bed.snapshot.apply(3, [PortChange(owner.id, owner)])
    bed.it.ask()
    bed.says(FIRST)
    bed.write(clock[0])
    assert not bed.asked() and not bed.written
    bed.snapshot = bed.snapshot.apply(4, [PortChange(owner.id, replace(owner, binding=None))])
    bed.it.ask()
    bed.says(FIRST)
    bed.write(clock[0])
    assert bed.asked() and bed.written == [FIRST.id]


def test_where_the_nodes_are_no_gateway_nobody_asks_in_its_name(bed: Bed, clock: list[float]) -> None:
    blue = replace(bed.snapshot.networks["net-blue"], gateway_mode=GatewayMode.EXTERNAL)
    bed.snapshot = bed.snapshot.apply(3, [NetworkChange(blue.id, blue)])
    bed.it.ask()
    arp = frames.parse_arp(bed.sessions[0].sent[0][1], 14)
    assert arp is not None and arp.sender_ip == frames.NO_IP
    bed.asked()
    none = replace(blue, gateway_mode=GatewayMode.NONE)
    bed.snapshot = bed.snapshot.apply(4, [NetworkChange(blue.id, none)])
    clock[0] += ASK_PERIOD
    bed.it.ask()
    assert not bed.asked()


def test_a_node_that_comes_back_is_asked_once(bed: Bed, clock: list[float]) -> None:
    """Also all of them, by a controller that starts: the address may have moved in the meantime."""
    bed.hold(FIRST.id)
    bed.it.ask()
    assert len(bed.asked()) == 2
    clock[0] += ASK_PERIOD
    bed.it.ask()
    assert not bed.asked()
    away, bed.sessions = bed.sessions[1], bed.sessions[:1]
    bed.it.ask()
    bed.sessions.append(away)
    bed.it.ask()
    assert len(bed.asked()) == 2
    bed.it.ask()
    assert not bed.asked()


def test_after_a_change_they_are_asked_once_more_but_not_after_an_answer(bed: Bed, clock: list[float]) -> None:
    """Who had it was not heard at first, and two who both have it are not to take it from each other for ever."""
    bed.hold(FIRST.id)
    bed.it.ask()
    bed.asked()
    bed.says(SECOND)
    bed.write(clock[0])
    bed.it.ask()
    assert not bed.asked()
    clock[0] += PAUSE
    bed.it.ask()
    assert len(bed.asked()) == 2
    bed.says(FIRST, asked=True)
    bed.write(clock[0])
    assert bed.written == [SECOND.id, FIRST.id]
    clock[0] += PAUSE
    bed.it.ask()
    assert not bed.asked()


def test_a_tick_asks_so_many_and_the_next_one_the_others(clock: list[float]) -> None:
    blue = networks()[1]
    many = [port(1000 + index, blue, 1000 + index, "n1") for index in range(2 * BATCH)]
    pairs = [
        replace(one, address_pairs=(AddressPair(IPv4Network(f"10.20.0.{200 + index % 50}"), one.mac),))
        for index, one in enumerate(many)
    ]
    bed = Bed(cloud().apply(2, [PortChange(one.id, one) for one in pairs]))
    bed.it.ask()
    first = bed.asked()
    assert BATCH <= len(first) < 2 * BATCH
    bed.it.ask()
    assert sorted(first + bed.asked()) == sorted(("n1", one.binding.ofport) for one in many if one.binding)


def test_other_nodes_are_told_once_it_is_served(bed: Bed, clock: list[float]) -> None:
    bed.active = False
    bed.says(SECOND)
    bed.write(clock[0])
    bed.it.tell()
    assert not bed.told
    bed.active = True
    for _ in range(5):
        bed.it.tell()
        clock[0] += 1.0
    assert [node for node, _ in bed.told] == ["n2"] * 3
    ethernet = frames.parse_ethernet(bed.told[0][1].frame)
    assert ethernet is not None and ethernet.destination == frames.mac_bytes(ROUTED_GROUP_MAC)
    assert frames.ipv4_addresses(bed.told[0][1].frame, ethernet.offset) == (VIP.packed, VIP.packed)


# what a frame says


def frame(sender: Port, operation: int = 1, vlan: int | None = None, **fields: bytes) -> bytes:
    mac = frames.mac_bytes(sender.mac)
    known = {"sender_mac": mac, "sender_ip": VIP.packed, "target_mac": bytes(6), "target_ip": VIP.packed}
    body = frames.arp(frames.Arp(operation, **known | fields))
    return frames.ethernet(frames.BROADCAST_MAC, mac, frames.ETHERTYPE_ARP, body, vlan)


GATEWAY = {"sender_mac": frames.mac_bytes(GATEWAY_MAC), "sender_ip": IPv4Address("10.20.0.1").packed}


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        (frame(SECOND), False),
        (frame(SECOND, vlan=102), False),  # out on the wire before
        (frame(SECOND, 2, target_mac=frames.mac_bytes(FIRST.mac)), False),
        (frame(SECOND, 2, target_mac=frames.mac_bytes(GATEWAY_MAC)), True),
        (frame(SECOND, 2, target_mac=frames.mac_bytes(SECOND.mac), **GATEWAY), False),  # asked for the gateway
    ],
)
def test_any_arp_from_it_says_who_has_it(said: bytes, asked: bool) -> None:
    found = holding.said(SECOND.key, "n2", SECOND.binding.ofport, said, sharing())  # type: ignore[union-attr]
    assert found == (outcomes.HOLDER_HEARD, (PLACE, Claim(SECOND.id, SECOND.mac, asked)))


def test_nothing_else_does() -> None:
    assert SECOND.binding is not None
    ofport, snapshot = SECOND.binding.ofport, sharing()
    own = frame(SECOND, sender_ip=SECOND.fixed_ips[0].address.packed)
    for outcome, args in (
        (outcomes.UNKNOWN_OBJECT, (9999, "n2", ofport, frame(SECOND), snapshot)),
        (outcomes.WRONG_IN_PORT, (SECOND.key, "n1", ofport, frame(SECOND), snapshot)),
        (outcomes.WRONG_IN_PORT, (SECOND.key, "n2", ofport + 1, frame(SECOND), snapshot)),
        (outcomes.MALFORMED, (SECOND.key, "n2", ofport, frame(SECOND)[:30], snapshot)),
        (outcomes.MALFORMED, (SECOND.key, "n2", ofport, b"", snapshot)),
        (outcomes.SPOOFED_SOURCE, (SECOND.key, "n2", ofport, own, snapshot)),
        (outcomes.SPOOFED_SOURCE, (SECOND.key, "n2", ofport, frame(FIRST), snapshot)),
        (outcomes.SPOOFED_SOURCE, (SECOND.key, "n2", ofport, frame(SECOND), cloud())),
    ):
        assert holding.said(*args) == (outcome, None)  # type: ignore[arg-type]
