"""/v1/security-group-rules, and what only operators write: the template of new groups and what is dropped for all."""

from __future__ import annotations

from collections.abc import Sequence

from controller.api import declared, policy_answers, security_groups
from controller.api import security_group_views as views
from controller.api.auth import Identity, Resource, Role, Verb
from controller.api.errors import unknown_object
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.security_group_models import (
    DEFAULT_RULE_CREATE,
    PROVIDER_RULE_CREATE,
    RULE_BULK,
    RULE_CREATE,
    RuleCreate,
)
from controller.api.services import Services
from controller.store.policy_specs import DefaultRuleRecord, ProviderRuleRecord, RuleRecord, RuleSpec
from controller.store.specs import NotFound, StoreError, Written

_MANY = "security_group_rules"
_WRITTEN = declared.written(security_group_rule=policy_answers.SecurityGroupRule)
_DEFAULT_WRITTEN = declared.written(default_security_group_rule=policy_answers.DefaultSecurityGroupRule)
_PROVIDER_WRITTEN = declared.written(provider_rule=policy_answers.ProviderRule)


def list_rules(services: Services, request: Request) -> Answer:
    filters = request.page()
    project = request.caller.project
    if project is not None and filters.setdefault("project_id", project) != project:
        return Answer.json({_MANY: []})
    group_id = filters.pop("security_group_id", None)
    records = services.store.list_security_group_rules(group_id=group_id, **filters)
    return Answer.json({_MANY: [views.rule(record) for record in records]})


def show_rule(services: Services, request: Request) -> Answer:
    return Answer.json({"security_group_rule": views.rule(_own(services, request))})


def create_rules(services: Services, request: Request) -> Answer:
    """One rule, or many in one transaction when the body has a field `security_group_rules`."""
    actor = request.caller.actor
    if _MANY in request.document():
        specs = _specs(services, request.caller, request.parse(RULE_BULK).security_group_rules, _MANY + ".{}.")
        try:
            written = services.store.create_security_group_rules(specs, actor)
        except StoreError as error:
            if error.index is not None:
                error.field = ".".join([_MANY, str(error.index), *([error.field] if error.field else [])])
            raise
        made = [views.rule(record) for record in written.value]
        return Answer.json({_MANY: made, "revision": written.revision}, 201)
    specs = _specs(services, request.caller, [request.parse(RULE_CREATE)], "")
    written = services.store.create_security_group_rules(specs, actor)
    return _written(Written(written.revision, written.value[0]), 201)


def delete_rule(services: Services, request: Request) -> Answer:
    record = _own(services, request)
    return _written(services.store.delete_security_group_rule(record.rule.id, request.caller.actor))


def _specs(services: Services, caller: Identity, bodies: Sequence[RuleCreate], where: str) -> list[RuleSpec]:
    """`where` is the place of a rule in the body, with a hole for its index."""
    known: set[str] = set()
    for index, body in enumerate(bodies):
        if body.security_group_id not in known:
            field = where.format(index) + "security_group_id"
            security_groups.owned(services, caller, body.security_group_id, field)
            known.add(body.security_group_id)
    return [body.spec(any_remote=caller.role is Role.ADMIN) for body in bodies]


def _own(services: Services, request: Request) -> RuleRecord:
    """The rule of the path, or 404 when it is not the caller's."""
    id_ = request.params["id"]
    try:
        record = services.store.get_security_group_rule(id_)
    except NotFound:
        raise unknown_object("security_group_rule", id_) from None
    if not request.caller.owns(record.project_id):
        raise unknown_object("security_group_rule", id_)
    return record


def _written(written: Written[RuleRecord], status: int = 200) -> Answer:
    return Answer.json({"security_group_rule": views.rule(written.value), "revision": written.revision}, status)


def list_default_rules(services: Services, request: Request) -> Answer:
    records = services.store.list_default_rules(**request.page())
    return Answer.json({"default_security_group_rules": [views.default_rule(record) for record in records]})


def show_default_rule(services: Services, request: Request) -> Answer:
    record = services.store.get_default_rule(request.params["id"])
    return Answer.json({"default_security_group_rule": views.default_rule(record)})


def create_default_rule(services: Services, request: Request) -> Answer:
    spec = request.parse(DEFAULT_RULE_CREATE).spec()
    return _default_written(services.store.create_default_rule(spec, request.caller.actor), 201)


def delete_default_rule(services: Services, request: Request) -> Answer:
    return _default_written(services.store.delete_default_rule(request.params["id"], request.caller.actor))


def _default_written(written: Written[DefaultRuleRecord], status: int = 200) -> Answer:
    made = views.default_rule(written.value)
    return Answer.json({"default_security_group_rule": made, "revision": written.revision}, status)


def list_provider_rules(services: Services, request: Request) -> Answer:
    records = services.store.list_provider_rules(**request.page())
    return Answer.json({"provider_rules": [views.provider_rule(record) for record in records]})


def show_provider_rule(services: Services, request: Request) -> Answer:
    record = services.store.get_provider_rule(request.params["id"])
    return Answer.json({"provider_rule": views.provider_rule(record)})


def create_provider_rule(services: Services, request: Request) -> Answer:
    spec = request.parse(PROVIDER_RULE_CREATE).spec()
    return _provider_written(services.store.create_provider_rule(spec, request.caller.actor), 201)


def delete_provider_rule(services: Services, request: Request) -> Answer:
    return _provider_written(services.store.delete_provider_rule(request.params["id"], request.caller.actor))


def _provider_written(written: Written[ProviderRuleRecord], status: int = 200) -> Answer:
    return Answer.json({"provider_rule": views.provider_rule(written.value), "revision": written.revision}, status)


ROUTES = (
    Route(
        "/v1/security-group-rules",
        Resource.SECURITY_GROUP_RULE,
        {
            "GET": Endpoint(
                Verb.LIST,
                list_rules,
                declared.shown(security_group_rules=list[policy_answers.SecurityGroupRule]),
                query=declared.page("security_group_id", "project_id"),
            ),
            "POST": Endpoint(
                Verb.CREATE,
                create_rules,
                (_WRITTEN, declared.written(security_group_rules=list[policy_answers.SecurityGroupRule])),
                status=201,
                bodies=(RULE_CREATE, RULE_BULK),
                many=True,
            ),
        },
    ),
    Route(
        "/v1/security-group-rules/{id}",
        Resource.SECURITY_GROUP_RULE,
        {
            "GET": Endpoint(Verb.SHOW, show_rule, declared.shown(security_group_rule=policy_answers.SecurityGroupRule)),
            "DELETE": Endpoint(Verb.DELETE, delete_rule, _WRITTEN),
        },
    ),
    Route(
        "/v1/default-security-group-rules",
        Resource.DEFAULT_RULE,
        {
            "GET": Endpoint(
                Verb.LIST,
                list_default_rules,
                declared.shown(default_security_group_rules=list[policy_answers.DefaultSecurityGroupRule]),
                query=declared.page(),
            ),
            "POST": Endpoint(
                Verb.CREATE, create_default_rule, _DEFAULT_WRITTEN, status=201, bodies=(DEFAULT_RULE_CREATE,)
            ),
        },
    ),
    Route(
        "/v1/default-security-group-rules/{id}",
        Resource.DEFAULT_RULE,
        {
            "GET": Endpoint(
                Verb.SHOW,
                show_default_rule,
                declared.shown(default_security_group_rule=policy_answers.DefaultSecurityGroupRule),
            ),
            "DELETE": Endpoint(Verb.DELETE, delete_default_rule, _DEFAULT_WRITTEN),
        },
    ),
    Route(
        "/v1/provider-rules",
        Resource.PROVIDER_RULE,
        {
            "GET": Endpoint(
                Verb.LIST,
                list_provider_rules,
                declared.shown(provider_rules=list[policy_answers.ProviderRule]),
                query=declared.page(),
            ),
            "POST": Endpoint(
                Verb.CREATE, create_provider_rule, _PROVIDER_WRITTEN, status=201, bodies=(PROVIDER_RULE_CREATE,)
            ),
        },
    ),
    Route(
        "/v1/provider-rules/{id}",
        Resource.PROVIDER_RULE,
        {
            "GET": Endpoint(Verb.SHOW, show_provider_rule, declared.shown(provider_rule=policy_answers.ProviderRule)),
            "DELETE": Endpoint(Verb.DELETE, delete_provider_rule, _PROVIDER_WRITTEN),
        },
    ),
)
