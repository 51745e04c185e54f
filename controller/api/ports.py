"""/v1/ports"""

from __future__ import annotations

from collections.abc import Sequence

from controller.api import answers, declared, networks, views, warnings
from controller.api.auth import ADMIN_PORT_FIELDS, Identity, Resource, Role, Verb
from controller.api.errors import ApiError, forbidden, unknown_object
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.port_models import (
    DEVICE_PORTS_CREATE,
    PORT_BULK,
    PORT_CREATE,
    PORT_UPDATE,
    DevicePortsCreate,
    PortCreate,
    PortUpdate,
)
from controller.api.services import Services
from controller.store.address_pairs import WIDEST
from controller.store.specs import NetworkRecord, NotFound, PortRecord, PortSpec, StoreError, Written

_IMMUTABLE = frozenset(PortCreate.model_fields) | {
    "key",
    "binding",
    "binding_error",
    "muted",
    "status",
    "floating_ips",
    "held_addresses",
}
_WRITTEN = declared.written(port=answers.Port, warnings=declared.Warnings)


def list_ports(services: Services, request: Request) -> Answer:
    filters = request.page()
    project = request.caller.project
    if project is not None and filters.setdefault("project_id", project) != project:
        return Answer.json({"ports": []})
    records = services.store.list_ports(**filters)
    return Answer.json({"ports": [view(services, record) for record in records]})


def show_port(services: Services, request: Request) -> Answer:
    return Answer.json({"port": view(services, _own(services, request))})


def create_ports(services: Services, request: Request) -> Answer:
    """One port, or many in one transaction when the body has a field `ports`. A machine (`device_id`) that names no
    network gets all the ports that it is to have.
    """
    document = request.document()
    if "ports" in document:
        bodies = request.parse(PORT_BULK).ports
        specs = _specs(services, request.caller, bodies, "ports.{}.")
        try:
            written = services.store.create_ports(specs, request.caller.actor, by_project=request.caller.project)
        except StoreError as error:
            if error.index is not None:
                error.field = ".".join(["ports", str(error.index), *([error.field] if error.field else [])])
            raise
        created = [view(services, record) for record in written.value]
        return Answer.json({"ports": created, "revision": written.revision}, 201)
    if "device_id" in document and "network_id" not in document:
        return _create_device_ports(services, request)
    specs = _specs(services, request.caller, [request.parse(PORT_CREATE)], "")
    written = services.store.create_ports(specs, request.caller.actor, by_project=request.caller.project)
    warned = _of_name(services, request.caller, specs[0].name)
    return _written(services, Written(written.revision, written.value[0]), 201, warned)


def _create_device_ports(services: Services, request: Request) -> Answer:
    body = request.parse(DEVICE_PORTS_CREATE)
    project_id = _owner(request.caller, body, "")
    if project_id is None:
        raise ApiError(400, "missing_field", "project_id: is needed where no network is named", "project_id")
    caller = request.caller
    made = services.store.create_device_ports(project_id, body.template(), caller.actor, by_project=caller.project)
    return Answer.json({"ports": [view(services, record) for record in made.value], "revision": made.revision}, 201)


def update_port(services: Services, request: Request) -> Answer:
    body = request.parse(PORT_UPDATE, _IMMUTABLE)
    record = _own(services, request)
    _refuse_admin_fields(request.caller, body, "")
    # a member may have a port on a network that is no longer shown to it
    network = services.store.get_network(record.port.network_id)
    _refuse_chosen_addresses(request.caller, network, body, "")
    _refuse_pairs(request.caller, network, body, "")
    if "fixed_ips" in body.model_fields_set and not services.config.holds.force:
        services.settle_leases()
    caller, changes = request.caller, body.changes()
    changed = services.store.update_port(record.port.id, changes, caller.actor, by_project=caller.project)
    return _written(services, changed, warned=_of_name(services, caller, changes.get("name")))


def delete_port(services: Services, request: Request) -> Answer:
    record = _own(services, request)
    if not services.config.holds.force:
        # how long the address is kept is up to the lease, also to one of this very second
        services.settle_leases()
    return _written(services, services.store.delete_port(record.port.id, request.caller.actor))


def _own(services: Services, request: Request) -> PortRecord:
    """The port of the path, or 404 when it is not the caller's."""
    return owned(services, request.caller, request.params["id"])


def owned(services: Services, caller: Identity, port_id: str, field: str | None = None) -> PortRecord:
    """The port, or 404 when it is not the caller's."""
    try:
        record = services.store.get_port(port_id)
    except NotFound:
        raise unknown_object("port", port_id, field) from None
    if not caller.owns(record.port.project_id):
        raise unknown_object("port", port_id, field)
    return record


def _specs(services: Services, caller: Identity, bodies: Sequence[PortCreate], where: str) -> list[PortSpec]:
    """`where` is the place of a port in the body, with a hole for its index."""
    if caller.role is not Role.ADMIN:
        known: dict[str, NetworkRecord] = {}
        for index, body in enumerate(bodies):
            place, id_ = where.format(index), body.network_id
            if id_ not in known:
                known[id_] = networks.visible(services, caller, id_, field=place + "network_id")
            _refuse_foreign_network(caller, known[id_], body, place)
    return [body.spec(_owner(caller, body, where.format(index))) for index, body in enumerate(bodies)]


def _owner(caller: Identity, body: PortCreate | DevicePortsCreate, where: str) -> str | None:
    _refuse_admin_fields(caller, body, where)
    if caller.role is Role.ADMIN:
        return body.project_id
    if body.project_id is not None and not caller.owns(body.project_id):
        raise forbidden("only your own project is possible", where + "project_id")
    return caller.project


def _refuse_admin_fields(caller: Identity, body: PortCreate | DevicePortsCreate | PortUpdate, where: str) -> None:
    if caller.role is not Role.ADMIN:
        for name in sorted(ADMIN_PORT_FIELDS & body.model_fields_set):
            raise forbidden(f"{name} is for administrators", where + name)


def _refuse_foreign_network(caller: Identity, network: NetworkRecord, body: PortCreate, where: str) -> None:
    if not caller.may_plug_into(network.spec):
        raise forbidden("ports on external networks are for administrators", where + "network_id")
    if body.mac is not None and not caller.may_address_on(network.spec):
        raise forbidden("a MAC address can be chosen on networks of your own project only", where + "mac")
    _refuse_chosen_addresses(caller, network, body, where)
    _refuse_pairs(caller, network, body, where)


def _refuse_chosen_addresses(
    caller: Identity, network: NetworkRecord, body: PortCreate | PortUpdate, where: str
) -> None:
    if caller.may_address_on(network.spec):
        return
    for position, wanted in enumerate(body.fixed_ips or ()):
        if wanted.address is not None:
            field = f"{where}fixed_ips.{position}.address"
            raise forbidden("an address can be chosen on networks of your own project only", field)


def _refuse_pairs(caller: Identity, network: NetworkRecord, body: PortCreate | PortUpdate, where: str) -> None:
    """What of others' could be spoken for: only administrators know what they do."""
    if caller.role is Role.ADMIN:
        return
    for position, pair in enumerate(body.address_pairs):
        field = f"{where}address_pairs.{position}.cidr"
        if not caller.may_pair_on(network.spec):
            raise forbidden("address pairs are possible on networks of your own project only", field)
        if pair.cidr.prefixlen < WIDEST:
            raise forbidden(f"a range wider than /{WIDEST} is for administrators", field)
        if not any(pair.cidr.subnet_of(subnet.cidr) for subnet in network.spec.subnets):
            raise forbidden(f"{pair.cidr} is not on the network, which is for administrators", field)


def view(services: Services, record: PortRecord) -> views.Json:
    # the sessions know nothing yet of a change the snapshot has not followed: no news from them is not a confirmation
    followed = record.revision <= services.snapshot().revision
    it = record.port
    muted = {} if it.binding is None else services.port_mutes(it.binding.node, it.key)
    return views.port(record, followed and services.port_active(it), muted)


def _of_name(services: Services, caller: Identity, name: str | None) -> list[str]:
    def called(text: str) -> list[PortRecord]:
        return services.store.list_ports(name=text, project_id=caller.project, limit=2)

    return warnings.of_name("port", name, called)


def _written(services: Services, written: Written[PortRecord], status: int = 200, warned: Sequence[str] = ()) -> Answer:
    shown = view(services, written.value)
    return Answer.json({"port": shown, "warnings": list(warned), "revision": written.revision}, status)


ROUTES = (
    Route(
        "/v1/ports",
        Resource.PORT,
        {
            "GET": Endpoint(
                Verb.LIST,
                list_ports,
                declared.shown(ports=list[answers.Port]),
                query=declared.page(
                    "name",
                    "project_id",
                    "network_id",
                    "node",
                    "device_id",
                    address=declared.Query(declared.TEXT, "A pattern: * stands for any characters, ? for one."),
                ),
            ),
            "POST": Endpoint(
                Verb.CREATE,
                create_ports,
                (_WRITTEN, declared.written(ports=list[answers.Port])),
                status=201,
                bodies=(PORT_CREATE, PORT_BULK, DEVICE_PORTS_CREATE),
                many=True,
            ),
        },
    ),
    Route(
        "/v1/ports/{id}",
        Resource.PORT,
        {
            "GET": Endpoint(Verb.SHOW, show_port, declared.shown(port=answers.Port)),
            "PATCH": Endpoint(Verb.UPDATE, update_port, _WRITTEN, bodies=(PORT_UPDATE,)),
            "DELETE": Endpoint(Verb.DELETE, delete_port, _WRITTEN),
        },
    ),
)
