"""The mark on a VM's interface that its port is ready: when it is written, and when taken away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agent.readiness import Seat, seats
from agent.report import InterfacesReport
from agent.state import INSTALLED_KEY, OvsState, lookup
from agent.steps import MarkInstalled


class InstalledMarks:
    """Whoever waits for the mark must not find that of another port, or of an interface that was there before.

    A mark that is there when the agent starts is believed until the controller has answered: a restart disturbs nobody.
    """

    def __init__(self) -> None:
        self._before: Mapping[str, Seat] | None = None

    def steps(
        self, state: OvsState, report: InterfacesReport, verdicts: Mapping[Seat, bool | None], now_ms: int
    ) -> tuple[MarkInstalled, ...]:
        current = seats(report)
        steps = tuple(self._steps(state, current, verdicts, now_ms))
        self._before = current
        return steps

    def _steps(
        self, state: OvsState, current: Mapping[str, Seat], verdicts: Mapping[Seat, bool | None], now_ms: int
    ) -> Iterator[MarkInstalled]:
        for name, columns in state.interfaces.items():
            marked = lookup(columns, "external_ids", INSTALLED_KEY) is not None
            seat = current.get(name)
            verdict = None if seat is None else verdicts.get(seat)
            if verdict is None and marked and self._is_stale(seat):
                verdict = False
            if verdict is not None and verdict is not marked:
                iface_id = lookup(columns, "external_ids", "iface-id")
                yield MarkInstalled(name, iface_id if isinstance(iface_id, str) else None, now_ms if verdict else None)

    def _is_stale(self, seat: Seat | None) -> bool:
        return seat is None or (self._before is not None and self._before.get(seat.name) != seat)
