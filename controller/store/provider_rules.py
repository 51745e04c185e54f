"""What the operator drops for all VMs, whatever their groups say."""

from __future__ import annotations

from uuid import uuid4

from sqlalchemy import Connection, delete, insert, select

from controller.store import service_rows
from controller.store.audit import before
from controller.store.engine import AnyRow
from controller.store.journal import CREATE, DELETE, PROVIDER_RULE, Transaction
from controller.store.policy_specs import ProviderRuleSpec
from controller.store.schema import provider_rules
from controller.store.specs import Conflict, NotFound

_P = provider_rules.c


def find(connection: Connection, rule_id: str) -> AnyRow:
    """Raises NotFound `provider_rule_unknown`."""
    row = connection.execute(select(provider_rules).where(_P.id == rule_id)).one_or_none()
    if row is None:
        raise NotFound("provider_rule_unknown", f"there is no provider rule {rule_id}")
    return row


def create(tx: Transaction, spec: ProviderRuleSpec) -> str:
    """The id of the new rule. Raises Invalid `rule_invalid`, Conflict `rule_exists`."""
    service_rows.check(spec.service)
    matches = service_rows.matches(spec.direction, spec.service, spec.cidr)
    known = tx.connection.execute(select(_P.id).where(_P.matches == matches)).scalar()
    if known is not None:
        field = service_rows.most_specific(spec.service, cidr=spec.cidr)
        raise Conflict("rule_exists", f"provider rule {known} says the same", field, id=known)
    (key,) = tx.new_keys("provider_rule_key", 1)
    id_ = str(uuid4())
    values = {
        "direction": None if spec.direction is None else spec.direction.value,
        **service_rows.dump(spec.service),
        "cidr": str(spec.cidr),
        "description": spec.description,
    }
    revision = tx.record(PROVIDER_RULE, id_, CREATE, values)
    row = {"id": id_, "key": key, "matches": matches, "created_at": tx.now, "revision": revision, **values}
    tx.connection.execute(insert(provider_rules), row)
    return id_


def delete_rule(tx: Transaction, rule_id: str) -> None:
    row = find(tx.connection, rule_id)
    tx.connection.execute(delete(provider_rules).where(_P.id == rule_id))
    tx.record(PROVIDER_RULE, rule_id, DELETE, {}, before(row, service_rows.TOLD))
