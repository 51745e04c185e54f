"""/v1/security-groups"""

from __future__ import annotations

from controller.api import declared, policy_answers
from controller.api import security_group_views as views
from controller.api.auth import Identity, Resource, Role, Verb
from controller.api.errors import forbidden, unknown_object
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.security_group_models import SECURITY_GROUP_CREATE, SECURITY_GROUP_UPDATE, SecurityGroupCreate
from controller.api.services import Services
from controller.store.policy_specs import SecurityGroupRecord
from controller.store.specs import NotFound, Written

_WRITTEN = declared.written(security_group=policy_answers.WholeSecurityGroup)
_IMMUTABLE = frozenset({"id", "key", "project_id", "rules", "created_at", "revision"})


def list_groups(services: Services, request: Request) -> Answer:
    caller = request.caller
    filters = request.page()
    if caller.project is not None and filters.setdefault("project_id", caller.project) != caller.project:
        return Answer.json({"security_groups": []})
    if caller.role is Role.MEMBER:
        # who looks finds the group that the first port would be in
        services.store.ensure_default_group(caller.project, caller.actor)
    records = services.store.list_security_groups(**filters)
    return Answer.json({"security_groups": [views.security_group(record) for record in records]})


def show_group(services: Services, request: Request) -> Answer:
    record = owned(services, request.caller, request.params["id"])
    return Answer.json({"security_group": views.whole_group(record)})


def create_group(services: Services, request: Request) -> Answer:
    body = request.parse(SECURITY_GROUP_CREATE)
    project_id = _owner(request.caller, body)
    return _written(services.store.create_security_group(body.spec(project_id), request.caller.actor), 201)


def update_group(services: Services, request: Request) -> Answer:
    body = request.parse(SECURITY_GROUP_UPDATE, _IMMUTABLE)
    record = owned(services, request.caller, request.params["id"])
    return _written(services.store.update_security_group(record.group.id, body.changes(), request.caller.actor))


def delete_group(services: Services, request: Request) -> Answer:
    record = owned(services, request.caller, request.params["id"])
    caller = request.caller
    any_user = caller.role is Role.ADMIN
    return _written(services.store.delete_security_group(record.group.id, caller.actor, any_user=any_user))


def owned(services: Services, caller: Identity, group_id: str, field: str | None = None) -> SecurityGroupRecord:
    """The group, or 404 when it is not the caller's."""
    try:
        record = services.store.get_security_group(group_id)
    except NotFound:
        raise unknown_object("security_group", group_id, field) from None
    if not caller.owns(record.group.project_id):
        raise unknown_object("security_group", group_id, field)
    return record


def _owner(caller: Identity, body: SecurityGroupCreate) -> str | None:
    if caller.role is Role.ADMIN:
        return body.project_id
    if body.project_id is not None and not caller.owns(body.project_id):
        raise forbidden("only your own project is possible", "project_id")
    return caller.project


def _written(written: Written[SecurityGroupRecord], status: int = 200) -> Answer:
    return Answer.json({"security_group": views.whole_group(written.value), "revision": written.revision}, status)


ROUTES = (
    Route(
        "/v1/security-groups",
        Resource.SECURITY_GROUP,
        {
            "GET": Endpoint(
                Verb.LIST,
                list_groups,
                declared.shown(security_groups=list[policy_answers.SecurityGroup]),
                query=declared.page("name", "project_id"),
            ),
            "POST": Endpoint(Verb.CREATE, create_group, _WRITTEN, status=201, bodies=(SECURITY_GROUP_CREATE,)),
        },
    ),
    Route(
        "/v1/security-groups/{id}",
        Resource.SECURITY_GROUP,
        {
            "GET": Endpoint(Verb.SHOW, show_group, declared.shown(security_group=policy_answers.WholeSecurityGroup)),
            "PATCH": Endpoint(Verb.UPDATE, update_group, _WRITTEN, bodies=(SECURITY_GROUP_UPDATE,)),
            "DELETE": Endpoint(Verb.DELETE, delete_group, _WRITTEN),
        },
    ),
)
