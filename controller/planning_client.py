"""A client whose writes are planned, and not done: the command line's for `trunkline plan`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from controller.client import Client, Object, Written, refusal_of

LIMIT = 1000
"""Flows of each kind that are told of each node."""


class PlanningClient(Client):
    """What it reads is as it is, for the objects of a plan are nowhere. `plan` is the server's answer to all that was
    written so far, None before anything was.
    """

    plan: Object | None = None

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._planned: list[Object] = []

    def wait_revision(self, revision: int, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        """There is nothing to wait for."""

    def read_again(self, written: Written) -> Object | None:
        return written.object

    def _call(self, method: str, path: str, body: Object | None = None, *, read_timeout: float | None = None) -> Object:
        if method == "GET":
            return super()._call(method, path, body, read_timeout=read_timeout)
        requests = [*self._planned, {"method": method, "path": f"/v1/{path}", "body": body}]
        plan = super()._call("POST", "plan", {"requests": requests, "limit": LIMIT}, read_timeout=read_timeout)
        answer = plan["answers"][-1]
        if answer["status"] >= 400:
            raise refusal_of(answer["status"], answer["body"])
        self._planned, self.plan = requests, plan
        told: Object = answer["body"] or {}
        return told
