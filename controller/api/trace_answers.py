"""What /v1/trace answers, as types and as values."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema
from typing_extensions import TypedDict

from flows.explain import trace as told


class TracedObject(TypedDict):
    """What a flow is about. Objects that the caller may not know of are null."""

    kind: str
    id: str
    name: str


class TraceFinding(TypedDict):
    severity: Annotated[str, WithJsonSchema({"type": "string", "enum": [*told.Severity]})]
    text: str


class TraceStep(TypedDict):
    """`rule` as in docs/pipeline.md."""

    table: int
    table_name: str
    rule: str
    object: TracedObject | None
    text: str


class TraceEnd(TypedDict):
    kind: Annotated[str, WithJsonSchema({"type": "string", "enum": [*told.Kind]})]
    name: str
    id: str | None


class TraceDrop(TypedDict):
    rule: str
    text: str
    object: TracedObject | None


# `in` is no name in Python
TraceHop = TypedDict(
    "TraceHop",
    {"node": str, "in": TraceEnd, "steps": list[TraceStep], "out": list[TraceEnd], "drop": TraceDrop | None},
)

Verdict = Annotated[str, WithJsonSchema({"type": "string", "enum": [*told.Verdict]})]
Packet = Annotated[
    dict[str, Any], Field(description="Its fields for people: protocol, from, to, destination_port, ...")
]


class LiveHop(TypedDict):
    """What Open vSwitch says on a node (`ofproto/trace`), for the hop of the same place. `agrees`: it does as computed,
    and so says `text`; null: nothing is known, and `text` says why. `steps` and `actions` of `outputs`, which are as
    they are, one from where the packet comes in and one for each time that it comes back from conntrack. `alike`: how
    many steps are as computed.
    """

    node: str
    agrees: bool | None
    text: str
    steps: list[TraceStep]
    alike: int
    actions: list[str]
    outputs: list[str]


Arrives = Annotated[
    bool,
    Field(description="It gets there, and the answer to it; nothing is an error, and no switch decides otherwise"),
]


class TraceReply(TypedDict):
    arrives: Arrives
    verdict: Verdict
    summary: str
    packet: Packet
    findings: list[TraceFinding]
    hops: list[TraceHop]
    reply: None
    live: list[LiveHop] | None


def shown(
    trace: told.Trace, live: list[LiveHop] | None = None, reply_live: list[LiveHop] | None = None
) -> dict[str, Any]:
    """In JSON values."""
    reply = None if trace.reply is None else shown(trace.reply, reply_live)
    wrong = any(one.severity is told.Severity.ERROR for one in trace.findings)
    otherwise = any(hop["agrees"] is False for hop in live or ())
    return {
        "arrives": trace.verdict.arrived and not (wrong or otherwise) and (reply is None or reply["arrives"]),
        "verdict": trace.verdict.value,
        "summary": trace.summary,
        "packet": dict(trace.packet),
        "findings": [{"severity": one.severity.value, "text": one.text} for one in trace.findings],
        "hops": [_hop(hop) for hop in trace.hops],
        "reply": reply,
        "live": live,
    }


def _hop(hop: told.Hop) -> dict[str, Any]:
    drop = hop.drop
    return {
        "node": hop.node,
        "in": _end(hop.came_in),
        "steps": [shown_step(step) for step in hop.steps],
        "out": [_end(end) for end in hop.out],
        "drop": None if drop is None else {"rule": drop.rule, "text": drop.text, "object": _object(drop.object)},
    }


def shown_step(step: told.Step) -> TraceStep:
    thing = (
        None if step.object is None else TracedObject(kind=step.object.kind, id=step.object.id, name=step.object.name)
    )
    return {"table": step.table, "table_name": step.table_name, "rule": step.rule, "object": thing, "text": step.text}


def _end(end: told.End) -> dict[str, Any]:
    return {"kind": end.kind.value, "name": end.name, "id": end.id}


def _object(thing: told.Object | None) -> dict[str, str] | None:
    return None if thing is None else {"kind": thing.kind, "id": thing.id, "name": thing.name}
