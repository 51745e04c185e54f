"""What has passed the ports and what has not, as the switches count it; asked for when somebody wants to know."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import eventlet
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from controller.drops import Drops
from controller.session_questions import NoAnswer
from controller.switch_answers import ANSWER_TIMEOUT, Answers, Ask, parsed
from flows import statistics
from flows.model import Binding, Port
from flows.pipeline import dns_meter, egress_meter, fragment_meter, ingress_meter, packet_in_meter
from flows.snapshot import Snapshot

FRESH: Final = 5.0
"""Seconds for which a node's answer is good: a node is asked once, however many want to know."""

METERS: Final[tuple[tuple[str, Callable[[int], int]], ...]] = (
    ("packet_in", packet_in_meter),
    ("dns", dns_meter),
    ("fragments", fragment_meter),
    ("egress", egress_meter),
    ("ingress", ingress_meter),
)
"""What a port's meters bound, and their ids by its conntrack zone."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """One way; `dropped`: by the interface's queue, as the switch counts it."""

    packets: int = 0
    bytes: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class NodeCounts:
    """`ports` by OpenFlow port number, `exceeded`: packets that meters dropped, by id."""

    ports: Mapping[int, statistics.PortStats] = field(default_factory=dict)
    exceeded: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PortCounts:
    """As the VM sees it, since the interface was plugged. `drops`: packets by the rule that dropped them; `exceeded`:
    packets beyond what the port may send, also in fragments, receive, and have the controller handed. Both since the
    switch has started.
    """

    node: str
    received: Traffic
    sent: Traffic
    drops: Mapping[str, int]
    exceeded: Mapping[str, int]


class PortCounters:
    """`ask` asks a node's switch, and raises NoAnswer; `drops` asks it, too."""

    def __init__(self, ask: Ask, drops: Drops, clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._drops = drops
        self._nodes: Answers[str, NodeCounts] = Answers(FRESH, clock)

    def of_node(self, node: str) -> NodeCounts:
        """At most FRESH seconds old. Raises NoAnswer."""
        return self._nodes.get(node, lambda: self._node(node))

    def of_port(self, port: Port) -> PortCounts | None:
        """Drops at most FRESH_PORT seconds old, the rest FRESH. None when the port is on no node. Raises NoAnswer."""
        seat = port.binding
        if seat is None:
            return None
        counts = self.of_node(seat.node)
        drops = {one.rule.name.lower(): one.packets for one in self._drops.counted(seat.node, port.key)}
        received, sent = _traffic(counts, seat)
        return PortCounts(seat.node, received, sent, drops, _exceeded(counts, seat))

    def _node(self, node: str) -> NodeCounts:
        ports: dict[int, statistics.PortStats] = {}
        exceeded: dict[int, int] = {}
        for part in self._ask(node, statistics.ports_request, ANSWER_TIMEOUT):
            ports.update(parsed(statistics.parse_ports, part))
        for part in self._ask(node, statistics.meters_request, ANSWER_TIMEOUT):
            exceeded.update(parsed(statistics.parse_meters, part))
        return NodeCounts(ports, exceeded)


def _traffic(counts: NodeCounts, seat: Binding) -> tuple[Traffic, Traffic]:
    """What the VM has received is what the switch has sent."""
    it = counts.ports.get(seat.ofport)
    if it is None:
        return Traffic(), Traffic()
    received = Traffic(it.sent_packets, it.sent_bytes, it.sent_dropped)
    return received, Traffic(it.received_packets, it.received_bytes, it.received_dropped)


def _exceeded(counts: NodeCounts, seat: Binding) -> dict[str, int]:
    found = {what: counts.exceeded.get(meter_of(seat.zone)) for what, meter_of in METERS}
    return {what: packets for what, packets in found.items() if packets is not None}


_WAYS: Final[tuple[tuple[str, Callable[[Traffic], int], str], ...]] = (
    ("packets", lambda way: way.packets, "Packets of a port, as its VM sees them."),
    ("bytes", lambda way: way.bytes, "Bytes of a port, as its VM sees them."),
    ("dropped", lambda way: way.dropped, "Packets that a port's interface has dropped."),
)


class PortCollector(Collector):
    """All ports of the snapshot whose node answers. `connected`: the nodes that can be asked."""

    def __init__(
        self, counters: PortCounters, snapshot: Callable[[], Snapshot], connected: Callable[[], Iterator[str]]
    ) -> None:
        self._counters = counters
        self._snapshot = snapshot
        self._connected = connected

    def describe(self) -> Iterator[CounterMetricFamily]:
        yield from ()

    def collect(self) -> Iterator[CounterMetricFamily]:
        snapshot, nodes = self._snapshot(), list(self._connected())
        counts = dict(zip(nodes, eventlet.GreenPool().imap(self._node, nodes), strict=True))
        families = {
            name: CounterMetricFamily(f"trunkline_port_{name}", text, labels=["port", "node", "way"])
            for name, _, text in _WAYS
        }
        exceeded = CounterMetricFamily(
            "trunkline_port_exceeded", "Packets beyond what a port may.", labels=["port", "node", "limit"]
        )
        for port in snapshot.ports.values():
            seat = port.binding
            of_node = None if seat is None else counts.get(seat.node)
            if seat is None or of_node is None or seat.ofport not in of_node.ports:
                continue
            for way, traffic in zip(("received", "sent"), _traffic(of_node, seat), strict=True):
                for name, value, _ in _WAYS:
                    families[name].add_metric([port.id, seat.node, way], value(traffic))
            for limit, packets in _exceeded(of_node, seat).items():
                exceeded.add_metric([port.id, seat.node, limit], packets)
        yield from families.values()
        yield exceeded

    def _node(self, node: str) -> NodeCounts | None:
        try:
            return self._counters.of_node(node)
        except NoAnswer:
            return None
