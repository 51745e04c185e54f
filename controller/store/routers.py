"""Which networks are routed to each other: those with one router key."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network

from sqlalchemy import Connection, func, select

from controller.store.journal import Transaction, count_rows
from controller.store.schema import networks, subnets
from controller.store.specs import Conflict, Invalid

PROJECT, ISOLATED = "project", "isolated"


@dataclass(frozen=True, slots=True)
class Member:
    """A network that wants a router. `id` None: it is about to be made."""

    id: str | None
    project_id: str | None
    private: bool
    external: bool
    cidrs: tuple[IPv4Network, ...]


def keys(tx: Transaction, member: Member, router: str) -> tuple[int, int]:
    """(key, router key) for a new network. Raises Invalid `router_invalid`, Conflict `cidr_overlap`."""
    joined = _joined(tx.connection, member, router)
    while True:
        (key,) = tx.new_keys("network_key", 1)
        # the network whose key a group of siblings took as its router key may be gone
        if joined is not None or not count_rows(tx.connection, networks, networks.c.router_key == key):
            return key, joined or key


def change(tx: Transaction, member: Member, key: int, router: str) -> int:
    """The router key of a network from now on.

    Raises Invalid `router_invalid`, Conflict `cidr_overlap`, or `network_in_use` when others joined this network.
    """
    connection = tx.connection
    require_unnamed(connection, member.id)
    joined = _joined(connection, member, router)
    if joined is not None:
        return joined
    others = networks.c.id != member.id
    while count_rows(connection, networks, networks.c.router_key == key, others):
        (key,) = tx.new_keys("network_key", 1)
    return key


def require_unnamed(connection: Connection, network_id: str | None) -> None:
    """Raises Conflict `network_in_use` when others joined this network."""
    users = count_rows(connection, networks, networks.c.router == network_id)
    if users:
        raise Conflict("network_in_use", f"{users} networks are routed with this one", networks=users)


def _joined(connection: Connection, member: Member, router: str) -> int | None:
    """The router key of the others, or None when there are none."""
    if member.external and router != PROJECT:
        raise Invalid("router_invalid", "an external network is routed with no other", "router")
    if router == ISOLATED:
        return None
    key = _of_project(connection, member) if router == PROJECT else _of_network(connection, member, router)
    if key is not None:
        _refuse_overlap(connection, member, key, None if router == PROJECT else "router")
    return key


def require_apart(connection: Connection, member: Member, router_key: int) -> None:
    """Raises Conflict `cidr_overlap` when a range of a network is that of another that it is routed with."""
    _refuse_overlap(connection, member, router_key, None)


def _of_project(connection: Connection, member: Member) -> int | None:
    """The private networks of one project are routed to each other, unless one of them wants it otherwise."""
    if member.project_id is None or not member.private:
        return None
    query = select(func.min(networks.c.router_key)).where(
        networks.c.project_id == member.project_id,
        ~networks.c.shared,
        ~networks.c.external,
        networks.c.router == PROJECT,
    )
    if member.id is not None:
        query = query.where(networks.c.id != member.id)
    key: int | None = connection.execute(query).scalar()
    return key


def _of_network(connection: Connection, member: Member, network_id: str) -> int:
    row = connection.execute(select(networks).where(networks.c.id == network_id)).one_or_none()
    if row is None or row.external or row.id == member.id:
        raise Invalid("router_invalid", f"there is no other, not external network {network_id}", "router")
    return int(row.router_key)


def _refuse_overlap(connection: Connection, member: Member, key: int, field: str | None) -> None:
    """`field` None: the range that overlaps."""
    for index, cidr in enumerate(member.cidrs):
        query = (
            select(networks.c.project_id, networks.c.name, subnets.c.cidr)
            .join(subnets, subnets.c.network_id == networks.c.id)
            .where(networks.c.router_key == key, subnets.c.first <= int(cidr[-1]), subnets.c.last >= int(cidr[0]))
        )
        if member.id is not None:
            query = query.where(networks.c.id != member.id)
        for project_id, name, other in connection.execute(query):
            seen = member.project_id in (None, project_id)
            what = f"network {name} ({other})" if seen else "a network of another project"
            message = f"{cidr} overlaps {what}, which it would be routed with"
            raise Conflict("cidr_overlap", message, field or f"subnets.{index}.cidr")
