"""What is known of each address of a network, in one list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import islice

from sqlalchemy import Connection, and_, select

from controller.store import ipam
from controller.store.address_specs import AddressRecord, AddressState
from controller.store.engine import AnyRow
from controller.store.ipv6_schema import ipv6_addresses, ipv6_leases, ipv6_subnets
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


_IPV6_ROWS = (
    select(
        *ipv6_addresses.c["address", "subnet_id", "port_id"],
        *ports.c["name", "project_id", "device_id", "mac", "bound_node"],
        ports.c.node.label("scheduled_on"),
        ipv6_leases.c.state,
        ipv6_leases.c.expires_at,
    )
    .select_from(ipv6_addresses)
    .join(ipv6_subnets, ipv6_subnets.c.id == ipv6_addresses.c.subnet_id)
    .outerjoin(ports, ports.c.id == ipv6_addresses.c.port_id)
    .outerjoin(
        ipv6_leases,
        and_(ipv6_leases.c.port_id == ipv6_addresses.c.port_id, ipv6_leases.c.address == ipv6_addresses.c.address),
    )
    .order_by(ipv6_addresses.c.address)
)


def page(
    connection: Connection, network_id: str, project_id: str | None, now: float, limit: int | None, marker: str | None
) -> list[AddressRecord]:
    """Those of a network that are or were in use, or are reserved, by address, and then those of IPv6 that are in use.
    Raises Invalid `marker_unknown`.
    """
    after = None if marker is None else _address(marker)
    if isinstance(after, IPv6Address):
        return _ipv6_page(connection, network_id, project_id, now, limit, after)
    found = _ipv4_page(connection, network_id, project_id, now, limit, -1 if after is None else int(after))
    rest = None if limit is None else limit - len(found)
    return found if rest == 0 else found + _ipv6_page(connection, network_id, project_id, now, rest, None)


def _ipv6_page(
    connection: Connection,
    network_id: str,
    project_id: str | None,
    now: float,
    limit: int | None,
    after: IPv6Address | None,
) -> list[AddressRecord]:
    query = _IPV6_ROWS.where(ipv6_subnets.c.network_id == network_id).limit(limit)
    if after is not None:
        query = query.where(ipv6_addresses.c.address > after)
    if project_id is not None:
        query = query.where(ports.c.project_id == project_id)
    return [_ipv6_record(row, now) for row in connection.execute(query)]


def _ipv6_record(row: AnyRow, now: float) -> AddressRecord:
    leased = row.state == BOUND and row.expires_at > now
    return AddressRecord(
        address=row.address,
        subnet_id=row.subnet_id,
        state=AddressState.ALLOCATED,
        reserved=False,
        owner=ipam.GATEWAY_OWNER if row.port_id is None else ipam.PORT_OWNER,
        port_id=row.port_id,
        port_name=row.name,
        project_id=row.project_id,
        device_id=row.device_id,
        mac=row.mac,
        node=row.bound_node or row.scheduled_on,
        leased=leased,
        lease_expires_at=row.expires_at if leased else None,
    )


def _ipv4_page(
    connection: Connection, network_id: str, project_id: str | None, now: float, limit: int | None, after: int
) -> list[AddressRecord]:
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


def _address(marker: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(marker)
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
