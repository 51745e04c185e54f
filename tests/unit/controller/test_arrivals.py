"""What becomes of a VM that has arrived: written down, told to the others, and over in time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from controller import arrivals
from controller.arrivals import Arrivals, announcement
from controller.packet_in import activation, frames, outcomes
from controller.packet_in.outputs import Output
from flows.model import Binding, GatewayMode, Migration, MigrationPhase, NetworkChange, Port, PortChange
from flows.pipeline import ROUTED_GROUP_MAC, teacher_mac
from flows.snapshot import Snapshot
from tests.world import cloud

HERE, THERE = Binding("n1", 120, 20), Binding("n3", 520, 70)


def moving(phase: MigrationPhase) -> Snapshot:
    base = cloud()
    port = base.ports["port-20"]
    first, other = (HERE, THERE) if phase is MigrationPhase.PREPARED else (THERE, HERE)
    return base.apply(2, [PortChange(port.id, replace(port, binding=first, migration=Migration(phase, other)))])


@dataclass
class Bed:
    snapshot: Snapshot
    active: bool = True
    sent: list[tuple[str, Output]] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)

    def activate_binding(self, port_id: str, node: str) -> None:
        raise NotImplementedError

    def end_moves(self, older_than_s: float) -> None:
        self.ended.append(older_than_s)

    def arrivals(self) -> Arrivals:
        return Arrivals(self, lambda: self.snapshot, lambda port: self.active, self._send)

    def _send(self, node: str, output: Output) -> bool:
        self.sent.append((node, output))
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(arrivals.time, "monotonic", lambda: now[0])  # type: ignore[attr-defined]
    return now


def test_it_is_told_once_the_new_node_serves_it_and_then_twice_more(clock: list[float]) -> None:
    bed = Bed(moving(MigrationPhase.MOVED), active=False)
    them = bed.arrivals()
    them.tell()
    assert not bed.sent
    bed.active = True
    counts = []
    for moment in (100.0, 100.1, 100.6, 102.0, 110.0):
        clock[0] = moment
        them.tell()
        counts.append(len(bed.sent) // 3)  # two forms of ARP, and one for the nodes
    assert counts == [1, 1, 2, 3, 3]
    assert {node for node, _ in bed.sent} == {"n3"}


def test_what_is_only_prepared_is_neither_told_nor_ended() -> None:
    bed = Bed(moving(MigrationPhase.PREPARED))
    them = bed.arrivals()
    them.tell(), them.end()
    assert not bed.sent and not bed.ended
    bed.snapshot = moving(MigrationPhase.MOVED)
    them.end()
    assert bed.ended == [arrivals.PASS_ON]


def test_the_announcement() -> None:
    snapshot = moving(MigrationPhase.MOVED)
    port = snapshot.ports["port-20"]
    *arps, taught = announcement(snapshot, port)
    for output in arps:
        ethernet = frames.parse_ethernet(output.frame)
        assert ethernet is not None
        arp = frames.parse_arp(output.frame, ethernet.offset)
        assert arp is not None and (ethernet.vlan, frames.mac_text(arp.sender_mac)) == (102, port.mac)
        assert arp.sender_ip == arp.target_ip == port.fixed_ips[0].address.packed
    ethernet = frames.parse_ethernet(taught.frame)
    assert ethernet is not None and ethernet.vlan == 102
    assert (ethernet.destination, ethernet.source) == (
        ROUTED_GROUP_MAC.to_bytes(6),
        teacher_mac(3).to_bytes(6),
    )
    packet = frames.parse_ipv4(taught.frame, ethernet.offset)
    assert packet is not None and packet.source == port.fixed_ips[0].address.packed


def test_a_network_that_nodes_do_not_route_needs_no_teaching() -> None:
    snapshot = moving(MigrationPhase.MOVED)
    switched = replace(snapshot.networks["net-blue"], gateway_mode=GatewayMode.NONE)
    port: Port = snapshot.ports["port-20"]
    assert len(list(announcement(snapshot.apply(3, [NetworkChange(switched.id, switched)]), port))) == 2


@pytest.mark.parametrize(
    ("phase", "node", "in_port", "outcome"),
    [
        (MigrationPhase.PREPARED, "n3", 520, outcomes.ARRIVED),
        (MigrationPhase.PREPARED, "n3", 521, outcomes.WRONG_IN_PORT),
        (MigrationPhase.PREPARED, "n1", 120, outcomes.WRONG_IN_PORT),
        (MigrationPhase.MOVED, "n3", 520, outcomes.ARRIVED_BEFORE),
    ],
)
def test_only_the_frame_from_where_it_is_expected_counts(
    phase: MigrationPhase, node: str, in_port: int, outcome: str
) -> None:
    found = activation.arrived(20, node, in_port, moving(phase))
    assert found == (outcome, "port-20" if outcome == outcomes.ARRIVED else None)


def test_an_unknown_port() -> None:
    assert activation.arrived(4711, "n1", 1, cloud()) == (outcomes.UNKNOWN_OBJECT, None)
