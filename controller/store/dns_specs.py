"""What goes into the store and comes out of it for DNS zones and their records, as `specs` does for the rest.

The methods of `Store`:

    create_dns_zone(spec: DnsZoneSpec, actor: str) -> Written[DnsZoneRecord]
    update_dns_zone(id, changes: Mapping[str, Any], actor: str) -> Written[DnsZoneRecord]
        changes: scope, project_id, ttl, network_ids (typed as in DnsZoneSpec)
    delete_dns_zone(id, actor: str) -> Written[DnsZoneRecord]                        with all its records
    get_dns_zone(id) -> DnsZoneRecord
    list_dns_zones(*, name=None, project_id=None, scope=None, visible_to=None, limit=None, marker=None) -> list[...]
        visible_to: the zones of this project, and public ones

    create_dns_record(spec: DnsRecordSpec, actor: str) -> Written[DnsRecordRecord]
    update_dns_record(id, changes: Mapping[str, Any], actor: str) -> Written[DnsRecordRecord]
        changes: data, floating_ip_id (the record becomes that address; None: its address stays, and is nobody's), ttl
    delete_dns_record(id, actor: str) -> Written[DnsRecordRecord]
    get_dns_record(id) -> DnsRecordRecord
    list_dns_records(*, zone_id=None, fqdn=None, type=None, data=None, floating_ip_id=None, project_id=None,
                     visible_to=None, limit=None, marker=None) -> list[DnsRecordRecord]

A zone of project None is the operator's, and has no quota. A record of an address that a floating IP has, which the
zone's project could have, goes when that is released.

Errors beside those of `specs`:
    NotFound  [404]  dns_zone_unknown dns_record_unknown floating_ip_unknown network_unknown
    Invalid   [400]  dns_name_invalid dns_data_invalid dns_cname_invalid
    Conflict  [409]  dns_zone_exists dns_record_exists dns_cname_conflict
    Exhausted [409]  quota_exceeded (see quota_specs)
"""

from __future__ import annotations

from dataclasses import dataclass

from flows.model import RecordType, ZoneScope


@dataclass(frozen=True, slots=True)
class DnsZoneSpec:
    """As flows.model.DnsZone."""

    name: str
    scope: ZoneScope = ZoneScope.PRIVATE
    project_id: str | None = None
    ttl: int = 60
    network_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DnsZoneRecord:
    """`records`: how many there are."""

    id: str
    key: int
    spec: DnsZoneSpec
    records: int
    created_at: float
    revision: int


@dataclass(frozen=True, slots=True)
class DnsRecordSpec:
    """`name` is within the zone, `@` the zone's own. Either `data` or, with type A, `floating_ip_id` is given.
    `ttl` None: the zone's.
    """

    zone_id: str
    name: str
    type: RecordType
    data: str | None = None
    floating_ip_id: str | None = None
    ttl: int | None = None


@dataclass(frozen=True, slots=True)
class DnsRecordRecord:
    """A stored record. `name` is whole; `ttl` None: the zone's. `project_id` and `zone` are of its zone."""

    id: str
    zone_id: str
    zone: str
    project_id: str | None
    name: str
    type: RecordType
    data: str
    ttl: int | None
    floating_ip_id: str | None
    created_at: float
