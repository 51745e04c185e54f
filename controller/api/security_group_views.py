"""What the API answers about security groups and their kin, as `views` does about the rest."""

from __future__ import annotations

from controller.api.policy_fields import family_name
from controller.api.views import Json, time_of
from controller.store.policy_specs import DefaultRuleRecord, ProviderRuleRecord, RuleRecord, SecurityGroupRecord
from flows.model import Family, Service
from flows.protocols import PROTOCOL_NAMES


def security_group(record: SecurityGroupRecord) -> Json:
    it = record.group
    return {
        "id": it.id,
        "key": it.key,
        "name": it.name,
        "project_id": it.project_id,
        "description": record.description,
        "stateful": it.stateful,
        "log_accepted": it.log_accepted,
        "log_dropped": it.log_dropped,
        "created_at": time_of(record.created_at),
        "revision": record.revision,
    }


def whole_group(record: SecurityGroupRecord) -> Json:
    """With its rules, which lists leave out."""
    return security_group(record) | {"rules": [rule(one) for one in record.rules]}


def rule(record: RuleRecord) -> Json:
    it = record.rule
    return {
        "id": it.id,
        "key": it.key,
        "security_group_id": record.group_id,
        "project_id": record.project_id,
        "direction": it.direction.value,
        "family": family_name(it.family),
        **_service(it.service),
        "remote_cidr": None if it.remote_cidr is None else str(it.remote_cidr),
        "remote_group_id": it.remote_group_id,
        "log": it.log,
        "description": record.description,
        "created_at": time_of(record.created_at),
    }


def _service(it: Service) -> Json:
    """A protocol by its name, if it has one here."""
    ports = None if it.first is None else str(it.first) if it.first == it.last else f"{it.first}-{it.last}"
    return {
        "protocol": None if it.protocol is None else PROTOCOL_NAMES.get(it.protocol, it.protocol),
        "ports": ports,
        "icmp_type": it.icmp_type,
        "icmp_code": it.icmp_code,
    }


def default_rule(record: DefaultRuleRecord) -> Json:
    spec = record.spec
    return {
        "id": record.id,
        "applies_to": spec.applies_to.value,
        "direction": spec.direction.value,
        "family": family_name(spec.family or Family.IPV4),
        **_service(spec.service),
        "remote_cidr": None if spec.remote_cidr is None else str(spec.remote_cidr),
        "own_group": spec.own_group,
        "description": spec.description,
        "created_at": time_of(record.created_at),
        "revision": record.revision,
    }


def provider_rule(record: ProviderRuleRecord) -> Json:
    it = record.rule
    return {
        "id": it.id,
        "key": it.key,
        "direction": None if it.direction is None else it.direction.value,
        **_service(it.service),
        "cidr": str(it.cidr),
        "description": record.description,
        "created_at": time_of(record.created_at),
        "revision": record.revision,
    }
