"""The IPv6 subnets of a network: what they must be, and how they come, change and go. They are known by their ranges.

Nothing translates IPv6 addresses, so no two networks can have one range, whosever they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv6Network
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from controller.bounds import LEAST_IPV6_MTU, MOST_SUBNETS
from controller.store import codec, ipv6_ipam
from controller.store.engine import AnyRow
from controller.store.ipv6_ipam import Ipv6SubnetRow
from controller.store.ipv6_schema import ipv6_addresses, ipv6_pools, ipv6_subnet_ranges, ipv6_subnets
from controller.store.ipv6_specs import Ipv6SubnetSpec
from controller.store.journal import Transaction, count_rows
from controller.store.schema import networks
from controller.store.specs import Conflict, Exhausted, Invalid
from flows.ipv6 import LINK_LOCAL
from flows.model import GatewayMode, Ipv6Mode

AUTONOMOUS_PREFIX: Final = 64
"""What the address that a host forms by itself begins with (RFC 4862, 5.5.3, with RFC 7136)."""

LARGEST_PREFIX: Final = 126

# global unicast (RFC 4291, 2.4) and unique local addresses (RFC 4193)
USABLE_RANGES: Final = (IPv6Network("2000::/3"), IPv6Network("fc00::/7"))

_S = ipv6_subnets.c
_WITHIN = (
    select(*networks.c["id", "name", "project_id", "shared", "external"], _S.cidr)
    .join(ipv6_subnets, _S.network_id == networks.c.id)
    .where(_S.first <= bindparam("high"), _S.last >= bindparam("low"))
    .order_by(networks.c.key)
    .limit(1)
)


def place(index: int) -> str:
    """Where a subnet stands in what was asked for."""
    return f"ipv6_subnets.{index}"


def require_apart(specs: Sequence[Ipv6SubnetSpec]) -> None:
    """Raises Invalid `subnets_invalid` for too many, and for two that overlap."""
    if len(specs) > MOST_SUBNETS:
        raise Invalid("subnets_invalid", f"a network has up to {MOST_SUBNETS} IPv6 subnets", "subnets")
    for index, subnet in enumerate(specs):
        for other in specs[:index]:
            if subnet.cidr.overlaps(other.cidr):
                message = f"{subnet.cidr} overlaps {other.cidr} of the same network"
                raise Invalid("subnets_invalid", message, f"{place(index)}.cidr")


def require_mtu(mtu: int, field: str) -> None:
    """Raises Invalid `mtu_invalid` for a network with IPv6 subnets."""
    if mtu < LEAST_IPV6_MTU:
        message = f"a network with IPv6 needs an MTU of at least {LEAST_IPV6_MTU} (RFC 8200, section 5), not {mtu}"
        raise Invalid("mtu_invalid", message, field)


def check(subnet: Ipv6SubnetSpec, mode: GatewayMode, external: bool, index: int) -> None:
    """Raises Invalid for what no subnet of a network with this gateway mode can be."""
    cidr, field = subnet.cidr, place(index)
    if not any(cidr.subnet_of(usable) for usable in USABLE_RANGES):
        usable = " nor of ".join(map(str, USABLE_RANGES))
        raise Invalid("cidr_reserved", f"{cidr} is neither part of {usable}", f"{field}.cidr")
    if subnet.mode is not Ipv6Mode.STATEFUL and cidr.prefixlen != AUTONOMOUS_PREFIX:
        message = f"with mode {subnet.mode} hosts form addresses in a /{AUTONOMOUS_PREFIX}, not in {cidr}"
        raise Invalid("cidr_invalid", message, f"{field}.cidr")
    if not AUTONOMOUS_PREFIX <= cidr.prefixlen <= LARGEST_PREFIX:
        message = f"the prefix length of {cidr} is not within {AUTONOMOUS_PREFIX}..{LARGEST_PREFIX}"
        raise Invalid("cidr_invalid", message, f"{field}.cidr")
    _check_gateway(subnet, mode, external, f"{field}.gateway")


def _check_gateway(subnet: Ipv6SubnetSpec, mode: GatewayMode, external: bool, field: str) -> None:
    """A router of the operator's may be known by its link-local address, as routers are by their advertisements."""
    cidr, gateway = subnet.cidr, subnet.gateway
    if gateway is None:
        if external:
            raise Invalid("gateway_missing", "an external network needs the gateway's address", field)
        return
    if mode is GatewayMode.NONE:
        raise Invalid("gateway_invalid", f"gateway mode {mode} has no gateway", field)
    if gateway not in cidr and not (mode is GatewayMode.EXTERNAL and gateway in LINK_LOCAL):
        raise Invalid("gateway_outside_subnet", f"gateway {gateway} is not in {cidr}", field)
    if gateway == cidr.network_address:
        raise Invalid("gateway_invalid", f"{gateway} is no host address of {cidr}", field)


def require_alone(connection: Connection, subnet: Ipv6SubnetSpec, project_id: str | None, index: int) -> None:
    """Raises Conflict `cidr_overlap` when any network uses part of the range."""
    cidr = subnet.cidr
    other = connection.execute(_WITHIN, {"low": cidr[0], "high": cidr[-1]}).one_or_none()
    if other is not None:
        # a network without a project is made by administrators only, who see everything
        visible = other.shared or other.external or project_id in (None, other.project_id)
        what = f"network {other.name} ({other.cidr})" if visible else "a network of another project"
        details = {"network_id": other.id} if visible else {}
        raise Conflict("cidr_overlap", f"{cidr} overlaps {what}", f"{place(index)}.cidr", **details)


def carve(connection: Connection, subnet: Ipv6SubnetSpec, count: int) -> list[Ipv6SubnetSpec]:
    """Subnets of the lowest parts of a range that are free, a /64 each. Raises Invalid `carving_invalid`, Exhausted
    `no_free_cidr`.
    """
    cidr = subnet.cidr
    for name in ("gateway", "allocation_ranges", "reserved"):
        if getattr(subnet, name):
            raise Invalid("carving_invalid", f"{name} is one network's alone", f"{place(0)}.{name}")
    size = 2 ** (cidr.max_prefixlen - AUTONOMOUS_PREFIX)
    position, end = int(cidr[0]), int(cidr[-1]) + 1
    chosen: list[int] = []
    query = select(_S.first, _S.last).where(_S.first <= cidr[-1], _S.last >= cidr[0]).order_by(_S.first)
    used = [(int(first), int(last) + 1) for first, last in connection.execute(query)]
    for begin, behind in (*used, (end, end)):
        free = range(position, begin - size + 1, size)
        chosen += free[: count - len(chosen)]
        position = max(position, -(-behind // size) * size)
    if len(chosen) < count:
        message = f"{cidr} has room for {len(chosen)} networks with a /{AUTONOMOUS_PREFIX} each, not for {count}"
        raise Exhausted("no_free_cidr", message, f"{place(0)}.cidr", free=len(chosen))
    return [replace(subnet, cidr=IPv6Network((number, AUTONOMOUS_PREFIX))) for number in chosen]


def rows_of(connection: Connection, network_id: str) -> dict[IPv6Network, AnyRow]:
    """By range, in order of creation."""
    query = select(ipv6_subnets).where(_S.network_id == network_id).order_by(_S.position)
    return {IPv6Network(row.cidr): row for row in connection.execute(query)}


def add(tx: Transaction, network_id: str, added: Mapping[int, Ipv6SubnetSpec]) -> list[Ipv6SubnetRow]:
    """New subnets of a network, checked already, by their place in what was asked for."""
    last = tx.connection.execute(select(func.max(_S.position)).where(_S.network_id == network_id)).scalar()
    made: list[Ipv6SubnetRow] = []
    for position, (index, subnet) in enumerate(added.items(), start=0 if last is None else last + 1):
        row = Ipv6SubnetRow(str(uuid4()), network_id, subnet.cidr, subnet.gateway, subnet.mode)
        values = {
            "id": row.id,
            "network_id": network_id,
            "cidr": str(subnet.cidr),
            "first": subnet.cidr[0],
            "last": subnet.cidr[-1],
            "gateway": subnet.gateway,
            "mode": subnet.mode.value,
            "dns_servers": codec.dump_addresses(subnet.dns_servers),
            "position": position,
        }
        tx.connection.execute(insert(ipv6_subnets), values)
        ipv6_ipam.set_ranges(tx.connection, row, subnet.allocation_ranges, subnet.reserved, place(index))
        if subnet.gateway is not None and subnet.gateway in subnet.cidr:
            ipv6_ipam.give_gateway(tx.connection, row.id, subnet.gateway)
        made.append(row)
    return made


def change(tx: Transaction, row: AnyRow, subnet: Ipv6SubnetSpec, index: int) -> dict[str, Any]:
    """A subnet's lists become these. What is new. Raises Invalid `immutable` for another gateway or mode."""
    if subnet.gateway not in (None, row.gateway):
        raise Invalid("immutable", "the gateway of a subnet cannot change", f"{place(index)}.gateway")
    if subnet.mode != row.mode:
        raise Invalid("immutable", f"the mode of {row.cidr} is {row.mode}", f"{place(index)}.ipv6_mode")
    known = Ipv6SubnetRow(row.id, row.network_id, subnet.cidr, row.gateway, subnet.mode)
    query = select(*ipv6_subnet_ranges.c["kind", "first", "last"]).where(ipv6_subnet_ranges.c.subnet_id == row.id)
    before = sorted(map(tuple, tx.connection.execute(query)))
    ipv6_ipam.set_ranges(tx.connection, known, subnet.allocation_ranges, subnet.reserved, place(index))
    after = sorted(map(tuple, tx.connection.execute(query)))
    changed: dict[str, Any] = {}
    servers = codec.dump_addresses(subnet.dns_servers)
    if servers != row.dns_servers:
        tx.connection.execute(update(ipv6_subnets).where(_S.id == row.id).values(dns_servers=servers))
        changed["dns_servers"] = servers
    if before != after:
        changed["ranges"] = [[kind, str(first), str(last)] for kind, first, last in after]
    return changed


def remove(tx: Transaction, row: AnyRow) -> None:
    """Raises Conflict `subnet_in_use` while ports have addresses of it."""
    connection = tx.connection
    of_ports = (ipv6_addresses.c.subnet_id == row.id, ipv6_addresses.c.port_id.is_not(None))
    used = count_rows(connection, ipv6_addresses, *of_ports)
    if used:
        first = connection.execute(select(func.min(ipv6_addresses.c.address)).where(*of_ports)).scalar_one()
        message = f"{used} addresses of {row.cidr} are in use, the first is {first}"
        raise Conflict("subnet_in_use", message, "subnets", cidr=row.cidr, addresses=used)
    _forget(connection, [row.id])


def remove_all(connection: Connection, network_id: str) -> None:
    """Of a network that has no ports any more."""
    _forget(connection, list(connection.execute(select(_S.id).where(_S.network_id == network_id)).scalars()))


def _forget(connection: Connection, ids: Sequence[str]) -> None:
    for table in (ipv6_addresses, ipv6_pools, ipv6_subnet_ranges):
        connection.execute(delete(table).where(table.c.subnet_id.in_(ids)))
    connection.execute(delete(ipv6_subnets).where(_S.id.in_(ids)))
