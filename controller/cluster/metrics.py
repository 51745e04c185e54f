"""What Prometheus is told of the controllers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Protocol

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from controller.cluster.state import ClusterState


class Known(Protocol):
    @property
    def state(self) -> ClusterState: ...


class ClusterCollector(Collector):
    """Where there are not several controllers there is no `cluster`."""

    def __init__(
        self, leads: Callable[[], bool], mastered: Callable[[], Collection[str]], cluster: Known | None
    ) -> None:
        self._leads = leads
        self._mastered = mastered
        self._cluster = cluster

    def describe(self) -> Iterator[GaugeMetricFamily]:
        yield from ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        members = 1 if self._cluster is None else len(self._cluster.state.members)
        yield GaugeMetricFamily("trunkline_controllers", "Controllers that are alive, this one included.", members)
        yield GaugeMetricFamily(
            "trunkline_controller_leader", "1: this controller does what is to be done once.", int(self._leads())
        )
        yield GaugeMetricFamily(
            "trunkline_nodes_mastered", "Nodes whose switches obey this controller.", len(self._mastered())
        )
