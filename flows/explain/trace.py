"""What a trace is: values alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from flows.explain.following import Passed


class Verdict(StrEnum):
    """What became of the packet."""

    DELIVERED = "delivered"  # to the interface of a port
    ANSWERED = "answered"  # by the sender's own node
    LEFT = "left"  # to the outside, or to a machine on the wire
    CONTROLLER = "controller"  # which answers, or sends it on later
    DROPPED = "dropped"  # by a flow that says why
    LOST = "lost"  # nobody takes it, or it was never sent

    @property
    def arrived(self) -> bool:
        """True if the packet gets where it can be answered."""
        return self not in (Verdict.DROPPED, Verdict.LOST)


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
class Trace:
    """`packet` in words; `reply` is what became of the answer, where there is somebody to answer. `passed`:
    what each of `hops` is made of.
    """

    verdict: Verdict
    summary: str
    packet: Mapping[str, str | int]
    findings: tuple[Finding, ...] = ()
    hops: tuple[Hop, ...] = ()
    reply: Trace | None = None
    passed: tuple[Passed, ...] = field(default=(), repr=False)
