"""Addresses that a port may use beside its own. The API says who may ask for which; here is what nobody may."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network

from sqlalchemy import Connection, bindparam, or_, select

from controller.store import ipam, quotas
from controller.store.network_options import TAKEN_RANGES
from controller.store.policy_specs import AddressPairSpec
from controller.store.quota_specs import Limits
from controller.store.schema import addresses, ports, subnets
from controller.store.specs import Conflict, Invalid

WIDEST = 24
"""The shortest prefix whose every address must be nobody's. Who asks for more has to be an administrator."""

_OWNED = (
    select(addresses.c.address, addresses.c.owner, ports.c.project_id, ports.c.bound_node)
    .join(subnets, subnets.c.id == addresses.c.subnet_id)
    .outerjoin(ports, ports.c.id == addresses.c.port_id)
    .where(subnets.c.network_id == bindparam("network"), addresses.c.owner != ipam.PAIR_OWNER)
    .where(addresses.c.address.between(bindparam("low"), bindparam("high")))
    .where(or_(addresses.c.port_id.is_(None), addresses.c.port_id != bindparam("port")))
)
_MAC_OF_ANOTHER = select(ports.c.id).where(
    ports.c.network_id == bindparam("network"), ports.c.mac == bindparam("mac"), ports.c.id != bindparam("port")
)
_OWNERS = {"port": "another port", "gateway": "a gateway", "snat": "a node", "floating_ip": "a floating IP"}


def check(
    connection: Connection, network_id: str, port_id: str, project_id: str | None, pairs: Sequence[AddressPairSpec]
) -> None:
    """Raises Invalid `address_pair_invalid`, Conflict `address_pair_in_use` when it is somebody's. MACs are normal.

    A single address may be that of a port of the same project that is on no node: it is reserved for this.
    """
    seen: set[tuple[IPv4Network, str | None]] = set()
    for position, pair in enumerate(pairs):
        where = f"address_pairs.{position}"
        if (pair.cidr, pair.mac) in seen:
            raise Invalid("address_pair_invalid", f"{pair.cidr} is there twice", f"{where}.cidr")
        seen.add((pair.cidr, pair.mac))
        for taken, use in TAKEN_RANGES.items():
            if pair.cidr.subnet_of(taken):
                raise Invalid("address_pair_invalid", f"{pair.cidr} is within {taken}: {use}", f"{where}.cidr")
        if pair.mac is not None:
            other = connection.execute(_MAC_OF_ANOTHER, {"network": network_id, "mac": pair.mac, "port": port_id})
            if other.first() is not None:
                raise Conflict("address_pair_in_use", f"{pair.mac} is the MAC of another port", f"{where}.mac")
        if pair.cidr.prefixlen < WIDEST:
            continue
        span = {"low": int(pair.cidr[0]), "high": int(pair.cidr[-1])}
        for row in connection.execute(_OWNED, {"network": network_id, "port": port_id, **span}):
            single, unplugged = pair.cidr.num_addresses == 1, row.owner == ipam.PORT_OWNER and row.bound_node is None
            if single and unplugged and project_id is not None and row.project_id == project_id:
                continue
            message = f"{IPv4Address(row.address)} belongs to {_OWNERS[row.owner]}"
            raise Conflict("address_pair_in_use", message, f"{where}.cidr")


def require_room(connection: Connection, project_id: str | None, count: int, limits: Limits) -> None:
    """Raises Exhausted `quota_exceeded`."""
    if project_id is not None and count:
        limit = quotas.limits(connection, project_id, limits).address_pairs
        quotas.require("a port", "address pairs", limit, 0, count, "address_pairs")


def dump(pairs: Sequence[AddressPairSpec], own_mac: str) -> list[dict[str, str]]:
    """As the column holds them."""
    return [{"cidr": str(pair.cidr), "mac": pair.mac or own_mac} for pair in pairs]
