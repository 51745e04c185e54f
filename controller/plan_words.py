"""What a plan says of flows: in ovs-ofctl's spelling, and behind that in words why they are there."""

from __future__ import annotations

from flows.explain.naming import Names
from flows.ir import Flow
from flows.model import SecurityRule
from flows.rules import decode_cookie
from flows.snapshot import Snapshot
from flows.spelling import flow_text

_MOST = 5


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
            name = self._one_of(key) if about == "security_rule" else None
            if name is None:
                _, name = names.thing(about, key)
            # a name is its owner's choice, and this is a line
            known = self._known[about, key] = "".join(char for char in name if char.isprintable())
        return known

    def _one_of(self, key: int) -> str | None:
        """Rules of a group that are about the same others share a key; None where there is one rule."""
        shared: dict[str, str] = {}
        group = ""
        for names in self._names:
            named = names.find("security_rule", key)
            if isinstance(named, SecurityRule):
                its = names.snapshot.security_groups[names.snapshot.groups_by_rule[key]]
                group = group or names.group(its)
                for rule in its.rules:
                    if _others(rule) == _others(named):
                        shared.setdefault(rule.id, names.rule_name(rule))
        told = list(shared.values())
        if len(told) < 2:
            return None
        more = f"; {len(told) - _MOST} more" if len(told) > _MOST else ""
        return f"one of the rules of {group} ({'; '.join(told[:_MOST])}{more})"


def _others(rule: SecurityRule) -> tuple[object, ...]:
    return rule.direction, rule.family, rule.remote_cidr, rule.remote_group_id
