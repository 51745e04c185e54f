"""What the API needs from the rest of the controller, in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from prometheus_client import CollectorRegistry

from controller.api.token_keeper import TokenKeeper
from controller.captures import Captures
from controller.config import ControllerConfig
from controller.dns.tcp import Questions
from controller.drops import Drops
from controller.errands import Errands
from controller.events.ring import Events
from controller.full_zones import FullZones
from controller.live_tracing import Answer
from controller.metadata.service import MetadataService
from controller.planning import Planner
from controller.port_counters import PortCounts
from controller.session_questions import NoAnswer
from controller.store import Store
from flows.compile import Program
from flows.explain.probe import Probe
from flows.model import FloatingIp, Port
from flows.segments import SegmentKey
from flows.snapshot import Snapshot


class Confirmations(Protocol):
    """Which nodes have confirmed a revision by barrier. The first two answer the names of the nodes that have not."""

    def missing(self, revision: int) -> list[str]: ...

    def wait(self, revision: int, timeout_s: float) -> list[str]:
        """Returns as soon as none is missing, or after `timeout_s` seconds."""
        ...

    def wait_node(self, node: str, revision: int, timeout_s: float) -> bool:
        """Whether this one has, as soon as it has, or after `timeout_s` seconds."""
        ...


def _no_counters(port: Port) -> PortCounts | None:
    return None


def _no_switch(node: str, request: Callable[[int], bytes], timeout_s: float) -> list[bytes]:
    raise NoAnswer("not connected")


def _no_mutes(node: str, port_key: int) -> Mapping[str, int]:
    return {}


def _ready() -> Mapping[str, str]:
    return {}


def _no_leases() -> None:
    """Nothing waits to be written."""


def _no_failures() -> Iterable[tuple[str, SegmentKey, str]]:
    return ()


def _no_controllers() -> list[dict[str, Any]]:
    return []


def _no_datapaths() -> Mapping[int, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class Services:
    """`node_state` describes a node's session in plain JSON values; its key `state` (a word) labels the node metric.
    `port_counters` asks a port's switch, and raises NoAnswer; `port_mutes` says for how many seconds more a port is not
    heard about what. `settle_leases` writes down what clients have been told of their leases so far. `datapaths` are
    the connected switches by datapath_id (Ryu's objects), `stats_waiters` is where their answers to /stats are waited
    for: pass each multipart and role reply to `controller.api.stats.deliver`. `dns` answers what VMs ask by TCP.
    `not_compiled`: node, segment, and why that could not be made.
    `controllers` describes those that are alive, in JSON values. `ready`: what /readyz says (controller.readiness).
    `events`: what has just happened. `drops` asks switches what they have dropped.
    `programs`: a snapshot, and what nodes should hold by it, as far as it is known. `live_trace`: what the switches of
    nodes themselves say to probes, by the names of nodes (controller.live_tracing). None: nobody can be asked.
    `errands` are what agents are asked to do, `captures` what of that passes through here. `full_zones`: the ports that
    have used up their connections, as agents report.
    """

    store: Store
    snapshot: Callable[[], Snapshot]
    confirmations: Confirmations
    port_active: Callable[[Port], bool]
    floating_ip_active: Callable[[FloatingIp], bool]
    node_state: Callable[[str], dict[str, Any]]
    config: ControllerConfig
    metadata: MetadataService
    tokens: TokenKeeper
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    datapaths: Callable[[], Mapping[int, Any]] = _no_datapaths
    port_counters: Callable[[Port], PortCounts | None] = _no_counters
    port_mutes: Callable[[str, int], Mapping[str, int]] = _no_mutes
    settle_leases: Callable[[], None] = _no_leases
    dns: Questions | None = None
    not_compiled: Callable[[], Iterable[tuple[str, SegmentKey, str]]] = _no_failures
    controllers: Callable[[], list[dict[str, Any]]] = _no_controllers
    ready: Callable[[], Mapping[str, str]] = _ready
    planner: Planner | None = None
    drops: Drops = field(default_factory=lambda: Drops(_no_switch))
    events: Events = field(default_factory=Events)
    programs: Callable[[], tuple[Snapshot, Mapping[str, Program]]] | None = None
    live_trace: Callable[[Mapping[str, Sequence[Probe]]], Mapping[str, Answer]] | None = None
    stats_waiters: dict[int, dict[int, Any]] = field(default_factory=dict)
    errands: Errands = field(default_factory=Errands)
    captures: Captures = field(default_factory=Captures)
    full_zones: FullZones = field(default_factory=FullZones)
