"""What is known of each address of a network, in one list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from itertools import islice

from sqlalchemy import Connection, and_, select

from controller.store import ipam
from controller.store.address_specs import AddressRecord, AddressState
from controller.store.engine import AnyRow
from controller.store.lease_holds import BOUND
from controller.store.schema import addresses, leases, ports, subnet_ranges, subnets
from controller.store.specs import Invalid

_A = addresses.c
_ROWS = (
    select(
        *_A["address", "subnet_id", "owner", "port_id", "node", "held_until", "leased_until"],
        *ports.c["name", "project_id", "device_id", "mac", "bound_node"],
        ports.c.node.label("scheduled_on"),
        leases.c.state,
        leases.c.expires_at,
    )
    .select_from(addresses)
    .join(subnets, subnets.c.id == _A.subnet_id)
    .outerjoin(ports, ports.c.id == _A.port_id)
    .outerjoin(leases, and_(leases.c.port_id == _A.port_id, leases.c.address == _A.address))
    .order_by(_A.address)
)
_RESERVED = select(*subnet_ranges.c["subnet_id", "first", "last"]).join(
    subnets, subnets.c.id == subnet_ranges.c.subnet_id
)


def page(
    connection: Connection, network_id: str, project_id: str | None, now: float, limit: int | None, marker: str | None
) -> list[AddressRecord]:
    """Those of a network that are or were in use, or are reserved, by address. Raises Invalid `marker_unknown`."""
    after = -1 if marker is None else _number(marker)
    query = _ROWS.where(subnets.c.network_id == network_id, _A.address > after).limit(limit)
    ranges = _RESERVED.where(
        subnets.c.network_id == network_id, subnet_ranges.c.kind == ipam.RESERVED, subnet_ranges.c.last > after
    )
    if project_id is not None:
        query = query.where(ports.c.project_id == project_id)
    spans = connection.execute(ranges.order_by(subnet_ranges.c.first)).all()
    found = {row.address: _record(row, spans, now) for row in connection.execute(query)}
    if project_id is None:
        # a full page ends where its rows end: what is reserved behind them comes with the next one
        last = max(found) if limit is not None and len(found) == limit else None
        for number, subnet_id in islice(_numbers(spans, after, last), limit):
            if number not in found:
                found[number] = AddressRecord(IPv4Address(number), subnet_id, AddressState.RESERVED, True)
    return [found[number] for number in sorted(found)][:limit]


def _numbers(spans: Sequence[AnyRow], after: int, last: int | None) -> Iterator[tuple[int, str]]:
    """The reserved addresses in order, with their subnets."""
    for span in spans:
        end = span.last if last is None else min(span.last, last)
        for number in range(max(span.first, after + 1), end + 1):
            yield number, span.subnet_id


def _number(marker: str) -> int:
    try:
        return int(IPv4Address(marker))
    except ValueError:
        raise Invalid("marker_unknown", f"{marker} is no address to go on from", "marker") from None


def _record(row: AnyRow, spans: Sequence[AnyRow], now: float) -> AddressRecord:
    reserved = any(span.first <= row.address <= span.last for span in spans)
    lease_end = row.leased_until if row.owner is None else row.expires_at if row.state == BOUND else None
    leased = lease_end is not None and lease_end > now
    if row.owner is not None:
        state = AddressState.ALLOCATED
    elif row.held_until is not None:
        state = AddressState.HELD
    else:
        state = AddressState.RESERVED if reserved else AddressState.FREE
    return AddressRecord(
        address=IPv4Address(row.address),
        subnet_id=row.subnet_id,
        state=state,
        reserved=reserved,
        owner=row.owner,
        port_id=row.port_id,
        port_name=row.name,
        project_id=row.project_id,
        device_id=row.device_id,
        mac=row.mac,
        node=row.bound_node or row.scheduled_on or row.node,
        leased=leased,
        lease_expires_at=lease_end if leased else None,
        held_until=row.held_until,
    )
