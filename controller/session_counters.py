"""Plain counters, and the collector that shows them to Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector


@dataclass(slots=True)
class NodeCounters:
    """What was done for one node since the controller started. Outlives the node's connections."""

    connections: int = 0
    flow_mods: int = 0
    bundles: int = 0
    bundle_failures: int = 0
    errors: int = 0
    resyncs: int = 0
    packet_ins: int = 0
    packet_ins_malformed: int = 0
    zones_flushed: int = 0
    meter_mods: int = 0
    flows_differing: int = 0
    router_advertisements: int = 0


# metric, its value, its text
_PER_NODE: Final[tuple[tuple[str, Callable[[NodeCounters], int], str], ...]] = (
    ("of_flowmsgs_sent", lambda node: node.flow_mods, "Flow-mod messages sent, by node."),
    ("trunkline_sessions", lambda node: node.connections, "OpenFlow sessions begun, by node."),
    ("trunkline_bundles", lambda node: node.bundles, "Bundles committed, by node."),
    ("trunkline_bundle_failures", lambda node: node.bundle_failures, "Bundles that the switch refused, by node."),
    ("trunkline_openflow_errors", lambda node: node.errors, "OpenFlow errors received, by node."),
    ("trunkline_resyncs", lambda node: node.resyncs, "Times that all flows of a node were sent, by node."),
    ("trunkline_packet_ins", lambda node: node.packet_ins, "Packet_ins received, by node."),
    (
        "trunkline_packet_ins_malformed",
        lambda node: node.packet_ins_malformed,
        "Packet_ins that could not be read, by node.",
    ),
    ("trunkline_meter_mods", lambda node: node.meter_mods, "Meter-mod messages sent, by node."),
    (
        "trunkline_flows_differing",
        lambda node: node.flows_differing,
        "Flows found to be lacking or foreign by the periodic look, by node.",
    ),
    (
        "trunkline_router_advertisements",
        lambda node: node.router_advertisements,
        "VMs that were sent a router advertisement without having asked, by node.",
    ),
    ("trunkline_zones_flushed", lambda node: node.zones_flushed, "Conntrack zones flushed, by node."),
)


@dataclass(slots=True)
class Counters:
    """`events` counts what belongs to no node, `packet_in_outcomes` what the packet_in handlers made of packets."""

    nodes: dict[str, NodeCounters] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    packet_in_outcomes: dict[str, int] = field(default_factory=dict)

    def node(self, name: str) -> NodeCounters:
        return self.nodes.setdefault(name, NodeCounters())

    def count(self, event: str) -> None:
        self.events[event] = self.events.get(event, 0) + 1


class SessionCollector(Collector):
    """`quarantined` gives (node, rule, number of flows); `parked` how many connections wait to be known."""

    def __init__(
        self,
        counters: Counters,
        quarantined: Callable[[], Iterable[tuple[str, str, int]]],
        parked: Callable[[], int],
        unconfirmed: Callable[[], Mapping[str, int]],
    ) -> None:
        self._counters = counters
        self._quarantined = quarantined
        self._parked = parked
        self._unconfirmed = unconfirmed

    def describe(self) -> Iterator[CounterMetricFamily]:
        yield from ()

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        nodes = sorted(self._counters.nodes.items())
        for metric, value, text in _PER_NODE:
            family = CounterMetricFamily(metric, text, labels=["node"])
            for name, counters in nodes:
                family.add_metric([name], value(counters))
            yield family
        yield _by_label("trunkline_events", "Things that belong to no node, by name.", "event", self._counters.events)
        yield _by_label(
            "trunkline_packet_in_outcomes",
            "Packet_ins handled, by what came of it.",
            "outcome",
            self._counters.packet_in_outcomes,
        )
        quarantined = GaugeMetricFamily(
            "trunkline_quarantined_flows", "Flows that the switch refuses.", labels=["node", "rule"]
        )
        for node, rule, count in self._quarantined():
            quarantined.add_metric([node, rule], count)
        yield quarantined
        yield GaugeMetricFamily(
            "trunkline_parked_connections", "Switches whose datapath_id no node has.", value=self._parked()
        )
        behind = GaugeMetricFamily(
            "trunkline_unconfirmed_since_revision", "First revision that a node has not confirmed.", labels=["node"]
        )
        for node, revision in sorted(self._unconfirmed().items()):
            behind.add_metric([node], revision)
        yield behind


def _by_label(metric: str, text: str, label: str, values: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(metric, text, labels=[label])
    for value, count in sorted(values.items()):
        family.add_metric([value], count)
    return family
