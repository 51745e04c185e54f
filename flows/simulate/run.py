"""One packet on its way through the tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
from flows.packet import Packet
from flows.pipeline import Table
from flows.protocols import ND_ADVERTISEMENT, VLAN_NONE, VLAN_PRESENT
from flows.simulate.results import Drop, Fields, Punt, Reason, Result, Sent, State, Step, Stretch, step_of

Find = Callable[[int, Fields], Step]
"""The flow of a table that takes a packet with these fields."""

_NOTHING: Fields = dict.fromkeys((*FIELDS, "icmp_id", "size", "part_src", "part_dst"), 0)
_UNTRACKED: Fields = dict.fromkeys(CT_FIELDS, 0)


def _matches(match: Match, fields: Fields) -> bool:
    return all(fields[name] & (-1 if mask is None else mask) == value for name, value, mask in match)


class Run:
    """An action returns a table to go on in, or None, or `_STOP`."""

    def __init__(self, find: Find, packet: Packet, in_port: int, state: State) -> None:
        self.find_in = find
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
        found = self.find_in(table, fields)
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
            made["nd_tll"] = fields["nd_tll"] or fields["nd_sll"]  # the option is there still
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
_ACTIONS: dict[type[Action], Callable[[Run, Any, Step], int | None]] = {
    SetField: Run.set_field,
    Move: Run.move,
    Swap: Run.swap,
    Output: Run.output,
    OutputInPort: Run.output_in_port,
    Controller: Run.controller,
    PushVlan: Run.push_vlan,
    PopVlan: Run.pop_vlan,
    DecTtl: Run.dec_ttl,
    Ct: Run.ct,
    CtClear: Run.ct_clear,
    Resubmit: Run.resubmit,
    Restart: Run.restart,
    NoInPort: Run.no_in_port,
    CheckLarger: Run.check_larger,
    Learn: Run.learn,
    Conjunction: Run.conjunction,
    Meter: Run.meter,
    Goto: Run.goto,
}
