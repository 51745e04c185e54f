"""Clients whose writes are planned, and not done: the command line's for `trunkline plan` and for checks of imports."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from controller.client import Client, Object, Written, refusal_of

LIMIT = 1000
"""Flows of each kind that are told of each node."""


MADE: Final = ("network", "port", "security_group", "security_group_rule", "floating_ip_pool", "floating_ip")


class CollectingClient(Client):
    """Answers each write with an object whose id stands for that of what it will make, and keeps it for `plan`."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.requests: list[Object] = []

    def plan(self) -> list[Object]:
        """What each of `requests` would be answered, one after the other, those that are refused included. Raises
        ApiError for all of them: `plan_too_long` or `body_too_large` when they are too many.
        """
        if not self.requests:
            return []
        fields = {"requests": self.requests, "limit": 0, "go_on": True}
        answers: list[Object] = super()._call("POST", "plan", fields)["answers"]
        return answers

    def _call(self, method: str, path: str, body: Object | None = None, *, read_timeout: float | None = None) -> Object:
        if method == "GET":
            return super()._call(method, path, body, read_timeout=read_timeout)
        made = {"id": f"@{len(self.requests)}"}
        self.requests.append(planned_request(method, path, body))
        return {**dict.fromkeys(MADE, made), "ports": [], "revision": 0}


def planned_request(method: str, path: str, body: Object | None) -> Object:
    return {"method": method, "path": f"/v1/{path}", "body": body}


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
        requests = [*self._planned, planned_request(method, path, body)]
        plan = super()._call("POST", "plan", {"requests": requests, "limit": LIMIT}, read_timeout=read_timeout)
        answer = plan["answers"][-1]
        if answer["status"] >= 400:
            raise refusal_of(answer["status"], answer["body"])
        self._planned, self.plan = requests, plan
        told: Object = answer["body"] or {}
        return told
