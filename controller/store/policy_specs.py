"""What goes into the store and comes out of it for security groups and their kin, as `specs` does for the rest.

The methods of `Store`:

    create_security_group(spec: SecurityGroupSpec, actor: str) -> Written[SecurityGroupRecord]
        begins with the rules of the template
    update_security_group(id, changes: Mapping[str, Any], actor: str) -> Written[SecurityGroupRecord]
        changes: name, description, stateful, log_accepted, log_dropped
    delete_security_group(id, actor: str, *, any_user=False) -> Written[SecurityGroupRecord]
        any_user: a refusal names what uses it of other projects, too
    get_security_group(id) -> SecurityGroupRecord
    list_security_groups(*, name=None, project_id=None, limit=None, marker=None) -> list[...]     without their rules
    ensure_default_group(project_id: str | None, actor: str) -> None     makes it if there is none yet

    create_security_group_rules(specs: Sequence[RuleSpec], actor: str) -> Written[list[RuleRecord]]      all or none
    delete_security_group_rule(id, actor: str) -> Written[RuleRecord]
    get_security_group_rule(id) -> RuleRecord
    list_security_group_rules(*, group_id=None, project_id=None, limit=None, marker=None) -> list[RuleRecord]

    create_default_rule(spec: DefaultRuleSpec, actor: str) -> Written[DefaultRuleRecord]
    delete_default_rule(id, actor: str) -> Written[DefaultRuleRecord]
    get_default_rule(id) -> DefaultRuleRecord
    list_default_rules(*, limit=None, marker=None) -> list[DefaultRuleRecord]

    create_provider_rule(spec: ProviderRuleSpec, actor: str) -> Written[ProviderRuleRecord]
    delete_provider_rule(id, actor: str) -> Written[ProviderRuleRecord]
    get_provider_rule(id) -> ProviderRuleRecord
    list_provider_rules(*, limit=None, marker=None) -> list[ProviderRuleRecord]

A project of None is the operator: its ports have groups of their own, and no quota.

Errors beside those of `specs`:
    NotFound  [404]  security_group_unknown security_group_rule_unknown default_rule_unknown provider_rule_unknown
    Forbidden [403]  security_group_default
    Invalid   [400]  rule_invalid log_stateless address_pair_invalid
    Conflict  [409]  security_group_exists security_group_in_use security_groups_mixed rule_exists
                     address_pair_in_use port_security_off
    Exhausted [409]  quota_exceeded (see quota_specs)
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network

from flows.model import Direction, Family, ProviderRule, SecurityGroup, SecurityRule, Service

DEFAULT_GROUP = "default"


@dataclass(frozen=True, slots=True)
class SecurityGroupSpec:
    name: str
    project_id: str | None = None
    description: str = ""
    stateful: bool = True
    log_accepted: bool = False
    log_dropped: bool = False


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """As flows.model.SecurityRule. `any_remote`: the remote group may be of another project. `family` None: what the
    rest says, else IPv4.
    """

    group_id: str
    direction: Direction
    service: Service = Service()
    remote_cidr: IPv4Network | IPv6Network | None = None
    remote_group_id: str | None = None
    log: bool = False
    description: str = ""
    any_remote: bool = False
    family: Family | None = None


@dataclass(frozen=True, slots=True)
class RuleRecord:
    """A stored rule. `project_id` is its group's."""

    rule: SecurityRule
    group_id: str
    project_id: str | None
    description: str
    created_at: float


@dataclass(frozen=True, slots=True)
class SecurityGroupRecord:
    """A stored group. `rules` by key, like those of `group`; lists of groups leave both out."""

    group: SecurityGroup
    description: str
    rules: tuple[RuleRecord, ...]
    created_at: float
    revision: int


@dataclass(frozen=True, slots=True)
class GroupName:
    """A group of a port, as far as people want to know."""

    id: str
    name: str


class AppliesTo(StrEnum):
    """The groups that begin with a rule of the template: those called `default`, those made by somebody, or both."""

    DEFAULT = "default"
    OTHER = "other"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class DefaultRuleSpec:
    """`own_group`: the remote is the new group itself. `family` as of rules of groups."""

    direction: Direction
    service: Service = Service()
    remote_cidr: IPv4Network | IPv6Network | None = None
    own_group: bool = False
    applies_to: AppliesTo = AppliesTo.ALL
    description: str = ""
    family: Family | None = None


@dataclass(frozen=True, slots=True)
class DefaultRuleRecord:
    id: str
    spec: DefaultRuleSpec
    created_at: float
    revision: int


@dataclass(frozen=True, slots=True)
class ProviderRuleSpec:
    cidr: IPv4Network
    service: Service = Service()
    direction: Direction | None = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class ProviderRuleRecord:
    rule: ProviderRule
    description: str
    created_at: float
    revision: int


@dataclass(frozen=True, slots=True)
class AddressPairSpec:
    """`mac` None: the port's own."""

    cidr: IPv4Network
    mac: str | None = None
