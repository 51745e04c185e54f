"""/v1/networks"""

from __future__ import annotations

from controller.api import views
from controller.api.auth import ADMIN_NETWORK_FIELDS, Identity, Resource, Role, Verb
from controller.api.errors import forbidden, invalid, unknown_object
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.models import NETWORK_CREATE, NETWORK_UPDATE, NetworkCreate, NetworkUpdate
from controller.api.services import Services
from controller.store import routers
from controller.store.specs import NetworkRecord, NotFound, Written
from flows.model import NetworkKind

_IMMUTABLE = frozenset(NetworkCreate.model_fields) | {"id", "key", "router_key", "problems", "gateway_node_pinned"}


def list_networks(services: Services, request: Request) -> Answer:
    records = services.store.list_networks(**request.page("name", "project_id"), visible_to=request.caller.project)
    return Answer.json({"networks": [_view(services, record) for record in records]})


def show_network(services: Services, request: Request) -> Answer:
    request.filters()
    return Answer.json({"network": _view(services, visible(services, request.caller, request.params["id"]))})


def create_network(services: Services, request: Request) -> Answer:
    body = request.parse(NETWORK_CREATE)
    project_id = _owner(request.caller, body)
    if body.external_network_id is not None:
        visible(services, request.caller, body.external_network_id, field="external_network_id")
    router = _router(services, request.caller, body.router)
    spec = body.spec(services.config.lease_time, project_id, router)
    return _written(services, services.store.create_network(spec, request.caller.actor), 201)


def update_network(services: Services, request: Request) -> Answer:
    body = request.parse(NETWORK_UPDATE, _IMMUTABLE)
    record = changeable(services, request.caller, request.params["id"])
    _refuse_admin_fields(request.caller, body)
    spec = record.spec
    if "allow_same_net_traffic" in body.model_fields_set and request.caller.project and (spec.shared or spec.external):
        message = "on a network that others use too, allow_same_net_traffic is for administrators"
        raise forbidden(message, "allow_same_net_traffic")
    if body.external_network_id is not None:
        visible(services, request.caller, body.external_network_id, field="external_network_id")
    changes = body.changes()
    if "router" in changes:
        changes["router"] = _router(services, request.caller, body.router)
    return _written(services, services.store.update_network(record.id, changes, request.caller.actor))


def delete_network(services: Services, request: Request) -> Answer:
    record = changeable(services, request.caller, request.params["id"])
    return _written(services, services.store.delete_network(record.id, request.caller.actor))


def visible(services: Services, caller: Identity, network_id: str, field: str | None = None) -> NetworkRecord:
    """The network, or 404 when the caller may not know of it."""
    try:
        record = services.store.get_network(network_id)
    except NotFound:
        raise unknown_object("network", network_id, field) from None
    if not caller.sees_network(record.spec):
        raise unknown_object("network", network_id, field)
    return record


def changeable(services: Services, caller: Identity, network_id: str) -> NetworkRecord:
    """The network, or 404, or 403 when the caller may see it and no more."""
    record = visible(services, caller, network_id)
    if not caller.owns(record.spec.project_id):
        raise forbidden("the network belongs to another project")
    return record


def _owner(caller: Identity, body: NetworkCreate) -> str | None:
    if caller.role is Role.ADMIN:
        return body.project_id
    _refuse_admin_fields(caller, body)
    if body.kind is NetworkKind.FLAT:
        raise forbidden("networks of kind flat are for administrators", "kind")
    if body.project_id is not None and not caller.owns(body.project_id):
        raise forbidden("only your own project is possible", "project_id")
    return caller.project


def _refuse_admin_fields(caller: Identity, body: NetworkCreate | NetworkUpdate) -> None:
    if caller.role is not Role.ADMIN:
        for name in sorted(ADMIN_NETWORK_FIELDS & body.model_fields_set):
            raise forbidden(f"{name} is for administrators", name)


def _router(services: Services, caller: Identity, wanted: str) -> str:
    """What the store takes: one of its words, or the id of the network with this id or name."""
    if wanted in (routers.PROJECT, routers.ISOLATED):
        return wanted
    named = services.store.list_networks(name=wanted, visible_to=caller.project)
    if len(named) > 1:
        raise invalid("router", f"{len(named)} networks are called {wanted}, give an id")
    record = named[0] if named else visible(services, caller, wanted, field="router")
    if not caller.owns(record.spec.project_id):
        raise forbidden("only networks of your own project are possible", "router")
    return record.id


def _view(services: Services, record: NetworkRecord) -> views.Json:
    return views.network(record, services.node_state)


def _written(services: Services, written: Written[NetworkRecord], status: int = 200) -> Answer:
    return Answer.json({"network": _view(services, written.value), "revision": written.revision}, status)


ROUTES = (
    Route(
        "/v1/networks",
        Resource.NETWORK,
        {"GET": Endpoint(Verb.LIST, list_networks), "POST": Endpoint(Verb.CREATE, create_network)},
    ),
    Route(
        "/v1/networks/{id}",
        Resource.NETWORK,
        {
            "GET": Endpoint(Verb.SHOW, show_network),
            "PATCH": Endpoint(Verb.UPDATE, update_network),
            "DELETE": Endpoint(Verb.DELETE, delete_network),
        },
    ),
)
