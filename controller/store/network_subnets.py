"""The subnets of a network: what they must be, and how they come, change and go. They are known by their ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from controller.bounds import MOST_SUBNETS
from controller.store import codec, floating_ip_pools, ipam, node_addresses
from controller.store.engine import AnyRow
from controller.store.journal import Transaction, count_rows
from controller.store.network_options import TAKEN_RANGES
from controller.store.ranges import LARGEST_PREFIX, place
from controller.store.schema import addresses, floating_ip_pool_ranges, pools, subnet_ranges, subnets
from controller.store.specs import Conflict, Invalid, SubnetSpec
from flows.model import GatewayMode

SMALLEST_PREFIX = 8

# whose addresses keep a subnet: not the gateways, which nobody uses when nobody else is there
_USERS = (ipam.PORT_OWNER, ipam.SNAT_OWNER, ipam.FLOATING_IP_OWNER, ipam.PAIR_OWNER)


def require_some(specs: Sequence[SubnetSpec]) -> None:
    """Raises Invalid `subnets_invalid` for none and for too many, and for two that overlap."""
    if not 1 <= len(specs) <= MOST_SUBNETS:
        message = f"a network has 1 to {MOST_SUBNETS} IPv4 subnets, beside those of IPv6"
        raise Invalid("subnets_invalid", message, "subnets")
    for index, subnet in enumerate(specs):
        for other in specs[:index]:
            if subnet.cidr.overlaps(other.cidr):
                message = f"{subnet.cidr} overlaps {other.cidr} of the same network"
                raise Invalid("subnets_invalid", message, f"{place(index)}.cidr")


def checked(subnet: SubnetSpec, mode: GatewayMode, index: int) -> SubnetSpec:
    """A new subnet, with the gateway that it has by its network's mode."""
    cidr, field = subnet.cidr, place(index)
    if not SMALLEST_PREFIX <= cidr.prefixlen <= LARGEST_PREFIX:
        message = f"the prefix length of {cidr} is not within {SMALLEST_PREFIX}..{LARGEST_PREFIX}"
        raise Invalid("cidr_invalid", message, f"{field}.cidr")
    for taken, use in TAKEN_RANGES.items():
        if cidr.overlaps(taken):
            raise Invalid("cidr_reserved", f"{cidr} is within {taken}: {use}", f"{field}.cidr", range=str(taken))
    gateway = subnet.gateway
    if mode in (GatewayMode.SHARED, GatewayMode.SINGLE) and gateway is None:
        gateway = cidr[1]
    if mode is GatewayMode.EXTERNAL and gateway is None:
        raise Invalid("gateway_missing", "gateway mode external needs the gateway's address", f"{field}.gateway")
    if mode in (GatewayMode.NONE, GatewayMode.PER_HOST) and gateway is not None:
        message = f"gateway mode {mode} has no gateway address of the network's own"
        raise Invalid("gateway_invalid", message, f"{field}.gateway")
    if gateway is not None:
        if gateway not in cidr:
            raise Invalid("gateway_outside_subnet", f"gateway {gateway} is not in {cidr}", f"{field}.gateway")
        if gateway in (cidr.network_address, cidr.broadcast_address):
            raise Invalid("gateway_invalid", f"{gateway} is no host address of {cidr}", f"{field}.gateway")
    _check_routes(subnet, index)
    return replace(subnet, gateway=gateway)


def _check_routes(subnet: SubnetSpec, index: int) -> None:
    """A client reaches the hosts of its own subnet only; scripts of clients fail as a whole on another next hop."""
    cidr = subnet.cidr
    for number, route in enumerate(subnet.host_routes):
        if route.next_hop not in cidr or route.next_hop in (cidr.network_address, cidr.broadcast_address):
            message = f"next hop {route.next_hop} is no host address of {cidr}"
            raise Invalid("next_hop_invalid", message, f"{place(index)}.host_routes.{number}.next_hop")


def rows_of(connection: Connection, network_id: str) -> dict[IPv4Network, AnyRow]:
    """By range, in order of creation."""
    query = select(subnets).where(subnets.c.network_id == network_id).order_by(subnets.c.position)
    return {IPv4Network(row.cidr): row for row in connection.execute(query)}


def add(tx: Transaction, network_id: str, added: Mapping[int, SubnetSpec]) -> None:
    """New subnets of a network, checked already, by their place in what was asked for. The oldest comes first."""
    last = tx.connection.execute(
        select(func.max(subnets.c.position)).where(subnets.c.network_id == network_id)
    ).scalar()
    for position, (index, subnet) in enumerate(added.items(), start=0 if last is None else last + 1):
        subnet_id, gateway = str(uuid4()), subnet.gateway
        tx.connection.execute(
            insert(subnets),
            {
                "id": subnet_id,
                "network_id": network_id,
                "cidr": str(subnet.cidr),
                "first": int(subnet.cidr[0]),
                "last": int(subnet.cidr[-1]),
                "gateway": None if gateway is None else int(gateway),
                "dns_servers": codec.dump_addresses(subnet.dns_servers),
                "host_routes": codec.dump_routes(subnet.host_routes),
                "position": position,
            },
        )
        ranges = (subnet.allocation_ranges, subnet.reserved)
        ipam.set_ranges(tx.connection, subnet_id, subnet.cidr, gateway, *ranges, place(index))
        if gateway is not None:
            row = {"subnet_id": subnet_id, "address": int(gateway), "owner": ipam.GATEWAY_OWNER}
            tx.connection.execute(insert(addresses), row)


def change(tx: Transaction, row: AnyRow, subnet: SubnetSpec, index: int) -> dict[str, Any]:
    """A subnet's lists become these. What is new. Raises Invalid `immutable` for another gateway."""
    gateway = None if row.gateway is None else IPv4Address(row.gateway)
    if subnet.gateway not in (None, gateway):
        raise Invalid("immutable", "the gateway of a subnet cannot change", f"{place(index)}.gateway")
    _check_routes(subnet, index)
    query = select(*subnet_ranges.c["kind", "first", "last"]).where(subnet_ranges.c.subnet_id == row.id)
    before = sorted(map(tuple, tx.connection.execute(query)))
    ranges = (subnet.allocation_ranges, subnet.reserved)
    ipam.set_ranges(tx.connection, row.id, subnet.cidr, gateway, *ranges, place(index))
    after = sorted(map(tuple, tx.connection.execute(query)))
    values: dict[str, Any] = {
        "dns_servers": codec.dump_addresses(subnet.dns_servers),
        "host_routes": codec.dump_routes(subnet.host_routes),
    }
    changed = {name: value for name, value in values.items() if row._mapping[name] != value}
    if changed:
        tx.connection.execute(update(subnets).where(subnets.c.id == row.id).values(**changed))
    if before != after:
        floating_ip_pools.look_again(tx.connection, row.id)
        changed["ranges"] = [[kind, str(IPv4Address(first)), str(IPv4Address(last))] for kind, first, last in after]
    return changed


def remove(tx: Transaction, row: AnyRow) -> None:
    """Raises Conflict `subnet_in_use` while anybody has an address of it, one that was given back is still kept, or a
    pool has a part of it.
    """
    connection = tx.connection
    in_use = or_(addresses.c.owner.in_(_USERS), addresses.c.held_until.is_not(None))
    users = (addresses.c.subnet_id == row.id, in_use)
    used = count_rows(connection, addresses, *users)
    if used:
        first = connection.execute(select(func.min(addresses.c.address)).where(*users)).scalar_one()
        message = f"{used} addresses of {row.cidr} are in use, the first is {IPv4Address(first)}"
        raise Conflict("subnet_in_use", message, "subnets", cidr=row.cidr, addresses=used)
    if count_rows(connection, floating_ip_pool_ranges, floating_ip_pool_ranges.c.subnet_id == row.id):
        message = f"a floating IP pool has a part of {row.cidr}"
        raise Conflict("subnet_in_use", message, "subnets", cidr=row.cidr)
    node_addresses.release_gateways(tx, row.id)
    for table in (addresses, pools, subnet_ranges):
        connection.execute(delete(table).where(table.c.subnet_id == row.id))
    connection.execute(delete(subnets).where(subnets.c.id == row.id))
