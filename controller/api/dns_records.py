"""/v1/dns-records"""

from __future__ import annotations

from controller.api import declared, dns_zones, floating_ips, policy_answers
from controller.api import dns_views as views
from controller.api.auth import Identity, Resource, Verb
from controller.api.dns_models import DNS_RECORD_CREATE, DNS_RECORD_UPDATE
from controller.api.errors import forbidden, unknown_object
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.services import Services
from controller.store.dns_specs import DnsRecordRecord
from controller.store.specs import NotFound, Written
from flows.model import ZoneScope

_WRITTEN = declared.written(dns_record=policy_answers.DnsRecord)
_IMMUTABLE = frozenset({"id", "zone_id", "zone", "project_id", "name", "fqdn", "type", "created_at"})


def list_records(services: Services, request: Request) -> Answer:
    """By zone, whole name, type, data (of A: an address) or floating IP. A member sees what it sees the zone of."""
    filters = request.page()
    if "fqdn" in filters:
        filters["fqdn"] = filters["fqdn"].lower().removesuffix(".")
    if "type" in filters:
        filters["type"] = filters["type"].upper()
    records = services.store.list_dns_records(visible_to=request.caller.project, **filters)
    return Answer.json({"dns_records": [views.record(record) for record in records]})


def show_record(services: Services, request: Request) -> Answer:
    return Answer.json({"dns_record": views.record(_seen(services, request))})


def create_record(services: Services, request: Request) -> Answer:
    body = request.parse(DNS_RECORD_CREATE)
    caller = request.caller
    dns_zones.owned(services, caller, body.zone_id, "zone_id")
    _require_floating_ip(services, caller, body.floating_ip_id)
    return _written(services.store.create_dns_record(body.spec(), caller.actor), 201)


def update_record(services: Services, request: Request) -> Answer:
    body = request.parse(DNS_RECORD_UPDATE, _IMMUTABLE)
    record = _owned(services, request)
    _require_floating_ip(services, request.caller, body.floating_ip_id)
    return _written(services.store.update_dns_record(record.id, body.changes(), request.caller.actor))


def delete_record(services: Services, request: Request) -> Answer:
    record = _owned(services, request)
    return _written(services.store.delete_dns_record(record.id, request.caller.actor))


def _seen(services: Services, request: Request) -> DnsRecordRecord:
    """The record of the path, or 404 when the caller does not see its zone."""
    id_ = request.params["id"]
    try:
        record = services.store.get_dns_record(id_)
    except NotFound:
        raise unknown_object("dns_record", id_) from None
    if not request.caller.owns(record.project_id):
        zone = services.store.get_dns_zone(record.zone_id)
        if zone.spec.scope is not ZoneScope.PUBLIC:
            raise unknown_object("dns_record", id_)
    return record


def _owned(services: Services, request: Request) -> DnsRecordRecord:
    record = _seen(services, request)
    if not request.caller.owns(record.project_id):
        raise forbidden(f"DNS zone {record.zone} is not of your project")
    return record


def _require_floating_ip(services: Services, caller: Identity, floating_ip_id: str | None) -> None:
    if floating_ip_id is not None:
        floating_ips.owned(services, caller, floating_ip_id, "floating_ip_id")


def _written(written: Written[DnsRecordRecord], status: int = 200) -> Answer:
    return Answer.json({"dns_record": views.record(written.value), "revision": written.revision}, status)


ROUTES = (
    Route(
        "/v1/dns-records",
        Resource.DNS_RECORD,
        {
            "GET": Endpoint(
                Verb.LIST,
                list_records,
                declared.shown(dns_records=list[policy_answers.DnsRecord]),
                query=declared.page("zone_id", "fqdn", "type", "data", "floating_ip_id", "project_id"),
            ),
            "POST": Endpoint(Verb.CREATE, create_record, _WRITTEN, status=201, bodies=(DNS_RECORD_CREATE,)),
        },
    ),
    Route(
        "/v1/dns-records/{id}",
        Resource.DNS_RECORD,
        {
            "GET": Endpoint(Verb.SHOW, show_record, declared.shown(dns_record=policy_answers.DnsRecord)),
            "PATCH": Endpoint(Verb.UPDATE, update_record, _WRITTEN, bodies=(DNS_RECORD_UPDATE,)),
            "DELETE": Endpoint(Verb.DELETE, delete_record, _WRITTEN),
        },
    ),
)
