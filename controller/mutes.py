"""Which ports are not heard at present, for people: the flows that do it end by themselves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from controller.packet_in.floods import Mute
from flows.features.mute import MUTABLE
from flows.rules import Rule
from flows.snapshot import Snapshot

_CAPACITY: Final = 65536


class Mutes(Collector):
    """Forgets everything when the controller ends, as the floods are forgotten, too."""

    def __init__(self, snapshot: Callable[[], Snapshot], clock: Callable[[], float] = time.monotonic) -> None:
        self._snapshot = snapshot
        self._clock = clock
        self._ends: dict[tuple[str, int, Rule], float] = {}
        self._counts: dict[str, int] = {}

    def muted(self, node: str, mute: Mute) -> None:
        """Called once when a node stops hearing a port about something."""
        rule = mute.rule.name.lower()
        self._counts[rule] = self._counts.get(rule, 0) + 1
        self._ends.pop((node, mute.port_key, mute.rule), None)
        if len(self._ends) >= _CAPACITY:
            del self._ends[next(iter(self._ends))]
        self._ends[node, mute.port_key, mute.rule] = self._clock() + mute.seconds
        port = self._snapshot().ports_by_key.get(mute.port_key)
        structlog.get_logger().warning("port_muted", node=node, port=port, rule=rule, seconds=mute.seconds)

    def of_port(self, node: str, port_key: int) -> dict[str, int]:
        """Rule -> seconds that are left."""
        now = self._clock()
        ends = {rule: self._ends.get((node, port_key, rule), now) for rule in MUTABLE}
        return {rule.name.lower(): max(1, round(end - now)) for rule, end in ends.items() if end > now}

    def describe(self) -> Iterator[CounterMetricFamily]:
        yield from ()

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        now = self._clock()
        self._ends = {key: end for key, end in self._ends.items() if end > now}
        counts = CounterMetricFamily("trunkline_ports_muted", "Times that a port was heard no more.", labels=["rule"])
        for rule, count in sorted(self._counts.items()):
            counts.add_metric([rule], count)
        yield counts
        yield GaugeMetricFamily("trunkline_muted_ports", "Ports that are not heard at present.", value=len(self._ends))
