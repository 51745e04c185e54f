"""/v1/quotas/PROJECT: what a project may have, and has."""

from __future__ import annotations

from pydantic import TypeAdapter, ValidationError

from controller.api import floating_ip_views as views
from controller.api.auth import Resource, Verb
from controller.api.errors import from_validation, invalid, unknown_object
from controller.api.fields import ProjectId
from controller.api.floating_ip_models import QUOTA_UPDATE
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.services import Services

_PROJECT: TypeAdapter[str] = TypeAdapter(ProjectId)


def show_quota(services: Services, request: Request) -> Answer:
    request.filters()
    return Answer.json({"quota": views.quota(services.store.get_quota(_project(request)))})


def update_quota(services: Services, request: Request) -> Answer:
    body = request.parse(QUOTA_UPDATE)
    written = services.store.set_quota(_project(request), body.floating_ips, request.caller.actor)
    return Answer.json({"quota": views.quota(written.value), "revision": written.revision})


def _project(request: Request) -> str:
    project_id = request.params["project"]
    if not request.caller.owns(project_id):
        raise unknown_object("project", project_id)
    try:
        return _PROJECT.validate_python(project_id)
    except ValidationError as error:
        raise invalid("project", from_validation(error).message) from None


ROUTES = (
    Route(
        "/v1/quotas/{project}",
        Resource.QUOTA,
        {"GET": Endpoint(Verb.SHOW, show_quota), "PATCH": Endpoint(Verb.UPDATE, update_quota)},
    ),
)
