"""Addresses that are kept after their port has gone, because its client may still use them: until its lease ends."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import IPv4Address

from sqlalchemy import Connection, bindparam, delete, select, update

from controller.store import ipam
from controller.store.address_specs import HoldPolicy
from controller.store.ipv6_schema import ipv6_leases
from controller.store.journal import HELD_ADDRESSES, UPDATE, Transaction
from controller.store.schema import addresses, leases, subnets
from controller.store.specs import Conflict, NotFound

BOUND = "bound"
_MOMENT_S = 4.0
"""Longer than it takes until a jump of the clock is noticed, and shorter than any jump."""

_A = addresses.c
_LEASES = select(leases.c.address, leases.c.expires_at).where(
    leases.c.port_id == bindparam("port"), leases.c.state == BOUND
)
_END_LEASES = delete(leases).where(
    leases.c.port_id == bindparam("port"), leases.c.address.in_(bindparam("numbers", expanding=True))
)
_HOLD = (
    update(addresses)
    .where(_A.subnet_id == bindparam("s"), _A.address == bindparam("a"), _A.owner.is_(None))
    .values(held_until=bindparam("until"), leased_until=bindparam("lease_end"))
)
_OVER = _A.held_until <= bindparam("now")
_ALL_OVER = (
    select(subnets.c.network_id, _A.address)
    .join(subnets, subnets.c.id == _A.subnet_id)
    .where(_OVER)
    .order_by(subnets.c.network_id, _A.address)
)
_ANY_OVER = select(_A.address).where(_OVER).limit(1)


def keep(tx: Transaction, port_id: str, subnet_ids: Collection[str], released: Collection[int], to: HoldPolicy) -> None:
    """Keep what a port has just given back of these addresses, where its lease is live. Its leases of them are over."""
    ends = {address: end for address, end in tx.connection.execute(_LEASES, {"port": port_id})}
    kept = [
        {"s": subnet_id, "a": address, "until": until, "lease_end": ends[address]}
        for subnet_id in subnet_ids
        for address in released
        if (until := to.end(tx.now, ends.get(address))) is not None
    ]
    if kept:
        tx.connection.execute(_HOLD, kept)
    if released:
        tx.connection.execute(_END_LEASES, {"port": port_id, "numbers": sorted(released)})


def any_over(connection: Connection, now: float) -> bool:
    return connection.execute(_ANY_OVER, {"now": now}).first() is not None


def end_all(tx: Transaction) -> int:
    """Free those that are over, as the last to be chosen again; how many."""
    over: dict[str, list[int]] = {}
    for network_id, address in tx.connection.execute(_ALL_OVER, {"now": tx.now}):
        over.setdefault(network_id, []).append(address)
    for network_id, numbers in over.items():
        _note(tx, network_id, numbers)
    freed = update(addresses).where(_OVER).values(held_until=None, leased_until=None, released_at=tx.revision)
    return int(tx.connection.execute(freed, {"now": tx.now}).rowcount)


def _note(tx: Transaction, network_id: str, numbers: Iterable[int]) -> None:
    """In the journal, so that what is freed later has another revision, and is chosen later."""
    tx.record(HELD_ADDRESSES, network_id, UPDATE, {"released": [str(IPv4Address(number)) for number in numbers]})


def end(tx: Transaction, network_id: str, address: IPv4Address) -> None:
    """Free one whose time is not over. Raises NotFound `network_unknown` or `address_unknown`, Conflict
    `address_in_use`.
    """
    known = ipam.subnets_of(tx.connection, [network_id]).get(network_id)
    if known is None:
        raise NotFound("network_unknown", f"there is no network {network_id}")
    here = (_A.subnet_id.in_([subnet.id for subnet in known]), _A.address == int(address))
    row = tx.connection.execute(select(_A.owner, _A.held_until).where(*here)).first()
    if row is not None and row.owner is not None:
        raise Conflict("address_in_use", f"{address} is in use, not just kept", address=str(address))
    if row is None or row.held_until is None:
        raise NotFound("address_unknown", f"{address} is not kept for anybody")
    _note(tx, network_id, [int(address)])
    freed = {"held_until": None, "leased_until": None, "released_at": tx.revision}
    tx.connection.execute(update(addresses).where(*here).values(**freed))


def shift(connection: Connection, seconds: float, now: float) -> int:
    """The clock has jumped so far, to `now`; how many ends of holds and of leases were moved along. A lease that was
    written down a moment ago is one by the new clock.
    """
    moved = {"held_until": _A.held_until + seconds, "leased_until": _A.leased_until + seconds}
    shifted = connection.execute(update(addresses).where(_A.held_until.is_not(None)).values(**moved)).rowcount
    for table in (leases, ipv6_leases):
        is_old = ~table.c.updated_at.between(now - _MOMENT_S, now)
        later = update(table).where(table.c.state == BOUND, is_old).values(expires_at=table.c.expires_at + seconds)
        shifted += connection.execute(later).rowcount
    return int(shifted)
