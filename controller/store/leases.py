"""What DHCP said, in batches and off the packet path, so not journalled. `lease_holds` goes by it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    Update,
    and_,
    bindparam,
    case,
    false,
    insert,
    or_,
    select,
    true,
    update,
)

from controller.store.engine import AnyRow, chunks
from controller.store.ipv6_schema import ipv6_addresses, ipv6_leases
from controller.store.quarantine import Reading
from controller.store.schema import addresses, leases, ports
from controller.store.specs import Invalid, Lease, LeaseRecord
from controller.store.writer import equal

_BOUND: Final = "bound"
EXPIRED: Final = "expired"
"""A bound lease whose time is over. It is not written: it comes with the clock."""

_VALUES = ("state", "updated_at", "expires_at", "client_id", "hostname")

Address: TypeAlias = IPv4Address | IPv6Address


def _update(table: Table) -> Update:
    here = (table.c.port_id == bindparam("of_port"), table.c.address == bindparam("of_address"))
    return update(table).where(*here).values({name: bindparam(f"new_{name}") for name in _VALUES})


_ADDRESSES: Final = {leases: addresses, ipv6_leases: ipv6_addresses}
_UPDATES: Final = {table: _update(table) for table in _ADDRESSES}


def _stored(address: Address) -> int | IPv6Address:
    """As the column of its family holds it."""
    return int(address) if isinstance(address, IPv4Address) else address


def record(connection: Connection, batch: Iterable[LeaseRecord]) -> int:
    """Keep the last word about each (port, address); how many were kept. What is not the port's any more is skipped."""
    records = list(batch)
    return _record(connection, leases, [one for one in records if isinstance(one.address, IPv4Address)]) + _record(
        connection, ipv6_leases, [one for one in records if isinstance(one.address, IPv6Address)]
    )


def _record(connection: Connection, table: Table, batch: Iterable[LeaseRecord]) -> int:
    latest = {(lease.port_id, _stored(lease.address)): lease for lease in batch}
    port_ids = sorted({port_id for port_id, _ in latest})
    known: set[tuple[str, Any]] = set()
    stored: set[tuple[str, Any]] = set()
    has = _ADDRESSES[table].c
    for part in chunks(port_ids):
        owned = select(has.port_id, has.address).where(has.port_id.in_(part))
        known |= {(port_id, address) for port_id, address in connection.execute(owned)}
        query = select(table.c.port_id, table.c.address).where(table.c.port_id.in_(part))
        stored |= {(port_id, address) for port_id, address in connection.execute(query)}
    fresh, changed = [], []
    for (port_id, address), lease in latest.items():
        if (port_id, address) not in known:
            continue
        values = asdict(lease)
        if (port_id, address) in stored:
            renamed = {f"new_{name}": values[name] for name in _VALUES}
            changed.append(renamed | {"of_port": port_id, "of_address": address})
        else:
            fresh.append(values | {"address": address})
    if fresh:
        connection.execute(insert(table), fresh)
    if changed:
        connection.execute(_UPDATES[table], changed)
    return len(fresh) + len(changed)


def page(
    connection: Connection,
    wanted: Mapping[Any, str | None],
    address: Address | None,
    state: str | None,
    now: float,
    limit: int | None,
    marker: str | None,
) -> list[Lease]:
    """One page of the table as it stands `now`, by port and address, those of IPv4 first. Raises Invalid
    `marker_unknown`.
    """
    after = None if marker is None else _read_id(marker)
    found: list[Lease] = []
    if not isinstance(address, IPv6Address):
        found += _page(connection, leases, wanted, address, state, now, limit, after)
    if not isinstance(address, IPv4Address):
        found += _page(connection, ipv6_leases, wanted, address, state, now, limit, after)
    return sorted(found, key=_order)[:limit]


def _order(lease: Lease) -> tuple[str, int, int]:
    return lease.port_id, lease.address.version, int(lease.address)


def _page(
    connection: Connection,
    table: Table,
    wanted: Mapping[Any, str | None],
    address: Address | None,
    state: str | None,
    now: float,
    limit: int | None,
    after: tuple[str, Address] | None,
) -> list[Lease]:
    """Of one family, in the same order."""
    is_over = and_(table.c.state == _BOUND, table.c.expires_at <= now)
    live_state = case((is_over, EXPIRED), else_=table.c.state)
    query = (
        select(table, live_state.label("live_state"), *ports.c["network_id", "project_id", "mac", "bound_node"])
        .add_columns(ports.c.hostname.label("port_hostname"))
        .join(ports, ports.c.id == table.c.port_id)
        .where(*equal(wanted))
        .order_by(table.c.port_id, table.c.address)
        .limit(limit)
    )
    if address is not None:
        query = query.where(table.c.address == _stored(address))
    if state is not None:
        query = query.where(live_state == state)
    if after is not None:
        query = query.where(_behind(table, *after))
    return list(Reading("lease", None, None).objects(connection.execute(query), _lease, "port_id"))


def _lease(row: AnyRow) -> Lease:
    return Lease(
        id=f"{row.port_id}-{_address(row.address)}",
        port_id=row.port_id,
        address=_address(row.address),
        state=row.live_state,
        updated_at=row.updated_at,
        expires_at=row.expires_at,
        network_id=row.network_id,
        project_id=row.project_id,
        mac=row.mac,
        hostname=row.port_hostname,
        node=row.bound_node,
    )


def _behind(table: Table, port_id: str, address: Address) -> ColumnElement[bool]:
    """What comes after a port's lease, in the table of that family or of the other."""
    if table is (leases if isinstance(address, IPv4Address) else ipv6_leases):
        rest = table.c.address > _stored(address)
    else:
        rest = true() if table is ipv6_leases else false()
    return or_(table.c.port_id > port_id, and_(table.c.port_id == port_id, rest))


def _address(stored: int | IPv6Address) -> Address:
    return IPv4Address(stored) if isinstance(stored, int) else stored


def _read_id(text: str) -> tuple[str, Address]:
    port_id, _, address = text.rpartition("-")
    try:
        return port_id, ip_address(address)
    except ValueError:
        raise Invalid("marker_unknown", f"there is no {text} to go on from", "marker") from None
