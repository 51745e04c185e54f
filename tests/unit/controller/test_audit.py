"""The periodic look at what switches hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from controller.audit import FlowAudit, place
from controller.events.drop_watch import Dropping, DropWatch
from controller.session import State
from controller.session_counters import Counters
from controller.session_questions import NoAnswer
from flows import statistics, wire
from flows.compile import Program
from flows.ir import Flow, drop
from flows.rules import Rule
from flows.wire import multipart_request
from tests.unit.controller.fake_switch import FakeSwitch
from tests.unit.controller.test_session import World, key_of, output, program, until, world

__all__ = ["world"]


def reply(*flows: Flow) -> bytes:
    """One part of a switch's answer."""
    body = b""
    for flow in flows:
        table, priority, cookie = place(flow)
        body += statistics._FLOW.pack(56, table, 1, 0, priority, 0, 0, 0, cookie, 3, 4) + b"\0\1\0\4\0\0\0\0"
    message = multipart_request(wire.FLOW_STATS, body, 7)
    return message[:1] + b"\x13" + message[2:]


class Suspect:
    def __init__(self, *quarantine: Flow) -> None:
        self.node: str | None = "n1"
        self.quarantine = quarantine
        self.distrusted = 0

    def distrust(self) -> None:
        self.distrusted += 1


def nobody() -> DropWatch:
    return DropWatch(lambda *_: None, lambda *_: None)


ONE, TWO, THREE = output(1), output(2), output(3)


def look(held: tuple[Flow, ...], wanted: Program | None, session: Suspect) -> int:
    counters = Counters()
    ask = lambda node, request, timeout: [reply(*held)]  # noqa: E731
    audit = FlowAudit(lambda: [session], lambda node: wanted, ask, counters, nobody())
    audit.run()
    return counters.node("n1").flows_differing


@pytest.mark.parametrize(
    ("held", "differing"),
    [((ONE, TWO), 0), ((ONE,), 1), ((ONE, TWO, THREE), 1), ((ONE, THREE), 2), ((), 2), ((ONE, TWO, TWO), 1)],
)
def test_b25_what_lacks_and_what_is_foreign_is_counted_and_put_right(held: tuple[Flow, ...], differing: int) -> None:
    session = Suspect()
    assert look(held, program(ONE, TWO), session) == differing
    assert session.distrusted == bool(differing)


def test_b25_what_the_switch_refuses_is_no_difference() -> None:
    session = Suspect(TWO)
    assert look((ONE,), program(ONE, TWO), session) == 0
    assert look((), None, session) == 0  # something is on its way
    assert not session.distrusted


def test_b25_a_change_meanwhile_and_a_silent_switch_are_no_difference() -> None:
    session, wanted = Suspect(), [program(ONE), program(ONE, TWO)]
    audit = FlowAudit(lambda: [session], lambda node: wanted.pop(), lambda *_: [reply()], Counters(), nobody())
    audit.run()

    def silent(node: str, request: Callable[[int], bytes], timeout: float) -> Any:
        raise NoAnswer("silent")

    FlowAudit(lambda: [session], lambda node: program(ONE), silent, Counters(), nobody()).run()
    assert not session.distrusted


def test_it_tells_what_watched_rules_have_dropped() -> None:
    heard: list[tuple[str, Mapping[Dropping, int]]] = []

    class Watch(DropWatch):
        def counted(self, node: str, packets: Mapping[Dropping, int]) -> None:
            heard.append((node, packets))

    spoofed = [drop(Rule.DROP_SPOOFED, priority, key=9) for priority in (0, 1)]
    held = (ONE, *spoofed, drop(Rule.DROP_IPV6, 0, key=9))
    ask = lambda *_: [reply(*held)]  # noqa: E731
    FlowAudit(lambda: [Suspect()], lambda node: program(ONE), ask, Counters(), Watch(print, print)).run()
    assert heard == [("n1", {(Rule.DROP_SPOOFED, 9): 6})]


def test_b25_a_switch_that_is_not_trusted_gets_everything_anew(world: World) -> None:
    switch = world.live(FakeSwitch())
    assert len(switch.computed()) == 2
    del switch.flows[key_of(output(1))]
    session = world.session
    session.distrust()
    until(lambda: len(switch.computed()) == 2)
    until(lambda: session.state is State.LIVE)
    assert world.programs.whole[-1] and world.counters.node("n1").resyncs == 2
    world.confirmed(world.change((output(3),)))
    assert len(switch.computed()) == 3 and world.session is session
