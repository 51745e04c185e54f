"""From rows to values for DNS zones and their records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import Connection, func, select

from controller.store import journal
from controller.store.dns_specs import DnsRecordRecord, DnsZoneRecord, DnsZoneSpec
from controller.store.engine import AnyRow
from controller.store.quarantine import Quarantine, Reading
from controller.store.rows import IDS, Rows, grouped
from controller.store.schema import dns_records, dns_zone_networks, dns_zones
from flows.model import DnsRecord, DnsZone, RecordType, ZoneScope

_RECORD: Final = "dns_record"

_ZONES = Rows(select(dns_zones).order_by(dns_zones.c.key), dns_zones.c.id.in_(IDS))
_NETWORKS = Rows(
    select(dns_zone_networks).order_by(dns_zone_networks.c.network_id), dns_zone_networks.c.zone_id.in_(IDS)
)
_COUNTS = Rows(
    select(dns_records.c.zone_id, func.count()).group_by(dns_records.c.zone_id), dns_records.c.zone_id.in_(IDS)
)
_ALL_RECORDS = (
    select(dns_records, dns_zones.c.name.label("zone"), dns_zones.c.project_id, dns_zones.c.ttl.label("zone_ttl"))
    .join(dns_zones, dns_zones.c.id == dns_records.c.zone_id)
    .order_by(dns_records.c.key)
)
_RECORDS = Rows(_ALL_RECORDS, dns_records.c.id.in_(IDS))
_RECORDS_OF_ZONES = Rows(_ALL_RECORDS, dns_records.c.zone_id.in_(IDS))


def _networks(connection: Connection, ids: Sequence[str] | None) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for zone_id, network_id in _NETWORKS.of(connection, ids):
        found.setdefault(zone_id, []).append(network_id)
    return found


def load_zones(connection: Connection, ids: Sequence[str] | None = None) -> list[DnsZoneRecord]:
    linked = _networks(connection, ids)
    counts = {row[0]: int(row[1]) for row in _COUNTS.of(connection, ids)}

    def build(row: AnyRow) -> DnsZoneRecord:
        spec = DnsZoneSpec(row.name, ZoneScope(row.scope), row.project_id, row.ttl, tuple(linked.get(row.id, ())))
        return DnsZoneRecord(row.id, row.key, spec, counts.get(row.id, 0), row.created_at, row.revision)

    return list(Reading(journal.DNS_ZONE, ids, None).objects(_ZONES.of(connection, ids), build))


def load_records(connection: Connection, ids: Sequence[str]) -> list[DnsRecordRecord]:
    rows = _RECORDS.of(connection, ids)
    return list(Reading(_RECORD, ids, None).objects(rows, _record))


def _record(row: AnyRow) -> DnsRecordRecord:
    return DnsRecordRecord(
        id=row.id,
        zone_id=row.zone_id,
        zone=row.zone,
        project_id=row.project_id,
        name=row.name,
        type=RecordType(row.type),
        data=row.data,
        ttl=row.ttl,
        floating_ip_id=row.floating_ip_id,
        created_at=row.created_at,
    )


def load_model(
    connection: Connection, ids: Sequence[str] | None = None, quarantine: Quarantine | None = None
) -> list[DnsZone]:
    """The read model's zones, with all that they hold."""
    linked = _networks(connection, ids)
    rows = grouped(_RECORDS_OF_ZONES.of(connection, ids), "zone_id")
    reading = Reading(journal.DNS_ZONE, ids, quarantine)

    def build(row: AnyRow) -> DnsZone:
        return DnsZone(
            id=row.id,
            key=row.key,
            name=row.name,
            scope=ZoneScope(row.scope),
            project_id=row.project_id,
            ttl=row.ttl,
            network_ids=tuple(linked.get(row.id, ())),
            records=_by_name(row.name, reading.parts(rows.get(row.id, ()), _held, _RECORD, row.id, ("id",))),
        )

    return list(reading.objects(_ZONES.of(connection, ids), build))


def _held(row: AnyRow) -> DnsRecord:
    ttl = row.zone_ttl if row.ttl is None else row.ttl
    return DnsRecord(row.id, row.name, RecordType(row.type), row.data, ttl, row.floating_ip_id)


def _by_name(zone: str, records: Iterable[DnsRecord]) -> dict[str, tuple[DnsRecord, ...]]:
    """Also the names between those that have records and the zone's own."""
    held: dict[str, list[DnsRecord]] = {}
    for record in records:
        held.setdefault(record.name, []).append(record)
    found = {name: tuple(sorted(those, key=lambda one: (one.type, one.data))) for name, those in held.items()}
    for name in held:
        above = name.partition(".")[2]
        while name != zone and above not in (zone, "") and above not in found:
            found[above] = ()
            above = above.partition(".")[2]
    return found
