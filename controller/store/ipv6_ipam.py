"""IPv6 addresses: who has which, as `ipam` has it for IPv4. Only those that somebody has are rows.

In a subnet of mode dhcpv6-stateful the choice goes round in each pool, from where it last ended: an address that was
given back comes late again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from typing import Any

from netaddr import IPRange, IPSet
from sqlalchemy import Connection, bindparam, delete, insert, select, update

from controller.store.engine import AnyRow, chunks
from controller.store.ipam import ALLOCATION, RESERVED
from controller.store.ipv6_schema import ipv6_addresses, ipv6_pools, ipv6_subnet_ranges, ipv6_subnets
from controller.store.ipv6_specs import Ipv6Range
from controller.store.specs import Conflict, Exhausted, Invalid
from flows.model import Ipv6Mode

AT_ONCE = 1024
"""Addresses that are looked at together on the way to a free one."""

_A = ipv6_addresses.c
_P = ipv6_pools.c
_INSERT = insert(ipv6_addresses)
_POOLS = select(ipv6_pools).where(_P.subnet_id == bindparam("s")).order_by(_P.first)
_MOVE = update(ipv6_pools).where(_P.subnet_id == bindparam("s"), _P.first == bindparam("f")).values(next=bindparam("n"))
_KNOWN = select(_A.address).where(
    _A.subnet_id == bindparam("s"), _A.address.between(bindparam("low"), bindparam("high"))
)
_TAKEN = select(_A.address).where(_A.subnet_id == bindparam("s"), _A.address.in_(bindparam("wanted", expanding=True)))
_IN_ORDER = (
    select(_A.address)
    .join(ipv6_subnets, ipv6_subnets.c.id == _A.subnet_id)
    .order_by(ipv6_subnets.c.position, _A.position)
)
_RESERVED = select(ipv6_subnet_ranges.c.first, ipv6_subnet_ranges.c.last).where(
    ipv6_subnet_ranges.c.subnet_id == bindparam("s"), ipv6_subnet_ranges.c.kind == RESERVED
)
_SUBNETS_OF = (
    select(*ipv6_subnets.c["id", "network_id", "cidr", "gateway", "mode"])
    .where(ipv6_subnets.c.network_id.in_(bindparam("ids", expanding=True)))
    .order_by(ipv6_subnets.c.position)
)


@dataclass(frozen=True, slots=True)
class Ipv6SubnetRow:
    """What allocation needs to know of a subnet."""

    id: str
    network_id: str
    cidr: IPv6Network
    gateway: IPv6Address | None
    mode: Ipv6Mode

    @property
    def chosen(self) -> bool:
        """Addresses are chosen here, and do not follow from MACs."""
        return self.mode is Ipv6Mode.STATEFUL


@dataclass(frozen=True, slots=True)
class Place:
    """An address that a port has. `position` orders those of one subnet."""

    subnet_id: str
    address: IPv6Address
    port_id: str
    position: int


def subnets_of(connection: Connection, network_ids: Iterable[str]) -> dict[str, list[Ipv6SubnetRow]]:
    """The IPv6 subnets of some networks that have any, by network, in order of creation."""
    found: dict[str, list[Ipv6SubnetRow]] = {}
    for row in connection.execute(_SUBNETS_OF, {"ids": sorted(network_ids)}):
        subnet = Ipv6SubnetRow(row.id, row.network_id, IPv6Network(row.cidr), row.gateway, Ipv6Mode(row.mode))
        found.setdefault(row.network_id, []).append(subnet)
    return found


def set_ranges(
    connection: Connection,
    subnet: Ipv6SubnetRow,
    allocation: Sequence[Ipv6Range],
    reserved: Sequence[Ipv6Range],
    field: str,
) -> None:
    """Store the declared ranges of a subnet and the pools that follow. Raises Invalid `range_invalid`, of which `field`
    is the subnet's place in what was asked for.
    """
    cidr = subnet.cidr
    for ranges, name in ((allocation, "allocation_ranges"), (reserved, "reserved")):
        if ranges and not subnet.chosen:
            message = f"addresses of {cidr} follow from the MACs of ports (mode {subnet.mode})"
            raise Invalid("range_invalid", message, f"{field}.{name}")
        for index, item in enumerate(ranges):
            if not (item.first in cidr and item.last in cidr and item.first <= item.last):
                message = f"{item} is not a range inside {cidr}"
                raise Invalid("range_invalid", message, f"{field}.{name}.{index}")
    before = {pool.first: pool.next for pool in connection.execute(_POOLS, {"s": subnet.id})}
    for table in (ipv6_subnet_ranges, ipv6_pools):
        connection.execute(delete(table).where(table.c.subnet_id == subnet.id))
    declared = [
        {"subnet_id": subnet.id, "kind": kind, "first": part.first, "last": part.last}
        for kind, ranges in ((ALLOCATION, allocation), (RESERVED, reserved))
        for part in _parts(_set_of(ranges))
    ]
    if declared:
        connection.execute(insert(ipv6_subnet_ranges), declared)
    if not subnet.chosen:
        return
    # the first address means any router (RFC 4291, 2.6.1)
    hosts = [Ipv6Range(cidr[1], cidr[-1])]
    usable = (_set_of(allocation or hosts) & _set_of(hosts)) - _set_of(reserved)
    if subnet.gateway is not None:
        usable.remove(str(subnet.gateway))
    made = []
    for part in _parts(usable):
        following = before.get(part.first, part.first)
        following = following if following <= part.last else part.first
        made.append({"subnet_id": subnet.id, "first": part.first, "last": part.last, "next": following})
    if made:
        connection.execute(insert(ipv6_pools), made)


def _set_of(ranges: Iterable[Ipv6Range]) -> IPSet:
    return IPSet(IPRange(str(item.first), str(item.last)) for item in ranges)


def _parts(addresses: IPSet) -> list[Ipv6Range]:
    return [Ipv6Range(IPv6Address(part.first), IPv6Address(part.last)) for part in addresses.iter_ipranges()]


def choose(connection: Connection, subnet_id: str, count: int) -> list[IPv6Address]:
    """Free addresses of a subnet's pools. Raises Exhausted `subnet_full`."""
    found: list[IPv6Address] = []
    for pool in connection.execute(_POOLS, {"s": subnet_id}).all():
        if len(found) < count:
            found += _choose_in(connection, pool, count - len(found))
    if len(found) < count:
        raise Exhausted("subnet_full", "the IPv6 subnet has no free address left", subnet_id=subnet_id)
    return found


def _choose_in(connection: Connection, pool: AnyRow, count: int) -> list[IPv6Address]:
    """Up to so many; the whole pool is looked through at most once."""
    first, last, position = int(pool.first), int(pool.last), int(pool.next)
    found: list[IPv6Address] = []
    left = last - first + 1
    while left and len(found) < count:
        high = min(last, position + min(AT_ONCE, left) - 1)
        span = {"s": pool.subnet_id, "low": IPv6Address(position), "high": IPv6Address(high)}
        known = set(map(int, connection.execute(_KNOWN, span).scalars()))
        while position <= high and len(found) < count:
            if position not in known:
                found.append(IPv6Address(position))
            position += 1
            left -= 1
        position = first if position > last else position
    connection.execute(_MOVE, {"s": pool.subnet_id, "f": pool.first, "n": IPv6Address(position)})
    return found


def taken(connection: Connection, subnet_id: str, wanted: Sequence[IPv6Address]) -> set[IPv6Address]:
    """Those of some addresses that somebody has."""
    return {
        address
        for part in chunks(wanted)
        for address in connection.execute(_TAKEN, {"s": subnet_id, "wanted": part}).scalars()
    }


def require_usable(connection: Connection, subnet: Ipv6SubnetRow, address: IPv6Address, field: str) -> None:
    """Raises Invalid `address_reserved` for what no port may have."""
    reserved = address in (subnet.cidr.network_address, subnet.gateway)
    if not reserved:
        ranges = connection.execute(_RESERVED, {"s": subnet.id})
        reserved = any(first <= address <= last for first, last in ranges)
    if reserved:
        raise Invalid("address_reserved", f"{address} is reserved in {subnet.cidr}", field)


def in_use(address: IPv6Address, field: str | None = None) -> Conflict:
    return Conflict("address_in_use", f"{address} is in use", field, address=str(address))


def give(connection: Connection, places: Sequence[Place]) -> None:
    """Addresses that nobody has become those of ports."""
    rows = [
        {
            "subnet_id": place.subnet_id,
            "address": place.address,
            "shown": str(place.address),
            "port_id": place.port_id,
            "position": place.position,
        }
        for place in places
    ]
    if rows:
        connection.execute(_INSERT, rows)


def give_gateway(connection: Connection, subnet_id: str, address: IPv6Address) -> None:
    """A subnet's gateway has its address, so that no port can have it."""
    connection.execute(_INSERT, {"subnet_id": subnet_id, "address": address, "shown": str(address)})


def release(connection: Connection, *conditions: Any) -> list[IPv6Address]:
    """Take the addresses of ports that meet the conditions from them."""
    of_ports = (_A.port_id.is_not(None), *conditions)
    found = list(connection.execute(_IN_ORDER.where(*of_ports)).scalars())
    if found:
        connection.execute(delete(ipv6_addresses).where(*of_ports))
    return found
