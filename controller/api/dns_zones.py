"""/v1/dns-zones"""

from __future__ import annotations

from controller.api import declared, networks, policy_answers
from controller.api import dns_views as views
from controller.api.auth import ADMIN_DNS_ZONE_FIELDS, Identity, Resource, Role, Verb
from controller.api.dns_models import DNS_ZONE_CREATE, DNS_ZONE_UPDATE, DnsZoneUpdate
from controller.api.errors import forbidden, unknown_object
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.services import Services
from controller.api.views import Json
from controller.store.dns_specs import DnsZoneRecord
from controller.store.specs import NotFound, Written
from flows.model import ZoneScope

_WRITTEN = declared.written(dns_zone=policy_answers.DnsZone)
_IMMUTABLE = frozenset({"id", "name", "records", "created_at", "revision"})


def list_zones(services: Services, request: Request) -> Answer:
    """A member sees its own, and public ones."""
    caller = request.caller
    filters = request.page()
    if "name" in filters:
        filters["name"] = filters["name"].lower().removesuffix(".")
    records = services.store.list_dns_zones(visible_to=caller.project, **filters)
    return Answer.json({"dns_zones": [_view(caller, record) for record in records]})


def show_zone(services: Services, request: Request) -> Answer:
    caller = request.caller
    return Answer.json({"dns_zone": _view(caller, seen(services, caller, request.params["id"]))})


def create_zone(services: Services, request: Request) -> Answer:
    body = request.parse(DNS_ZONE_CREATE)
    caller = request.caller
    if caller.role is Role.ADMIN:
        project_id = body.project_id
    else:
        if body.project_id is not None and not caller.owns(body.project_id):
            raise forbidden("only your own project is possible", "project_id")
        if body.scope is ZoneScope.PUBLIC:
            raise forbidden("public zones are made by administrators", "scope")
        project_id = caller.project
    _require_networks(services, caller, body)
    made = services.store.create_dns_zone(body.spec(project_id), caller.actor, by_project=caller.project)
    return _written(caller, made, 201)


def update_zone(services: Services, request: Request) -> Answer:
    body = request.parse(DNS_ZONE_UPDATE, _IMMUTABLE)
    caller = request.caller
    record = owned(services, caller, request.params["id"])
    changes = body.changes()
    if caller.role is not Role.ADMIN:
        for field in sorted(ADMIN_DNS_ZONE_FIELDS & changes.keys()):
            raise forbidden("is for administrators", field)
    _require_networks(services, caller, body)
    if "network_ids" in changes:
        changes["network_ids"] = tuple(changes["network_ids"])
    return _written(caller, services.store.update_dns_zone(record.id, changes, caller.actor))


def delete_zone(services: Services, request: Request) -> Answer:
    caller = request.caller
    record = owned(services, caller, request.params["id"])
    if caller.role is not Role.ADMIN and record.spec.scope is ZoneScope.PUBLIC:
        raise forbidden("public zones are deleted by administrators")
    return _written(caller, services.store.delete_dns_zone(record.id, caller.actor))


def seen(services: Services, caller: Identity, zone_id: str, field: str | None = None) -> DnsZoneRecord:
    """The zone, or 404 when the caller sees it neither as its own nor as a public one."""
    try:
        record = services.store.get_dns_zone(zone_id)
    except NotFound:
        raise unknown_object("dns_zone", zone_id, field) from None
    if not caller.owns(record.spec.project_id) and record.spec.scope is not ZoneScope.PUBLIC:
        raise unknown_object("dns_zone", zone_id, field)
    return record


def owned(services: Services, caller: Identity, zone_id: str, field: str | None = None) -> DnsZoneRecord:
    """The zone; 404 when the caller does not see it, 403 when it is another's."""
    record = seen(services, caller, zone_id, field)
    if not caller.owns(record.spec.project_id):
        raise forbidden(f"DNS zone {record.spec.name} is not of your project", field)
    return record


def _require_networks(services: Services, caller: Identity, body: DnsZoneUpdate) -> None:
    """404 for a network that the caller does not see. Only ports of the zone's project get names by it."""
    for index, network_id in enumerate(body.network_ids):
        networks.visible(services, caller, network_id, f"network_ids.{index}")


def _view(caller: Identity, record: DnsZoneRecord) -> Json:
    return views.zone(record, caller.owns(record.spec.project_id))


def _written(caller: Identity, written: Written[DnsZoneRecord], status: int = 200) -> Answer:
    return Answer.json({"dns_zone": _view(caller, written.value), "revision": written.revision}, status)


ROUTES = (
    Route(
        "/v1/dns-zones",
        Resource.DNS_ZONE,
        {
            "GET": Endpoint(
                Verb.LIST,
                list_zones,
                declared.shown(dns_zones=list[policy_answers.DnsZone]),
                query=declared.page("name", "project_id", "scope"),
            ),
            "POST": Endpoint(Verb.CREATE, create_zone, _WRITTEN, status=201, bodies=(DNS_ZONE_CREATE,)),
        },
    ),
    Route(
        "/v1/dns-zones/{id}",
        Resource.DNS_ZONE,
        {
            "GET": Endpoint(Verb.SHOW, show_zone, declared.shown(dns_zone=policy_answers.DnsZone)),
            "PATCH": Endpoint(Verb.UPDATE, update_zone, _WRITTEN, bodies=(DNS_ZONE_UPDATE,)),
            "DELETE": Endpoint(Verb.DELETE, delete_zone, _WRITTEN),
        },
    ),
)
