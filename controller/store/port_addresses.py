"""The fixed IPs of ports: which they are given, and what else changes with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from typing import Any

from sqlalchemy import Connection, select

from controller.store import (
    address_holders,
    floating_ips,
    ipam,
    ipv6_ipam,
    ipv6_ports,
    lease_holds,
    node_addresses,
    quotas,
    virtual_addresses,
)
from controller.store.address_specs import HoldPolicy
from controller.store.engine import AnyRow
from controller.store.journal import Transaction
from controller.store.port_drafts import Draft, blaming
from controller.store.quota_specs import Limits
from controller.store.schema import addresses
from controller.store.specs import FixedIpSpec, Invalid, PortSpec


def by_family(
    asked: Sequence[FixedIpSpec], known_ipv6: Sequence[ipv6_ipam.Ipv6SubnetRow]
) -> tuple[tuple[tuple[int, FixedIpSpec], ...], tuple[tuple[int, FixedIpSpec], ...]]:
    """What is asked for of IPv4, which is one address at least, and of IPv6, by place."""
    ipv4: list[tuple[int, FixedIpSpec]] = []
    ipv6: list[tuple[int, FixedIpSpec]] = []
    for place, item in enumerate(asked):
        (ipv6 if ipv6_ports.is_asked(item, known_ipv6) else ipv4).append((place, item))
    return tuple(ipv4) or ((len(ipv6), FixedIpSpec()),), tuple(ipv6)


def give_ipv4(
    tx: Transaction, known: Sequence[ipam.SubnetRow], drafts: Sequence[Draft], projects: Mapping[str, str | None]
) -> None:
    """Requested addresses before chosen ones, so that no choice takes what another port of the batch asked for."""
    given: dict[tuple[str, int], str] = {}
    chosen: dict[tuple[str, ...], list[ipam.Owner]] = {}
    for draft in drafts:
        for position, (place, wanted) in enumerate(draft.wanted):
            with blaming(draft.index):
                candidates = _candidates(known, wanted, place)
                owner = ipam.Owner(ipam.PORT_OWNER, port_id=draft.id, position=position)
                if wanted.address is None:
                    chosen.setdefault(tuple(subnet.id for subnet in candidates), []).append(owner)
                else:
                    subnet = candidates[0]
                    assert isinstance(wanted.address, IPv4Address)
                    virtual_addresses.make_way(tx, subnet, int(wanted.address), projects[draft.id])
                    field, had = f"fixed_ips.{place}.address", int(wanted.address) in draft.had
                    ipam.claim(tx, subnet, wanted.address, owner, field, had=had)
                    given[draft.id, position] = str(wanted.address)
    # those that may be of any subnet come last: they find room elsewhere
    for subnet_ids, owners in sorted(chosen.items(), key=lambda item: len(item[0])):
        for owner, address in zip(owners, ipam.allocate_in(tx, subnet_ids, owners), strict=True):
            assert owner.port_id is not None and owner.position is not None
            given[owner.port_id, owner.position] = str(address)
    for draft in drafts:
        draft.fixed_ips = tuple(given[draft.id, position] for position in range(len(draft.wanted)))


def give_ipv6(tx: Transaction, known: Sequence[ipv6_ipam.Ipv6SubnetRow], drafts: Sequence[Draft]) -> None:
    wishes = [ipv6_ports.Wish(draft.id, draft.mac, draft.ipv6, index=draft.index) for draft in drafts]
    given = ipv6_ports.give(tx, known, wishes, blaming)
    for draft in drafts:
        draft.fixed_ips += tuple(map(str, given[draft.id]))


def _candidates(known: Sequence[ipam.SubnetRow], wanted: FixedIpSpec, position: int) -> list[ipam.SubnetRow]:
    """The subnets that a wanted address may be of; never none."""
    candidates = [subnet for subnet in known if wanted.subnet_id in (None, subnet.id)]
    if not candidates:
        message = f"subnet {wanted.subnet_id} is not of this network"
        raise Invalid("subnet_unknown", message, f"fixed_ips.{position}.subnet_id")
    fitting = [subnet for subnet in candidates if wanted.address is None or wanted.address in subnet.cidr]
    if not fitting:
        cidrs = ", ".join(str(subnet.cidr) for subnet in candidates)
        message = f"{wanted.address} is not in {cidrs}"
        raise Invalid("address_outside_subnet", message, f"fixed_ips.{position}.address", cidr=cidrs)
    return fitting


def ipv4_of(connection: Connection, port_id: str) -> list[str]:
    query = select(addresses.c.address).where(addresses.c.port_id == port_id).order_by(addresses.c.position)
    return [str(IPv4Address(address)) for address in connection.execute(query).scalars()]


def change(
    tx: Transaction, row: AnyRow, wanted: tuple[FixedIpSpec, ...], limits: Limits, holds: HoldPolicy
) -> dict[str, Any]:
    """The port's addresses become these; "any" is met by one it has already, if there is one left."""
    port_id, network_id = row.id, row.network_id
    known_ipv6 = ipv6_ipam.subnets_of(tx.connection, [network_id]).get(network_id, [])
    ipv4, ipv6 = by_family(wanted, known_ipv6)
    given = _update_ipv4(tx, row, ipv4, limits, holds)
    before, now = ipv6_ports.change(tx, known_ipv6, ipv6_ports.Wish(port_id, row.mac, ipv6))
    if given is None and before == now:
        return {}
    if given is None:
        given = ipv4_of(tx.connection, port_id)
    return {"fixed_ips": [*given, *map(str, now)]}


def _update_ipv4(
    tx: Transaction, row: AnyRow, wanted: Sequence[tuple[int, FixedIpSpec]], limits: Limits, holds: HoldPolicy
) -> list[str] | None:
    """The port's IPv4 addresses from now on; None: those that it has."""
    port_id, network_id = row.id, row.network_id
    query = select(addresses.c.address).where(addresses.c.port_id == port_id).order_by(addresses.c.position)
    old = list(tx.connection.execute(query).scalars())
    spare = [address for address in old if address not in {int(ip.address) for _, ip in wanted if ip.address}]
    known = ipam.subnets_of(tx.connection, [network_id])[network_id]
    resolved: list[tuple[int, FixedIpSpec]] = []
    for place, item in wanted:
        cidrs = [subnet.cidr for subnet in _candidates(known, item, place)]
        kept = next((address for address in spare if any(IPv4Address(address) in cidr for cidr in cidrs)), None)
        if item.address is None and kept is not None:
            spare.remove(kept)
            item = FixedIpSpec(IPv4Address(kept))
        resolved.append((place, item))
    if [int(item.address) if item.address else None for _, item in resolved] == old:
        return None
    if row.project_id is not None and len(resolved) > len(old):
        quotas.require_ports(tx.connection, row.project_id, 0, len(resolved) - len(old), limits)
    ipam.release(tx, addresses.c.port_id == port_id)
    draft = Draft(port_id, PortSpec(network_id), wanted=tuple(resolved), had=frozenset(old))
    give_ipv4(tx, known, [draft], {port_id: row.project_id})
    virtual_addresses.reserve(tx, known, old)
    fixed = [int(IPv4Address(address)) for address in draft.fixed_ips]
    lease_holds.keep(tx, port_id, [subnet.id for subnet in known], set(old) - set(fixed), holds)
    floating_ips.leave_port(tx, port_id, [*fixed, *virtual_addresses.of_port(tx.connection, port_id)])
    if row.bound_node is not None:
        address_holders.give_back(tx, [port_id])
    _move_gateways(tx, row)
    return list(draft.fixed_ips)


def _move_gateways(tx: Transaction, row: AnyRow) -> None:
    """Its nodes are gateways where its addresses are now. Raises Exhausted `subnet_full`."""
    places = node_addresses.subnets_of_ports(tx.connection, [row.id])
    for node in (row.bound_node, row.other_node):
        if node is not None:
            for network_id, subnet_id in places:
                node_addresses.ensure_gateway(tx, node, network_id, subnet_id)
            node_addresses.note_idle_gateways(tx, [(node, row.network_id)])
