"""What was asked and what came of it, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from controller.dns.forwarder import Forwarder
from controller.dns.message import Rcode

_NAMES: Final[Mapping[int, str]] = {rcode.value: rcode.name.lower() for rcode in Rcode}


class DnsCollector(Collector):
    """`counts` are answers by rcode and by the name of what became of the question."""

    def __init__(self, counts: Callable[[], Mapping[tuple[int, str], int]], forwarder: Forwarder) -> None:
        self._counts = counts
        self._forwarder = forwarder

    def describe(self) -> Iterator[CounterMetricFamily]:
        yield from ()

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        text = "Questions answered, by rcode and by where the answer is from (the names of packet_in outcomes)."
        queries = CounterMetricFamily("trunkline_dns_queries", text, labels=["rcode", "outcome"])
        for (rcode, outcome), count in sorted(self._counts().items()):
            queries.add_metric([_NAMES.get(rcode, str(rcode)), outcome], count)
        yield queries
        forwarder = self._forwarder
        yield GaugeMetricFamily(
            "trunkline_dns_under_way", "Questions that upstreams are being asked.", value=forwarder.under_way
        )
        yield GaugeMetricFamily(
            "trunkline_dns_cached", "Answers of upstreams that are kept.", value=len(forwarder.cache)
        )
        yield GaugeMetricFamily(
            "trunkline_dns_upstreams_silent",
            "Upstreams that are asked last, because they have not answered.",
            value=forwarder.health.suspects(),
        )
