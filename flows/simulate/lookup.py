"""Sets of flows, and which of them takes a packet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

from flows.fields import CT_FIELDS
from flows.ir import Conjunction, Ct, DecTtl, Flow, Learn, Match, Move, SetField, Swap
from flows.packet import Packet, prerequisite
from flows.protocols import CT_ESTABLISHED, CT_INVALID, CT_NEW, CT_RELATED, CT_REPLY, CT_TRACKED
from flows.simulate.results import Fields, Result, State, Step, step_of
from flows.simulate.run import Run


class Tables(ABC):
    """A set of flows, and how they are looked up."""

    @abstractmethod
    def find(self, table: int, fields: Fields) -> Step:
        """The flow of a table that takes a packet with these fields."""

    def receive(self, packet: Packet, in_port: int, state: State | None = None) -> Result:
        """What becomes of a packet. `state` is that of an earlier result; without it the switch remembers nothing."""
        return Run(self.find, packet, in_port, state or State()).result()


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


_TUPLE = frozenset(CT_FIELDS) - {"ct_state", "ct_zone", "ct_mark"}
_VALID = CT_NEW | CT_ESTABLISHED | CT_RELATED | CT_REPLY


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
        # to a switch what is not matched is 0 here, as the code of neighbour discovery must be
        if needs is not None and matched.get(needs[0], 0) != needs[1]:
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
