"""What the switches of nodes themselves would do with packets: asked by their agents, all at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import eventlet

from agent.ofproto_trace import MOST, MOST_PACKETS
from controller.errands import ErrandError, Errands, Kind
from controller.session_questions import NoAnswer
from flows.explain.probe import Probe

TIMEOUT: Final = 6.0
"""Seconds for all of them; an agent gives Open vSwitch four."""

MOST_LINES: Final = 8 << 10
"""Of one node. Open vSwitch's have 36 characters on average or more, so an agent comes to fewer."""

Answer = Sequence[str] | NoAnswer
"""What Open vSwitch says, to each probe that it was asked; or why nothing is known."""


class LiveTracing:
    def __init__(self, errands: Errands) -> None:
        self._errands = errands

    def __call__(self, asked: Mapping[str, Sequence[Probe]]) -> dict[str, Answer]:
        """By the names of nodes. Of a node are asked `MOST_PACKETS` at most, those that come first."""
        return dict(zip(asked, eventlet.GreenPool().imap(self._ask, asked.items()), strict=True))

    def _ask(self, asked: tuple[str, Sequence[Probe]]) -> Answer:
        node, probes = asked
        packets = [_packet(probe) for probe in probes[:MOST_PACKETS]]
        try:
            result = self._errands.ask(node, Kind.OFPROTO_TRACE, {"packets": packets}, TIMEOUT)
        except ErrandError as error:
            return NoAnswer(str(error))
        outputs = result.get("outputs")
        if not isinstance(outputs, list) or not all(isinstance(output, str) for output in outputs):
            return NoAnswer(f"the agent of node {node} says nothing")
        lines = sum(output.count("\n") for output in outputs)
        if len(outputs) != len(packets) or sum(map(len, outputs)) > MOST or lines > MOST_LINES:
            return NoAnswer(f"the agent of node {node} says something else than an agent does")
        return outputs


def _packet(probe: Probe) -> dict[str, Any]:
    return {"in_port": probe.in_port, "table": probe.table, "fields": dict(probe.fields)}
