"""SNAT addresses that a node holds for one network alone, as long as it has ports of it: option `own_snat_address`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from sqlalchemy import Connection, and_, exists, func, or_, select, update

from controller.store import codec, ipam
from controller.store.journal import Transaction
from controller.store.schema import addresses, networks, node_uplinks, nodes, ports, subnets
from controller.store.specs import AddressRange, Exhausted

_A = addresses.c
_OUTSIDE = networks.alias("outside")
# where a network leaves, as `flows.snapshot.Snapshot.external_network` says it
_FIRST = select(func.min(networks.c.key)).where(networks.c.external).scalar_subquery()
_LEAVES = or_(
    _OUTSIDE.c.id == networks.c.external_network_id,
    and_(networks.c.external_network_id.is_(None), _OUTSIDE.c.key == _FIRST),
)

_HERE = or_(ports.c.bound_node == node_uplinks.c.node, ports.c.other_node == node_uplinks.c.node)
_PRESENT = exists().where(_HERE, ports.c.network_id == networks.c.id)


_ANY = select(
    or_(
        exists().where(networks.c.own_snat_address),
        exists().where(_A.owner == ipam.SNAT_OWNER, _A.for_network != ""),
    )
)


@dataclass(frozen=True, slots=True)
class _Wish:
    """A network that has its own SNAT addresses, where it leaves, and a node that reaches the outside there."""

    network_id: str
    network_name: str
    outside_id: str
    physical_network: str
    node: str


def _wishes(connection: Connection, *conditions: Any) -> list[_Wish]:
    query = (
        select(
            networks.c.id,
            networks.c.name,
            _OUTSIDE.c.id.label("outside_id"),
            _OUTSIDE.c.physical_network,
            node_uplinks.c.node,
        )
        .select_from(networks)
        .join(_OUTSIDE, _LEAVES)
        .join(node_uplinks, node_uplinks.c.physical_network == _OUTSIDE.c.physical_network)
        .where(networks.c.own_snat_address, *conditions)
        .order_by(networks.c.key, node_uplinks.c.node)
    )
    return [_Wish(*row) for row in connection.execute(query)]


def settle(tx: Transaction, node: str | None = None) -> None:
    """Give what networks wish for where they have ports, and take back what none wishes for any more.

    `node` None: on all nodes. Where no address is left, the node goes on without.
    """
    here = [] if node is None else [node_uplinks.c.node == node]
    if not tx.connection.execute(_ANY).scalar():  # every port that is bound asks, and few clouds have any
        return
    wishes = _wishes(tx.connection, _PRESENT, *here)
    held = _held(tx.connection, node)
    # those that have no port there any more keep theirs for a while
    kept = {(wish.node, wish.network_id, wish.outside_id) for wish in _wishes(tx.connection, *here)}
    for row in held:
        if (row.node, row.for_network, row.outside_id) not in kept:
            ipam.release(tx, _A.subnet_id == row.subnet_id, _A.address == row.address)
            tx.touch_node(row.node, snat_released=str(IPv4Address(row.address)))
    known = {(row.node, row.for_network, row.outside_id): row for row in held}
    for wish in wishes:
        found = known.get((wish.node, wish.network_id, wish.outside_id))
        if found is None:
            with suppress(Exhausted):
                _give(tx, wish)
        elif found.idle_since is not None:
            where = (_A.subnet_id == found.subnet_id, _A.address == found.address)
            tx.connection.execute(update(addresses).where(*where).values(idle_since=None))


def _held(connection: Connection, node: str | None) -> Sequence[Any]:
    query = (
        select(addresses, subnets.c.network_id.label("outside_id"))
        .join(subnets, subnets.c.id == _A.subnet_id)
        .where(_A.owner == ipam.SNAT_OWNER, _A.for_network != "")
    )
    return connection.execute(query if node is None else query.where(_A.node == node)).all()


def _give(tx: Transaction, wish: _Wish) -> None:
    """Of the pool that the node's agent names, if it names one."""
    owner = ipam.Owner(ipam.SNAT_OWNER, node=wish.node, for_network=wish.network_id)
    texts = tx.connection.execute(select(nodes.c.snat_addresses).where(nodes.c.name == wish.node)).scalar_one()
    text = texts.get(wish.physical_network)
    choice = None if text is None else codec.load_snat_choice(text)
    known = ipam.subnets_of(tx.connection, [wish.outside_id])[wish.outside_id]
    if isinstance(choice, AddressRange):
        for subnet in known:
            if choice.first <= subnet.cidr[-1] and choice.last >= subnet.cidr[0]:
                return _told(tx, wish, ipam.allocate_within(tx, subnet, choice, owner))
    (address,) = ipam.allocate_in(tx, [subnet.id for subnet in known], [owner])
    _told(tx, wish, address)


def _told(tx: Transaction, wish: _Wish, address: IPv4Address) -> None:
    tx.touch_node(wish.node, snat_address=str(address), network_id=wish.outside_id, for_network_id=wish.network_id)


def note_idle(tx: Transaction, node: str, network_id: str) -> None:
    """Start the clock: the node has no port of the network any more."""
    where = (_A.node == node, _A.for_network == network_id, _A.idle_since.is_(None))
    tx.connection.execute(update(addresses).where(*where).values(idle_since=tx.now))


def problems(connection: Connection, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(node, line) where a node should have such an address and has none."""
    has = exists().where(
        _A.subnet_id == subnets.c.id,
        subnets.c.network_id == _OUTSIDE.c.id,
        _A.node == node_uplinks.c.node,
        _A.for_network == networks.c.id,
    )
    for wish in _wishes(connection, node_uplinks.c.node.in_(names), _PRESENT, ~has):
        yield wish.node, f"no SNAT address of its own for network '{wish.network_name}': none is left"
