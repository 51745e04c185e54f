"""What a plan says of flows: in ovs-ofctl's spelling, and behind that in words why they are there."""

from __future__ import annotations

from flows.explain.naming import Names
from flows.ir import Flow
from flows.rules import decode_cookie
from flows.snapshot import Snapshot
from flows.spelling import flow_text


class Words:
    """Names objects as the last of these snapshots has them, and all of them: a plan is for operators."""

    def __init__(self, *snapshots: Snapshot) -> None:
        self._names = [Names(snapshot) for snapshot in reversed(snapshots)]
        self._known: dict[tuple[str, int], str] = {}

    def of(self, flow: Flow) -> str:
        """A line that `ovs-ofctl add-flows` takes: what is behind # is a comment."""
        rule, key = decode_cookie(flow.cookie) or (None, 0)
        if rule is None:
            return flow_text(flow)
        about = f" of {self._name(rule.about, key)}" if rule.about else ""
        return f"{flow_text(flow)} # {rule.table.name.lower()}, {rule.name.lower()}{about}: {rule.doc}"

    def _name(self, about: str, key: int) -> str:
        """Many flows are about one object, and some objects are found by looking through all of their kind."""
        known = self._known.get((about, key))
        if known is None:
            names = next((one for one in self._names if one.find(about, key) is not None), self._names[0])
            _, name = names.thing(about, key)
            # a name is its owner's choice, and this is a line
            known = self._known[about, key] = "".join(char for char in name if char.isprintable())
        return known
