"""What a trace is: values alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What became of the packet."""

    DELIVERED = "delivered"  # to the interface of a port
    ANSWERED = "answered"  # by the sender's own node
    LEFT = "left"  # to the outside, or to a machine on the wire
    CONTROLLER = "controller"  # which answers, or sends it on later
    DROPPED = "dropped"  # by a flow that says why
    LOST = "lost"  # nobody takes it, or it was never sent


class Severity(StrEnum):
    """`ERROR`: it cannot work like this. `WARNING`: it may be why. `NOTE`: good to know."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Object:
    """What a flow is about. `kind` as in `flows.rules`: port, network, security_rule, ..."""

    kind: str
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What is not a flow's doing."""

    severity: Severity
    text: str


@dataclass(frozen=True, slots=True)
class Step:
    """What one table has decided."""

    table: int
    table_name: str
    rule: str
    object: Object | None
    text: str


@dataclass(frozen=True, slots=True)
class Drop:
    rule: str
    text: str
    object: Object | None


class Kind(StrEnum):
    """Of an end: where a packet comes into a node, or leaves it."""

    PORT = "port"
    UPLINK = "uplink"
    PHYSICAL_NETWORK = "physical_network"
    CONTROLLER = "controller"


@dataclass(frozen=True, slots=True)
class End:
    kind: Kind
    name: str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Hop:
    """One node's part. `drop` is set when nothing left the node."""

    node: str
    came_in: End
    steps: tuple[Step, ...]
    out: tuple[End, ...] = ()
    drop: Drop | None = None


@dataclass(frozen=True, slots=True)
class Launch:
    """Where the packet came into the first node, and its fields as flows have them (flows.fields). `lookups`: the
    tables that it came to there, and the cookies of the flows; `measured`: how many there are until it is measured, if
    it is; `of_connection`: which of them are by how its connection has begun.
    """

    node: str
    in_port: int
    fields: Mapping[str, int]
    lookups: tuple[tuple[int, int | None], ...] = ()
    measured: int = 0
    of_connection: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Trace:
    """`packet` in words; `reply` is what became of the answer, where there is somebody to answer. `launch` is None
    where the packet came to no node.
    """

    verdict: Verdict
    summary: str
    packet: Mapping[str, str | int]
    findings: tuple[Finding, ...] = ()
    hops: tuple[Hop, ...] = ()
    reply: Trace | None = None
    launch: Launch | None = None
