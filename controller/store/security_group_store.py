"""The store's methods for security groups and their kin. See `policy_specs` for what they promise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection

from controller.store import default_rules, policy_loader, provider_rules, schema, security_groups, security_rules
from controller.store.journal import Transaction
from controller.store.pages import page
from controller.store.policy_specs import (
    DefaultRuleRecord,
    DefaultRuleSpec,
    ProviderRuleRecord,
    ProviderRuleSpec,
    RuleRecord,
    RuleSpec,
    SecurityGroupRecord,
    SecurityGroupSpec,
)
from controller.store.quota_store import QuotaStore
from controller.store.specs import Written
from controller.store.writer import equal


class SecurityGroupStore(QuotaStore):
    # -- groups

    def create_security_group(self, spec: SecurityGroupSpec, actor: str) -> Written[SecurityGroupRecord]:
        return self._write(actor, lambda tx: _group(tx.connection, security_groups.create(tx, spec, self._limits)))

    def update_security_group(
        self, group_id: str, changes: Mapping[str, Any], actor: str
    ) -> Written[SecurityGroupRecord]:
        def work(tx: Transaction) -> SecurityGroupRecord:
            security_groups.update_group(tx, group_id, changes)
            return _group(tx.connection, group_id)

        return self._write(actor, work)

    def delete_security_group(
        self, group_id: str, actor: str, *, any_user: bool = False
    ) -> Written[SecurityGroupRecord]:
        def work(tx: Transaction) -> SecurityGroupRecord:
            last = _group(tx.connection, group_id)
            security_groups.delete_group(tx, group_id, any_user)
            return last

        return self._write(actor, work)

    def get_security_group(self, group_id: str) -> SecurityGroupRecord:
        return self._database.read(lambda connection: _group(connection, group_id))

    def list_security_groups(
        self,
        *,
        name: str | None = None,
        project_id: str | None = None,
        limit: int | None = None,
        marker: str | None = None,
    ) -> list[SecurityGroupRecord]:
        table = schema.security_groups.c
        conditions = equal({table.name: name, table.project_id: project_id})

        def work(connection: Connection) -> list[SecurityGroupRecord]:
            load = partial(policy_loader.load_groups, with_rules=False)
            return page(connection, table.id, table.key, conditions, limit, marker, load)

        return self._database.read(work)

    def ensure_default_group(self, project_id: str | None, actor: str) -> None:
        if not self._database.read(lambda connection: security_groups.has_default(connection, project_id)):
            self._write(actor, lambda tx: security_groups.defaults(tx, [project_id]))

    # -- their rules

    def create_security_group_rules(self, specs: Sequence[RuleSpec], actor: str) -> Written[list[RuleRecord]]:
        def work(tx: Transaction) -> list[RuleRecord]:
            ids = security_rules.create(tx, specs, self._limits)
            return policy_loader.load_rules(tx.connection, ids)  # by key, which is the order of creation

        return self._write(actor, work)

    def delete_security_group_rule(self, rule_id: str, actor: str) -> Written[RuleRecord]:
        def work(tx: Transaction) -> RuleRecord:
            last = _rule(tx.connection, rule_id)
            security_rules.delete_rule(tx, rule_id)
            return last

        return self._write(actor, work)

    def get_security_group_rule(self, rule_id: str) -> RuleRecord:
        return self._database.read(lambda connection: _rule(connection, rule_id))

    def list_security_group_rules(
        self,
        *,
        group_id: str | None = None,
        project_id: str | None = None,
        limit: int | None = None,
        marker: str | None = None,
    ) -> list[RuleRecord]:
        table, groups = schema.security_group_rules.c, schema.security_groups.c
        conditions = equal({table.group_id: group_id})
        if project_id is not None:
            of_project = schema.security_groups.select().where(groups.project_id == project_id)
            conditions.append(table.group_id.in_(of_project.with_only_columns(groups.id)))

        def work(connection: Connection) -> list[RuleRecord]:
            return page(connection, table.id, table.key, conditions, limit, marker, policy_loader.load_rules)

        return self._database.read(work)

    # -- the template of new groups

    def create_default_rule(self, spec: DefaultRuleSpec, actor: str) -> Written[DefaultRuleRecord]:
        return self._write(actor, lambda tx: _default_rule(tx.connection, default_rules.create(tx, spec)))

    def delete_default_rule(self, rule_id: str, actor: str) -> Written[DefaultRuleRecord]:
        def work(tx: Transaction) -> DefaultRuleRecord:
            last = _default_rule(tx.connection, rule_id)
            default_rules.delete_rule(tx, rule_id)
            return last

        return self._write(actor, work)

    def get_default_rule(self, rule_id: str) -> DefaultRuleRecord:
        return self._database.read(lambda connection: _default_rule(connection, rule_id))

    def list_default_rules(self, *, limit: int | None = None, marker: str | None = None) -> list[DefaultRuleRecord]:
        def work(connection: Connection) -> list[DefaultRuleRecord]:
            return policy_loader.load_default_rules(connection, default_rules.page(connection, limit, marker))

        return self._database.read(work)

    # -- what the operator drops

    def create_provider_rule(self, spec: ProviderRuleSpec, actor: str) -> Written[ProviderRuleRecord]:
        return self._write(actor, lambda tx: _provider_rule(tx.connection, provider_rules.create(tx, spec)))

    def delete_provider_rule(self, rule_id: str, actor: str) -> Written[ProviderRuleRecord]:
        def work(tx: Transaction) -> ProviderRuleRecord:
            last = _provider_rule(tx.connection, rule_id)
            provider_rules.delete_rule(tx, rule_id)
            return last

        return self._write(actor, work)

    def get_provider_rule(self, rule_id: str) -> ProviderRuleRecord:
        return self._database.read(lambda connection: _provider_rule(connection, rule_id))

    def list_provider_rules(self, *, limit: int | None = None, marker: str | None = None) -> list[ProviderRuleRecord]:
        table = schema.provider_rules.c

        def work(connection: Connection) -> list[ProviderRuleRecord]:
            return page(connection, table.id, table.key, (), limit, marker, policy_loader.load_provider_rules)

        return self._database.read(work)


def _group(connection: Connection, group_id: str) -> SecurityGroupRecord:
    security_groups.find(connection, group_id)
    (record,) = policy_loader.load_groups(connection, [group_id])
    return record


def _rule(connection: Connection, rule_id: str) -> RuleRecord:
    security_rules.find(connection, rule_id)
    (record,) = policy_loader.load_rules(connection, [rule_id])
    return record


def _default_rule(connection: Connection, rule_id: str) -> DefaultRuleRecord:
    default_rules.find(connection, rule_id)
    (record,) = policy_loader.load_default_rules(connection, [rule_id])
    return record


def _provider_rule(connection: Connection, rule_id: str) -> ProviderRuleRecord:
    provider_rules.find(connection, rule_id)
    (record,) = policy_loader.load_provider_rules(connection, [rule_id])
    return record
