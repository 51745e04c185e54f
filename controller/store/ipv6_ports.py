"""The IPv6 addresses of ports: one at least in each IPv6 subnet of the network.

In a subnet of mode slaac or dhcpv6-stateless it is the one that a VM forms of the port's MAC. In one of mode
dhcpv6-stateful it is chosen, or those that are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from controller.store import ipv6_ipam
from controller.store.ipv6_ipam import Ipv6SubnetRow, Place
from controller.store.ipv6_schema import ipv6_addresses
from controller.store.journal import PORT, UPDATE, Transaction
from controller.store.schema import ports
from controller.store.specs import FixedIpSpec, Invalid
from flows.ipv6 import eui64

_A = ipv6_addresses.c
_TOUCH = update(ports).where(ports.c.id == bindparam("port")).values(revision=bindparam("r"))

Blaming = Callable[[int], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a port is to have. `asked`: by their place in `fixed_ips`; `had`: what it has given back for it; `index`:
    which of several ports it is.
    """

    port_id: str
    mac: str
    asked: tuple[tuple[int, FixedIpSpec], ...] = ()
    had: tuple[IPv6Address, ...] = ()
    index: int = 0


@dataclass(frozen=True, slots=True)
class _Part:
    """One address of a port to be, the `position`th of its subnet. `address` None: any. `field`: where it was asked
    for.
    """

    wish: Wish
    subnet: Ipv6SubnetRow
    position: int
    address: IPv6Address | None
    field: str | None = None


def is_asked(item: FixedIpSpec, known: Sequence[Ipv6SubnetRow]) -> bool:
    """Whether a wanted address is one of IPv6."""
    return isinstance(item.address, IPv6Address) or item.subnet_id in [subnet.id for subnet in known]


def give(
    tx: Transaction, known: Sequence[Ipv6SubnetRow], wishes: Sequence[Wish], blaming: Blaming = lambda _: nullcontext()
) -> dict[str, list[IPv6Address]]:
    """By port, the addresses that it has now in these subnets of its network.

    Raises Invalid `address_outside_subnet`, `address_reserved` or `address_unfit`, Conflict `address_in_use`, Exhausted
    `subnet_full`. `blaming` says which of the ports it is about.
    """
    parts: list[_Part] = []
    for wish in wishes:
        with blaming(wish.index):
            parts += _parts(tx, known, wish)
    given: dict[str, list[IPv6Address]] = {wish.port_id: [] for wish in wishes}
    for subnet in known:
        here = [part for part in parts if part.subnet is subnet]
        # what was asked for comes first, so that no choice takes it
        fixed = _fixed(tx, subnet, [part for part in here if part.address is not None], blaming)
        ipv6_ipam.give(tx.connection, fixed)
        loose = [part for part in here if part.address is None]
        chosen = ipv6_ipam.choose(tx.connection, subnet.id, len(loose)) if loose else []
        others = [
            Place(subnet.id, address, part.wish.port_id, part.position)
            for part, address in zip(loose, chosen, strict=True)
        ]
        ipv6_ipam.give(tx.connection, others)
        for place in sorted((*fixed, *others), key=lambda place: place.position):
            given[place.port_id].append(place.address)
    return given


def _parts(tx: Transaction, known: Sequence[Ipv6SubnetRow], wish: Wish) -> list[_Part]:
    asked: dict[str, list[tuple[str, IPv6Address | None]]] = {}
    for place, item in wish.asked:
        field = f"fixed_ips.{place}.address"
        subnet = _subnet_of(known, item, place)
        address = item.address
        assert address is None or isinstance(address, IPv6Address), "it is one of an IPv6 subnet"
        if subnet.chosen:
            if address is not None and address not in wish.had:
                ipv6_ipam.require_usable(tx.connection, subnet, address, field)
            asked.setdefault(subnet.id, []).append((field, address))
        elif address not in (None, eui64(subnet.cidr, wish.mac)):
            own = eui64(subnet.cidr, wish.mac)
            message = f"addresses of {subnet.cidr} follow from MACs (mode {subnet.mode}): {wish.mac} has {own}"
            raise Invalid("address_unfit", message, field)
    found: list[_Part] = []
    for subnet in known:
        if not subnet.chosen:
            found.append(_Part(wish, subnet, 0, eui64(subnet.cidr, wish.mac)))
            continue
        wanted = asked.get(subnet.id, [("", None)])
        spare = [one for one in wish.had if one in subnet.cidr and one not in [address for _, address in wanted]]
        for position, (field, address) in enumerate(wanted):
            # what it had meets "any"
            address = spare.pop(0) if address is None and spare else address
            found.append(_Part(wish, subnet, position, address, field or None))
    return found


def _subnet_of(known: Sequence[Ipv6SubnetRow], item: FixedIpSpec, place: int) -> Ipv6SubnetRow:
    candidates = [subnet for subnet in known if item.subnet_id in (None, subnet.id)]
    for subnet in candidates:
        if item.address is None or item.address in subnet.cidr:
            return subnet
    cidrs = ", ".join(str(subnet.cidr) for subnet in candidates) or "any IPv6 subnet of the network"
    message = f"{item.address} is not in {cidrs}"
    raise Invalid("address_outside_subnet", message, f"fixed_ips.{place}.address")


def _fixed(tx: Transaction, subnet: Ipv6SubnetRow, parts: Sequence[_Part], blaming: Blaming) -> list[Place]:
    wanted = [part.address for part in parts if part.address is not None]
    taken = ipv6_ipam.taken(tx.connection, subnet.id, wanted)
    places: list[Place] = []
    for part, address in zip(parts, wanted, strict=True):
        if address in taken:
            with blaming(part.wish.index):
                raise ipv6_ipam.in_use(address, part.field)
        taken.add(address)
        places.append(Place(subnet.id, address, part.wish.port_id, part.position))
    return places


def change(tx: Transaction, known: Sequence[Ipv6SubnetRow], wish: Wish) -> tuple[list[IPv6Address], list[IPv6Address]]:
    """What a port had and has now, when its addresses are asked for anew. Raises as `give` does."""
    before = ipv6_ipam.release(tx.connection, _A.port_id == wish.port_id)
    kept = Wish(wish.port_id, wish.mac, wish.asked, tuple(before), wish.index)
    return before, give(tx, known, [kept])[wish.port_id]


def of_port(connection: Connection, port_id: str) -> list[str]:
    query = select(_A.address).where(_A.port_id == port_id).order_by(_A.position)
    return [str(address) for address in connection.execute(query).scalars()]


def release(tx: Transaction, port_id: str) -> list[IPv6Address]:
    return ipv6_ipam.release(tx.connection, _A.port_id == port_id)


def join(tx: Transaction, network_id: str, added: Sequence[Ipv6SubnetRow]) -> None:
    """Give a network's ports their addresses in new subnets. Raises Conflict and Exhausted as `give` does."""
    rows = tx.connection.execute(select(ports.c.id, ports.c.mac).where(ports.c.network_id == network_id)).all()
    given = give(tx, added, [Wish(row.id, row.mac) for row in rows]) if added else {}
    _tell(tx, {port_id: {"fixed_ips_added": _texts(addresses)} for port_id, addresses in given.items()})


def leave(tx: Transaction, subnet_id: str) -> None:
    """Take a network's ports the addresses in a subnet that is about to go."""
    query = select(_A.port_id, _A.address).where(_A.subnet_id == subnet_id, _A.port_id.is_not(None))
    taken: dict[str, list[IPv6Address]] = {}
    for port_id, address in tx.connection.execute(query):
        taken.setdefault(port_id, []).append(address)
    ipv6_ipam.release(tx.connection, _A.subnet_id == subnet_id)
    _tell(tx, {port_id: {"fixed_ips_removed": _texts(addresses)} for port_id, addresses in taken.items()})


def _tell(tx: Transaction, changes: Mapping[str, Mapping[str, Any]]) -> None:
    told = [{"port": port_id, "r": tx.record(PORT, port_id, UPDATE, change)} for port_id, change in changes.items()]
    if told:
        tx.connection.execute(_TOUCH, told)


def _texts(addresses: Sequence[IPv6Address]) -> list[str]:
    return [str(address) for address in addresses]
