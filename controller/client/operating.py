"""What whoever runs the cloud looks at: nodes, controllers, events, drops, and whether a change has arrived."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from urllib.parse import urlencode

from controller.client.errors import ApiError, Unconfirmed
from controller.client.resources import Resources, Written, part_of, path_of
from controller.client.transport import Object

LONGEST_POLL = 60
"""Seconds that the server holds one GET /v1/revisions/N at most."""


class Operating(Resources):
    def list_nodes(self, **filters: str | None) -> list[Object]:
        """All nodes, by name."""
        return sorted(self._list("nodes", filters, identity="name"), key=lambda node: str(node["name"]))

    def get_node(self, name: str) -> Object:
        return self._get("nodes", "node", name)

    def delete_node(self, name: str) -> Written:
        return self._write("DELETE", path_of("nodes", name), "node")

    def list_quarantine(self) -> list[Object]:
        """What the controller does without, and why."""
        found: list[Object] = part_of(self._call("GET", "quarantine"), "quarantine", list)
        return found

    def list_problems(self) -> tuple[str, list[Object]]:
        """How well the cloud is (ok, warning or critical), and what is wrong, the worst first."""
        answer = self._call("GET", "problems")
        return part_of(answer, "health", str), part_of(answer, "problems", list)

    def list_controllers(self) -> list[Object]:
        """Those that are alive, by name."""
        found: list[Object] = part_of(self._call("GET", "controllers"), "controllers", list)
        return found

    def list_events(
        self, after: int | None = None, wait: float = 0, filters: Mapping[str, str | None] | None = None
    ) -> tuple[list[Object], int, bool]:
        """What has just happened at the controller that answers, the oldest first: after one that is known, or the
        latest. With `wait` seconds (30 at most) it waits until there is something. Returns the events, the `after` of
        the next call, and whether some are missing. Filters: kind, port_id, network_id, node.
        """
        query = {name: value for name, value in (filters or {}).items() if value is not None}
        if after is not None:
            query |= {"after": str(after), "wait": f"{wait:g}"}
        answer = self._call("GET", f"events?{urlencode(query)}", read_timeout=wait + self._read_timeout)
        return part_of(answer, "events", list), part_of(answer, "last", int), bool(answer.get("missed"))

    def list_drops(self, port_id: str | None = None, node: str | None = None) -> tuple[list[Object], list[str]]:
        """What switches have dropped since they started, by rule and object; of one port, or node. Also the nodes that
        have not answered.
        """
        given = {"port_id": port_id, "node": node}
        answer = self._call("GET", f"drops?{urlencode({name: text for name, text in given.items() if text})}")
        return part_of(answer, "drops", list), part_of(answer, "silent", list)

    def health(self) -> Object:
        return self._call("GET", "health")

    def wait_revision(self, revision: int, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Return when every node that the revision concerns has confirmed it.

        Raises Unconfirmed after `timeout` seconds, with the names of the nodes that are missing.
        """
        deadline = clock() + timeout
        while True:
            poll = round(min(LONGEST_POLL, max(0.0, deadline - clock())), 3)
            try:
                self._call(
                    "GET",
                    f"{path_of('revisions', str(revision))}?wait={poll:g}",
                    read_timeout=poll + self._read_timeout,
                )
                return
            except ApiError as error:
                if error.code != "revision_unconfirmed":
                    raise
                if clock() >= deadline or poll == 0:
                    raise Unconfirmed(revision, [str(name) for name in error.details.get("missing", ())]) from None
