"""Which interfaces are ready: the controller has bound their ports to this node, and its switch holds their flows.

A thread of its own asks, and only while something is not ready: one request, which the controller answers as soon as
the switch has confirmed. What is ready stays so until a report is answered otherwise; that its rules change is no
reason.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from agent.client import Client, ClientError, delay_after
from agent.config import AgentConfig
from agent.report import InterfacesReport

LOG = logging.getLogger(__name__)

BOUND = "bound"

_POLL_S = 20.0
_PATIENCE_S = 10.0
# A controller that does not wait is not asked more often.
_LEAST_S = 1.0
_MAX_DELAY_S = 10.0


@dataclass(frozen=True, slots=True)
class Seat:
    """An interface for as long as it is the same one for the controller."""

    iface_id: str
    name: str
    ofport: int


def seats(report: InterfacesReport) -> dict[str, Seat]:
    """By the name of the interface."""
    return {each.name: Seat(each.iface_id, each.name, each.ofport) for each in report.interfaces}


class Readiness:
    """`answered` by who reports, `verdicts` and `wait` by anybody; `on_change` is called from any thread."""

    def __init__(self, config: AgentConfig, on_change: Callable[[], None]) -> None:
        self._client = Client(config.api_urls, config.api_token, tls=config.tls, read_timeout=_POLL_S + _PATIENCE_S)
        self._path = f"/v1/nodes/{quote(config.node, safe='')}/revisions/"
        self._on_change = on_change
        self._changed = threading.Condition()
        self._bound: frozenset[Seat] = frozenset()
        self._ready: frozenset[Seat] = frozenset()
        self._answers: Mapping[Seat, str] = {}
        self._revision = 0
        self._stopping = False
        self._complaint = ""
        self._thread = threading.Thread(target=self._run, name="readiness", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Does not wait for a request that is under way."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def answered(self, report: InterfacesReport, answers: Mapping[str, str], revision: int) -> None:
        """What the controller has said to a report, which holds all of the node's interfaces, as of `revision`."""
        said = {seat: answers.get(seat.iface_id, "") for seat in seats(report).values()}
        with self._changed:
            before = self._answers, self._ready
            self._answers = said
            self._bound = frozenset(seat for seat, answer in said.items() if answer == BOUND)
            self._ready &= self._bound
            self._revision = revision
            if before == (self._answers, self._ready):
                return
            self._changed.notify_all()
        self._on_change()

    def verdicts(self) -> Mapping[Seat, bool | None]:
        """By seat: ready, not bound here, or None for what is bound and not confirmed yet. Others are not known yet."""
        with self._changed:
            return {seat: seat in self._ready if self._settled(seat) else None for seat in self._answers}

    def wait(self, iface_id: str, timeout_s: float) -> str | None:
        """Until the port is ready: None; else why it is not, after `timeout_s` seconds."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                if any(seat.iface_id == iface_id for seat in self._ready):
                    return None
                left = deadline - time.monotonic()
                if left <= 0 or self._stopping:
                    said = next((text for seat, text in self._answers.items() if seat.iface_id == iface_id), "")
                    return "the node has not confirmed it" if said == BOUND else said or "it was not reported"
                self._changed.wait(left)

    def _settled(self, seat: Seat) -> bool:
        return seat in self._ready or seat not in self._bound

    def _run(self) -> None:
        failures = 0
        with asyncio.Runner() as runner:
            while (asked := self._next()) is not None:
                revision, pending = asked
                began = time.monotonic()
                try:
                    answer = runner.run(self._client.call("GET", f"{self._path}{revision}?wait={_POLL_S:g}"))
                except Exception as error:  # a fault in here must not leave the node's interfaces waiting for good
                    self._failed(error, failures)
                    failures += 1
                    continue
                failures, self._complaint = 0, ""
                if answer.get("confirmed") is True:
                    self._confirmed(pending)
                else:
                    self._pause(began + _LEAST_S - time.monotonic())
            self._client.close()

    def _next(self) -> tuple[int, frozenset[Seat]] | None:
        """The revision to wait for, and who waits for it; None: the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._bound != self._ready)
            return None if self._stopping else (self._revision, self._bound - self._ready)

    def _confirmed(self, pending: frozenset[Seat]) -> None:
        with self._changed:
            self._ready |= pending & self._bound
            self._changed.notify_all()
        self._on_change()

    def _failed(self, error: Exception, failures: int) -> None:
        """The reporter says what is wrong with the controller; here only what that one does not meet."""
        if str(error) != self._complaint:
            self._complaint = str(error)
            LOG.debug("not known whether ports are ready: %s", error, exc_info=not isinstance(error, ClientError))
        self._client.next_url()
        self._pause(delay_after(failures, _MAX_DELAY_S))

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping, timeout=max(seconds, 0))
