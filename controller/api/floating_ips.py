"""/v1/floating-ips and their port forwardings."""

from __future__ import annotations

from collections.abc import Sequence

from controller.api import declared, policy_answers, ports
from controller.api import floating_ip_views as views
from controller.api.auth import Identity, Resource, Role, Verb
from controller.api.errors import forbidden, unknown_object
from controller.api.fields import ADDRESS
from controller.api.floating_ip_models import (
    FLOATING_IP_BULK,
    FLOATING_IP_BULK_DELETE,
    FLOATING_IP_CREATE,
    FLOATING_IP_UPDATE,
    PORT_FORWARDING_CREATE,
    FloatingIpCreate,
)
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.services import Services
from controller.api.views import Json
from controller.store.floating_ip_specs import FloatingIpRecord
from controller.store.specs import NotFound, StoreError, Written
from flows.model import PortForwarding

_MANY = frozenset({"count", "addresses"})
_WRITTEN = declared.written(floating_ip=policy_answers.FloatingIp, warnings=declared.Warnings)
_MANY_WRITTEN = declared.written(floating_ips=list[policy_answers.FloatingIp])
_FORWARDED = declared.written(port_forwarding=policy_answers.PortForwarding)


def list_floating_ips(services: Services, request: Request) -> Answer:
    caller = request.caller
    filters = request.page()
    if caller.project is not None:
        if "node" in filters:
            raise forbidden("only operators may ask by node", "node")
        if filters.setdefault("project_id", caller.project) != caller.project:
            return Answer.json({"floating_ips": []})
    records = services.store.list_floating_ips(**filters)
    return Answer.json({"floating_ips": [_view(services, record) for record in records]})


def show_floating_ip(services: Services, request: Request) -> Answer:
    return Answer.json({"floating_ip": _view(services, _own(services, request))})


def create_floating_ips(services: Services, request: Request) -> Answer:
    """One, or for administrators many in one transaction when the body has a field `count` or `addresses`."""
    caller = request.caller
    if _MANY & request.document().keys():
        if caller.role is not Role.ADMIN:
            raise forbidden("many at once are for administrators", min(_MANY & request.document().keys()))
        written = services.store.allocate_floating_ips(request.parse(FLOATING_IP_BULK).spec(), caller.actor)
        return _many(services, written, 201)
    body = request.parse(FLOATING_IP_CREATE)
    spec = body.spec(_owner(services, caller, body))
    written = services.store.allocate_floating_ips(spec, caller.actor)
    record = written.value[0]
    return _written(services, Written(written.revision, record), 201, _of_port(services, record))


def update_floating_ip(services: Services, request: Request) -> Answer:
    """Associates it with a port, or with none."""
    body = request.parse(FLOATING_IP_UPDATE)
    record, actor, expected = _own(services, request), request.caller.actor, body.expected_port_id
    id_ = record.floating_ip.id
    if body.port_id is None:
        return _written(services, services.store.disassociate_floating_ip(id_, actor, expected_port_id=expected))
    ports.owned(services, request.caller, body.port_id, "port_id")
    written = services.store.associate_floating_ip(id_, body.port_id, body.fixed_ip, actor, expected_port_id=expected)
    return _written(services, written, warned=_of_port(services, written.value))


def delete_floating_ip(services: Services, request: Request) -> Answer:
    record = _own(services, request)
    written = services.store.release_floating_ips([record.floating_ip.id], request.caller.actor)
    return _written(services, Written(written.revision, record))


def delete_floating_ips(services: Services, request: Request) -> Answer:
    """Many in one transaction: all or none."""
    if request.caller.role is not Role.ADMIN:
        raise forbidden("many at once are for administrators")
    ids = list(dict.fromkeys(request.parse(FLOATING_IP_BULK_DELETE).ids))
    try:
        return _many(services, services.store.release_floating_ips(ids, request.caller.actor))
    except StoreError as error:
        error.field = "ids"
        raise


def list_port_forwardings(services: Services, request: Request) -> Answer:
    found = _own(services, request).floating_ip.port_forwardings
    return Answer.json({"port_forwardings": [views.port_forwarding(forwarding) for forwarding in found]})


def show_port_forwarding(services: Services, request: Request) -> Answer:
    return Answer.json({"port_forwarding": views.port_forwarding(_forwarding(services, request))})


def create_port_forwarding(services: Services, request: Request) -> Answer:
    body = request.parse(PORT_FORWARDING_CREATE)
    record = _own(services, request)
    ports.owned(services, request.caller, body.port_id, "port_id")
    written = services.store.create_port_forwarding(record.floating_ip.id, body.spec(), request.caller.actor)
    return _forwarded(written, 201)


def delete_port_forwarding(services: Services, request: Request) -> Answer:
    record, forwarding = _own(services, request), _forwarding(services, request)
    actor = request.caller.actor
    return _forwarded(services.store.delete_port_forwarding(record.floating_ip.id, forwarding.id, actor))


def owned(services: Services, caller: Identity, floating_ip_id: str, field: str | None = None) -> FloatingIpRecord:
    """The floating IP, or 404 when it is not the caller's."""
    try:
        record = services.store.get_floating_ip(floating_ip_id)
    except NotFound:
        raise unknown_object("floating_ip", floating_ip_id, field) from None
    if not caller.owns(record.floating_ip.project_id):
        raise unknown_object("floating_ip", floating_ip_id, field)
    return record


def _own(services: Services, request: Request) -> FloatingIpRecord:
    """That of the path."""
    return owned(services, request.caller, request.params["id"])


def _forwarding(services: Services, request: Request) -> PortForwarding:
    for forwarding in _own(services, request).floating_ip.port_forwardings:
        if forwarding.id == request.params["forwarding"]:
            return forwarding
    raise unknown_object("port_forwarding", request.params["forwarding"])


def _owner(services: Services, caller: Identity, body: FloatingIpCreate) -> str | None:
    """The project that gets it. Of an administrator who names none: that of the port."""
    project_id = None
    if body.port_id is not None:
        project_id = ports.owned(services, caller, body.port_id, "port_id").port.project_id
    if caller.role is Role.ADMIN:
        return body.project_id or project_id
    if body.project_id is not None and not caller.owns(body.project_id):
        raise forbidden("only your own project is possible", "project_id")
    return caller.project


def _view(services: Services, record: FloatingIpRecord) -> Json:
    """`active`: its node has confirmed where it leads, and the port it leads to."""
    snapshot, it = services.snapshot(), record.floating_ip
    node = snapshot.floating_ip_node(it)
    led = [snapshot.ports[id_] for id_ in it.port_ids if id_ in snapshot.ports]
    active = (
        node is not None
        and record.revision <= snapshot.revision
        and all(services.port_active(port) for port in led if port.binding is not None and port.binding.node == node)
        and services.floating_ip_active(it)
    )
    return views.floating_ip(record, node, active)


def _of_port(services: Services, record: FloatingIpRecord) -> list[str]:
    """Whether any node answers for it, as far as that is up to its port."""
    it, snapshot = record.floating_ip, services.snapshot()
    if it.port_id is None or snapshot.floating_ip_node(it) is not None:
        return []
    port = snapshot.ports.get(it.port_id)
    called = it.port_id if port is None else port.called or port.id
    return [f"port {called} is on no node: none answers for {it.address} before it is plugged in"]


def _written(
    services: Services, written: Written[FloatingIpRecord], status: int = 200, warned: Sequence[str] = ()
) -> Answer:
    shown = _view(services, written.value)
    return Answer.json({"floating_ip": shown, "warnings": list(warned), "revision": written.revision}, status)


def _many(services: Services, written: Written[list[FloatingIpRecord]], status: int = 200) -> Answer:
    found = [_view(services, record) for record in written.value]
    return Answer.json({"floating_ips": found, "revision": written.revision}, status)


def _forwarded(written: Written[PortForwarding], status: int = 200) -> Answer:
    found = views.port_forwarding(written.value)
    return Answer.json({"port_forwarding": found, "revision": written.revision}, status)


ROUTES = (
    Route(
        "/v1/floating-ips",
        Resource.FLOATING_IP,
        {
            "GET": Endpoint(
                Verb.LIST,
                list_floating_ips,
                declared.shown(floating_ips=list[policy_answers.FloatingIp]),
                query=declared.page("project_id", "pool", "port_id", "node", address=declared.Query(ADDRESS)),
                refusals=(404,),
            ),
            "POST": Endpoint(
                Verb.CREATE,
                create_floating_ips,
                (_WRITTEN, _MANY_WRITTEN),
                status=201,
                bodies=(FLOATING_IP_CREATE, FLOATING_IP_BULK),
                many=True,
            ),
        },
    ),
    # not a DELETE of /v1/floating-ips: the body of a DELETE has no meaning (RFC 9110, 9.3.5), and proxies drop it
    Route(
        "/v1/floating-ips/bulk-delete",
        Resource.FLOATING_IP,
        {"POST": Endpoint(Verb.DELETE, delete_floating_ips, _MANY_WRITTEN, bodies=(FLOATING_IP_BULK_DELETE,))},
    ),
    Route(
        "/v1/floating-ips/{id}",
        Resource.FLOATING_IP,
        {
            "GET": Endpoint(Verb.SHOW, show_floating_ip, declared.shown(floating_ip=policy_answers.FloatingIp)),
            "PATCH": Endpoint(Verb.UPDATE, update_floating_ip, _WRITTEN, bodies=(FLOATING_IP_UPDATE,)),
            "DELETE": Endpoint(Verb.DELETE, delete_floating_ip, _WRITTEN),
        },
    ),
    Route(
        "/v1/floating-ips/{id}/port-forwardings",
        Resource.PORT_FORWARDING,
        {
            "GET": Endpoint(
                Verb.LIST,
                list_port_forwardings,
                declared.shown(port_forwardings=list[policy_answers.PortForwarding]),
            ),
            "POST": Endpoint(
                Verb.CREATE, create_port_forwarding, _FORWARDED, status=201, bodies=(PORT_FORWARDING_CREATE,)
            ),
        },
    ),
    Route(
        "/v1/floating-ips/{id}/port-forwardings/{forwarding}",
        Resource.PORT_FORWARDING,
        {
            "GET": Endpoint(
                Verb.SHOW, show_port_forwarding, declared.shown(port_forwarding=policy_answers.PortForwarding)
            ),
            "DELETE": Endpoint(Verb.DELETE, delete_port_forwarding, _FORWARDED),
        },
    ),
)
