"""What DHCP said, in batches and off the packet path. Nothing is decided from it, so it is not journalled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from ipaddress import IPv4Address

from sqlalchemy import Connection, bindparam, insert, select, update

from controller.store.engine import chunks
from controller.store.schema import leases, ports
from controller.store.specs import LeaseRecord

_VALUES = ("state", "updated_at", "expires_at", "client_id", "hostname")
_UPDATE = (
    update(leases)
    .where(leases.c.port_id == bindparam("of_port"), leases.c.address == bindparam("of_address"))
    .values({name: bindparam(f"new_{name}") for name in _VALUES})
)


def record(connection: Connection, batch: Iterable[LeaseRecord]) -> int:
    """Keep the last word about each (port, address); how many were kept. Ports that are gone are skipped."""
    latest = {(lease.port_id, int(lease.address)): lease for lease in batch}
    port_ids = sorted({port_id for port_id, _ in latest})
    known: set[str] = set()
    stored: set[tuple[str, int]] = set()
    for part in chunks(port_ids):
        known |= set(connection.execute(select(ports.c.id).where(ports.c.id.in_(part))).scalars())
        query = select(leases.c.port_id, leases.c.address).where(leases.c.port_id.in_(part))
        stored |= {(port_id, address) for port_id, address in connection.execute(query)}
    fresh, changed = [], []
    for (port_id, address), lease in latest.items():
        if port_id not in known:
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


def load(connection: Connection, port_id: str | None) -> list[LeaseRecord]:
    query = select(leases).order_by(leases.c.port_id, leases.c.address)
    if port_id is not None:
        query = query.where(leases.c.port_id == port_id)
    return [
        LeaseRecord(**{**row, "address": IPv4Address(row["address"])}) for row in connection.execute(query).mappings()
    ]
