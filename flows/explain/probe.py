"""What the switch of a node is asked of a packet that has been followed, and what it should say.

`ofproto/trace` asks no conntrack: what comes back from there is a packet of a connection that it knows nothing of. So
it is asked for each stretch between two conntracks by itself, with what the simulated conntrack has said: that a
connection is new, or that this is an answer to it, how it has begun, and to what it is translated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from flows.explain.following import Passed
from flows.explain.target import Address
from flows.fields import FIELDS
from flows.ir import CheckLarger, Ct
from flows.packet import PIPELINE_FIELDS, Packet
from flows.protocols import ETH_IP
from flows.rules import COOKIE_LEARNED, COOKIE_OURS_MASK
from flows.simulate import Step, Stretch

MOST_STRETCHES: Final = 16
"""Of one node that are asked for: what goes to many ports has one for each."""

WATCHED: Final = (
    *("metadata", *(f"reg{index}" for index in range(16))),
    *("eth_dst", "eth_src", "vlan_vid", "nw_ttl", "ip_src", "ip_dst", "ipv6_src", "ipv6_dst"),
)
"""The fields that flows set, and that a trace shows in the end."""

_KNOWN: Final = PIPELINE_FIELDS - {"in_port"}


class Lookup(NamedTuple):
    """A table, and the flow that was found there: None and 0 for none."""

    table: int
    cookie: int | None
    priority: int = 0

    @property
    def learned(self) -> bool:
        return self.cookie is not None and self.cookie & COOKIE_OURS_MASK == COOKIE_LEARNED


@dataclass(frozen=True, slots=True)
class Probe:
    """One stretch. The packet is in `table`, as if it had come in by `in_port`, with `fields` (flows.fields): those of
    the pipeline, too, where it begins behind conntrack. The rest is what should come of it: `measured` is how many
    lookups there are until the packet is measured, if it is, `outputs` the ports that it is sent to, `translations`
    the addresses that conntrack is to translate to, `after` the fields of `WATCHED` in the end.
    """

    table: int
    in_port: int
    fields: Mapping[str, int]
    lookups: tuple[Lookup, ...]
    measured: int
    outputs: frozenset[int]
    translations: frozenset[Address]
    after: Mapping[str, int]


def probes(passed: Passed) -> tuple[Probe, ...]:
    """The first stretches of a hop."""
    stretches, steps = passed.result.stretches, passed.result.steps
    ends = [*(stretch.first for stretch in stretches[1:]), len(steps)]
    found = list(zip(stretches, ends, strict=True))[:MOST_STRETCHES]
    return tuple(_probe(passed.packet, stretch, steps[stretch.first : end]) for stretch, end in found)


def _probe(packet: Packet, stretch: Stretch, steps: tuple[Step, ...]) -> Probe:
    """`packet` has the fields of its kind, with the values with which it came in."""
    before = stretch.before
    shown = [name for name in FIELDS if name in packet or (name in _KNOWN and before[name])]
    return Probe(
        int(stretch.table),
        before["in_port"],
        {name: int(before[name]) for name in shown},
        tuple(map(_lookup, steps)),
        next(_measured(steps), 0),
        frozenset(stretch.tried),
        frozenset(_translations(steps)),
        {name: stretch.after[name] for name in WATCHED if name in packet or name in PIPELINE_FIELDS},
    )


def _lookup(step: Step) -> Lookup:
    if step.flow is None:
        return Lookup(int(step.table), None)
    return Lookup(int(step.table), step.flow.cookie, int(step.flow.priority))


def _measured(steps: tuple[Step, ...]) -> Iterator[int]:
    for index, step in enumerate(steps, 1):
        if step.flow is not None and any(isinstance(action, CheckLarger) for action in step.flow.actions):
            yield index


def _translations(steps: tuple[Step, ...]) -> Iterator[Address]:
    for step in steps:
        for action in () if step.flow is None else step.flow.actions:
            if isinstance(action, Ct) and action.nat is not None:
                family = IPv4Address if action.nat.family == ETH_IP else IPv6Address
                yield family(action.nat.address)
