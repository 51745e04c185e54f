"""Addresses that several ports may use by their pairs: who may, who holds each, and that nobody is given one.

Only single addresses of the network's own subnets are such; no allocation gives them to a port. A port that asks for
one by name gets it, if all that may use it are of its own project: so a project reserves an address by a port that is
never plugged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from sqlalchemy import Connection, and_, bindparam, case, delete, insert, or_, select, update

from controller.store import ipam
from controller.store.engine import AnyRow
from controller.store.journal import Transaction
from controller.store.schema import addresses, ports, subnets, virtual_addresses

_V = virtual_addresses.c
_OF_PORT = select(_V.address, _V.mac).where(_V.port_id == bindparam("port"))
_AT = (_V.network_id == bindparam("network"), _V.address == bindparam("number"))
_HOLDER = select(_V.port_id).where(*_AT, _V.held)
_USERS = select(_V.port_id, ports.c.project_id).join(ports, ports.c.id == _V.port_id).where(*_AT)
_HERE = (
    addresses.c.subnet_id.in_(select(subnets.c.id).where(subnets.c.network_id == bindparam("network"))),
    addresses.c.address == bindparam("number"),
)
_RESERVED_BY = (
    select(addresses.c.port_id, ports.c.bound_node).join(ports, ports.c.id == addresses.c.port_id).where(*_HERE)
)
# first who has it, then who is on a node
_HEIRS = (
    select(ports.c.id)
    .where(ports.c.network_id == bindparam("network"), ports.c.id != bindparam("but"))
    .where(
        or_(
            ports.c.id.in_(select(_V.port_id).where(*_AT)),
            ports.c.id.in_(select(addresses.c.port_id).where(*_HERE, addresses.c.port_id.is_not(None))),
        )
    )
    .order_by(
        case((ports.c.id.in_(select(_V.port_id).where(*_AT, _V.held)), 0), else_=1),
        case((ports.c.bound_node.is_not(None), 0), else_=1),
        ports.c.key,
    )
    .limit(1)
)


def put(tx: Transaction, network_id: str, port_id: str, pairs: Iterable[Mapping[str, str]]) -> set[int]:
    """The port may use these pairs (as its column has them) and no others. The addresses that it may use no more."""
    connection = tx.connection
    known = ipam.subnets_of(connection, [network_id])[network_id]
    wanted = {(number, pair["mac"]) for pair in pairs if (number := _single(known, IPv4Network(pair["cidr"])))}
    before = {(row.address, row.mac) for row in connection.execute(_OF_PORT, {"port": port_id})}
    for number, mac in before - wanted:
        connection.execute(delete(virtual_addresses).where(_V.port_id == port_id, _V.address == number, _V.mac == mac))
    new = [
        {"port_id": port_id, "address": number, "mac": mac, "network_id": network_id, "held": False}
        for number, mac in sorted(wanted - before)
    ]
    if new:
        connection.execute(insert(virtual_addresses), new)
    numbers, lost = {number for number, _ in wanted}, {number for number, _ in before - wanted}
    for number in lost - numbers:
        if not _users(connection, network_id, number):
            here = [addresses.c.subnet_id == subnet.id for subnet in known]
            ipam.release(tx, or_(*here), addresses.c.address == number, addresses.c.owner == ipam.PAIR_OWNER)
    reserve(tx, known, numbers)
    return lost - numbers


def _single(known: Sequence[ipam.SubnetRow], cidr: IPv4Network) -> int | None:
    inside = cidr.num_addresses == 1 and any(cidr.subnet_of(subnet.cidr) for subnet in known)
    return int(cidr.network_address) if inside else None


def reserve(tx: Transaction, known: Sequence[ipam.SubnetRow], numbers: Iterable[int]) -> None:
    """Keep those of a network's addresses that ports may use, and nobody has, from being given to anybody."""
    for number in sorted(numbers):
        for subnet in known:
            if IPv4Address(number) in subnet.cidr and _users(tx.connection, subnet.network_id, number):
                ipam.keep(tx, subnet.id, number)


def make_way(tx: Transaction, subnet: ipam.SubnetRow, number: int, project_id: str | None) -> None:
    """Give the address up for a port of this project, if it is the project's own."""
    users = _users(tx.connection, subnet.network_id, number)
    if users and project_id is not None and all(user.project_id == project_id for user in users):
        here = (addresses.c.subnet_id == subnet.id, addresses.c.address == number)
        ipam.release(tx, *here, addresses.c.owner == ipam.PAIR_OWNER)


def of_port(connection: Connection, port_id: str) -> list[int]:
    """The addresses that a port may use."""
    return sorted({row.address for row in connection.execute(_OF_PORT, {"port": port_id})})


def holder(connection: Connection, network_id: str, number: int) -> str | None:
    """The port that has an address now."""
    return connection.execute(_HOLDER, _place(network_id, number)).scalar()


def heir(connection: Connection, network_id: str, number: int, but: str) -> str | None:
    """A port that what leads to an address is to lead to, when it cannot be the one that it has led to."""
    return connection.execute(_HEIRS, {**_place(network_id, number), "but": but}).scalar()


def owner_at_work(connection: Connection, network_id: str, number: int) -> bool:
    """A port that has the address as its own is on a node: nobody else has it then."""
    rows = connection.execute(_RESERVED_BY, _place(network_id, number))
    return any(row.bound_node is not None for row in rows)


def hold(tx: Transaction, network_id: str, number: int, port_id: str | None, mac: str = "") -> None:
    """This port has the address, or (None) nobody."""
    here = (_V.network_id == network_id, _V.address == number)
    tx.connection.execute(update(virtual_addresses).where(*here, _V.held).values(held=False))
    if port_id is not None:
        one = and_(*here, _V.port_id == port_id, _V.mac == mac)
        tx.connection.execute(update(virtual_addresses).where(one).values(held=True))


def _users(connection: Connection, network_id: str, number: int) -> Sequence[AnyRow]:
    return connection.execute(_USERS, _place(network_id, number)).all()


def _place(network_id: str, number: int) -> dict[str, Any]:
    return {"network": network_id, "number": number}
