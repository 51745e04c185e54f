"""The addresses that nodes hold: a gateway on each network they have ports of, and SNAT addresses on external ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from sqlalchemy import Connection, and_, bindparam, or_, select, update

from controller.store import codec, gateway_nodes, ipam, own_snat
from controller.store.engine import AnyRow, chunks
from controller.store.journal import Transaction
from controller.store.schema import addresses, networks, node_uplinks, nodes, ports, subnets
from controller.store.specs import AddressRange, Conflict, Exhausted, HostAddress, Invalid, SnatChoice
from flows.model import GatewayMode

_MODE = select(networks.c.gateway_mode).where(networks.c.id == bindparam("network"))
_HELD = (
    select(addresses.c.subnet_id, addresses.c.address, addresses.c.idle_since)
    .join(subnets, subnets.c.id == addresses.c.subnet_id)
    .where(
        addresses.c.owner == bindparam("kind"),
        addresses.c.node == bindparam("holder"),
        subnets.c.network_id == bindparam("network"),
    )
)
_SET_IDLE = (
    update(addresses)
    .where(addresses.c.subnet_id == bindparam("s"), addresses.c.address == bindparam("a"))
    .values(idle_since=bindparam("since"))
)
_ANY_PORT = (
    select(ports.c.id)
    .where(
        or_(ports.c.bound_node == bindparam("holder"), ports.c.other_node == bindparam("holder")),
        ports.c.network_id == bindparam("network"),
    )
    .limit(1)
)
_PLACES = (
    select(
        node_uplinks.c.node,
        nodes.c.snat_addresses,
        *networks.c["name", "physical_network"],
        *subnets.c["network_id", "cidr", "gateway"],
        subnets.c.id.label("subnet_id"),
        addresses.c.address,
    )
    .select_from(node_uplinks)
    .join(nodes, nodes.c.name == node_uplinks.c.node)
    .join(networks, and_(networks.c.physical_network == node_uplinks.c.physical_network, networks.c.external))
    .join(subnets, subnets.c.network_id == networks.c.id)
    .outerjoin(
        addresses,
        and_(
            addresses.c.subnet_id == subnets.c.id,
            addresses.c.node == node_uplinks.c.node,
            addresses.c.owner == ipam.SNAT_OWNER,
            addresses.c.for_network == "",
        ),
    )
    .order_by(nodes.c.key, networks.c.key)
)


def ensure_gateway(tx: Transaction, node: str, network_id: str) -> None:
    """Give the node its own gateway address if the network's mode wants one, or the network its one gateway node.

    Raises Exhausted `subnet_full`.
    """
    mode = tx.connection.execute(_MODE, {"network": network_id}).scalar_one()
    if mode == GatewayMode.SINGLE:
        gateway_nodes.ensure(tx, network_id, node)
    if mode != GatewayMode.PER_HOST:
        return
    held = _held(tx, ipam.GATEWAY_OWNER, node, network_id)
    if held is None:
        (subnet,) = ipam.subnets_of(tx.connection, [network_id])[network_id]
        (address,) = ipam.allocate(tx, subnet.id, [ipam.Owner(ipam.GATEWAY_OWNER, node=node)])
        tx.touch_node(node, gateway=str(address), network_id=network_id)
    elif held.idle_since is not None:
        tx.connection.execute(_SET_IDLE, {"s": held.subnet_id, "a": held.address, "since": None})


def note_idle_gateways(tx: Transaction, places: Iterable[tuple[str, str]], needed_for: float = 0) -> None:
    """Start the clock for the gateways of (node, network) pairs that have no port left, `needed_for` seconds from now:
    a VM that has moved may still use one.
    """
    for node, network_id in places:
        if tx.connection.execute(_ANY_PORT, {"holder": node, "network": network_id}).first() is not None:
            continue
        held = _held(tx, ipam.GATEWAY_OWNER, node, network_id)
        if held is not None and held.idle_since is None:
            tx.connection.execute(_SET_IDLE, {"s": held.subnet_id, "a": held.address, "since": tx.now + needed_for})
        own_snat.note_idle(tx, node, network_id)


def release_idle_gateways(tx: Transaction, older_than_s: float) -> int:
    """How many were given back; with them the SNAT addresses that were for one network alone."""
    idle = addresses.c.idle_since <= tx.now - older_than_s
    rows = ipam.release(tx, addresses.c.node.is_not(None), idle)
    for row in rows:
        what = "gateway_released" if row.owner == ipam.GATEWAY_OWNER else "snat_released"
        tx.touch_node(row.node, **{what: str(IPv4Address(row.address))})
    return len(rows)


def _held(tx: Transaction, kind: str, node: str, network_id: str) -> AnyRow | None:
    return tx.connection.execute(_HELD, {"kind": kind, "holder": node, "network": network_id}).one_or_none()


# -- SNAT addresses: one for each node on each external network it reaches


@dataclass(frozen=True, slots=True)
class _Place:
    """A node on an external network. `choice` is what its agent was configured to take on that physical network."""

    node: str
    choice: SnatChoice | None
    network_name: str
    physical_network: str
    subnet: ipam.SubnetRow
    held: IPv4Address | None

    @property
    def meant(self) -> bool:
        """The choice is of this network."""
        cidr = self.subnet.cidr
        match self.choice:
            case IPv4Address():
                return self.choice in cidr
            case HostAddress(address):
                return address in cidr
            case AddressRange(first, last):
                return first <= cidr[-1] and last >= cidr[0]
        return False

    def takes(self, address: IPv4Address) -> bool:
        match self.choice:
            case IPv4Address():
                return address == self.choice
            case HostAddress(of_host):
                return address == of_host
            case AddressRange(first, last):
                return first <= address <= last
        return True


def _places(connection: Connection, *conditions: Any) -> list[_Place]:
    """By node and network, oldest first.

    A choice that is of another network of the same physical network leaves this one free to give what it has.
    """
    places = []
    for row in connection.execute(_PLACES.where(*conditions)):
        text = row.snat_addresses.get(row.physical_network)
        gateway = None if row.gateway is None else IPv4Address(row.gateway)
        places.append(
            _Place(
                node=row.node,
                choice=None if text is None else codec.load_snat_choice(text),
                network_name=row.name,
                physical_network=row.physical_network,
                subnet=ipam.SubnetRow(row.subnet_id, row.network_id, None, IPv4Network(row.cidr), gateway),
                held=None if row.address is None else IPv4Address(row.address),
            )
        )
    meant = {(place.node, place.physical_network) for place in places if place.meant}
    return [
        replace(place, choice=None) if not place.meant and (place.node, place.physical_network) in meant else place
        for place in places
    ]


def give_snat_to_all(tx: Transaction, network_id: str) -> None:
    """Give every node on a new external network's physical network its address.

    Raises Exhausted when the network's own range is too small for them.
    """
    physical_network = select(networks.c.physical_network).where(networks.c.id == network_id).scalar_subquery()
    places = _places(tx.connection, networks.c.physical_network == physical_network)
    new = [place for place in places if place.subnet.network_id == network_id]
    # no node may be given by chance what another one is configured to have
    new.sort(key=lambda place: (place.choice is None, isinstance(place.choice, AddressRange)))
    for place in new:
        if place.choice is None:
            _give(tx, place)
        else:
            _settle(tx, place)


def follow_uplinks(tx: Transaction, name: str) -> None:
    """Give a node its address on every external network it reaches, and take back the others."""
    reached = (
        select(subnets.c.id)
        .join(networks, networks.c.id == subnets.c.network_id)
        .join(node_uplinks, node_uplinks.c.physical_network == networks.c.physical_network)
        .where(networks.c.external, node_uplinks.c.node == name)
    )
    _release(tx, name, addresses.c.subnet_id.not_in(reached))
    settle_snat(tx, name)
    gateway_nodes.settle(tx)


def settle_snat(tx: Transaction, name: str) -> None:
    """Give a node the addresses it may have by now. Where there is none for it, it goes on without SNAT."""
    for place in _places(tx.connection, node_uplinks.c.node == name):
        _settle(tx, place)
    own_snat.settle(tx, name)
    gateway_nodes.settle(tx, missing=True)


def _settle(tx: Transaction, place: _Place) -> None:
    if place.held is not None:
        if place.takes(place.held):
            return
        _release(tx, place.node, (addresses.c.subnet_id == place.subnet.id) & (addresses.c.for_network == ""))
    with suppress(Exhausted, Conflict, Invalid):
        _give(tx, place)


def _give(tx: Transaction, place: _Place) -> None:
    owner = ipam.Owner(ipam.SNAT_OWNER, node=place.node)
    match place.choice:
        case None:
            (address,) = ipam.allocate(tx, place.subnet.id, [owner])
        case IPv4Address() as address:
            ipam.claim(tx, place.subnet, address, owner, "snat_addresses")
        case HostAddress(address):
            ipam.claim(tx, place.subnet, address, owner, "snat_addresses")
        case AddressRange():
            address = ipam.allocate_within(tx, place.subnet, place.choice, owner)
    tx.touch_node(place.node, snat_address=str(address), network_id=place.subnet.network_id)


def _release(tx: Transaction, node: str, condition: Any) -> None:
    for row in ipam.release(tx, addresses.c.owner == ipam.SNAT_OWNER, addresses.c.node == node, condition):
        tx.touch_node(node, snat_released=str(IPv4Address(row.address)))


def problems(connection: Connection, names: Sequence[str]) -> dict[str, list[str]]:
    """By node: where it should have a SNAT address and has none, and why."""
    found: dict[str, list[str]] = {}
    for part in chunks(names):
        for place in _places(connection, node_uplinks.c.node.in_(part)):
            if place.held is None:
                line = f"no SNAT on network '{place.network_name}': {_why(connection, place)}"
                found.setdefault(place.node, []).append(line)
        for node, line in own_snat.problems(connection, part):
            found.setdefault(node, []).append(line)
    return found


def _why(connection: Connection, place: _Place) -> str:
    choice, cidr = place.choice, place.subnet.cidr
    if choice is None:
        return f"no address is left in the allocation ranges of {cidr}"
    if not place.meant:
        return f"snat_address {choice} is outside {cidr}"
    if isinstance(choice, AddressRange):
        return f"no address is left in snat_address {choice}"
    wanted = choice.address if isinstance(choice, HostAddress) else choice
    where = (addresses.c.subnet_id == place.subnet.id, addresses.c.address == int(wanted))
    row = connection.execute(select(addresses.c.owner, addresses.c.node).where(*where)).one_or_none()
    if row is not None and row.owner is not None:
        return f"snat_address {choice} is in use by {f'node {row.node}' if row.node else f'a {row.owner}'}"
    return f"snat_address {choice} is reserved in {cidr}"
