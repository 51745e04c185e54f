"""The template: what a new group begins with. A change of it is for groups made later."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, delete, insert, select

from controller.store import service_rows
from controller.store.audit import before
from controller.store.engine import AnyRow
from controller.store.journal import CREATE, DEFAULT_RULE, DELETE, Transaction
from controller.store.policy_specs import AppliesTo, DefaultRuleSpec
from controller.store.schema import default_rules
from controller.store.specs import Conflict, Exhausted, Invalid, NotFound
from flows.model import Direction, Family

OWN_GROUP = "own group"
MOST_RULES = 100

_D = default_rules.c
_ALL = select(default_rules).order_by(_D.revision)


def find(connection: Connection, rule_id: str) -> AnyRow:
    """Raises NotFound `default_rule_unknown`."""
    row = connection.execute(select(default_rules).where(_D.id == rule_id)).one_or_none()
    if row is None:
        raise NotFound("default_rule_unknown", f"there is no default rule {rule_id}")
    return row


def create(tx: Transaction, spec: DefaultRuleSpec) -> str:
    """The id of the new rule. Raises Invalid `rule_invalid`, Conflict `rule_exists`, Exhausted."""
    family = service_rows.family_of(spec.family, spec.service, spec.remote_cidr)
    service_rows.check(spec.service, family)
    cidr = service_rows.remote(spec.remote_cidr)
    if cidr is not None and spec.own_group:
        raise Invalid("rule_invalid", "cannot be given together with remote_cidr", "own_group")
    matches = service_rows.matches(spec.direction, spec.service, OWN_GROUP if spec.own_group else cidr, family)
    known = tx.connection.execute(_ALL).all()
    for row in known:
        both = {AppliesTo(row.applies_to), spec.applies_to}
        if row.matches == matches and (len(both) == 1 or AppliesTo.ALL in both):
            remotes = {"own_group": spec.own_group, "remote_cidr": spec.remote_cidr}
            field = service_rows.most_specific(spec.service, **remotes)
            raise Conflict("rule_exists", f"default rule {row.id} says the same", field, id=row.id)
    if len(known) >= MOST_RULES:
        raise Exhausted("too_many_rules", f"there can be {MOST_RULES} default rules")
    id_ = str(uuid4())
    values = {
        "applies_to": spec.applies_to.value,
        "direction": spec.direction.value,
        **service_rows.dump(spec.service),
        "remote_cidr": None if cidr is None else str(cidr),
        "own_group": spec.own_group,
        "family": family.value,
        "description": spec.description,
    }
    revision = tx.record(DEFAULT_RULE, id_, CREATE, values)
    made = {"id": id_, "matches": matches, "created_at": tx.now, "revision": revision, **values}
    tx.connection.execute(insert(default_rules), made)
    return id_


def delete_rule(tx: Transaction, rule_id: str) -> None:
    row = find(tx.connection, rule_id)
    tx.connection.execute(delete(default_rules).where(_D.id == rule_id))
    tx.record(DEFAULT_RULE, rule_id, DELETE, {}, before(row, service_rows.TOLD))


def rows_for(tx: Transaction, group_id: str, default: bool) -> list[dict[str, Any]]:
    """The rows of a new group's rules. `default`: it is a project's default group."""
    wanted = (AppliesTo.ALL, AppliesTo.DEFAULT if default else AppliesTo.OTHER)
    found = [row for row in tx.connection.execute(_ALL) if row.applies_to in wanted]
    if not found:
        return []
    keys = tx.new_keys("security_rule_key", len(found))
    return [_copy(tx, group_id, row, key) for row, key in zip(found, keys, strict=True)]


def _copy(tx: Transaction, group_id: str, row: AnyRow, key: int) -> dict[str, Any]:
    service, family = service_rows.load(row), Family(row.family)
    remote = group_id if row.own_group else row.remote_cidr
    return {
        "id": str(uuid4()),
        "key": key,
        "group_id": group_id,
        "direction": row.direction,
        **service_rows.dump(service),
        "remote_cidr": row.remote_cidr,
        "remote_group_id": group_id if row.own_group else None,
        "log": False,
        "description": row.description,
        "matches": service_rows.matches(Direction(row.direction), service, remote, family),
        "family": family.value,
        "created_at": tx.now,
    }


def page(connection: Connection, limit: int | None, marker: str | None) -> list[str]:
    """The ids of one page, oldest first; there are never many. Raises Invalid `marker_unknown`."""
    ids = [row.id for row in connection.execute(_ALL)]
    if marker is not None and marker not in ids:
        raise Invalid("marker_unknown", f"there is no {marker} to go on from", "marker")
    start = 0 if marker is None else ids.index(marker) + 1
    return ids[start:] if limit is None else ids[start : start + limit]
