"""Which ports have used up their connections, as the agents of nodes report it: no flow counts what the kernel's
conntrack drops by itself. In memory, of the nodes whose agents report to this controller.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from flows.model import Port
from flows.pipeline import PORT_ZONES, CtZone, nat_zone
from flows.rules import Rule
from flows.shares import shares
from flows.snapshot import Snapshot
from flows.view import View

STALE: Final = 300.0
"""Seconds for which a report is good: agents report every few seconds."""

_NAT_ZONES: Final = range(nat_zone(PORT_ZONES.start), nat_zone(PORT_ZONES.stop))


@dataclass(frozen=True, slots=True)
class UsedUp:
    """`port` is None for the zone that all ports share. `rule`: by which the userspace datapath drops what begins."""

    port: Port | None
    rule: Rule
    limit: int


def _ignore(node: str, zone: int, limit: int, full: bool) -> None:
    """The default: nobody is told."""


class FullZones:
    """`tell(node, zone, limit, full)`: callback, must not block: of the zones of the port whose own zone is `zone` one
    has become full, or none is any more.
    """

    def __init__(
        self,
        tell: Callable[[str, int, int, bool], None] = _ignore,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tell = tell
        self._clock = clock
        self._nodes: dict[str, tuple[float, Mapping[int, int]]] = {}

    def reported(self, node: str, limits: Mapping[int, int]) -> None:
        """All zones of a node that are full, with their limits."""
        before, now = _folded(self.of(node)), _folded(limits)
        if limits:
            self._nodes[node] = (self._clock(), dict(limits))
        else:
            self.forget(node)
        for zone in sorted(now.keys() ^ before.keys()):
            full = zone in now
            self._tell(node, zone, now[zone] if full else before[zone], full)

    def of(self, node: str) -> Mapping[int, int]:
        at, limits = self._nodes.get(node, (0.0, {}))
        return limits if limits and self._clock() - at < STALE else {}

    def nodes(self) -> list[str]:
        return sorted(node for node in self._nodes if self.of(node))

    def forget(self, node: str) -> None:
        self._nodes.pop(node, None)

    def used_up(self, node: str, snapshot: Snapshot) -> Iterator[UsedUp]:
        """Each port once. Ports that are gone meanwhile are left out."""
        limits, known = self.of(node), snapshot.nodes.get(node)
        if not limits or known is None:
            return
        view, ports = View(snapshot, known), ports_by_zone(snapshot, node)
        for zone, limit in sorted(_folded(limits).items()):
            port = ports.get(zone)
            if zone == CtZone.SNAT:
                yield UsedUp(None, Rule.SNAT, limit)
            elif port is not None:
                is_share = zone not in limits and shares(view, port)
                yield UsedUp(port, Rule.DROP_SNAT_SHARE if is_share else Rule.DROP_CONNECTIONS, limit)


def ports_by_zone(snapshot: Snapshot, node: str) -> dict[int, Port]:
    """The ports of a node by the conntrack zone in which their connections are tracked."""
    return {seat.zone: port for port in snapshot.local_ports(node) for seat in port.bindings if seat.node == node}


def _folded(limits: Mapping[int, int]) -> dict[int, int]:
    """Limits by the ports' own zones: a port may have used up both of its zones. The own zone's limit goes first."""
    folded = {zone - nat_zone(0): limit for zone, limit in limits.items() if zone in _NAT_ZONES}
    return folded | {zone: limit for zone, limit in limits.items() if zone not in _NAT_ZONES}


def words(one: UsedUp) -> str:
    """For people, as a problem of the node."""
    if one.port is None:
        return f"the {one.limit} connections that all ports may have through SNAT addresses are used up"
    name = f"{one.port.called} ({one.port.id})" if one.port.called else one.port.id
    where = " through the node's SNAT address" if one.rule is Rule.DROP_SNAT_SHARE else ""
    return f"port {name} has used up its {one.limit} connections{where}: no more begin until some end"


class FullZonesCollector(Collector):
    def __init__(self, zones: FullZones, snapshot: Callable[[], Snapshot]) -> None:
        self._zones = zones
        self._snapshot = snapshot

    def describe(self) -> Iterator[GaugeMetricFamily]:
        yield from ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        snapshot = self._snapshot()
        family = GaugeMetricFamily(
            "trunkline_port_connections_used_up",
            "The limit of connections that a port has reached.",
            labels=["port", "node"],
        )
        for node in self._zones.nodes():
            found = {one.port.id: one.limit for one in self._zones.used_up(node, snapshot) if one.port is not None}
            for port_id, limit in found.items():
                family.add_metric([port_id, node], limit)
        yield family
