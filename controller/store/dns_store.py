"""The store's methods for DNS zones and their records. See `dns_specs` for what they promise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, or_, select

from controller.store import dns_loader, dns_ownership, dns_records, dns_zones, schema
from controller.store.dns_specs import DnsRecordRecord, DnsRecordSpec, DnsZoneRecord, DnsZoneSpec
from controller.store.journal import Transaction
from controller.store.pages import page
from controller.store.quota_store import QuotaStore
from controller.store.specs import Written
from controller.store.writer import equal
from flows.model import ZoneScope


class DnsStore(QuotaStore):
    # -- zones

    def create_dns_zone(
        self, spec: DnsZoneSpec, actor: str, *, by_project: str | None = None
    ) -> Written[DnsZoneRecord]:
        def work(tx: Transaction) -> DnsZoneRecord:
            if by_project is not None:
                dns_ownership.require_zone(tx.connection, by_project, spec.name)
            return _zone(tx.connection, dns_zones.create(tx, spec, self._limits))

        return self._write(actor, work)

    def update_dns_zone(self, zone_id: str, changes: Mapping[str, Any], actor: str) -> Written[DnsZoneRecord]:
        def work(tx: Transaction) -> DnsZoneRecord:
            dns_zones.update_zone(tx, zone_id, changes, self._limits)
            return _zone(tx.connection, zone_id)

        return self._write(actor, work)

    def delete_dns_zone(self, zone_id: str, actor: str) -> Written[DnsZoneRecord]:
        def work(tx: Transaction) -> DnsZoneRecord:
            last = _zone(tx.connection, zone_id)
            dns_zones.delete_zone(tx, zone_id)
            return last

        return self._write(actor, work)

    def get_dns_zone(self, zone_id: str) -> DnsZoneRecord:
        return self._database.read(lambda connection: _zone(connection, zone_id))

    def list_dns_zones(
        self,
        *,
        name: str | None = None,
        project_id: str | None = None,
        scope: str | None = None,
        visible_to: str | None = None,
        limit: int | None = None,
        marker: str | None = None,
    ) -> list[DnsZoneRecord]:
        table = schema.dns_zones.c
        conditions = equal({table.name: name, table.project_id: project_id, table.scope: scope})
        if visible_to is not None:
            conditions.append(or_(table.project_id == visible_to, table.scope == ZoneScope.PUBLIC.value))

        def work(connection: Connection) -> list[DnsZoneRecord]:
            return page(connection, table.id, table.key, conditions, limit, marker, dns_loader.load_zones)

        return self._database.read(work)

    # -- their records

    def create_dns_record(self, spec: DnsRecordSpec, actor: str) -> Written[DnsRecordRecord]:
        return self._write(actor, lambda tx: _record(tx.connection, dns_records.create(tx, spec, self._limits)))

    def update_dns_record(self, record_id: str, changes: Mapping[str, Any], actor: str) -> Written[DnsRecordRecord]:
        def work(tx: Transaction) -> DnsRecordRecord:
            dns_records.update_record(tx, record_id, changes)
            return _record(tx.connection, record_id)

        return self._write(actor, work)

    def delete_dns_record(self, record_id: str, actor: str) -> Written[DnsRecordRecord]:
        def work(tx: Transaction) -> DnsRecordRecord:
            last = _record(tx.connection, record_id)
            dns_records.delete_record(tx, record_id)
            return last

        return self._write(actor, work)

    def get_dns_record(self, record_id: str) -> DnsRecordRecord:
        return self._database.read(lambda connection: _record(connection, record_id))

    def list_dns_records(
        self,
        *,
        zone_id: str | None = None,
        fqdn: str | None = None,
        type: str | None = None,
        data: str | None = None,
        floating_ip_id: str | None = None,
        project_id: str | None = None,
        visible_to: str | None = None,
        limit: int | None = None,
        marker: str | None = None,
    ) -> list[DnsRecordRecord]:
        table, zones = schema.dns_records.c, schema.dns_zones.c
        conditions = equal(
            {
                table.zone_id: zone_id,
                table.name: fqdn,
                table.type: type,
                table.data: data,
                table.floating_ip_id: floating_ip_id,
            }
        )
        of_zones = equal({zones.project_id: project_id})
        if visible_to is not None:
            of_zones.append(or_(zones.project_id == visible_to, zones.scope == ZoneScope.PUBLIC.value))
        if of_zones:
            conditions.append(table.zone_id.in_(select(zones.id).where(*of_zones)))

        def work(connection: Connection) -> list[DnsRecordRecord]:
            return page(connection, table.id, table.key, conditions, limit, marker, dns_loader.load_records)

        return self._database.read(work)


def _zone(connection: Connection, zone_id: str) -> DnsZoneRecord:
    dns_zones.find(connection, zone_id)
    (record,) = dns_loader.load_zones(connection, [zone_id])
    return record


def _record(connection: Connection, record_id: str) -> DnsRecordRecord:
    dns_records.find(connection, record_id)
    (record,) = dns_loader.load_records(connection, [record_id])
    return record
