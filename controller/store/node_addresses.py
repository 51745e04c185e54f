"""The addresses that nodes hold: a gateway in each subnet they have ports of, SNAT addresses on external networks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from sqlalchemy import Connection, and_, bindparam, exists, or_, select, update

from controller.store import codec, gateway_nodes, ipam, own_snat
from controller.store.engine import AnyRow, chunks
from controller.store.journal import Transaction
from controller.store.quarantine import UNREADABLE
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
    .order_by(subnets.c.position)
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
_ANY_ADDRESS = _ANY_PORT.where(
    exists().where(addresses.c.port_id == ports.c.id, addresses.c.subnet_id == bindparam("s"))
)
_SUBNETS_OF_PORTS = (
    select(subnets.c.network_id, addresses.c.subnet_id, addresses.c.port_id)
    .join(subnets, subnets.c.id == addresses.c.subnet_id)
    .where(addresses.c.port_id.in_(bindparam("ids", expanding=True)))
    .order_by(subnets.c.network_id, subnets.c.position)
)
_PLACES = (
    select(
        node_uplinks.c.node,
        nodes.c.snat_addresses,
        *networks.c["name", "physical_network"],
        networks.c.id.label("network_id"),
        select(addresses.c.address)
        .join(subnets, subnets.c.id == addresses.c.subnet_id)
        .where(
            subnets.c.network_id == networks.c.id,
            addresses.c.node == node_uplinks.c.node,
            addresses.c.owner == ipam.SNAT_OWNER,
            addresses.c.for_network == "",
        )
        .scalar_subquery()
        .label("address"),
    )
    .select_from(node_uplinks)
    .join(nodes, nodes.c.name == node_uplinks.c.node)
    .join(networks, and_(networks.c.physical_network == node_uplinks.c.physical_network, networks.c.external))
    .order_by(nodes.c.key, networks.c.key)
)


def subnets_of_ports(connection: Connection, port_ids: Sequence[str]) -> dict[tuple[str, str], list[str]]:
    """(network, subnet) of the addresses of some ports -> which of the ports."""
    found: dict[tuple[str, str], list[str]] = {}
    for part in chunks(port_ids):
        for network_id, subnet_id, port_id in connection.execute(_SUBNETS_OF_PORTS, {"ids": part}):
            found.setdefault((network_id, subnet_id), []).append(port_id)
    return found


def ensure_gateway(tx: Transaction, node: str, network_id: str, subnet_id: str) -> None:
    """Give the node its own gateway address in a subnet if the network's mode wants one, or the network its one gateway
    node.

    Raises Exhausted `subnet_full`.
    """
    mode = tx.connection.execute(_MODE, {"network": network_id}).scalar_one()
    if mode == GatewayMode.SINGLE:
        gateway_nodes.ensure(tx, network_id, node)
    if mode != GatewayMode.PER_HOST:
        return
    held = next((row for row in _held(tx, node, network_id) if row.subnet_id == subnet_id), None)
    if held is None:
        (address,) = ipam.allocate(tx, subnet_id, [ipam.Owner(ipam.GATEWAY_OWNER, node=node)])
        tx.touch_node(node, gateway=str(address), network_id=network_id)
    elif held.idle_since is not None:
        tx.connection.execute(_SET_IDLE, {"s": held.subnet_id, "a": held.address, "since": None})


def note_idle_gateways(tx: Transaction, places: Iterable[tuple[str, str]], needed_for: float = 0) -> None:
    """Start the clock for those gateways of (node, network) pairs in whose subnet no port is left, `needed_for` seconds
    from now: a VM that has moved may still use one.
    """
    for node, network_id in places:
        here = {"holder": node, "network": network_id}
        for held in _held(tx, node, network_id):
            used = tx.connection.execute(_ANY_ADDRESS, {**here, "s": held.subnet_id}).first()
            if used is None and held.idle_since is None:
                idle = {"s": held.subnet_id, "a": held.address, "since": tx.now + needed_for}
                tx.connection.execute(_SET_IDLE, idle)
        if tx.connection.execute(_ANY_PORT, here).first() is None:
            own_snat.note_idle(tx, node, network_id)


def release_idle_gateways(tx: Transaction, older_than_s: float) -> int:
    """How many were given back; with them the SNAT addresses that were for one network alone."""
    idle = addresses.c.idle_since <= tx.now - older_than_s
    rows = ipam.release(tx, addresses.c.node.is_not(None), idle)
    for row in rows:
        what = "gateway_released" if row.owner == ipam.GATEWAY_OWNER else "snat_released"
        tx.touch_node(row.node, **{what: str(IPv4Address(row.address))})
    return len(rows)


def release_gateways(tx: Transaction, subnet_id: str) -> None:
    """Of all nodes, in a subnet that is about to go."""
    of_nodes = (addresses.c.owner == ipam.GATEWAY_OWNER, addresses.c.node.is_not(None))
    for row in ipam.release(tx, addresses.c.subnet_id == subnet_id, *of_nodes):
        tx.touch_node(row.node, gateway_released=str(IPv4Address(row.address)))


def _held(tx: Transaction, node: str, network_id: str) -> Sequence[AnyRow]:
    """The gateways of a node on a network."""
    values = {"kind": ipam.GATEWAY_OWNER, "holder": node, "network": network_id}
    return tx.connection.execute(_HELD, values).all()


# -- SNAT addresses: one for each node on each external network it reaches


@dataclass(frozen=True, slots=True)
class _Place:
    """A node on an external network. `choice` is what its agent was configured to take on that physical network."""

    node: str
    choice: SnatChoice | None
    network_id: str
    network_name: str
    physical_network: str
    subnets: tuple[ipam.SubnetRow, ...]
    held: IPv4Address | None

    @property
    def meant(self) -> ipam.SubnetRow | None:
        """The subnet that the choice is of; None: it is of another network."""
        choice = self.choice
        return None if choice is None else next((one for one in self.subnets if is_of(one.cidr, choice)), None)

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
    """By node and network, oldest first: a node has one such address on a network, whichever subnet it is of.

    A choice that is of another network of the same physical network leaves this one free to give what it has.
    """
    rows = connection.execute(_PLACES.where(*conditions)).all()
    known = ipam.subnets_of(connection, {row.network_id for row in rows})
    places = []
    for row in rows:
        try:
            text = row.snat_addresses.get(row.physical_network)
            choice = None if text is None else codec.load_snat_choice(text)
        except UNREADABLE:
            continue  # a damaged row: its node is left out, by name, where nodes are read
        places.append(
            _Place(
                node=row.node,
                choice=choice,
                network_id=row.network_id,
                network_name=row.name,
                physical_network=row.physical_network,
                subnets=tuple(known[row.network_id]),
                held=None if row.address is None else IPv4Address(row.address),
            )
        )
    meant = {(place.node, place.physical_network) for place in places if place.meant}
    return [
        replace(place, choice=None) if not place.meant and (place.node, place.physical_network) in meant else place
        for place in places
    ]


def is_of(cidr: IPv4Network, choice: SnatChoice) -> bool:
    """What a node may leave with is of a subnet, at least in part."""
    match choice:
        case HostAddress(address):
            return address in cidr
        case AddressRange(first, last):
            return first <= cidr[-1] and last >= cidr[0]
    return choice in cidr


def give_snat_to_all(tx: Transaction, network_id: str) -> None:
    """Give every node on a new external network's physical network its address.

    Raises Exhausted when the network's own range is too small for them.
    """
    physical_network = select(networks.c.physical_network).where(networks.c.id == network_id).scalar_subquery()
    places = _places(tx.connection, networks.c.physical_network == physical_network)
    new = [place for place in places if place.network_id == network_id]
    # no node may be given by chance what another one is configured to have
    new.sort(key=lambda place: (place.choice is None, isinstance(place.choice, AddressRange)))
    for place in new:
        if place.choice is None:
            _give(tx, place)
        else:
            _settle(tx, place)


def settle_snat_of_all(tx: Transaction, network_id: str) -> None:
    """Give the nodes on an external network the addresses they may have since it has grown."""
    for name in sorted({place.node for place in _places(tx.connection, networks.c.id == network_id)}):
        settle_snat(tx, name)


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
        own = addresses.c.subnet_id.in_([subnet.id for subnet in place.subnets])
        _release(tx, place.node, own & (addresses.c.for_network == ""))
    with suppress(Exhausted, Conflict, Invalid):
        _give(tx, place)


def _give(tx: Transaction, place: _Place) -> None:
    owner = ipam.Owner(ipam.SNAT_OWNER, node=place.node)
    subnet = place.meant or place.subnets[0]
    match place.choice:
        case None:
            (address,) = ipam.allocate_in(tx, [one.id for one in place.subnets], [owner])
        case IPv4Address() as address:
            ipam.claim(tx, subnet, address, owner, "snat_addresses")
        case HostAddress(address):
            ipam.claim(tx, subnet, address, owner, "snat_addresses")
        case AddressRange():
            address = ipam.allocate_within(tx, subnet, place.choice, owner)
    tx.touch_node(place.node, snat_address=str(address), network_id=place.network_id)


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
    choice, subnet = place.choice, place.meant
    cidrs = ", ".join(str(one.cidr) for one in place.subnets)
    if choice is None:
        return f"no address is left in the allocation ranges of {cidrs}"
    if subnet is None:
        return f"snat_address {choice} is outside {cidrs}"
    if isinstance(choice, AddressRange):
        return f"no address is left in snat_address {choice}"
    wanted = choice.address if isinstance(choice, HostAddress) else choice
    where = (addresses.c.subnet_id == subnet.id, addresses.c.address == int(wanted))
    row = connection.execute(select(addresses.c.owner, addresses.c.node).where(*where)).one_or_none()
    if row is not None and row.owner is not None:
        return f"snat_address {choice} is in use by {f'node {row.node}' if row.node else f'a {row.owner}'}"
    return f"snat_address {choice} is reserved in {subnet.cidr}"
