"""What the switches on the way of a trace say themselves, for /v1/trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from controller.api.limits import Aside
from controller.api.services import Services
from controller.api.trace_answers import LiveHop, shown_step
from controller.live_tracing import Answer
from controller.session_questions import NoAnswer
from flows.explain.live import Reading, computed, read
from flows.explain.naming import Names
from flows.explain.probe import Probe, probes
from flows.explain.trace import Finding, Hop, Severity, Trace


@dataclass(slots=True)
class Live:
    """`hops` and `reply` are None where no switch could be asked, or there is no reply."""

    hops: list[LiveHop] | None = None
    reply: list[LiveHop] | None = None
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Asked:
    """`first`: where its probes begin among those of the node; `left_out`: of so many stretches nobody is asked."""

    hop: Hop
    node: str
    first: int
    probes: tuple[Probe, ...]
    left_out: int


def ask(services: Services, names: Names, trace: Trace, turn: Callable[[], None], aside: Aside) -> Live:
    """Each node once, all at the same time. `turn` as of `flows.explain.explain.Explainer`, `aside` of the request."""
    if not trace.passed:
        return Live(findings=[Finding(Severity.NOTE, "no switch was asked: the packet comes to none")])
    if services.live_trace is None:
        text = "no switch was asked: this controller cannot ask the agents of nodes"
        return Live(findings=[Finding(Severity.NOTE, text)])
    questions: dict[str, list[Probe]] = {}
    ways = [list(_asked(way, questions, turn)) for way in (trace, trace.reply) if way is not None]
    with aside():
        answers = services.live_trace(questions)
    live = Live()
    told: list[list[LiveHop]] = []
    for way, prefix in zip(ways, ("", "the answer: "), strict=False):
        told.append([])
        for asked in way:
            told[-1].append(_told(asked, answers[asked.node], names, prefix, live.findings, turn))
    live.hops = told[0]
    live.reply = told[1] if len(told) > 1 else None
    live.findings = list(dict.fromkeys(live.findings))
    return live


def _asked(way: Trace, questions: dict[str, list[Probe]], turn: Callable[[], None]) -> Iterator[_Asked]:
    for passed, hop in zip(way.passed, way.hops, strict=True):
        turn()
        of_node = questions.setdefault(passed.node, [])
        of_hop = probes(passed)
        yield _Asked(hop, passed.node, len(of_node), of_hop, len(passed.result.stretches) - len(of_hop))
        of_node += of_hop


def _told(
    asked: _Asked, answer: Answer, names: Names, prefix: str, findings: list[Finding], turn: Callable[[], None]
) -> LiveHop:
    turn()
    node = asked.hop.node
    if isinstance(answer, NoAnswer):
        findings.append(Finding(Severity.WARNING, f"the switch of {node} was asked in vain: {answer}"))
        return _unknown(node, f"was asked in vain: {answer}")
    outputs = answer[asked.first : asked.first + len(asked.probes)]
    if len(outputs) < len(asked.probes):
        return _unknown(node, "was not asked: too much of this comes to one node")
    reading = read(outputs, asked.probes, asked.hop, names, turn)
    if reading.difference:
        text = f"{prefix}the switch of {node} decides otherwise: {reading.difference}"
        findings.append(Finding(Severity.WARNING, text))
    return LiveHop(
        node=node,
        agrees=not reading.difference,
        text=_in_words(reading, asked),
        steps=[shown_step(step) for step in reading.steps],
        alike=reading.alike,
        actions=list(reading.actions),
        outputs=list(outputs),
    )


def _unknown(node: str, text: str) -> LiveHop:
    return LiveHop(node=node, agrees=None, text=text, steps=[], alike=0, actions=[], outputs=[])


def _in_words(reading: Reading, asked: _Asked) -> str:
    if reading.difference:
        return f"decides otherwise: {reading.difference}"
    what = computed(asked.hop)
    text = f"decides the same: {what}" if what else "decides the same"
    if asked.left_out:
        text += f" (as far as it was asked: {asked.left_out} more times it comes back from conntrack)"
    return text
