"""Addresses: who has which. A choice costs the same in a /16 as in a /24.

Never-used addresses come first, lowest first; then the one released longest ago. The primary key of `addresses` makes
the claim, so a race is lost with an IntegrityError and the whole transaction looks again (`engine.Database.write`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from netaddr import IPRange, IPSet
from sqlalchemy import Connection, and_, bindparam, delete, func, insert, or_, select, update

from controller.store.engine import AnyRow
from controller.store.journal import Transaction
from controller.store.schema import addresses, networks, node_uplinks, pools, subnet_ranges, subnets
from controller.store.specs import AddressRange, Conflict, Exhausted, Invalid
from flows.model import GatewayMode

PORT_OWNER, GATEWAY_OWNER, SNAT_OWNER, FLOATING_IP_OWNER = "port", "gateway", "snat", "floating_ip"
PAIR_OWNER = "pair"  # of ports that may all use it (`virtual_addresses`)
ALLOCATION, RESERVED = "allocation", "reserved"

_A = addresses.c
_POOLS = (
    select(pools.c.first, pools.c.last, pools.c.next).where(pools.c.subnet_id == bindparam("s")).order_by(pools.c.first)
)
_OPEN_POOLS = _POOLS.where(pools.c.next <= pools.c.last)
_KNOWN = (
    select(_A.address)
    .where(_A.subnet_id == bindparam("s"), _A.address.between(bindparam("low"), bindparam("high")))
    .order_by(_A.address)
)
_MOVE = (
    update(pools)
    .where(pools.c.subnet_id == bindparam("s"), pools.c.first == bindparam("f"))
    .values(next=bindparam("n"))
)
_LOOK = select(_A.owner, _A.held_until).where(_A.subnet_id == bindparam("s"), _A.address == bindparam("a"))
_RESERVED = select(subnet_ranges.c.first, subnet_ranges.c.last).where(
    subnet_ranges.c.subnet_id == bindparam("s"), subnet_ranges.c.kind == RESERVED
)
_PER_HOST_NODES = (
    select(func.count())
    .select_from(subnets)
    .join(networks, networks.c.id == subnets.c.network_id)
    .join(node_uplinks, node_uplinks.c.physical_network == networks.c.physical_network)
    .where(subnets.c.id == bindparam("s"), networks.c.gateway_mode == GatewayMode.PER_HOST.value)
)
_GATEWAYS = select(func.count()).where(_A.subnet_id == bindparam("s"), _A.owner == GATEWAY_OWNER)
_PORTS = select(func.count()).select_from(
    select(_A.address)
    .where(_A.subnet_id == bindparam("s"), _A.released_at.is_(None), _A.owner == PORT_OWNER)
    .limit(bindparam("most"))
    .subquery()
)
_CLAIMED = select(func.count()).where(
    _A.subnet_id == bindparam("s"), _A.address.between(bindparam("low"), bindparam("high"))
)
_INSERT = insert(addresses)
_CLAIM = (
    update(addresses)
    .where(_A.subnet_id == bindparam("s"), _A.address == bindparam("a"), _A.owner.is_(None), _A.held_until.is_(None))
    .values(
        owner=bindparam("new_owner"),
        port_id=bindparam("new_port"),
        position=bindparam("new_position"),
        node=bindparam("new_node"),
        for_network=bindparam("new_network"),
        idle_since=None,
        released_at=None,
    )
)


@dataclass(frozen=True, slots=True)
class SubnetRow:
    """What allocation needs to know of a subnet. `free`: of a network that waits for a project."""

    id: str
    network_id: str
    project_id: str | None
    cidr: IPv4Network
    gateway: IPv4Address | None
    free: bool = False


@dataclass(frozen=True, slots=True)
class Owner:
    """`position` orders the addresses of one port. `for_network`: the only one that a node's SNAT address is for."""

    kind: str
    port_id: str | None = None
    node: str | None = None
    position: int | None = None
    for_network: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """A range of a floating IP pool. No address below `next` is one that never had an owner."""

    first: int
    last: int
    next: int


_SUBNETS_OF = (
    select(*subnets.c["id", "network_id", "cidr", "gateway"], *networks.c["project_id", "assignable"])
    .join(networks, networks.c.id == subnets.c.network_id)
    .where(subnets.c.network_id.in_(bindparam("ids", expanding=True)))
    .order_by(subnets.c.position)
)


def subnets_of(connection: Connection, network_ids: Iterable[str]) -> dict[str, list[SubnetRow]]:
    """The subnets of some networks, by network, in order of creation."""
    found: dict[str, list[SubnetRow]] = {}
    for row in connection.execute(_SUBNETS_OF, {"ids": sorted(network_ids)}):
        gateway = None if row.gateway is None else IPv4Address(row.gateway)
        free = row.assignable and row.project_id is None
        subnet = SubnetRow(row.id, row.network_id, row.project_id, IPv4Network(row.cidr), gateway, free)
        found.setdefault(row.network_id, []).append(subnet)
    return found


def set_ranges(
    connection: Connection,
    subnet_id: str,
    cidr: IPv4Network,
    gateway: IPv4Address | None,
    allocation: Sequence[AddressRange],
    reserved: Sequence[AddressRange],
    field: str,
) -> None:
    """Store the declared ranges of a subnet and the pools that follow. Raises Invalid `range_invalid`, of which `field`
    is the subnet's place in what was asked for.
    """
    for ranges, name in ((allocation, "allocation_ranges"), (reserved, "reserved")):
        for index, item in enumerate(ranges):
            if not (item.first in cidr and item.last in cidr and item.first <= item.last):
                message = f"{item.first}-{item.last} is not a range inside {cidr}"
                raise Invalid("range_invalid", message, f"{field}.{name}.{index}")
    hosts = [AddressRange(cidr[1], cidr[-2])]
    usable = address_set(allocation or hosts) & address_set(hosts)
    usable -= address_set(reserved)
    if gateway is not None:
        usable.remove(str(gateway))
    for table in (subnet_ranges, pools):
        connection.execute(delete(table).where(table.c.subnet_id == subnet_id))
    declared = [
        {"subnet_id": subnet_id, "kind": kind, "first": first, "last": last}
        for kind, ranges in ((ALLOCATION, allocation), (RESERVED, reserved))
        for first, last in ((part.first, part.last) for part in address_set(ranges).iter_ipranges())
    ]
    if declared:
        connection.execute(insert(subnet_ranges), declared)
    chosen = [
        {"subnet_id": subnet_id, "first": part.first, "last": part.last, "next": part.first}
        for part in usable.iter_ipranges()
    ]
    if chosen:
        connection.execute(insert(pools), chosen)


def address_set(ranges: Iterable[AddressRange]) -> IPSet:
    """Merged at once: to add one range after another goes through all there are each time."""
    return IPSet(IPRange(int(item.first), int(item.last)) for item in ranges)


def allocate(tx: Transaction, subnet_id: str, owners: Sequence[Owner]) -> list[IPv4Address]:
    """An address for each owner. Raises Exhausted `subnet_full`; then none is allocated.

    Ports leave the nodes that have no gateway address yet one each: without it, a port there would be of no use. But no
    more than there are ports, of which each is on one node: a small range is not kept for all nodes of a large cloud.
    """
    if any(owner.kind == PORT_OWNER for owner in owners):
        due = _gateways_due(tx.connection, subnet_id)
        due = due and min(due, _of_ports(tx.connection, subnet_id, due) + len(owners))
        if due and _free(tx.connection, subnet_id, len(owners) + due) < len(owners) + due:
            message = f"the subnet has no free address left but those kept for the gateways of {due} nodes"
            raise Exhausted("subnet_full", message, subnet_id=subnet_id)
    fresh = _never_used(tx.connection, subnet_id, len(owners))
    if fresh:
        rows = [_row(subnet_id, address, owner) for address, owner in zip(fresh, owners, strict=False)]
        tx.connection.execute(_INSERT, rows)
    rest = owners[len(fresh) :]
    old = _longest_released(tx.connection, subnet_id, len(rest), _pools(tx.connection, subnet_id)) if rest else []
    if len(old) < len(rest):
        raise Exhausted("subnet_full", "the subnet has no free address left", subnet_id=subnet_id)
    for address, owner in zip(old, rest, strict=True):
        _claim(tx, subnet_id, address, owner)
    return [IPv4Address(address) for address in (*fresh, *old)]


def allocate_in(tx: Transaction, subnet_ids: Sequence[str], owners: Sequence[Owner]) -> list[IPv4Address]:
    """An address for each owner, of the first of these subnets that has room. Raises Exhausted `subnet_full`."""
    found: list[IPv4Address] = []
    for subnet_id in subnet_ids[:-1]:
        count = _room(tx.connection, subnet_id, owners[len(found) :])
        if count:
            found += allocate(tx, subnet_id, owners[len(found) : len(found) + count])
    if len(found) < len(owners):
        found += allocate(tx, subnet_ids[-1], owners[len(found) :])
    return found


def _room(connection: Connection, subnet_id: str, owners: Sequence[Owner]) -> int:
    """For how many of these owners there are addresses."""
    ports = any(owner.kind == PORT_OWNER for owner in owners)
    due = _gateways_due(connection, subnet_id) if ports else 0
    if not due:
        return _free(connection, subnet_id, len(owners))
    there = _of_ports(connection, subnet_id, due)
    free = _free(connection, subnet_id, len(owners) + min(due, there + len(owners)))
    # so many leave one for each node, or one for each port
    return min(len(owners), max(0, free - due, (free - there) // 2))


def _of_ports(connection: Connection, subnet_id: str, most: int) -> int:
    """How many addresses ports have here, of at most so many: what is beyond changes nothing."""
    return int(connection.execute(_PORTS, {"s": subnet_id, "most": most}).scalar_one())


def _gateways_due(connection: Connection, subnet_id: str) -> int:
    """How many nodes may yet ask for a gateway address here."""
    nodes = connection.execute(_PER_HOST_NODES, {"s": subnet_id}).scalar_one()
    if not nodes:
        return 0
    return max(0, nodes - connection.execute(_GATEWAYS, {"s": subnet_id}).scalar_one())


def _free(connection: Connection, subnet_id: str, most: int) -> int:
    """How many addresses could be chosen, of at most so many."""
    free = 0
    for pool in connection.execute(_OPEN_POOLS, {"s": subnet_id}).all():
        claimed = connection.execute(_CLAIMED, {"s": subnet_id, "low": pool.next, "high": pool.last}).scalar_one()
        free += pool.last - pool.next + 1 - claimed
    if free >= most:
        return most
    return free + len(_longest_released(connection, subnet_id, most - free, _pools(connection, subnet_id)))


def _never_used(connection: Connection, subnet_id: str, count: int) -> list[int]:
    """Up to `count` addresses that never had an owner, taken off the pools."""
    found: list[int] = []
    for pool in connection.execute(_OPEN_POOLS, {"s": subnet_id}).all():
        fresh, position = _walk(connection, subnet_id, pool.next, pool.last, count - len(found))
        found += fresh
        connection.execute(_MOVE, {"s": subnet_id, "f": pool.first, "n": position})
        if len(found) == count:
            break
    return found


def _walk(connection: Connection, subnet_id: str, position: int, last: int, count: int) -> tuple[list[int], int]:
    """Up to `count` addresses from `position` on that never had an owner, and where the next one may be."""
    found: list[int] = []
    while position <= last and len(found) < count:
        high = min(last, position + count - len(found) + 63)
        known = set(connection.execute(_KNOWN, {"s": subnet_id, "low": position, "high": high}).scalars())
        while position <= high and len(found) < count:
            if position not in known:
                found.append(position)
            position += 1
    return found, position


def _pools(connection: Connection, subnet_id: str) -> list[tuple[int, int]]:
    return [(pool.first, pool.last) for pool in connection.execute(_POOLS, {"s": subnet_id})]


def _longest_released(
    connection: Connection, subnet_id: str, count: int, ranges: Sequence[tuple[int, int]]
) -> list[int]:
    inside = [_A.address.between(first, last) for first, last in ranges]
    if not inside:
        return []
    query = (
        select(_A.address)
        .where(_A.subnet_id == subnet_id, _A.released_at.is_not(None), _A.held_until.is_(None), or_(*inside))
        .order_by(_A.released_at, _A.address)
        .limit(count)
    )
    return list(connection.execute(query).scalars())


def allocate_within(tx: Transaction, subnet: SubnetRow, within: AddressRange, owner: Owner) -> IPv4Address:
    """An address of this range, which need not be one of the pools, chosen as `allocate` does. Raises Exhausted."""
    connection = tx.connection
    ranges = _usable(connection, subnet, [within])
    for first, last in ranges:
        fresh = _lowest_unknown(connection, subnet.id, first, last)
        if fresh is not None:
            connection.execute(_INSERT, [_row(subnet.id, fresh, owner)])
            return IPv4Address(fresh)
    for old in _longest_released(connection, subnet.id, 1, ranges):
        _claim(tx, subnet.id, old, owner)
        return IPv4Address(old)
    raise Exhausted("subnet_full", f"no address is left in {within}", subnet_id=subnet.id)


def allocate_floating(
    tx: Transaction, subnet: SubnetRow, spans: Sequence[Span], count: int
) -> tuple[list[IPv4Address], list[Span]]:
    """Up to `count` addresses for floating IPs, chosen as `allocate` does, and the spans as they are now."""
    connection, owner = tx.connection, Owner(FLOATING_IP_OWNER)
    fresh: list[int] = []
    moved: list[Span] = []
    usable: list[tuple[int, int]] = []
    for span in spans:
        position = span.next
        parts = _usable(connection, subnet, [AddressRange(IPv4Address(span.first), IPv4Address(span.last))])
        for first, last in parts:
            if last >= position and len(fresh) < count:
                found, position = _walk(connection, subnet.id, max(first, position), last, count - len(fresh))
                fresh += found
        moved.append(replace(span, next=position))
        usable += parts
    if fresh:
        connection.execute(_INSERT, [_row(subnet.id, address, owner) for address in fresh])
    old = _longest_released(connection, subnet.id, count - len(fresh), usable) if len(fresh) < count else []
    for address in old:
        _claim(tx, subnet.id, address, owner)
    return [IPv4Address(address) for address in (*fresh, *old)], moved


def _usable(connection: Connection, subnet: SubnetRow, within: Sequence[AddressRange]) -> list[tuple[int, int]]:
    """The parts of these ranges that hosts may have."""
    usable = address_set(within) & address_set([AddressRange(subnet.cidr[1], subnet.cidr[-2])])
    for first, last in connection.execute(_RESERVED, {"s": subnet.id}):
        usable -= IPSet(IPRange(first, last))
    if subnet.gateway is not None:
        usable.remove(str(subnet.gateway))
    return [(part.first, part.last) for part in usable.iter_ipranges()]


def _lowest_unknown(connection: Connection, subnet_id: str, first: int, last: int) -> int | None:
    """The lowest address of the range that never had an owner."""
    if connection.execute(_CLAIMED, {"s": subnet_id, "low": first, "high": last}).scalar_one() > last - first:
        return None
    for low in range(first, last + 1, 256):
        high = min(last, low + 255)
        known = set(connection.execute(_KNOWN, {"s": subnet_id, "low": low, "high": high}).scalars())
        for address in range(low, high + 1):
            if address not in known:
                return address
    return None


def claim(
    tx: Transaction, subnet: SubnetRow, address: IPv4Address, owner: Owner, field: str, *, had: bool = False
) -> None:
    """Give an owner the very address it asks for. A node's own addresses may be reserved ones: somebody meant them.

    `had`: the owner has just given it back, and keeps it whatever has been reserved since.
    Raises Invalid `address_outside_subnet` or `address_reserved`, Conflict `address_in_use`.
    """
    require_usable(tx.connection, subnet, address, owner, field, had=had)
    _claim(tx, subnet.id, int(address), owner, field)


def require_usable(
    connection: Connection, subnet: SubnetRow, address: IPv4Address, owner: Owner, field: str, *, had: bool = False
) -> None:
    """Raises Invalid `address_outside_subnet` or `address_reserved`."""
    cidr = subnet.cidr
    if address not in cidr:
        raise Invalid("address_outside_subnet", f"{address} is not in {cidr}", field, cidr=str(cidr))
    reserved = address in (cidr.network_address, cidr.broadcast_address, subnet.gateway)
    if owner.kind in (PORT_OWNER, FLOATING_IP_OWNER) and not reserved and not had:
        ranges = connection.execute(_RESERVED, {"s": subnet.id})
        reserved = any(first <= int(address) <= last for first, last in ranges)
    if reserved:
        raise Invalid("address_reserved", f"{address} is reserved in {cidr}", field)


def keep(tx: Transaction, subnet_id: str, address: int) -> None:
    """Nobody is given an address which has no owner, until it is released."""
    row = tx.connection.execute(_LOOK, {"s": subnet_id, "a": address}).one_or_none()
    if row is None or row.owner is None:
        _claim(tx, subnet_id, address, Owner(PAIR_OWNER))


def _claim(tx: Transaction, subnet_id: str, address: int, owner: Owner, field: str | None = None) -> None:
    row = tx.connection.execute(_LOOK, {"s": subnet_id, "a": address}).one_or_none()
    if row is None:
        tx.connection.execute(_INSERT, [_row(subnet_id, address, owner)])
        return
    values = {
        "s": subnet_id,
        "a": address,
        "new_owner": owner.kind,
        "new_port": owner.port_id,
        "new_position": owner.position,
        "new_node": owner.node,
        "new_network": owner.for_network,
    }
    if row.held_until is not None:
        message = f"{IPv4Address(address)} is kept until the lease of who had it ends"
        raise Conflict("address_in_use", message, field, address=str(IPv4Address(address)))
    if row.owner is not None or tx.connection.execute(_CLAIM, values).rowcount != 1:
        raise Conflict("address_in_use", f"{IPv4Address(address)} is in use", field, address=str(IPv4Address(address)))


def _row(subnet_id: str, address: int, owner: Owner) -> dict[str, Any]:
    return {
        "subnet_id": subnet_id,
        "address": address,
        "owner": owner.kind,
        "port_id": owner.port_id,
        "position": owner.position,
        "node": owner.node,
        "for_network": owner.for_network,
    }


def release(tx: Transaction, *conditions: Any) -> Sequence[AnyRow]:
    """Give back the owned addresses that meet the conditions; the rows as they were."""
    owned = and_(_A.owner.is_not(None), *conditions)
    rows = tx.connection.execute(select(addresses).where(owned)).all()
    if rows:
        tx.connection.execute(
            update(addresses)
            .where(owned)
            .values(
                owner=None,
                port_id=None,
                position=None,
                node=None,
                for_network="",
                idle_since=None,
                released_at=tx.revision,
            )
        )
    return rows
