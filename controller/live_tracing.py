"""What the switch of a node itself would do with a packet: asked by its agent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from controller.errands import ErrandError, Errands, Kind
from controller.session_questions import NoAnswer

TIMEOUT: Final = 6.0
"""Seconds; the agent gives Open vSwitch four."""


MOST: Final = 128 << 10
"""Characters. An agent takes no more of Open vSwitch."""


class LiveTracing:
    def __init__(self, errands: Errands) -> None:
        self._errands = errands

    def __call__(self, node: str, in_port: int, fields: Mapping[str, int]) -> str:
        """What `ofproto/trace` says. Raises NoAnswer."""
        try:
            arguments = {"in_port": in_port, "fields": dict(fields)}
            result = self._errands.ask(node, Kind.OFPROTO_TRACE, arguments, TIMEOUT)
        except ErrandError as error:
            raise NoAnswer(str(error)) from error
        output = result.get("output")
        if not isinstance(output, str):
            raise NoAnswer(f"the agent of node {node} says nothing")
        if len(output) > MOST:
            raise NoAnswer(f"the agent of node {node} says more than an agent does")
        return output
