"""/v1/quotas/PROJECT: what a project may have, and has."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from controller.api import answers, declared
from controller.api.auth import Resource, Verb
from controller.api.errors import from_validation, invalid, unknown_object
from controller.api.fields import ProjectId, RequestModel
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.services import Services
from controller.api.views import Json
from controller.store.quota_specs import UNLIMITED, QuotaRecord

MAX_QUOTA = 2**31 - 1

Limit = Annotated[int, Field(ge=UNLIMITED, le=MAX_QUOTA)] | None


class QuotaUpdate(RequestModel):
    """What is left out stays as it is. -1: no limit. null: as configured."""

    floating_ips: Limit = None
    security_groups: Limit = None
    security_group_rules: Limit = None
    address_pairs: Limit = None
    networks: Limit = None
    ports: Limit = None
    fixed_ips: Limit = None
    dns_zones: Limit = None
    dns_records: Limit = None

    def changes(self) -> dict[str, int | None]:
        """What was sent."""
        return {name: value for name, value in self if name in self.model_fields_set}


QUOTA_UPDATE = TypeAdapter(QuotaUpdate)
_PROJECT: TypeAdapter[str] = TypeAdapter(ProjectId)


def show_quota(services: Services, request: Request) -> Answer:
    return Answer.json({"quota": _view(services.store.get_quota(_project(request)))})


def update_quota(services: Services, request: Request) -> Answer:
    body = request.parse(QUOTA_UPDATE)
    written = services.store.set_quota(_project(request), body.changes(), request.caller.actor)
    return Answer.json({"quota": _view(written.value), "revision": written.revision})


def _view(record: QuotaRecord) -> Json:
    used = {
        "floating_ips_used": record.floating_ips_used,
        "security_groups_used": record.security_groups_used,
        "networks_used": record.networks_used,
        "ports_used": record.ports_used,
        "fixed_ips_used": record.fixed_ips_used,
        "dns_zones_used": record.dns_zones_used,
    }
    return {"project_id": record.project_id, **asdict(record.limits), **used, "own": list(record.own)}


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
        {
            "GET": Endpoint(Verb.SHOW, show_quota, declared.shown(quota=answers.Quota)),
            "PATCH": Endpoint(Verb.UPDATE, update_quota, declared.written(quota=answers.Quota), bodies=(QUOTA_UPDATE,)),
        },
    ),
)
