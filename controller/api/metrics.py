"""/metrics for Prometheus.

Other parts of the controller register their own metrics in the same `CollectorRegistry` (`Services.registry`); there
is no global one.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from controller.api import declared
from controller.api.auth import Resource, Verb
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.services import Services
from controller.api.views import port_status


def request_counter(registry: CollectorRegistry) -> Counter:
    return Counter(
        "trunkline_api_requests",
        "REST requests answered, by method, resource and HTTP status.",
        ["method", "resource", "status"],
        registry=registry,
    )


class ModelCollector(Collector):
    """Counts what the snapshot holds when it is asked, so that no gauge can be stale."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """None: asking for names must not read the snapshot, which may not be there yet when this is registered."""
        yield from ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        services, snapshot = self._services, self._services.snapshot()
        yield GaugeMetricFamily("trunkline_revision", "Journal revision of the snapshot.", value=snapshot.revision)
        yield GaugeMetricFamily("trunkline_networks", "Networks.", value=len(snapshot.networks))
        states = Tally(str(services.node_state(name).get("state", "unknown")) for name in snapshot.nodes)
        yield _by_label("trunkline_nodes", "Nodes by the state of their session.", "state", states)
        quarantined = Tally(of.kind for of, _ in services.store.quarantine())
        text = "Objects, and parts of objects, that the database holds but nobody can use."
        yield _by_label("trunkline_quarantined_objects", text, "kind", quarantined)
        broken = Tally(node for node, _, _ in services.not_compiled())
        yield _by_label("trunkline_segments_not_compiled", "Objects without flows on a node.", "node", broken)
        statuses = Tally({"unbound": 0, "bound": 0, "active": 0})
        statuses.update(port_status(port, services.port_active(port)) for port in snapshot.ports.values())
        yield _by_label("trunkline_ports", "Ports; active: confirmed by their node.", "status", statuses)


def _by_label(name: str, text: str, label: str, tally: Tally[str]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, count in sorted(tally.items()):
        family.add_metric([value], count)
    return family


def show_metrics(services: Services, _request: Request) -> Answer:
    return Answer(200, generate_latest(services.registry), CONTENT_TYPE_LATEST)


_TEXT = declared.Media(("text/plain",), "Prometheus' text format.", {"type": "string"})
ROUTES = (Route("/metrics", Resource.METRICS, {"GET": Endpoint(Verb.SHOW, show_metrics, _TEXT)}),)
