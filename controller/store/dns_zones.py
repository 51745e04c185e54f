"""DNS zones: whose they are, who sees them, and which networks' ports have names in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from controller.store import dns_names, quotas
from controller.store.audit import before
from controller.store.dns_specs import DnsZoneSpec
from controller.store.engine import AnyRow, chunks
from controller.store.journal import CREATE, DELETE, DNS_ZONE, UPDATE, Transaction
from controller.store.quota_specs import Limits
from controller.store.schema import dns_records, dns_zone_networks, dns_zones, networks
from controller.store.specs import Conflict, Invalid, NotFound
from flows.model import ZoneScope

EVERYBODY = "*"
"""The audience of public zones."""

_Z = dns_zones.c
_N = dns_zone_networks.c
_ONE = select(dns_zones).where(_Z.id == bindparam("zone"))
_NETWORKS = select(_N.network_id).where(_N.zone_id == bindparam("zone")).order_by(_N.network_id)
_TOUCH = update(dns_zones).where(_Z.id == bindparam("zone")).values(revision=bindparam("r"))
_CHANGES = frozenset({"scope", "project_id", "ttl", "network_ids"})


def find(connection: Connection, zone_id: str, field: str | None = None) -> AnyRow:
    """Raises NotFound `dns_zone_unknown`."""
    row = connection.execute(_ONE, {"zone": zone_id}).one_or_none()
    if row is None:
        raise NotFound("dns_zone_unknown", f"there is no DNS zone {zone_id}", field)
    return row


def create(tx: Transaction, spec: DnsZoneSpec, limits: Limits) -> str:
    """The id of the new zone. Raises Invalid `dns_name_invalid`, NotFound `network_unknown`, Conflict
    `dns_zone_exists`, Exhausted `quota_exceeded`.
    """
    try:
        name = dns_names.zone_name(spec.name)
    except ValueError as error:
        raise Invalid("dns_name_invalid", f"name: {error}", "name") from None
    _refuse_taken(tx.connection, name, spec.scope, spec.project_id, "name")
    _require_networks(tx.connection, spec.network_ids)
    if spec.project_id is not None:
        quotas.require_dns_zone(tx.connection, spec.project_id, limits)
    (key,) = tx.new_keys("dns_zone_key", 1)
    id_ = str(uuid4())
    values = {"name": name, "scope": spec.scope.value, "project_id": spec.project_id, "ttl": spec.ttl}
    revision = tx.record(DNS_ZONE, id_, CREATE, values | {"network_ids": list(spec.network_ids)})
    audience = _audience(spec.scope, spec.project_id)
    row = {"id": id_, "key": key, "audience": audience, "created_at": tx.now, "revision": revision, **values}
    tx.connection.execute(insert(dns_zones), row)
    _link(tx, id_, spec.network_ids)
    return id_


def update_zone(tx: Transaction, zone_id: str, changes: Mapping[str, Any], limits: Limits) -> None:
    """Raises as `create`, and Invalid `immutable`."""
    row = find(tx.connection, zone_id)
    for name in changes:
        if name not in _CHANGES:
            known = name in DnsZoneSpec.__dataclass_fields__
            code, why = ("immutable", "cannot change") if known else ("unknown_field", "is unknown")
            raise Invalid(code, f"{name} of a DNS zone {why}", name)
    values = {name: value for name, value in changes.items() if name != "network_ids"}
    if "scope" in values:
        values["scope"] = values["scope"].value
    values = {name: value for name, value in values.items() if row._mapping[name] != value}
    if values.keys() & {"scope", "project_id"}:
        scope = ZoneScope(values.get("scope", row.scope))
        project_id = values.get("project_id", row.project_id)
        audience = _audience(scope, project_id)
        if audience != row.audience:
            field = "scope" if "scope" in values else "project_id"
            _refuse_taken(tx.connection, row.name, scope, project_id, field)
            values["audience"] = audience
        if project_id not in (None, row.project_id):
            quotas.require_dns_zone(tx.connection, project_id, limits)
    told: dict[str, Any] = {name: value for name, value in values.items() if name != "audience"}
    old = before(row, told)
    if "network_ids" in changes:
        wanted = sorted(changes["network_ids"])
        linked = list(tx.connection.execute(_NETWORKS, {"zone": zone_id}).scalars())
        if wanted != linked:
            _require_networks(tx.connection, changes["network_ids"])
            tx.connection.execute(delete(dns_zone_networks).where(_N.zone_id == zone_id))
            _link(tx, zone_id, wanted)
            told["network_ids"], old["network_ids"] = wanted, linked
    if told:
        touch(tx, zone_id, told, old)
    if values:
        tx.connection.execute(update(dns_zones).where(_Z.id == zone_id).values(**values))


def delete_zone(tx: Transaction, zone_id: str) -> None:
    """With all its records. Raises NotFound `dns_zone_unknown`."""
    row = find(tx.connection, zone_id)
    tx.connection.execute(delete(dns_records).where(dns_records.c.zone_id == zone_id))
    tx.connection.execute(delete(dns_zone_networks).where(_N.zone_id == zone_id))
    tx.connection.execute(delete(dns_zones).where(_Z.id == zone_id))
    tx.record(DNS_ZONE, zone_id, DELETE, {}, before(row, ("name", "scope", "project_id", "ttl")))


def forget_network(tx: Transaction, network_id: str) -> None:
    """Before a network is deleted."""
    query = select(_N.zone_id).where(_N.network_id == network_id).order_by(_N.zone_id)
    for zone_id in tx.connection.execute(query).scalars().all():
        touch(tx, zone_id, {"network_deleted": network_id})
    tx.connection.execute(delete(dns_zone_networks).where(_N.network_id == network_id))


def touch(
    tx: Transaction, zone_id: str, payload: Mapping[str, Any] | None = None, old: Mapping[str, Any] | None = None
) -> None:
    """Note a change of a zone, or of what it holds."""
    revision = tx.record(DNS_ZONE, zone_id, UPDATE, payload or {}, old)
    tx.connection.execute(_TOUCH, {"zone": zone_id, "r": revision})


def _audience(scope: ZoneScope, project_id: str | None) -> str:
    return EVERYBODY if scope is ZoneScope.PUBLIC else project_id or ""


def _refuse_taken(connection: Connection, name: str, scope: ZoneScope, project_id: str | None, field: str) -> None:
    audience = _audience(scope, project_id)
    taken = connection.execute(select(_Z.id).where(_Z.name == name, _Z.audience == audience)).scalar()
    if taken is not None:
        where = "" if scope is ZoneScope.PUBLIC else " of the project"
        raise Conflict("dns_zone_exists", f"there is a {scope.value} DNS zone {name}{where}", field, id=taken)


def _require_networks(connection: Connection, ids: Sequence[str]) -> None:
    query = select(networks.c.id)
    found = (connection.execute(query.where(networks.c.id.in_(part))).scalars() for part in chunks(ids))
    known = {id_ for part in found for id_ in part}
    for index, id_ in enumerate(ids):
        if id_ not in known:
            raise NotFound("network_unknown", f"there is no network {id_}", f"network_ids.{index}")


def _link(tx: Transaction, zone_id: str, network_ids: Sequence[str]) -> None:
    rows = [{"zone_id": zone_id, "network_id": network_id} for network_id in dict.fromkeys(network_ids)]
    if rows:
        tx.connection.execute(insert(dns_zone_networks), rows)
