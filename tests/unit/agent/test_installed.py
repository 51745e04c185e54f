"""When an interface is marked as ready."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest

from agent.client import ClientError
from agent.installed import InstalledMarks
from agent.readiness import Readiness, Seat
from agent.report import InterfaceReport, InterfacesReport
from agent.state import INSTALLED_KEY, OvsState
from agent.steps import MarkInstalled
from tests.unit.agent.test_reporter import CONFIG

ONE = Seat("port-1", "tap1", 4)
NOW = 1_764_000_000_000


def report(*seats: Seat) -> InterfacesReport:
    return InterfacesReport(
        (), tuple(InterfaceReport(s.iface_id, s.name, s.ofport, "fa:16:3e:00:00:01") for s in seats)
    )


def state(iface_id: str = "port-1", *, marked: bool = False) -> OvsState:
    ids = {"iface-id": iface_id, **({INSTALLED_KEY: "true"} if marked else {})}
    return OvsState(interfaces={"tap1": {"external_ids": ids}, "eth1": {"external_ids": {}}})


@pytest.mark.parametrize(
    ("verdict", "marked", "wanted"),
    [
        (True, False, (MarkInstalled("tap1", "port-1", NOW),)),
        (True, True, ()),
        (None, False, ()),
        (None, True, ()),
        (False, True, (MarkInstalled("tap1", "port-1", None),)),
        (False, False, ()),
    ],
)
def test_it_follows_what_is_known(verdict: bool | None, marked: bool, wanted: tuple[MarkInstalled, ...]) -> None:
    assert InstalledMarks().steps(state(marked=marked), report(ONE), {ONE: verdict}, NOW) == wanted


def test_it_is_never_that_of_another_port_or_interface() -> None:
    marks = InstalledMarks()
    assert not marks.steps(state(marked=True), report(ONE), {ONE: True}, NOW)
    other = Seat("port-2", "tap1", 4)
    gone = (MarkInstalled("tap1", "port-2", None),)
    assert marks.steps(state("port-2", marked=True), report(other), {ONE: True}, NOW) == gone
    assert marks.steps(state(marked=True), report(), {ONE: True}, NOW) == (MarkInstalled("tap1", "port-1", None),)
    anew = Seat("port-1", "tap1", 5)
    assert marks.steps(state(marked=True), report(anew), {ONE: True}, NOW) == (MarkInstalled("tap1", "port-1", None),)


class FakeClient:
    """Confirms when it is told to, and counts what it is asked."""

    def __init__(self) -> None:
        self.answers: list[bool | Exception] = []
        self.asked: list[str] = []
        self.may_answer = threading.Semaphore(0)

    async def call(self, method: str, path: str, body: object = None) -> Mapping[str, Any]:
        self.asked.append(path)
        self.may_answer.acquire()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return {"confirmed": answer}

    def answer(self, answer: bool | Exception) -> None:
        self.answers.append(answer)
        self.may_answer.release()

    def next_url(self) -> None: ...

    def close(self) -> None: ...


def test_it_asks_only_while_something_is_pending() -> None:
    woken = threading.Event()
    readiness, client = Readiness(CONFIG, woken.set), FakeClient()
    readiness._client = client  # type: ignore[assignment]
    readiness.start()
    readiness.answered(report(ONE), {"port-1": "refused: no"}, 7)
    assert readiness.verdicts() == {ONE: False} and readiness.wait("port-1", 0) == "refused: no"
    readiness.answered(report(ONE), {"port-1": "bound"}, 8)
    assert readiness.verdicts() == {ONE: None} and readiness.wait("port-1", 0) == "the node has not confirmed it"
    client.answer(ClientError("away"))
    client.answer(True)
    assert readiness.wait("port-1", 10) is None and woken.is_set()
    readiness.answered(report(ONE), {"port-1": "bound"}, 9)
    assert readiness.verdicts() == {ONE: True}
    assert client.asked == ["/v1/nodes/n1/revisions/8?wait=20"] * 2
    readiness.answered(report(ONE), {"port-1": "unknown"}, 9)
    assert readiness.verdicts() == {ONE: False} and readiness.wait("port-1", 0) == "unknown"
    readiness.stop()
    deadline = time.monotonic() + 10
    while readiness._thread.is_alive() and time.monotonic() < deadline:
        readiness._thread.join(0.1)
    assert not readiness._thread.is_alive() and len(client.asked) == 2
