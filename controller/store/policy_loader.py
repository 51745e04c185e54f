"""From rows to values for security groups and their kin."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from sqlalchemy import Connection, select

from controller.store import journal, service_rows
from controller.store.engine import AnyRow
from controller.store.policy_specs import (
    AppliesTo,
    DefaultRuleRecord,
    DefaultRuleSpec,
    GroupName,
    ProviderRuleRecord,
    RuleRecord,
    SecurityGroupRecord,
)
from controller.store.quarantine import Quarantine, Reading
from controller.store.rows import IDS, Rows, grouped
from controller.store.schema import (
    default_rules,
    port_security_groups,
    provider_rules,
    security_group_rules,
    security_groups,
)
from flows.model import AddressPair, Bandwidth, Direction, Family, ProviderRule, Qos, SecurityGroup, SecurityRule

_GROUPS = Rows(select(security_groups).order_by(security_groups.c.key), security_groups.c.id.in_(IDS))
_ALL_RULES = (
    select(security_group_rules, security_groups.c.project_id)
    .join(security_groups, security_groups.c.id == security_group_rules.c.group_id)
    .order_by(security_group_rules.c.key)
)
_RULES = Rows(_ALL_RULES, security_group_rules.c.id.in_(IDS))
_RULES_OF_GROUPS = Rows(_ALL_RULES, security_group_rules.c.group_id.in_(IDS))
_MEMBERSHIPS = Rows(
    select(port_security_groups.c.port_id, *security_groups.c["id", "name"])
    .join(security_groups, security_groups.c.id == port_security_groups.c.group_id)
    .order_by(security_groups.c.key),
    port_security_groups.c.port_id.in_(IDS),
)
_PROVIDER_RULES = Rows(select(provider_rules).order_by(provider_rules.c.key), provider_rules.c.id.in_(IDS))
_DEFAULT_RULES = Rows(select(default_rules), default_rules.c.id.in_(IDS))


def load_groups(
    connection: Connection,
    ids: Sequence[str] | None = None,
    quarantine: Quarantine | None = None,
    *,
    with_rules: bool = True,
) -> list[SecurityGroupRecord]:
    rules = grouped(_RULES_OF_GROUPS.of(connection, ids), "group_id") if with_rules else {}
    reading = Reading(journal.SECURITY_GROUP, ids, quarantine)

    def build(row: AnyRow) -> SecurityGroupRecord:  # without a rule less is allowed
        return _group(row, reading.parts(rules.get(row.id, ()), _rule, "security_group_rule", row.id, ("id",)))

    return list(reading.objects(_GROUPS.of(connection, ids), build))


def _group(row: AnyRow, records: tuple[RuleRecord, ...]) -> SecurityGroupRecord:
    group = SecurityGroup(
        id=row.id,
        key=row.key,
        name=row.name,
        project_id=row.project_id or None,
        stateful=row.stateful,
        rules=tuple(record.rule for record in records),
        log_accepted=row.log_accepted,
        log_dropped=row.log_dropped,
    )
    return SecurityGroupRecord(group, row.description, records, row.created_at, row.revision)


def load_rules(connection: Connection, ids: Sequence[str]) -> list[RuleRecord]:
    rows = _RULES.of(connection, ids)
    return list(Reading("security_group_rule", ids, None).objects(rows, _rule))


def _rule(row: AnyRow) -> RuleRecord:
    rule = SecurityRule(
        id=row.id,
        key=row.key,
        direction=Direction(row.direction),
        service=service_rows.load(row),
        remote_cidr=_cidr(row.remote_cidr),
        remote_group_id=row.remote_group_id,
        log=row.log,
        family=Family(row.family),
    )
    return RuleRecord(rule, row.group_id, row.project_id or None, row.description, row.created_at)


def load_memberships(connection: Connection, ids: Sequence[str] | None) -> dict[str, list[GroupName]]:
    """The groups of ports, by key."""
    found: dict[str, list[GroupName]] = {}
    for port_id, id_, name in _MEMBERSHIPS.of(connection, ids):
        found.setdefault(port_id, []).append(GroupName(id_, name))
    return found


def load_provider_rules(
    connection: Connection, ids: Sequence[str] | None = None, quarantine: Quarantine | None = None
) -> list[ProviderRuleRecord]:
    rows = _PROVIDER_RULES.of(connection, ids)
    return list(Reading(journal.PROVIDER_RULE, ids, quarantine).objects(rows, _provider_rule))


def _provider_rule(row: AnyRow) -> ProviderRuleRecord:
    rule = ProviderRule(
        id=row.id,
        key=row.key,
        cidr=IPv4Network(row.cidr),
        service=service_rows.load(row),
        direction=None if row.direction is None else Direction(row.direction),
    )
    return ProviderRuleRecord(rule, row.description, row.created_at, row.revision)


def load_default_rules(connection: Connection, ids: Sequence[str]) -> list[DefaultRuleRecord]:
    """In the order of `ids`."""
    rows = _DEFAULT_RULES.of(connection, ids)
    found = {record.id: record for record in Reading(journal.DEFAULT_RULE, ids, None).objects(rows, _default_rule)}
    return [found[id_] for id_ in ids if id_ in found]


def _default_rule(row: AnyRow) -> DefaultRuleRecord:
    spec = DefaultRuleSpec(
        direction=Direction(row.direction),
        service=service_rows.load(row),
        remote_cidr=_cidr(row.remote_cidr),
        own_group=row.own_group,
        applies_to=AppliesTo(row.applies_to),
        description=row.description,
        family=Family(row.family),
    )
    return DefaultRuleRecord(row.id, spec, row.created_at, row.revision)


def _cidr(text: str | None) -> IPv4Network | IPv6Network | None:
    return None if text is None else ip_network(text)


def dump_qos(qos: Qos) -> dict[str, Any]:
    """As a JSON column holds it: {} is none."""
    ways = (("egress", qos.egress), ("ingress", qos.ingress))
    dumped: dict[str, Any] = {name: {"rate": way.rate, "burst": way.burst} for name, way in ways if way is not None}
    return dumped if qos.dscp is None else dumped | {"dscp": qos.dscp}


def load_qos(column: dict[str, Any]) -> Qos:
    ways = {name: Bandwidth(**column[name]) for name in ("egress", "ingress") if name in column}
    return Qos(**ways, dscp=column.get("dscp"))


def load_pairs(column: Iterable[dict[str, str]]) -> tuple[AddressPair, ...]:
    return tuple(AddressPair(IPv4Network(pair["cidr"]), pair["mac"]) for pair in column)
