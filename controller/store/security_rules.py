"""The rules of security groups. A change is one of the group: however many members, the journal gets one row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, delete, insert, select

from controller.store import quotas, security_groups, service_rows
from controller.store.engine import AnyRow
from controller.store.journal import Transaction, count_rows
from controller.store.policy_specs import RuleSpec
from controller.store.quota_specs import Limits
from controller.store.schema import security_group_rules
from controller.store.specs import Conflict, Invalid, NotFound, StoreError

_R = security_group_rules.c


def find(connection: Connection, rule_id: str) -> AnyRow:
    """Raises NotFound `security_group_rule_unknown`."""
    row = connection.execute(select(security_group_rules).where(_R.id == rule_id)).one_or_none()
    if row is None:
        raise NotFound("security_group_rule_unknown", f"there is no security group rule {rule_id}")
    return row


def create(tx: Transaction, specs: Sequence[RuleSpec], limits: Limits) -> list[str]:
    """The ids of the new rules, in order; all or none.

    Raises NotFound `security_group_unknown`, Invalid `rule_invalid` or `log_stateless`, Conflict `rule_exists`,
    Exhausted `quota_exceeded`.
    """
    groups: dict[str, AnyRow] = {}
    rows: list[dict[str, Any]] = []
    for index, spec in enumerate(specs):
        try:
            if spec.group_id not in groups:
                groups[spec.group_id] = security_groups.find(tx.connection, spec.group_id, "security_group_id")
            rows.append(_row(tx, groups[spec.group_id], spec))
            _refuse_known(tx.connection, rows, spec)
        except StoreError as error:
            error.index = index
            raise
    for group_id, group in groups.items():
        made = [row for row in rows if row["group_id"] == group_id]
        _require_room(tx.connection, group, len(made), limits)
    for row, key in zip(rows, tx.new_keys("security_rule_key", len(rows)), strict=True):
        row["key"] = key
    tx.connection.execute(insert(security_group_rules), rows)
    for group_id in groups:
        told = [_told(row) for row in rows if row["group_id"] == group_id]
        security_groups.touch(tx, group_id, {"rules_created": told})
    return [row["id"] for row in rows]


def _row(tx: Transaction, group: AnyRow, spec: RuleSpec) -> dict[str, Any]:
    family = service_rows.family_of(spec.family, spec.service, spec.remote_cidr)
    service_rows.check(spec.service, family)
    security_groups.refuse_log(group.stateful, spec.log, "log")
    cidr = service_rows.remote(spec.remote_cidr)
    if spec.remote_group_id is not None:
        if spec.remote_cidr is not None:
            raise Invalid("rule_invalid", "cannot be given together with remote_cidr", "remote_group_id")
        remote = security_groups.find(tx.connection, spec.remote_group_id, "remote_group_id")
        if remote.project_id != group.project_id and not spec.any_remote:
            # as if it were not there: nobody is to learn of it
            message = f"there is no security group {spec.remote_group_id}"
            raise NotFound("security_group_unknown", message, "remote_group_id")
    return {
        "id": str(uuid4()),
        "group_id": spec.group_id,
        "direction": spec.direction.value,
        **service_rows.dump(spec.service),
        "remote_cidr": None if cidr is None else str(cidr),
        "remote_group_id": spec.remote_group_id,
        "log": spec.log,
        "description": spec.description,
        "matches": service_rows.matches(spec.direction, spec.service, spec.remote_group_id or cidr, family),
        "family": family.value,
        "created_at": tx.now,
    }


def _refuse_known(connection: Connection, rows: Sequence[dict[str, Any]], spec: RuleSpec) -> None:
    """Raises Conflict `rule_exists` when the last one, of `spec`, is in its group or among the new ones already."""
    *others, row = rows
    here = (row["group_id"], row["matches"])
    remotes = {"remote_group_id": spec.remote_group_id, "remote_cidr": spec.remote_cidr}
    field = service_rows.most_specific(spec.service, **remotes)
    known = connection.execute(select(_R.id).where(_R.group_id == here[0], _R.matches == here[1])).scalar()
    if known is not None:
        raise Conflict("rule_exists", f"rule {known} of the group says the same", field, id=known)
    if any((other["group_id"], other["matches"]) == here for other in others):
        raise Conflict("rule_exists", "another of the new rules says the same", field)


def _require_room(connection: Connection, group: AnyRow, more: int, limits: Limits) -> None:
    if not group.project_id:
        return
    limit = quotas.limits(connection, group.project_id, limits).security_group_rules
    used = count_rows(connection, security_group_rules, _R.group_id == group.id)
    quotas.require(f"security group {group.name}", "rules", limit, used, more)


def _told(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("group_id", "matches", "created_at")}


def delete_rule(tx: Transaction, rule_id: str) -> None:
    """Raises NotFound `security_group_rule_unknown`."""
    row = find(tx.connection, rule_id)
    tx.connection.execute(delete(security_group_rules).where(_R.id == rule_id))
    security_groups.touch(
        tx, row.group_id, {"rules_deleted": [rule_id]}, {"rules_deleted": [_told(dict(row._mapping))]}
    )
