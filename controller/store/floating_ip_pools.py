"""Pools of floating IPs: parts of external networks' subnets."""

from __future__ import annotations

from ipaddress import IPv4Address
from uuid import uuid4

from sqlalchemy import Connection, bindparam, delete, func, insert, or_, select, update

from controller.store import ipam
from controller.store.audit import before
from controller.store.engine import AnyRow
from controller.store.floating_ip_specs import FloatingIpPoolRecord, FloatingIpPoolSpec
from controller.store.journal import CREATE, DELETE, FLOATING_IP_POOL, Transaction, count_rows
from controller.store.quarantine import Reading
from controller.store.schema import floating_ip_pool_ranges, floating_ip_pools, floating_ips, networks
from controller.store.specs import AddressRange, Conflict, Invalid, NotFound

_POOLS = floating_ip_pools.c
_RANGES = floating_ip_pool_ranges.c

# an id comes before a name that looks like it
_FIND = (
    select(floating_ip_pools)
    .where(or_(_POOLS.id == bindparam("reference"), _POOLS.name == bindparam("reference")))
    .order_by(_POOLS.id != bindparam("reference"))
    .limit(1)
)
_SPANS = select(_RANGES.subnet_id, _RANGES.first, _RANGES.last, _RANGES.next).where(
    _RANGES.pool_id == bindparam("pool")
)
_OVERLAPPING = (
    select(_POOLS.name)
    .join(floating_ip_pool_ranges, _RANGES.pool_id == _POOLS.id)
    .where(_RANGES.subnet_id == bindparam("s"), _RANGES.first <= bindparam("high"), _RANGES.last >= bindparam("low"))
    .limit(1)
)
_USED = (
    select(floating_ips.c.pool_id, func.count())
    .where(floating_ips.c.pool_id.in_(bindparam("ids", expanding=True)))
    .group_by(floating_ips.c.pool_id)
)
_MOVE = (
    update(floating_ip_pool_ranges)
    .where(_RANGES.subnet_id == bindparam("s"), _RANGES.first == bindparam("f"))
    .values(next=bindparam("n"))
)


def find(connection: Connection, reference: str, field: str | None = None) -> AnyRow:
    """The pool with this id or name. Raises NotFound `floating_ip_pool_unknown`."""
    row = connection.execute(_FIND, {"reference": reference}).one_or_none()
    if row is None:
        raise NotFound("floating_ip_pool_unknown", f"there is no floating IP pool {reference}", field)
    return row


def create(tx: Transaction, spec: FloatingIpPoolSpec) -> str:
    """The id of the new pool.

    Raises Invalid `external_network_unknown` or `range_invalid`, Conflict `pool_exists` or `pool_overlap`.
    """
    connection = tx.connection
    if count_rows(connection, floating_ip_pools, _POOLS.name == spec.name):
        raise Conflict("pool_exists", f"there is a floating IP pool {spec.name}", "name")
    if not count_rows(connection, networks, networks.c.id == spec.network_id, networks.c.external):
        raise Invalid("external_network_unknown", f"there is no external network {spec.network_id}", "network_id")
    id_ = str(uuid4())
    payload = {"name": spec.name, "network_id": spec.network_id, "ranges": [str(part) for part in spec.ranges]}
    revision = tx.record(FLOATING_IP_POOL, id_, CREATE, payload)
    row = {"id": id_, "name": spec.name, "network_id": spec.network_id, "created_at": tx.now, "revision": revision}
    connection.execute(insert(floating_ip_pools), row)
    known = ipam.subnets_of(connection, [spec.network_id])[spec.network_id]
    for index, part in enumerate(spec.ranges):
        subnet = _subnet_of(known, part, f"ranges.{index}")
        first, last = int(part.first), int(part.last)
        # also finds what this pool has been given so far
        other = connection.execute(_OVERLAPPING, {"s": subnet.id, "low": first, "high": last}).scalar()
        if other is not None:
            raise Conflict("pool_overlap", f"{part} overlaps a range of pool {other}", f"ranges.{index}", pool=other)
        place = {"subnet_id": subnet.id, "first": first, "last": last, "next": first, "pool_id": id_}
        connection.execute(insert(floating_ip_pool_ranges), place)
    return id_


def _subnet_of(known: list[ipam.SubnetRow], part: AddressRange, field: str) -> ipam.SubnetRow:
    for subnet in known:
        if part.first in subnet.cidr and part.last in subnet.cidr and part.first <= part.last:
            return subnet
    cidrs = ", ".join(str(subnet.cidr) for subnet in known)
    raise Invalid("range_invalid", f"{part} is not a range inside {cidrs}", field)


def delete_pool(tx: Transaction, pool_id: str) -> None:
    """Raises Conflict `pool_in_use` while there are floating IPs of it."""
    row = tx.connection.execute(select(floating_ip_pools).where(_POOLS.id == pool_id)).one()
    used = count_rows(tx.connection, floating_ips, floating_ips.c.pool_id == pool_id)
    if used:
        raise Conflict("pool_in_use", f"{used} floating IPs are of this pool", floating_ips=used)
    tx.connection.execute(delete(floating_ip_pool_ranges).where(_RANGES.pool_id == pool_id))
    tx.connection.execute(delete(floating_ip_pools).where(_POOLS.id == pool_id))
    tx.record(FLOATING_IP_POOL, pool_id, DELETE, {}, before(row, ("name", "network_id")))


def spans(connection: Connection, pool_id: str) -> dict[str, list[ipam.Span]]:
    """The pool's ranges by subnet."""
    found: dict[str, list[ipam.Span]] = {}
    for subnet_id, first, last, next_ in connection.execute(_SPANS.order_by(_RANGES.first), {"pool": pool_id}):
        found.setdefault(subnet_id, []).append(ipam.Span(first, last, next_))
    return found


def move(connection: Connection, subnet_id: str, moved: list[ipam.Span]) -> None:
    connection.execute(_MOVE, [{"s": subnet_id, "f": span.first, "n": span.next} for span in moved])


def look_again(connection: Connection, subnet_id: str) -> None:
    """After a change of what is reserved in a subnet: below `next` may be addresses that never had an owner."""
    connection.execute(update(floating_ip_pool_ranges).where(_RANGES.subnet_id == subnet_id).values(next=_RANGES.first))


def load(connection: Connection, rows: list[AnyRow], *, alone: bool = False) -> list[FloatingIpPoolRecord]:
    """What cannot be used is left out; `alone`: raises Conflict `object_unreadable` for it."""
    used = {id_: count for id_, count in connection.execute(_USED, {"ids": [row.id for row in rows]})}

    def build(row: AnyRow) -> FloatingIpPoolRecord:
        parts = [part for found in spans(connection, row.id).values() for part in found]
        ranges = tuple(AddressRange(IPv4Address(part.first), IPv4Address(part.last)) for part in parts)
        spec = FloatingIpPoolSpec(row.name, row.network_id, ranges)
        return FloatingIpPoolRecord(row.id, spec, used.get(row.id, 0), row.created_at, row.revision)

    ids = [row.id for row in rows] if alone else None
    return list(Reading(FLOATING_IP_POOL, ids, None).objects(rows, build))


def page(
    connection: Connection, name: str | None, network_id: str | None, limit: int | None, marker: str | None
) -> list[FloatingIpPoolRecord]:
    """One page of the list, by name. Raises Invalid `marker_unknown`."""
    query = select(floating_ip_pools).order_by(_POOLS.name).limit(limit)
    if name is not None:
        query = query.where(_POOLS.name == name)
    if network_id is not None:
        query = query.where(_POOLS.network_id == network_id)
    if marker is not None:
        start = connection.execute(select(_POOLS.name).where(_POOLS.id == marker)).scalar()
        if start is None:
            raise Invalid("marker_unknown", f"there is no {marker} to go on from", "marker")
        query = query.where(_POOLS.name > start)
    return load(connection, list(connection.execute(query).all()))
