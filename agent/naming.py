"""Interfaces that say nothing of a port and are known by their name: they are given the iface-id of their port.

By the exact name, and never by a MAC address, which a VM may set as it likes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping

from agent.report import InterfacesReport
from agent.state import NOTHING, OvsState, lookup
from agent.steps import NameInterface


class Names:
    """`answered` by who reports, `steps` by the loop. `on_change` is called from any thread."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._lock = threading.Lock()
        self._claims: Mapping[str, str | None] = {}

    def answered(self, report: InterfacesReport, claims: Mapping[str, str]) -> None:
        """What the controller has said of the unclaimed interfaces of a report: whose they are, by name."""
        said = {name: claims.get(name) for name in report.unclaimed}
        with self._lock:
            changed, self._claims = said != self._claims, said
        if changed:
            self._on_change()

    def steps(self, state: OvsState, report: InterfacesReport) -> tuple[NameInterface, ...]:
        with self._lock:
            return tuple(self._steps(state, report))

    def _steps(self, state: OvsState, report: InterfacesReport) -> Iterator[NameInterface]:
        for name in report.unclaimed:
            if name not in self._claims:
                continue  # not known yet
            now = lookup(state.interfaces.get(name, NOTHING), "external_ids", "iface-id")
            if now != self._claims[name]:
                yield NameInterface(name, self._claims[name])
