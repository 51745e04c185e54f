"""Request bodies about security groups and their kin."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, TypeAdapter

from controller.api.fields import Name, ObjectId, ProjectId, RequestModel, Text, UpdateModel
from controller.api.policy_fields import AnyRange, FamilyName, Range, ServiceIn
from controller.store.policy_specs import (
    AppliesTo,
    DefaultRuleSpec,
    ProviderRuleSpec,
    RuleSpec,
    SecurityGroupSpec,
)
from flows.model import Direction

MAX_RULES = 1000


class SecurityGroupUpdate(UpdateModel):
    name: Name = ""
    description: Text = ""
    stateful: bool = True
    log_accepted: bool = False
    log_dropped: bool = False


class SecurityGroupCreate(SecurityGroupUpdate):
    name: Name
    project_id: ProjectId | None = None

    def spec(self, project_id: str | None) -> SecurityGroupSpec:
        """`project_id` is the owner the caller has settled."""
        return SecurityGroupSpec(
            name=self.name,
            project_id=project_id,
            description=self.description,
            stateful=self.stateful,
            log_accepted=self.log_accepted,
            log_dropped=self.log_dropped,
        )


class RuleCreate(ServiceIn):
    """Neither `remote_cidr` nor `remote_group_id`: anybody. `family` null: what the rest says, else IPv4."""

    security_group_id: ObjectId
    direction: Direction
    remote_cidr: AnyRange | None = None
    remote_group_id: ObjectId | None = None
    log: bool = False
    description: Text = ""
    family: FamilyName | None = None

    def spec(self, any_remote: bool) -> RuleSpec:
        return RuleSpec(
            group_id=self.security_group_id,
            direction=self.direction,
            service=self.service(),
            remote_cidr=self.remote_cidr,
            remote_group_id=self.remote_group_id,
            log=self.log,
            description=self.description,
            any_remote=any_remote,
            family=self.family,
        )


class RuleBulk(RequestModel):
    security_group_rules: Annotated[list[RuleCreate], Field(min_length=1, max_length=MAX_RULES)]


class DefaultRuleCreate(ServiceIn):
    """`own_group`: the remote is the group that begins with the rule."""

    direction: Direction
    remote_cidr: AnyRange | None = None
    own_group: bool = False
    applies_to: AppliesTo = AppliesTo.ALL
    description: Text = ""
    family: FamilyName | None = None

    def spec(self) -> DefaultRuleSpec:
        return DefaultRuleSpec(
            direction=self.direction,
            service=self.service(),
            remote_cidr=self.remote_cidr,
            own_group=self.own_group,
            applies_to=self.applies_to,
            description=self.description,
            family=self.family,
        )


class ProviderRuleCreate(ServiceIn):
    """`direction` null: both ways."""

    cidr: Range
    direction: Direction | None = None
    description: Text = ""

    def spec(self) -> ProviderRuleSpec:
        return ProviderRuleSpec(self.cidr, self.service(), self.direction, self.description)


SECURITY_GROUP_CREATE = TypeAdapter(SecurityGroupCreate)
SECURITY_GROUP_UPDATE = TypeAdapter(SecurityGroupUpdate)
RULE_CREATE = TypeAdapter(RuleCreate)
RULE_BULK = TypeAdapter(RuleBulk)
DEFAULT_RULE_CREATE = TypeAdapter(DefaultRuleCreate)
PROVIDER_RULE_CREATE = TypeAdapter(ProviderRuleCreate)
