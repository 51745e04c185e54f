"""What the switches on a packet's way say of it themselves, held against what was computed.

Each is asked of the packet as it was computed to come there, and not as the switch before it says that it has sent it.
So all are asked at once; where a switch does as it should, both are the same packet; and of a hop behind one that does
otherwise it is said what would become of the packet there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from flows.explain.following import MOST_STEPS, nothing
from flows.explain.naming import Names
from flows.explain.ofproto_trace import Told, parse
from flows.explain.probe import Lookup, Probe
from flows.explain.trace import End, Hop, Step
from flows.explain.words import table_name
from flows.pipeline import Table
from flows.protocols import VLAN_PRESENT
from flows.rules import decode_cookie
from flows.view import mac_text

LEARNED: Final = "learned"
MISS: Final = "no_match"
OTHER: Final = "not_ours"


@dataclass(frozen=True, slots=True)
class Reading:
    """`steps`: of them, so many are `alike`. `actions`: what the datapath is to do, a line for each stretch.
    `difference`: what the switch does otherwise; "" where it does as computed.
    """

    steps: tuple[Step, ...]
    alike: int
    actions: tuple[str, ...]
    difference: str


def read(
    outputs: Sequence[str], probes: Sequence[Probe], hop: Hop, names: Names, turn: Callable[[], None] = nothing
) -> Reading:
    """`outputs`: one for each of `probes`, which are those of `hop`. Behind a difference no more is read. `turn` as of
    `flows.explain.explain.Explainer`.
    """
    steps: list[Step] = []
    actions: list[str] = []
    alike = 0
    difference = ""
    for output, probe in zip(outputs, probes, strict=True):
        told = parse(output, turn)
        at = _differs_at(told.lookups, probe)
        lookups = told.lookups if at is not None or not probe.measured else _as_large(told.lookups, probe)
        expected = {(one.table, one.cookie) for one in probe.lookups}
        for one in lookups[: len(probe.lookups) + MOST_STEPS]:
            turn()
            steps.append(_step(one, names, hop.steps, (one.table, one.cookie) in expected))
        actions += told.actions
        alike += len(lookups) if at is None else at
        difference = _effects(told, probe) if at is None else _otherwise(told, probe, at, names)
        if difference:
            break
    return Reading(tuple(steps), alike, tuple(actions), difference)


def computed(hop: Hop) -> str:
    """What should become of a packet on a node."""
    if hop.drop is not None:
        return f"dropped ({hop.drop.rule})"
    return ", ".join(map(_end, hop.out))


def _end(end: End) -> str:
    return f"out by {end.name}"


def _step(lookup: Lookup, names: Names, told: Sequence[Step], expected: bool) -> Step:
    """As the trace tells it, if it does: of several security groups that are asked, by the one whose rule it is."""
    table, cookie, _ = lookup
    name = rule_name(lookup)
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


def rule_name(lookup: Lookup) -> str:
    if lookup.cookie is None:
        return MISS
    if lookup.learned:
        return LEARNED
    decoded = decode_cookie(lookup.cookie)
    return OTHER if decoded is None else decoded[0].name.lower()


def _differs_at(said: Sequence[Lookup], probe: Probe) -> int | None:
    at = _parts_at(said, probe.lookups)
    return None if probe.measured and _parts_at(_as_large(said, probe), probe.lookups) is None else at


def _parts_at(found: Sequence[Lookup], expected: Sequence[Lookup]) -> int | None:
    """What a switch has learned from traffic is nothing that it should have, or should not. It says behind which node,
    and on which segment, an address is: so from there on flows are alike that have the same name.
    """
    learned = min(map(_first_learned, (found, expected)))
    for index in range(max(len(found), len(expected))):
        there, here = _at(found, index), _at(expected, index)
        if there is None or here is None or there.table != here.table:
            return index
        if there != here and (index < learned or _static_name(there) != _static_name(here)):
            return index
        if here.table == Table.AWAKE and there.learned != here.learned:
            return None  # whether a VM is here already: only its switch knows
    return None


def _first_learned(lookups: Sequence[Lookup]) -> int:
    return next((index for index, one in enumerate(lookups) if one.learned), len(lookups))


def _static_name(lookup: Lookup) -> str:
    return MISS if lookup.learned else rule_name(lookup)


def _as_large(said: Sequence[Lookup], probe: Probe) -> tuple[Lookup, ...]:
    """Where a packet is measured a trace goes both ways, first as if it were larger. These are without that."""
    rest = len(probe.lookups) - probe.measured
    return (*said[: probe.measured], *said[max(len(said) - rest, probe.measured) :])


def _otherwise(told: Told, probe: Probe, at: int, names: Names) -> str:
    there, here = _at(told.lookups, at), _at(probe.lookups, at)
    if there is not None and here is not None and there.table == here.table:
        met, meant = _called(there, names), _called(here, names)
        if met == meant:
            met, meant = f"{met} of priority {there.priority}", f"that of priority {here.priority}"
        text = f"in {_place(here)} it meets {met}, and should meet {meant}: {_reason(there, here)}"
    else:
        text = f"it comes {_further(there, names)}, and should come {_further(here, names)}"
    last = told.lookups[-1] if told.lookups else None
    decoded = None if last is None or last.cookie is None else decode_cookie(last.cookie)
    if last is not None and last is not there and decoded is not None and decoded[0].drop:
        text += f"; in the end {_called(last, names)} drops it"
    return text


def _reason(there: Lookup, here: Lookup) -> str:
    """Why a table has another answer than it should."""
    if here.cookie is not None and (there.cookie is None or there.priority < here.priority):
        return f"{rule_name(here)} is missing there"
    if there.cookie is not None and decode_cookie(there.cookie) is None:
        return "somebody else has put it there"
    return "its flows are of another generation"


def _at(lookups: Sequence[Lookup], index: int) -> Lookup | None:
    return lookups[index] if index < len(lookups) else None


def _further(lookup: Lookup | None, names: Names) -> str:
    return "no further" if lookup is None else f"to {_called(lookup, names)} in {_place(lookup)}"


def _place(lookup: Lookup) -> str:
    return f"table {lookup.table} ({table_name(lookup.table)})"


def _called(lookup: Lookup, names: Names) -> str:
    if lookup.cookie is None:
        return "no flow"
    decoded = decode_cookie(lookup.cookie)
    called = "" if decoded is None else names.thing(decoded[0].about, decoded[1])[1]
    return rule_name(lookup) + (f" ({called})" if called else "")


def _effects(told: Told, probe: Probe) -> str:
    """What flows do that have the right names."""
    if told.translations - probe.translations:
        found, expected = _listed(told.translations), _listed(probe.translations)
        return f"{_GENERATION}: they translate to {found}, and should translate to {expected}"
    # what is learned from traffic leads elsewhere; and where a packet is measured, this is of both ways
    if probe.measured or any(one.learned for one in (*told.lookups, *probe.lookups)):
        return ""
    if told.outputs != probe.outputs:
        found, expected = _listed(told.outputs), _listed(probe.outputs)
        return f"{_GENERATION}: they send it to {found}, and should send it to {expected}"
    after = told.after or probe.after
    for name, value in probe.after.items():
        if after[name] != value:
            found, expected = _spelled(name, after[name]), _spelled(name, value)
            return f"{_GENERATION}: they make {name} {found}, and should make it {expected}"
    return ""


_GENERATION: Final = "its flows have the right names, but are of another generation"


def _listed(values: frozenset[int] | frozenset[IPv4Address | IPv6Address]) -> str:
    return ", ".join(map(str, sorted(values, key=str))) or "none"


def _spelled(name: str, value: int) -> str:
    match name:
        case "eth_src" | "eth_dst":
            return mac_text(value)
        case "ip_src" | "ip_dst":
            return str(IPv4Address(value))
        case "ipv6_src" | "ipv6_dst":
            return str(IPv6Address(value))
        case "vlan_vid":
            return str(value & ~VLAN_PRESENT) if value else "none"
        case "nw_ttl":
            return str(value)
    return f"{value:#x}"
