"""What Open vSwitch itself says of a packet (`ofproto/trace`, ovs-vswitchd(8)), read and held against the simulator."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from flows.explain.naming import Names
from flows.explain.trace import Launch, Step, Trace
from flows.explain.words import table_name
from flows.rules import COOKIE_LEARNED, COOKIE_OURS_MASK, decode_cookie

_BRIDGE: Final = re.compile(r'^bridge\("(.*)"\)$')
# a flow whose cookie is 0 is shown without one
_LOOKUP: Final = re.compile(r"^ *(?P<table>\d{1,3})\. (?:(?P<miss>No match)|.*?(?:, cookie (?P<cookie>0x[0-9a-f]+))?$)")
_ACTIONS: Final = re.compile(r"^Datapath actions: (.*)$", re.MULTILINE)

LEARNED: Final = "learned"
MISS: Final = "no_match"
OTHER: Final = "not_ours"

Lookup = tuple[int, int | None]
"""A table, and the cookie of the flow that was found there; None for none."""


@dataclass(frozen=True, slots=True)
class Reading:
    """`actions`: what the datapath is to do, a line for each time that the packet comes through it. `difference`: from
    where on the switch decides otherwise than its flows should; "" where it does not. `blind`: from where on it cannot
    be told, since a trace does not know how a connection has begun.
    """

    steps: tuple[Step, ...]
    actions: tuple[str, ...]
    difference: str = ""
    blind: str = ""

    @property
    def agrees(self) -> bool | None:
        """None: as far as can be told."""
        return None if self.blind else not self.difference


def read(output: str, trace: Trace, launch: Launch, names: Names) -> Reading:
    """`output` is of the switch of `launch`, from where `trace` has followed the packet."""
    found = lookups(output)
    told = trace.hops[0].steps if trace.hops else ()
    steps = tuple(_step(one, names, told, one in launch.lookups) for one in found)
    actions = tuple(_ACTIONS.findall(output))
    at = _differs_at(found, launch)
    if at is None:
        return Reading(steps, actions)
    if at in launch.of_connection:
        table = launch.lookups[at][0]
        return Reading(steps[:at], actions, blind=f"from table {table} ({table_name(table)}) on")
    there, here = _said(found, at), _said(launch.lookups, at)
    return Reading(steps, actions, f"there {there}, by the flows that it should have {here}")


def lookups(output: str) -> tuple[Lookup, ...]:
    """Those in the bridge where the packet has come in: it may go through others, whose flows are not ours."""
    found: list[Lookup] = []
    first = bridge = ""
    for line in output.splitlines():
        header = _BRIDGE.match(line)
        if header is not None:
            bridge = header[1]
            first = first or bridge
            continue
        lookup = _LOOKUP.match(line)
        if lookup is None:
            continue
        cookie = None if lookup["miss"] else int(lookup["cookie"] or "0", 16)
        if bridge == first or (cookie is not None and decode_cookie(cookie) is not None):
            found.append((int(lookup["table"]), cookie))
    return tuple(found)


def _step(lookup: Lookup, names: Names, told: Sequence[Step], expected: bool) -> Step:
    """As the trace tells it, if it does: of several security groups that are asked, by the one whose rule it is."""
    table, cookie = lookup
    name = rule_name(cookie)
    decoded = None if cookie is None else decode_cookie(cookie)
    if decoded is None:
        return Step(table, table_name(table), name, None, _TEXTS[name])
    rule, key = decoded
    thing, called = names.thing(rule.about, key)
    alike = [step for step in told if (step.table, step.rule) == (table, name)]
    for step in alike:
        # rules that share a flow: the trace names the one that is about the packet, the cookie the first
        if step.object == thing or (expected and len(alike) == 1):
            return step
    return Step(table, table_name(table), name, thing, rule.doc + (f" ({called})" if called else ""))


_TEXTS: Final = {
    LEARNED: "a flow that the switch has learned from traffic",
    MISS: "nothing here is about it",
    OTHER: "a flow that is none of ours",
}


def rule_name(cookie: int | None) -> str:
    if cookie is None:
        return MISS
    if _is_learned(cookie):
        return LEARNED
    decoded = decode_cookie(cookie)
    return OTHER if decoded is None else decoded[0].name.lower()


def _is_learned(cookie: int) -> bool:
    return cookie & COOKIE_OURS_MASK == COOKIE_LEARNED


def _alike(lookups: Sequence[Lookup]) -> list[Lookup]:
    """What a switch has learned from traffic is nothing that it should have, or should not."""
    return [(table, None if cookie is not None and _is_learned(cookie) else cookie) for table, cookie in lookups]


def _differs_at(said: Sequence[Lookup], launch: Launch) -> int | None:
    """Where a packet is measured a trace goes both ways, first as if it were larger."""
    found, expected, measured = _alike(said), _alike(launch.lookups), launch.measured
    rest = expected[measured:]
    if found == expected:
        return None
    if measured and found[:measured] == expected[:measured] and found[len(found) - len(rest) :] == rest:
        return None
    shorter = min(len(found), len(expected))
    return next((index for index in range(shorter) if found[index] != expected[index]), shorter)


def _said(lookups: Sequence[Lookup], at: int) -> str:
    if at >= len(lookups):
        return "it comes no further"
    table, cookie = lookups[at]
    return f"it comes to {rule_name(cookie)} in table {table} ({table_name(table)})"
