"""The addresses that nodes hold: a gateway on each network they have ports of, and SNAT addresses on external ones."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address

from sqlalchemy import bindparam, select, update

from controller.store import ipam
from controller.store.engine import AnyRow
from controller.store.journal import Transaction
from controller.store.schema import addresses, networks, node_uplinks, nodes, ports, subnets
from controller.store.specs import Exhausted
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
    .where(ports.c.bound_node == bindparam("holder"), ports.c.network_id == bindparam("network"))
    .limit(1)
)


def ensure_gateway(tx: Transaction, node: str, network_id: str) -> None:
    """Give the node its own gateway address if the network's mode wants one. Raises Exhausted `subnet_full`."""
    if tx.connection.execute(_MODE, {"network": network_id}).scalar_one() != GatewayMode.PER_HOST:
        return
    held = _held(tx, ipam.GATEWAY_OWNER, node, network_id)
    if held is None:
        (subnet,) = ipam.subnets_of(tx.connection, [network_id])[network_id]
        (address,) = ipam.allocate(tx, subnet.id, [ipam.Owner(ipam.GATEWAY_OWNER, node=node)])
        tx.touch_node(node, gateway=str(address), network_id=network_id)
    elif held.idle_since is not None:
        tx.connection.execute(_SET_IDLE, {"s": held.subnet_id, "a": held.address, "since": None})


def note_idle_gateways(tx: Transaction, places: Iterable[tuple[str, str]]) -> None:
    """Start the clock for the gateways of (node, network) pairs that have no port left."""
    for node, network_id in places:
        if tx.connection.execute(_ANY_PORT, {"holder": node, "network": network_id}).first() is not None:
            continue
        held = _held(tx, ipam.GATEWAY_OWNER, node, network_id)
        if held is not None and held.idle_since is None:
            tx.connection.execute(_SET_IDLE, {"s": held.subnet_id, "a": held.address, "since": tx.now})


def release_idle_gateways(tx: Transaction, older_than_s: float) -> int:
    """How many were given back."""
    idle = addresses.c.idle_since <= tx.now - older_than_s
    rows = ipam.release(tx, addresses.c.owner == ipam.GATEWAY_OWNER, addresses.c.node.is_not(None), idle)
    for row in rows:
        tx.touch_node(row.node, gateway_released=str(IPv4Address(row.address)))
    return len(rows)


def _held(tx: Transaction, kind: str, node: str, network_id: str) -> AnyRow | None:
    return tx.connection.execute(_HELD, {"kind": kind, "holder": node, "network": network_id}).one_or_none()


def give_snat_to_all(tx: Transaction, network_id: str) -> None:
    """Give every node on a new external network's physical network its address. Raises Exhausted, Conflict."""
    query = (
        select(nodes.c.name, nodes.c.snat_addresses, networks.c.physical_network)
        .join(node_uplinks, node_uplinks.c.node == nodes.c.name)
        .join(networks, networks.c.physical_network == node_uplinks.c.physical_network)
        .where(networks.c.id == network_id)
        .order_by(nodes.c.key)
    )
    rows = tx.connection.execute(query).all()
    # configured addresses first: no node may be given by chance what another one is configured to have
    for configured in (True, False):
        for name, wanted, physical_network in rows:
            if (physical_network in wanted) == configured:
                _give_snat(tx, name, network_id, wanted.get(physical_network))


def give_snat_of_node(tx: Transaction, name: str, configured: dict[str, str]) -> None:
    """Give a node its address on every external network it reaches, and take back the others.

    A node that finds a pool empty still registers and forwards, without SNAT there. Raises Conflict `address_in_use`
    for a configured address.
    """
    query = (
        select(networks.c.id, networks.c.physical_network)
        .join(node_uplinks, node_uplinks.c.physical_network == networks.c.physical_network)
        .where(networks.c.external, node_uplinks.c.node == name)
        .order_by(networks.c.key)
    )
    reached = {id_: physical_network for id_, physical_network in tx.connection.execute(query)}
    left = select(subnets.c.id).where(subnets.c.network_id.not_in(list(reached)))
    conditions = (addresses.c.owner == ipam.SNAT_OWNER, addresses.c.node == name, addresses.c.subnet_id.in_(left))
    for row in ipam.release(tx, *conditions):
        tx.touch_node(name, snat_released=str(IPv4Address(row.address)))
    for network_id, physical_network in reached.items():
        try:
            _give_snat(tx, name, network_id, configured.get(physical_network))
        except Exhausted:
            continue


def _give_snat(tx: Transaction, node: str, network_id: str, configured: str | None) -> None:
    held = _held(tx, ipam.SNAT_OWNER, node, network_id)
    (subnet,) = ipam.subnets_of(tx.connection, [network_id])[network_id]
    wanted = None if configured is None else IPv4Address(configured)
    if wanted is not None and wanted not in subnet.cidr:
        wanted = None
    if held is not None and wanted in (None, IPv4Address(held.address)):
        return
    if held is not None:
        ipam.release(tx, addresses.c.subnet_id == held.subnet_id, addresses.c.address == held.address)
    owner = ipam.Owner(ipam.SNAT_OWNER, node=node)
    if wanted is None:
        (wanted,) = ipam.allocate(tx, subnet.id, [owner])
    else:
        ipam.claim(tx, subnet, wanted, owner, "snat_addresses")
    tx.touch_node(node, snat_address=str(wanted), network_id=network_id)
