"""Which project has which network: /v1/networks/ID/project and /v1/projects/PROJECT."""

from __future__ import annotations

from pydantic import TypeAdapter, ValidationError

from controller.api import answers, declared, networks
from controller.api.auth import Resource, Verb
from controller.api.errors import from_validation, invalid
from controller.api.fields import ObjectId, ProjectId, RequestModel
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.services import Services


class NetworkProject(RequestModel):
    project_id: ProjectId


class ProjectNetwork(RequestModel):
    """null: any that is free."""

    network_id: ObjectId | None = None


NETWORK_PROJECT = TypeAdapter(NetworkProject)
PROJECT_NETWORK = TypeAdapter(ProjectNetwork)
_PROJECT: TypeAdapter[str] = TypeAdapter(ProjectId)


def associate_network(services: Services, request: Request) -> Answer:
    body = request.parse(NETWORK_PROJECT)
    record = networks.visible(services, request.caller, request.params["id"])
    written = services.store.associate_network(record.id, body.project_id, request.caller.actor)
    return networks.written(services, request, written)


def disassociate_network(services: Services, request: Request) -> Answer:
    record = networks.visible(services, request.caller, request.params["id"])
    return networks.written(services, request, services.store.disassociate_network(record.id, request.caller.actor))


def add_network(services: Services, request: Request) -> Answer:
    body, project_id, actor = request.parse(PROJECT_NETWORK), _project(request), request.caller.actor
    if body.network_id is None:
        return networks.written(services, request, services.store.associate_free_network(project_id, actor))
    record = networks.visible(services, request.caller, body.network_id, field="network_id")
    return networks.written(services, request, services.store.associate_network(record.id, project_id, actor))


def scrub_project(services: Services, request: Request) -> Answer:
    project_id = _project(request)
    done = services.store.scrub_project(project_id, request.caller.actor)
    lists = {"networks": list(done.value.networks), "security_groups": list(done.value.security_groups)}
    return Answer.json({"scrubbed": {"project_id": project_id, **lists}, "revision": done.revision})


def _project(request: Request) -> str:
    try:
        return _PROJECT.validate_python(request.params["project"])
    except ValidationError as error:
        raise invalid("project", from_validation(error).message) from None


ROUTES = (
    Route(
        "/v1/networks/{id}/project",
        Resource.NETWORK_PROJECT,
        {
            "PUT": Endpoint(Verb.UPDATE, associate_network, networks.WRITTEN, bodies=(NETWORK_PROJECT,)),
            "DELETE": Endpoint(Verb.DELETE, disassociate_network, networks.WRITTEN),
        },
    ),
    Route(
        "/v1/projects/{project}/networks",
        Resource.NETWORK_PROJECT,
        {"POST": Endpoint(Verb.CREATE, add_network, networks.WRITTEN, bodies=(PROJECT_NETWORK,))},
    ),
    Route(
        "/v1/projects/{project}/scrub",
        Resource.PROJECT,
        {"POST": Endpoint(Verb.UPDATE, scrub_project, declared.written(scrubbed=answers.Scrubbed))},
    ),
)
