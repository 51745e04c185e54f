"""What the API answers about DNS zones and their records, as `views` does about the rest."""

from __future__ import annotations

from controller.api.views import Json, time_of
from controller.store.dns_names import relative_name
from controller.store.dns_specs import DnsRecordRecord, DnsZoneRecord


def zone(record: DnsZoneRecord, owned: bool) -> Json:
    """Where a zone's names come from is the business of its owner."""
    spec = record.spec
    return {
        "id": record.id,
        "name": spec.name,
        "scope": spec.scope.value,
        "project_id": spec.project_id,
        "ttl": spec.ttl,
        **({"network_ids": list(spec.network_ids)} if owned else {}),
        "records": record.records,
        "created_at": time_of(record.created_at),
        "revision": record.revision,
    }


def record(it: DnsRecordRecord) -> Json:
    return {
        "id": it.id,
        "zone_id": it.zone_id,
        "zone": it.zone,
        "project_id": it.project_id,
        "name": relative_name(it.name, it.zone),
        "fqdn": it.name,
        "type": it.type.value,
        "data": it.data,
        "ttl": it.ttl,
        "floating_ip_id": it.floating_ip_id,
        "created_at": time_of(it.created_at),
    }
