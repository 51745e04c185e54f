"""The records of DNS zones, and how they go with floating IPs. The journal tells of them as `events` of their zone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from controller.store import dns_names, dns_zones, quotas
from controller.store.audit import before
from controller.store.dns_specs import DnsRecordSpec
from controller.store.engine import AnyRow, chunks
from controller.store.journal import DNS_ZONE, UPDATE, Transaction
from controller.store.quota_specs import Limits
from controller.store.schema import dns_records, floating_ips
from controller.store.specs import Conflict, Invalid, NotFound
from flows.model import RecordType, ZoneScope

_R = dns_records.c
_ONE = select(dns_records).where(_R.id == bindparam("record"))
_AT_NAME = select(dns_records).where(_R.zone_id == bindparam("zone"), _R.name == bindparam("at")).order_by(_R.key)
_CHANGES = frozenset({"data", "floating_ip_id", "ttl"})


def find(connection: Connection, record_id: str) -> AnyRow:
    """Raises NotFound `dns_record_unknown`."""
    row = connection.execute(_ONE, {"record": record_id}).one_or_none()
    if row is None:
        raise NotFound("dns_record_unknown", f"there is no DNS record {record_id}")
    return row


def create(tx: Transaction, spec: DnsRecordSpec, limits: Limits) -> str:
    """The id of the new record. Raises NotFound `dns_zone_unknown` `floating_ip_unknown`, Invalid `dns_name_invalid`
    `dns_data_invalid` `dns_cname_invalid`, Conflict `dns_record_exists` `dns_cname_conflict`, Exhausted
    `quota_exceeded`.
    """
    zone = dns_zones.find(tx.connection, spec.zone_id, "zone_id")
    try:
        name = dns_names.whole_name(spec.name, zone.name, spec.type)
    except ValueError as error:
        raise Invalid("dns_name_invalid", f"name: {error}", "name") from None
    data, floating_ip_id = _data(tx.connection, zone, spec.type, spec.data, spec.floating_ip_id)
    if spec.type is RecordType.CNAME and name == zone.name:
        message = "a zone's own name cannot be an alias: its SOA and NS are there"
        raise Invalid("dns_cname_invalid", message, "name")
    _refuse_beside(tx.connection, zone.id, name, spec.type, data)
    if zone.project_id is not None:
        quotas.require_dns_record(tx.connection, zone.project_id, zone.id, limits)
    (key,) = tx.new_keys("dns_record_key", 1)
    id_ = str(uuid4())
    _tell(tx, zone.id, f"create {name} {spec.type.value} {data}")
    row = {
        "id": id_,
        "key": key,
        "zone_id": zone.id,
        "name": name,
        "type": spec.type.value,
        "data": data,
        "ttl": spec.ttl,
        "floating_ip_id": floating_ip_id,
        "created_at": tx.now,
    }
    tx.connection.execute(insert(dns_records), row)
    return id_


def update_record(tx: Transaction, record_id: str, changes: Mapping[str, Any]) -> None:
    """Raises as `create`, and Invalid `immutable`."""
    row = find(tx.connection, record_id)
    for name in changes:
        if name not in _CHANGES:
            known = name in DnsRecordSpec.__dataclass_fields__
            code, why = ("immutable", "cannot change") if known else ("unknown_field", "is unknown")
            raise Invalid(code, f"{name} of a DNS record {why}", name)
    values: dict[str, Any] = {"ttl": changes["ttl"]} if "ttl" in changes else {}
    type_ = RecordType(row.type)
    if changes.get("data") is not None or changes.get("floating_ip_id") is not None:
        zone = dns_zones.find(tx.connection, row.zone_id)
        given = changes.get("data"), changes.get("floating_ip_id")
        values["data"], values["floating_ip_id"] = _data(tx.connection, zone, type_, *given)
        _refuse_beside(tx.connection, row.zone_id, row.name, type_, values["data"], beside=record_id)
    elif "floating_ip_id" in changes:
        values["floating_ip_id"] = None
    values = {name: value for name, value in values.items() if row._mapping[name] != value}
    if values:
        was = {f"{row.name} {row.type}": before(row, values)}
        _tell(tx, row.zone_id, f"update {row.name} {row.type} {values.get('data', row.data)}", was)
        tx.connection.execute(update(dns_records).where(_R.id == record_id).values(**values))


def delete_record(tx: Transaction, record_id: str) -> None:
    """Raises NotFound `dns_record_unknown`."""
    _delete(tx, [find(tx.connection, record_id)])


def release(tx: Transaction, floating_ip_ids: Sequence[str]) -> None:
    """Before these floating IPs are given back: their names go, in all zones."""
    for part in chunks(floating_ip_ids):
        query = select(dns_records).where(_R.floating_ip_id.in_(part)).order_by(_R.key)
        _delete(tx, tx.connection.execute(query).all())


def _delete(tx: Transaction, rows: Sequence[AnyRow]) -> None:
    for row in rows:
        _tell(tx, row.zone_id, f"delete {row.name} {row.type} {row.data}")
    for part in chunks([row.id for row in rows]):
        tx.connection.execute(delete(dns_records).where(_R.id.in_(part)))


def _tell(tx: Transaction, zone_id: str, event: str, old: Mapping[str, Any] | None = None) -> None:
    """Note a change of what a zone holds: one row, however many records."""
    tx.record_event(DNS_ZONE, zone_id, UPDATE, event)
    dns_zones.touch(tx, zone_id, old=old)


def _data(
    connection: Connection, zone: AnyRow, type_: RecordType, text: str | None, floating_ip_id: str | None
) -> tuple[str, str | None]:
    """The data, and the floating IP that it goes with."""
    if (text is None) == (floating_ip_id is None):
        raise Invalid("dns_data_invalid", "data: either this or floating_ip_id is needed", "data")
    if floating_ip_id is not None:
        if type_ is not RecordType.A:
            raise Invalid("dns_data_invalid", "floating_ip_id: goes with type A only", "floating_ip_id")
        row = connection.execute(select(floating_ips).where(floating_ips.c.id == floating_ip_id)).one_or_none()
        if row is None:
            raise NotFound("floating_ip_unknown", f"there is no floating IP {floating_ip_id}", "floating_ip_id")
        return str(IPv4Address(row.address)), floating_ip_id
    assert text is not None
    try:
        data = dns_names.normal_data(type_, text)
    except ValueError as error:
        raise Invalid("dns_data_invalid", f"data: {error}", "data") from None
    return data, _floating_ip_at(connection, zone, data) if type_ is RecordType.A else None


def _floating_ip_at(connection: Connection, zone: AnyRow, data: str) -> str | None:
    """The floating IP with an address, if whoever is told of it can mean that one: a project's own networks may have
    any addresses.
    """
    query = select(floating_ips.c.id, floating_ips.c.project_id).where(floating_ips.c.address == int(IPv4Address(data)))
    for row in connection.execute(query.order_by(floating_ips.c.key)):
        if zone.scope == ZoneScope.PUBLIC or row.project_id in (None, zone.project_id):
            return str(row.id)
    return None


def _refuse_beside(
    connection: Connection, zone_id: str, name: str, type_: RecordType, data: str, beside: str | None = None
) -> None:
    """Raises Conflict `dns_record_exists` or `dns_cname_conflict` (RFC 2181, 10.1)."""
    for row in connection.execute(_AT_NAME, {"zone": zone_id, "at": name}):
        if row.id == beside:
            continue
        if (row.type, row.data) == (type_, data):
            raise Conflict("dns_record_exists", f"{name} has this record already", "data", id=row.id)
        if RecordType.CNAME in (row.type, type_):
            message = f"{name} has a record {row.type}: an alias is the only record of its name"
            raise Conflict("dns_cname_conflict", message, "name", id=row.id)
