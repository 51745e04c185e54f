"""What a lookup finds, what becomes of a packet, and what a switch remembers of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from flows.conntrack import Conntrack
from flows.ir import Flow, FlowKey
from flows.packet import Packet
from flows.rules import COOKIE_LEARNED, COOKIE_OURS_MASK, Rule, decode_cookie

Fields = dict[str, int]


class Step(NamedTuple):
    """A lookup: the flow that matched and what its cookie says, or `flow` None for a miss."""

    table: int
    flow: Flow | None = None
    rule: Rule | None = None
    key: int = 0


class Sent(NamedTuple):
    port: int
    packet: Packet


class Punt(NamedTuple):
    """A packet_in: cookie of the flow with its rule and the key of the object, in_port, packet as it was then."""

    cookie: int
    rule: Rule | None
    key: int
    in_port: int
    packet: Packet


class Reason(StrEnum):
    """Why nothing came out. All but `RULE` are losses that the flows give no name of their own."""

    RULE = "rule"  # a drop flow
    MISS = "miss"  # a table without a flow for the packet
    SENDER = "sender"  # output to the port it came from, which Open vSwitch skips
    TTL = "ttl"  # dec_ttl found nothing to take from
    NAT = "nat"  # no free translation
    NOTHING = "nothing"  # the actions sent it nowhere


class Drop(NamedTuple):
    """`rule` and `key` are those of the last flow that had the packet."""

    rule: Rule | None
    key: int
    reason: Reason


class Stretch(NamedTuple):
    """A packet's way from where it came in, or came back from conntrack, to where that has it again, or it ends.

    `first`: which of the lookups is the first one, in `table`; `before` and `after`: all fields then and in the end;
    `tried`: the ports that it is sent to, those that are skipped, too.
    """

    first: int
    table: int
    before: Mapping[str, int]
    tried: tuple[int, ...]
    after: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class State:
    """What a switch remembers from packet to packet."""

    conntrack: Conntrack = field(default_factory=Conntrack)
    learned: Mapping[FlowKey, Flow] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Result:
    """`drop` is set exactly when there are neither outputs nor punts. `state` is for the next packet. `stretches` are
    of `steps`.
    """

    in_port: int
    outputs: tuple[Sent, ...]
    punts: tuple[Punt, ...]
    steps: tuple[Step, ...]
    drop: Drop | None
    state: State
    stretches: tuple[Stretch, ...]

    @property
    def answers(self) -> tuple[Packet, ...]:
        """What goes back to the port it came from."""
        return tuple(sent.packet for sent in self.outputs if sent.port == self.in_port)


_LEARNED = {int(rule.table): rule for rule in (Rule.LEARNED_NEXT_HOP, Rule.LEARNED_NEIGHBOUR, Rule.LEARNED_AWAKE)}


def step_of(flow: Flow) -> Step:
    """What a lookup that finds this flow is."""
    if flow.cookie & COOKIE_OURS_MASK == COOKIE_LEARNED:
        return Step(flow.table, flow, _LEARNED[flow.table])
    rule, key = decode_cookie(flow.cookie) or (None, 0)
    return Step(flow.table, flow, rule, key)
