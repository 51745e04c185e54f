"""What Prometheus is told of the process itself, and how long its work takes."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, GCCollector, Histogram, Info, PlatformCollector, ProcessCollector

from agent.version import version

_PACKET_IN_BUCKETS = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 1.0)
_CONFIRM_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 30.0)


def register(registry: CollectorRegistry) -> None:
    """Version, memory, time, file descriptors, garbage."""
    Info("trunkline_build", "The program.", registry=registry).info({"version": version()})
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)


def packet_in_seconds(registry: CollectorRegistry) -> Histogram:
    text = "Time from a packet_in to what is sent for it, without what has to wait for an answer."
    return Histogram("trunkline_packet_in_seconds", text, buckets=_PACKET_IN_BUCKETS, registry=registry)


def confirm_seconds(registry: CollectorRegistry) -> Histogram:
    text = "Time from a change to a node's confirmation that it holds the flows for it."
    return Histogram("trunkline_confirm_seconds", text, buckets=_CONFIRM_BUCKETS, registry=registry)
