"""What a session has yet to send, and what a switch refuses to take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import reduce
from operator import xor

from controller.green import Signal
from flows.compile import Program
from flows.diff import Delta
from flows.digest import flow_digest, meter_digest
from flows.ir import MOST_LACKING, Flow, FlowKey, MeterConfig, Stamp, meters_used
from flows.rules import decode_cookie


@dataclass(frozen=True, slots=True)
class Work:
    """A change of one node's flows up to a revision. From revision `unclaimed` on it lacks claims (controller.claims)
    that come later.
    """

    delta: Delta
    revision: int
    unclaimed: int | None = None

    def then(self, later: Work) -> Work:
        return Work(self.delta.then(later.delta), later.revision, later.unclaimed)


class Mailbox:
    """Work that waits becomes one piece of work: of the deltas about a flow only the last counts."""

    def __init__(self) -> None:
        self._work: Work | None = None
        self._woken = False
        self._filled = Signal()

    def put(self, work: Work) -> None:
        self._work = work if self._work is None else self._work.then(work)
        self._filled.send()

    def wake(self) -> None:
        """Have who waits look at something else than work."""
        self._woken = True
        self._filled.send()

    def take(self) -> Work | None:
        """Waits until there is work; None when it was only woken."""
        while self._work is None and not self._woken:
            self._filled.wait()
        self._woken = False
        work, self._work = self._work, None
        return work

    def clear(self) -> None:
        self._work = None


class Quarantine:
    """Flows that a switch refused, until the object that they are about changes, and meters that it refused."""

    def __init__(self) -> None:
        self._flows: dict[FlowKey, Flow] = {}
        self._meters: dict[int, MeterConfig] = {}

    def __len__(self) -> int:
        return len(self._flows)

    def __iter__(self) -> Iterator[Flow]:
        return iter(self._flows.values())

    def clear(self) -> None:
        """All is tried again."""
        self._flows.clear()
        self._meters.clear()

    def add(self, flows: Iterable[Flow]) -> None:
        self._flows.update((flow.key, flow) for flow in flows)

    def add_meters(self, meters: Iterable[MeterConfig]) -> None:
        self._meters.update((meter.id, meter) for meter in meters)

    def has_meter(self, id_: int) -> bool:
        """True if the switch has refused a meter."""
        return id_ in self._meters

    def retry(self, delta: Delta) -> Delta:
        """The delta with those flows that it gives a reason to try again; they are forgotten here."""
        for id_ in (*delta.gone_meters, *(meter.id for meter in delta.meters)):
            self._meters.pop(id_, None)
        if not self._flows:
            return delta
        for flow in (*delta.deletes, *delta.upserts):
            self._flows.pop(flow.key, None)
        changed = {_about(flow) for flow in (*delta.deletes, *delta.upserts)}
        again = tuple(flow for flow in self._flows.values() if _about(flow) in changed)
        for flow in again:
            del self._flows[flow.key]
        used = [meter for flow in again for meter in meters_used(flow)]
        meters = tuple(self._meters.pop(id_) for id_ in dict.fromkeys(used) if id_ in self._meters)
        return replace(delta, upserts=delta.upserts + again, meters=delta.meters + meters)

    def stamp(self, digest: int) -> Stamp:
        """Return what is really installed when `digest` is wanted."""
        lacking = {flow_digest(flow) for flow in self._flows.values()} | {
            meter_digest(meter) for meter in self._meters.values()
        }
        installed = reduce(xor, lacking, digest)
        return Stamp(installed, frozenset(lacking) if len(lacking) <= MOST_LACKING else frozenset())

    def recall(self, stamp: Stamp, program: Program) -> bool:
        """True if the switch holds a program but for what it has refused, which is in quarantine from now on."""
        if stamp.wanted != program.digest:
            return False
        if stamp.lacking:
            self.add(flow for flow in program.flows() if flow_digest(flow) in stamp.lacking)
            self.add_meters(meter for meter in program.meters() if meter_digest(meter) in stamp.lacking)
        return len(self._flows) + len(self._meters) == len(stamp.lacking)

    def by_rule(self) -> dict[str, int]:
        return dict(Counter(str(flow_name(flow)["rule"]) for flow in self._flows.values()))

    def describe(self, limit: int) -> list[dict[str, str | int]]:
        return [flow_name(flow) for _, flow in zip(range(limit), self._flows.values(), strict=False)]


def flow_name(flow: Flow) -> dict[str, str | int]:
    """A flow's rule and object for a log line or an answer."""
    decoded = decode_cookie(flow.cookie)
    name: dict[str, str | int] = {"table": flow.table, "priority": flow.priority, "rule": "unknown"}
    if decoded is not None:
        rule, key = decoded
        name["rule"] = rule.name.lower()
        if rule.about:
            name[f"{rule.about}_key"] = key
    return name


def _about(flow: Flow) -> tuple[str, int]:
    decoded = decode_cookie(flow.cookie)
    return ("", 0) if decoded is None else (decoded[0].about, decoded[1])
