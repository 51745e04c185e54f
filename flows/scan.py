"""The simulator for a packet or two: flows are looked through as they are, which costs less than to index them first.

A node may have tens of thousands of flows, so a lookup may take milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from flows.ir import Conjunction, Flow
from flows.simulate import Fields, Step, Tables, step_of, together
from flows.turns import no_turn

_AT_ONCE: Final = 1000


class ScannedSwitch(Tables):
    """`turn` is called between lookups: who has others to serve serves them then. The flows must be sound (`Switch`
    checks them).
    """

    def __init__(self, flows: Iterable[Flow], turn: Callable[[], None] = no_turn) -> None:
        self._turn = turn
        self._flows: dict[int, list[Flow]] = {}
        # as they are now: while others have a turn they may become others
        for index, flow in enumerate(list(flows), 1):
            self._flows.setdefault(flow.table, []).append(flow)
            if index % _AT_ONCE == 0:
                turn()
        self._sorted: set[int] = set()

    def find(self, table: int, fields: Fields) -> Step:
        self._turn()
        level: list[Step] = []
        for flow in self._matching(table, fields):
            if level and level[0].flow is not None and level[0].flow.priority != flow.priority:
                chosen = together(level, fields, lambda with_id: map(step_of, self._matching(table, with_id)))
                if chosen is not None:
                    return chosen
                level = []
            if not isinstance(next(iter(flow.actions), None), Conjunction):
                return step_of(flow)
            level.append(step_of(flow))
        chosen = together(level, fields, lambda with_id: map(step_of, self._matching(table, with_id)))
        return chosen or Step(table)

    def _matching(self, table: int, fields: Fields) -> Iterator[Flow]:
        """Those of a table that match, by priority."""
        flows = self._flows.get(table)
        if flows is None:
            return
        if table not in self._sorted:
            flows.sort(key=lambda flow: -flow.priority)
            self._sorted.add(table)
        for flow in flows:
            for name, value, mask in flow.match:
                if (fields[name] if mask is None else fields[name] & mask) != value:
                    break
            else:
                yield flow
