"""What a switch that holds some flows would do with a packet: an interpreter with Open vSwitch's semantics.

For tests, and to explain to an operator where a packet goes. tests/ovs/test_simulator_agrees.py holds it to the real
one. What a switch remembers between packets (connections, learned flows) is a value: `receive` takes it and its result
has the next one, so nothing here changes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby
from operator import itemgetter
from types import MappingProxyType
from typing import Any, NamedTuple

from flows.conntrack import Conntrack
from flows.fields import CT_FIELDS, FIELDS
from flows.ir import (
    Action,
    CheckLarger,
    Conjunction,
    Controller,
    Ct,
    CtClear,
    DecTtl,
    Flow,
    FlowKey,
    Goto,
    Learn,
    Match,
    Meter,
    Move,
    NoInPort,
    Output,
    OutputInPort,
    PopVlan,
    PushVlan,
    Restart,
    Resubmit,
    SetField,
    Swap,
    matching,
)
from flows.packet import Packet, prerequisite
from flows.pipeline import Table
from flows.protocols import (
    CT_ESTABLISHED,
    CT_INVALID,
    CT_NEW,
    CT_RELATED,
    CT_REPLY,
    CT_TRACKED,
    ND_ADVERTISEMENT,
    VLAN_NONE,
    VLAN_PRESENT,
)
from flows.rules import COOKIE_LEARNED, COOKIE_OURS_MASK, Rule, decode_cookie

Fields = dict[str, int]
_TUPLE = frozenset(CT_FIELDS) - {"ct_state", "ct_zone", "ct_mark"}
_VALID = CT_NEW | CT_ESTABLISHED | CT_RELATED | CT_REPLY
_NOTHING: Fields = dict.fromkeys((*FIELDS, "icmp_id", "size", "part_src", "part_dst"), 0)
_UNTRACKED: Fields = dict.fromkeys(CT_FIELDS, 0)


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


class _Group:
    """The flows of one table, priority and shape of match: one dictionary lookup (Open vSwitch's own tuple space)."""

    __slots__ = ("priority", "extract", "steps")

    def __init__(self, priority: int, shape: tuple[tuple[str, int | None], ...]) -> None:
        self.priority = priority
        self.extract = _extractor(shape)
        self.steps: dict[Any, Step] = {}


def _extractor(shape: tuple[tuple[str, int | None], ...]) -> Callable[[Fields], Any]:
    if not shape:
        return lambda fields: ()
    if all(mask is None for _, mask in shape):
        return itemgetter(*(name for name, _ in shape))
    masks = tuple((name, -1 if mask is None else mask) for name, mask in shape)
    return lambda fields: tuple([fields[name] & mask for name, mask in masks])


_LEARNED = {int(rule.table): rule for rule in (Rule.LEARNED_NEXT_HOP, Rule.LEARNED_NEIGHBOUR, Rule.LEARNED_AWAKE)}


class Tables(ABC):
    """A set of flows, and how they are looked up."""

    @abstractmethod
    def find(self, table: int, fields: Fields) -> Step:
        """The flow of a table that takes a packet with these fields."""

    def receive(self, packet: Packet, in_port: int, state: State | None = None) -> Result:
        """What becomes of a packet. `state` is that of an earlier result; without it the switch remembers nothing."""
        return _Run(self, packet, in_port, state or State()).result()


class Switch(Tables):
    """Indexed, for many packets. Immutable once made."""

    def __init__(self, flows: Iterable[Flow]) -> None:
        """Raises ValueError for a flow that matches or sets a field without its prerequisites: a switch refuses it."""
        groups: dict[int, dict[tuple[int, tuple[tuple[str, int | None], ...]], _Group]] = {}
        for flow in flows:
            _check_prerequisites(flow)
            shape = tuple((name, mask) for name, _, mask in flow.match)
            group = groups.setdefault(flow.table, {}).setdefault((-flow.priority, shape), _Group(flow.priority, shape))
            group.steps[group.extract({name: value for name, value, _ in flow.match})] = step_of(flow)
        self._tables: dict[int, list[_Group]] = {
            table: [group for _, group in sorted(by_shape.items(), key=lambda item: item[0][0])]
            for table, by_shape in groups.items()
        }
        self._conjunctive = frozenset(
            table
            for table, by_shape in groups.items()
            if any(clauses_of(step) for group in by_shape.values() for step in group.steps.values())
        )

    def find(self, table: int, fields: Fields) -> Step:
        if table in self._conjunctive:
            return self._find_with_clauses(table, fields)
        for group in self._tables.get(table, ()):
            found = group.steps.get(group.extract(fields))
            if found is not None:
                return found
        return Step(table)

    def _find_with_clauses(self, table: int, fields: Fields) -> Step:
        groups_of = self._tables[table]

        def with_id(fields: Fields) -> Iterator[Step]:
            found = (group.steps.get(group.extract(fields)) for group in groups_of)
            return (step for step in found if step is not None)

        for _, groups in groupby(groups_of, lambda group: group.priority):
            found = [step for group in groups if (step := group.steps.get(group.extract(fields))) is not None]
            chosen = together(found, fields, with_id)
            if chosen is not None:
                return chosen
        return Step(table)


def together(found: list[Step], fields: Fields, with_id: Callable[[Fields], Iterator[Step]]) -> Step | None:
    """Of flows of one priority that match: one that does so by itself comes before clauses that match together.

    `with_id` gives all that match the fields, whatever their priority.
    """
    whole = [step for step in found if not clauses_of(step)]
    if whole:
        return whole[0]
    clauses = {clause for step in found for clause in clauses_of(step)}
    for id_, count in sorted({(clause.id, clause.clauses) for clause in clauses}):
        if len({clause.clause for clause in clauses if clause.id == id_}) == count:
            matching_id = with_id(fields | {"conj_id": id_})
            allowed = next((step for step in matching_id if not clauses_of(step)), None)
            if allowed is not None:
                return allowed
    return None


def clauses_of(step: Step) -> tuple[Conjunction, ...]:
    actions = () if step.flow is None else step.flow.actions
    return tuple(action for action in actions if isinstance(action, Conjunction))


def step_of(flow: Flow) -> Step:
    """What a lookup that finds this flow is."""
    if flow.cookie & COOKIE_OURS_MASK == COOKIE_LEARNED:
        return Step(flow.table, flow, _LEARNED[flow.table])
    rule, key = decode_cookie(flow.cookie) or (None, 0)
    return Step(flow.table, flow, rule, key)


def _check_prerequisites(flow: Flow) -> None:
    matched = {name: value for name, value, mask in flow.match if mask is None}
    names = [name for name, _, _ in flow.match]
    for action in flow.actions:
        match action:
            case SetField(field=name):
                names.append(name)
            case Move(source=source, target=target):
                names += [source, target]
            case Swap(first=first, second=second):
                names += [first, second]
            case Learn(match=pairs, load=load):
                names += [source for _, source in pairs if isinstance(source, str)] + [source for source, _ in load]
            case DecTtl():
                names.append("nw_ttl")
            case Ct():
                names.append("ip_proto")
    for name in names:
        needs = prerequisite(name, matched)
        if needs is not None and matched.get(needs[0]) != needs[1]:
            raise ValueError(f"{flow}: {name} needs {needs[0]}={needs[1]:#x} in the match")
    if any(name in _TUPLE for name in names) and not _is_valid(flow.match):
        raise ValueError(f"{flow}: matches how a connection began, but not that conntrack knows one")


def _is_valid(match: Match) -> bool:
    """ovs-fields(7), "ct_nw_src": what it needs."""
    for name, value, mask in match:
        if name == "ct_state":
            invalid_not = value & CT_TRACKED and (mask is None or mask & CT_INVALID) and not value & CT_INVALID
            return bool(value & _VALID or invalid_not)
    return False


def _matches(match: Match, fields: Fields) -> bool:
    return all(fields[name] & (-1 if mask is None else mask) == value for name, value, mask in match)


class _Run:
    """One packet on its way through the tables. An action returns a table to go on in, or None, or `_STOP`."""

    def __init__(
        self,
        tables: Tables,
        packet: Packet,
        in_port: int,
        state: State,
    ) -> None:
        self.tables = tables
        self.header = tuple(packet)
        self.fields = _NOTHING | packet._fields
        self.fields["in_port"] = in_port
        self.inner = packet.inner
        # a field of neighbour discovery is set in an option that is there
        self.has_option = bool(packet.get("nd_sll") or packet.get("nd_tll"))
        self.came_in = self.in_port = in_port
        self.conntrack = state.conntrack
        self.learned = state.learned
        # a flow is not seen by the packet that made it
        self.visible = state.learned
        self.outputs: list[Sent] = []
        self.punts: list[Punt] = []
        self.steps: list[Step] = []
        self.stretches: list[Stretch] = []
        self.tried: list[int] = []
        self.drop: Drop | None = None
        self.recirculating: list[tuple[Fields, Packet | None, Ct, Step]] = []

    def result(self) -> Result:
        self.stretch(Table.CLASSIFY)
        while self.recirculating:
            self.recirculate(*self.recirculating.pop(0))
        drop = None
        if not self.outputs and not self.punts:
            last = self.steps[-1]
            drop = self.drop or Drop(last.rule, last.key, Reason.NOTHING)
        state = State(self.conntrack, self.learned)
        steps, stretches = tuple(self.steps), tuple(self.stretches)
        return Result(self.came_in, tuple(self.outputs), tuple(self.punts), steps, drop, state, stretches)

    def stretch(self, table: int) -> None:
        first, before = len(self.steps), dict(self.fields)
        self.tried = []
        self.walk(table)
        self.stretches.append(Stretch(first, table, before, tuple(self.tried), self.fields))

    def walk(self, table: int | None, *, miss_drops: bool = True) -> None:
        while table is not None:
            step = self.find(table)
            self.steps.append(step)
            if step.flow is None:
                if miss_drops:
                    self.drop = Drop(None, 0, Reason.MISS)
                return
            if not step.flow.actions:
                self.drop = Drop(step.rule, step.key, Reason.RULE)
                return
            table = None
            for action in step.flow.actions:
                table = _ACTIONS[type(action)](self, action, step)
                if table is not None:
                    break
            if table == _STOP:
                return
            miss_drops = True

    def find(self, table: int) -> Step:
        fields = self.fields
        found = self.tables.find(table, fields)
        for flow in self.visible.values():
            better = found.flow is None or flow.priority > found.flow.priority
            if flow.table == table and better and _matches(flow.match, fields):
                found = step_of(flow)
        return found

    def packet(self) -> Packet:
        fields = self.fields
        made = {name: fields[name] for name in self.header}
        if made.get("icmpv6_type") == ND_ADVERTISEMENT and "nd_sll" in made:
            del made["nd_sll"]
            made["nd_tll"] = fields["nd_tll"]
        if not self.has_option:
            made.update((name, 0) for name in ("nd_tll", "nd_options_type") if name in made)
        return Packet(made, self.inner)

    def recirculate(self, fields: Fields, inner: Packet | None, action: Ct, step: Step) -> None:
        self.visible = self.learned
        zone = fields[action.zone] & 0xFFFF if isinstance(action.zone, str) else action.zone
        verdict = self.conntrack.track(zone, fields, inner, action)
        self.conntrack = verdict.conntrack
        if verdict.exhausted:
            self.drop = Drop(step.rule, step.key, Reason.NAT)
            return
        self.inner = verdict.inner
        tracked = {"ct_state": verdict.state, "ct_zone": zone, "ct_mark": verdict.mark}
        self.fields = fields | _UNTRACKED | {**verdict.changes, **verdict.began, **tracked}
        assert action.table is not None
        self.stretch(action.table)

    def set_field(self, action: SetField, step: Step) -> None:
        self.fields[action.field] = action.value

    def move(self, action: Move, step: Step) -> None:
        self.fields[action.target] = self.fields[action.source]

    def swap(self, action: Swap, step: Step) -> None:
        fields = self.fields
        fields[action.first], fields[action.second] = fields[action.second], fields[action.first]

    def output(self, action: Output, step: Step) -> None:
        self.tried.append(action.port)
        if action.port == self.in_port:
            self.drop = Drop(step.rule, step.key, Reason.SENDER)
        else:
            self.outputs.append(Sent(action.port, self.packet()))

    def output_in_port(self, action: OutputInPort, step: Step) -> None:
        self.outputs.append(Sent(self.in_port, self.packet()))

    def controller(self, action: Controller, step: Step) -> None:
        assert step.flow is not None
        self.punts.append(Punt(step.flow.cookie, step.rule, step.key, self.in_port, self.packet()))

    def push_vlan(self, action: PushVlan, step: Step) -> None:
        if self.fields["vlan_vid"]:
            raise NotImplementedError("a second VLAN tag")
        self.fields["vlan_vid"] = VLAN_PRESENT | action.vid

    def pop_vlan(self, action: PopVlan, step: Step) -> None:
        self.fields["vlan_vid"] = VLAN_NONE

    def dec_ttl(self, action: DecTtl, step: Step) -> int | None:
        if self.fields["nw_ttl"] <= 1:
            self.drop = Drop(step.rule, step.key, Reason.TTL)
            return _STOP
        self.fields["nw_ttl"] -= 1
        return None

    def ct(self, action: Ct, step: Step) -> None:
        if action.table is None:
            zone = self.fields[action.zone] & 0xFFFF if isinstance(action.zone, str) else action.zone
            self.conntrack = self.conntrack.track(zone, self.fields, self.inner, action).conntrack
            return
        # the packet goes on in that table only after everything that this lookup has yet to do
        self.recirculating.append((dict(self.fields), self.inner, action, step))

    def ct_clear(self, action: CtClear, step: Step) -> None:
        self.fields |= _UNTRACKED

    def conjunction(self, action: Conjunction, step: Step) -> None:
        raise AssertionError("a clause alone is no match")

    def resubmit(self, action: Resubmit, step: Step) -> None:
        self.walk(action.table, miss_drops=False)

    def no_in_port(self, action: NoInPort, step: Step) -> None:
        self.in_port = self.fields["in_port"] = 0

    def restart(self, action: Restart, step: Step) -> int:
        self.in_port = self.fields["in_port"] = 0
        return action.table

    def check_larger(self, action: CheckLarger, step: Step) -> None:
        bit = 1 << action.bit
        self.fields[action.register] &= ~bit
        if self.fields["size"] > action.size:
            self.fields[action.register] |= bit

    def learn(self, action: Learn, step: Step) -> None:
        fields = self.fields
        values = {name: source if isinstance(source, int) else fields[source] for name, source in action.match}
        loads = tuple(SetField(target, fields[source]) for source, target in action.load)
        flow = Flow(action.table, action.priority, matching(**values), loads, action.cookie)
        siblings = sum(old.table == flow.table and old.cookie == flow.cookie for old in self.learned.values())
        if flow.key in self.learned or not action.limit or siblings < action.limit:
            self.learned = {**self.learned, flow.key: flow}

    def meter(self, action: Meter, step: Step) -> None:
        """Time does not pass here: nothing exceeds a rate."""

    def goto(self, action: Goto, step: Step) -> int:
        return action.table


_STOP = -1

_ACTIONS: dict[type[Action], Callable[[_Run, Any, Step], int | None]] = {
    SetField: _Run.set_field,
    Move: _Run.move,
    Swap: _Run.swap,
    Output: _Run.output,
    OutputInPort: _Run.output_in_port,
    Controller: _Run.controller,
    PushVlan: _Run.push_vlan,
    PopVlan: _Run.pop_vlan,
    DecTtl: _Run.dec_ttl,
    Ct: _Run.ct,
    CtClear: _Run.ct_clear,
    Resubmit: _Run.resubmit,
    Restart: _Run.restart,
    NoInPort: _Run.no_in_port,
    CheckLarger: _Run.check_larger,
    Learn: _Run.learn,
    Conjunction: _Run.conjunction,
    Meter: _Run.meter,
    Goto: _Run.goto,
}
