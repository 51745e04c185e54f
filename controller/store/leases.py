"""What DHCP said, in batches and off the packet path, so not journalled. `lease_holds` goes by it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from ipaddress import AddressValueError, IPv4Address
from typing import Any, Final

from sqlalchemy import Connection, and_, bindparam, case, insert, select, tuple_, update

from controller.store.engine import chunks
from controller.store.schema import addresses, leases, ports
from controller.store.specs import Invalid, Lease, LeaseRecord
from controller.store.writer import equal

_BOUND: Final = "bound"
EXPIRED: Final = "expired"
"""A bound lease whose time is over. It is not written: it comes with the clock."""

_VALUES = ("state", "updated_at", "expires_at", "client_id", "hostname")
_UPDATE = (
    update(leases)
    .where(leases.c.port_id == bindparam("of_port"), leases.c.address == bindparam("of_address"))
    .values({name: bindparam(f"new_{name}") for name in _VALUES})
)


def record(connection: Connection, batch: Iterable[LeaseRecord]) -> int:
    """Keep the last word about each (port, address); how many were kept. What is not the port's any more is skipped."""
    latest = {(lease.port_id, int(lease.address)): lease for lease in batch}
    port_ids = sorted({port_id for port_id, _ in latest})
    known: set[tuple[str, int]] = set()
    stored: set[tuple[str, int]] = set()
    for part in chunks(port_ids):
        owned = select(addresses.c.port_id, addresses.c.address).where(addresses.c.port_id.in_(part))
        known |= {(port_id, address) for port_id, address in connection.execute(owned)}
        query = select(leases.c.port_id, leases.c.address).where(leases.c.port_id.in_(part))
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
        connection.execute(insert(leases), fresh)
    if changed:
        connection.execute(_UPDATE, changed)
    return len(fresh) + len(changed)


def page(
    connection: Connection,
    wanted: Mapping[Any, str | None],
    address: IPv4Address | None,
    state: str | None,
    now: float,
    limit: int | None,
    marker: str | None,
) -> list[Lease]:
    """One page of the table as it stands `now`, by port and address. Raises Invalid `marker_unknown`."""
    is_over = and_(leases.c.state == _BOUND, leases.c.expires_at <= now)
    live_state = case((is_over, EXPIRED), else_=leases.c.state)
    query = (
        select(leases, live_state.label("live_state"), *ports.c["network_id", "project_id", "mac", "bound_node"])
        .add_columns(ports.c.hostname.label("port_hostname"))
        .join(ports, ports.c.id == leases.c.port_id)
        .where(*equal(wanted))
        .order_by(leases.c.port_id, leases.c.address)
        .limit(limit)
    )
    if address is not None:
        query = query.where(leases.c.address == int(address))
    if state is not None:
        query = query.where(live_state == state)
    if marker is not None:
        port_id, last = _read_id(marker)
        query = query.where(tuple_(leases.c.port_id, leases.c.address) > (port_id, last))
    return [
        Lease(
            id=_id(row.port_id, row.address),
            port_id=row.port_id,
            address=IPv4Address(row.address),
            state=row.live_state,
            updated_at=row.updated_at,
            expires_at=row.expires_at,
            network_id=row.network_id,
            project_id=row.project_id,
            mac=row.mac,
            hostname=row.port_hostname,
            node=row.bound_node,
        )
        for row in connection.execute(query)
    ]


def _id(port_id: str, address: int) -> str:
    return f"{port_id}-{IPv4Address(address)}"


def _read_id(text: str) -> tuple[str, int]:
    port_id, _, address = text.rpartition("-")
    try:
        return port_id, int(IPv4Address(address))
    except AddressValueError:
        raise Invalid("marker_unknown", f"there is no {text} to go on from", "marker") from None
