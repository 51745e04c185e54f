"""/v1/networks"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from controller.api import answers, declared, views, warnings
from controller.api.auth import ADMIN_NETWORK_FIELDS, Identity, Resource, Role, Verb
from controller.api.errors import ApiError, forbidden, invalid, unknown_object
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.network_models import NETWORK_CARVE, NETWORK_CREATE, NETWORK_UPDATE, NetworkCreate, NetworkUpdate
from controller.api.services import Services
from controller.api.subnet_models import place_in
from controller.store import routers
from controller.store.network_specs import Carving
from controller.store.specs import NetworkRecord, NetworkSpec, NotFound, StoreError, Written
from flows.model import NetworkKind

_IMMUTABLE = frozenset(NetworkCreate.model_fields) | {"id", "key", "router_key", "problems", "gateway_node_pinned"}
_MANY = frozenset({"count", "network_size"})
WRITTEN = declared.written(network=answers.Network, warnings=declared.Warnings)


def list_networks(services: Services, request: Request) -> Answer:
    records = services.store.list_networks(**request.page(), visible_to=request.caller.project)
    return Answer.json({"networks": [view(services, request, record) for record in records]})


def show_network(services: Services, request: Request) -> Answer:
    return Answer.json({"network": view(services, request, visible(services, request.caller, request.params["id"]))})


def create_networks(services: Services, request: Request) -> Answer:
    """One, or for administrators many of one range when the body has a field `count` or `network_size`."""
    caller, many = request.caller, _MANY & request.document().keys()
    if not many:
        body = request.parse(NETWORK_CREATE)
        spec = _spec(services, caller, body)
        own = caller.role is not Role.ADMIN
        with _placed(body):
            done = services.store.create_network(spec, caller.actor, by_project=own)
        return _told(services, request, done, spec.name, 201)
    if caller.role is not Role.ADMIN:
        raise forbidden("many at once are for administrators", min(many))
    body = request.parse(NETWORK_CARVE)
    carving = Carving(body.count, body.network_size)
    with _placed(body):
        made = services.store.create_networks(_spec(services, caller, body), carving, caller.actor)
    return Answer.json(
        {"networks": [view(services, request, one) for one in made.value], "revision": made.revision}, 201
    )


def _spec(services: Services, caller: Identity, body: NetworkCreate) -> NetworkSpec:
    project_id, place = _owner(caller, body), _place(services, caller, body)
    if body.external_network_id is not None:
        visible(services, caller, body.external_network_id, field="external_network_id")
    router = _router(services, caller, body.router)
    return body.spec(services.config.lease_time, project_id, router, place)


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
    with _placed(body):
        changed = services.store.update_network(
            record.id,
            changes,
            request.caller.actor,
            expected_revision=body.expected_revision,
            by_project=request.caller.project,
        )
    return _told(services, request, changed, changes.get("name"))


@contextmanager
def _placed(body: NetworkCreate | NetworkUpdate) -> Iterator[None]:
    """A refusal names the subnet by its place in the request."""
    try:
        yield
    except StoreError as error:
        error.field = place_in(body.subnets, error.field)
        raise


def delete_network(services: Services, request: Request) -> Answer:
    record = changeable(services, request.caller, request.params["id"])
    return written(services, request, services.store.delete_network(record.id, request.caller.actor))


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
    if record.spec.assignable and caller.role is not Role.ADMIN:
        # whoever has it next must not find the settings of who had it before
        raise forbidden("the network was given to the project as it is: only administrators change it")
    return record


def _owner(caller: Identity, body: NetworkCreate) -> str | None:
    if caller.role is Role.ADMIN:
        return body.project_id
    _refuse_admin_fields(caller, body)
    if body.project_id is not None and not caller.owns(body.project_id):
        raise forbidden("only your own project is possible", "project_id")
    return caller.project


def _place(services: Services, caller: Identity, body: NetworkCreate) -> tuple[NetworkKind, str]:
    """Kind and physical network: a member's are chosen by the operator."""
    if caller.role is Role.ADMIN:
        if body.kind is None or body.physical_network is None:
            name = "kind" if body.kind is None else "physical_network"
            raise ApiError(400, "missing_field", f"{name}: is needed", name)
        return body.kind, body.physical_network
    chosen = services.config.project_physical_network
    if chosen is None:
        raise forbidden("projects make no networks of their own in this cloud: ask an administrator for one")
    if body.kind is NetworkKind.FLAT:
        raise forbidden("networks of kind flat are for administrators", "kind")
    if body.physical_network not in (None, chosen):
        raise forbidden("another physical network is for administrators", "physical_network")
    return NetworkKind.VLAN, chosen


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


def written(services: Services, request: Request, done: Written[NetworkRecord]) -> Answer:
    return _answer(view(services, request, done.value), [], done.revision)


def _told(
    services: Services, request: Request, done: Written[NetworkRecord], name: str | None, status: int = 200
) -> Answer:
    """With what its writer should know. `name`: the one that was just given, if any."""

    def called(text: str) -> list[NetworkRecord]:
        return services.store.list_networks(name=text, visible_to=request.caller.project, limit=2)

    shown = view(services, request, done.value)
    warned = [*shown.get("problems", ()), *warnings.of_name("network", name, called)]
    return _answer(shown, warned, done.revision, status)


def _answer(shown: views.Json, warned: list[str], revision: int, status: int = 200) -> Answer:
    return Answer.json({"network": shown, "warnings": warned, "revision": revision}, status)


def view(services: Services, request: Request, record: NetworkRecord) -> views.Json:
    """`router` is None where an administrator has joined it to a network that the caller may not know of."""
    shown = views.network(record, services.node_state, request.caller.operates)
    if request.caller.project is not None and record.spec.router not in (routers.PROJECT, routers.ISOLATED):
        try:
            visible(services, request.caller, record.spec.router)
        except ApiError:
            shown["router"] = None
    return shown


ROUTES = (
    Route(
        "/v1/networks",
        Resource.NETWORK,
        {
            "GET": Endpoint(
                Verb.LIST,
                list_networks,
                declared.shown(networks=list[answers.Network]),
                query=declared.page("name", "project_id"),
            ),
            "POST": Endpoint(
                Verb.CREATE,
                create_networks,
                (WRITTEN, declared.written(networks=list[answers.Network])),
                status=201,
                bodies=(NETWORK_CREATE, NETWORK_CARVE),
            ),
        },
    ),
    Route(
        "/v1/networks/{id}",
        Resource.NETWORK,
        {
            "GET": Endpoint(Verb.SHOW, show_network, declared.shown(network=answers.Network)),
            "PATCH": Endpoint(Verb.UPDATE, update_network, WRITTEN, bodies=(NETWORK_UPDATE,)),
            "DELETE": Endpoint(Verb.DELETE, delete_network, WRITTEN),
        },
    ),
)
