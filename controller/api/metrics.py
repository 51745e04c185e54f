"""/metrics for Prometheus.

Other parts of the controller register their own metrics in the same `CollectorRegistry` (`Services.registry`); there
is no global one.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from controller.api import declared
from controller.api.auth import Resource, Verb
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.services import Services
from controller.api.views import port_status
from flows.snapshot import Snapshot


class RequestMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._answered = Counter(
            "trunkline_api_requests",
            "REST requests answered, by method, resource and HTTP status.",
            ["method", "resource", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "trunkline_api_request_seconds",
            "Time to answer a REST request, by resource; those that wait for something are not in it.",
            ["resource"],
            registry=registry,
        )

    def answered(self, method: str, resource: str, status: int, seconds: float | None) -> None:
        """`seconds` is None for a request that was to wait."""
        self._answered.labels(method, resource, str(status)).inc()
        if seconds is not None:
            self._seconds.labels(resource).observe(seconds)


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
        nodes = {name: services.node_state(name) for name in sorted(snapshot.nodes)}
        states = Tally(str(node.get("state", "unknown")) for node in nodes.values())
        yield _by_label("trunkline_nodes", "Nodes by the state of their session.", "state", states)
        live = {name: int(node.get("state") == "live") for name, node in nodes.items()}
        yield _by_label("trunkline_node_live", "1: the node's switch is connected and has its flows.", "node", live)
        flows = {name: int(node.get("flows", 0)) for name, node in nodes.items()}
        yield _by_label("trunkline_node_flows", "Flows that the node's switch is to hold.", "node", flows)
        quarantined = Tally(of.kind for of, _ in services.store.quarantine())
        text = "Objects, and parts of objects, that the database holds but nobody can use."
        yield _by_label("trunkline_quarantined_objects", text, "kind", quarantined)
        broken = Tally(node for node, _, _ in services.not_compiled())
        yield _by_label("trunkline_segments_not_compiled", "Objects without flows on a node.", "node", broken)
        statuses = Tally({"unbound": 0, "bound": 0, "active": 0})
        statuses.update(port_status(port, services.port_active(port)) for port in snapshot.ports.values())
        yield _by_label("trunkline_ports", "Ports; active: confirmed by their node.", "status", statuses)
        floating = Tally({"active": 0, "inactive": 0})
        floating.update(
            "active" if services.floating_ip_active(floating_ip) else "inactive"
            for floating_ip in snapshot.floating_ips.values()
        )
        text = "Floating IPs; active: the node of their port has confirmed that it answers for them."
        yield _by_label("trunkline_floating_ips", text, "status", floating)
        yield from _addresses(snapshot)


def _addresses(snapshot: Snapshot) -> Iterator[GaugeMetricFamily]:
    """IPv4 alone: of IPv6 there is no end."""
    labels = ["network", "name"]
    size = GaugeMetricFamily("trunkline_network_addresses", "IPv4 addresses of a network's subnets.", labels=labels)
    used = GaugeMetricFamily(
        "trunkline_network_addresses_used", "Of these, the ones that are ports' fixed IPs.", labels=labels
    )
    for network in snapshot.networks.values():
        held = sum(len(snapshot.ports[id_].fixed_ips) for id_ in snapshot.ports_by_network.get(network.id, ()))
        size.add_metric([network.id, network.name], sum(subnet.cidr.num_addresses for subnet in network.subnets))
        used.add_metric([network.id, network.name], held)
    yield from (size, used)


def _by_label(name: str, text: str, label: str, tally: Mapping[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, count in sorted(tally.items()):
        family.add_metric([value], count)
    return family


def show_metrics(services: Services, _request: Request) -> Answer:
    return Answer(200, generate_latest(services.registry), CONTENT_TYPE_LATEST)


_TEXT = declared.Media(("text/plain",), "Prometheus' text format.", {"type": "string"})
ROUTES = (Route("/metrics", Resource.METRICS, {"GET": Endpoint(Verb.SHOW, show_metrics, _TEXT)}),)
