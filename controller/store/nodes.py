"""Nodes: registration, and what they learn of their neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update

from controller.store import bindings, codec, gateway_nodes, ipam, moves, node_addresses
from controller.store.audit import before
from controller.store.cluster_schema import node_connections, node_leases
from controller.store.ipv6_schema import ipv6_neighbours
from controller.store.journal import CREATE, DELETE, NODE, UPDATE, Transaction, count_rows
from controller.store.schema import addresses, interfaces, neighbours, networks, node_uplinks, nodes, owed, subnets
from controller.store.specs import Conflict, HostAddress, Invalid, NodeSpec, NotFound

_NEIGHBOUR = {
    table: (
        table.c.node == bindparam("holder"),
        table.c.network_id == bindparam("network"),
        table.c.address == bindparam("a"),
    )
    for table in (neighbours, ipv6_neighbours)
}


def put(tx: Transaction, spec: NodeSpec) -> None:
    """Register a node, or take in what changed of it; its reports count from the beginning again."""
    if not 0 < spec.datapath_id < 2**64:
        raise Invalid("datapath_id_invalid", "a datapath id has 64 bits and is not 0", "datapath_id")
    datapath_id = f"{spec.datapath_id:016x}"
    taken = select(nodes.c.name).where(nodes.c.datapath_id == datapath_id, nodes.c.name != spec.name)
    other = tx.connection.execute(taken).scalar()
    if other is not None:
        raise Conflict("datapath_id_in_use", f"node {other} has datapath id {datapath_id}", "datapath_id", node=other)
    snat_addresses = {name: str(choice) for name, choice in sorted(spec.snat_addresses.items())}
    values: dict[str, Any] = {
        "datapath_id": datapath_id,
        "snat_addresses": snat_addresses,
        "tunnel_address": None if spec.tunnel_address is None else int(spec.tunnel_address),
        "versions": dict(spec.versions),
        "datapath_type": spec.datapath_type,
        "problems": list(spec.problems),
    }
    row = tx.connection.execute(select(nodes).where(nodes.c.name == spec.name)).one_or_none()
    if row is None:
        (key,) = tx.new_keys("node_key", 1)
        fixed: dict[str, Any] = {"name": spec.name, "key": key, "serial": 0, "next_zone": 1, "created_at": tx.now}
        fixed["revision"] = tx.record(NODE, spec.name, CREATE, values | {"physical_networks": spec.physical_networks})
        tx.connection.execute(insert(nodes), fixed | values)
    else:
        changed = {name: value for name, value in values.items() if row._mapping[name] != value}
        if row.serial:
            tx.connection.execute(update(nodes).where(nodes.c.name == spec.name).values(serial=0))
        if changed:
            tx.record(NODE, spec.name, UPDATE, changed, before(row, changed))
            tx.connection.execute(update(nodes).where(nodes.c.name == spec.name).values(**changed))
        if "snat_addresses" in changed:
            _release_hosts_own(tx, spec.name, row.snat_addresses, snat_addresses)
        if "datapath_id" in changed:
            _forget_reports(tx, spec.name)  # another machine: nothing said of the old one is true of it
    _set_physical_networks(tx, spec)
    node_addresses.follow_uplinks(tx, spec.name)


def _release_hosts_own(tx: Transaction, name: str, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Take back what was the host's, by physical network, and is not named any more: the host still has it, and the
    node would answer ARP for it from now on.
    """
    for physical_network, text in before.items():
        choice = codec.load_snat_choice(text)
        if not isinstance(choice, HostAddress) or now.get(physical_network) in (text, str(choice.address)):
            continue
        there = select(subnets.c.id).join(networks, networks.c.id == subnets.c.network_id)
        there = there.where(networks.c.physical_network == physical_network)
        held = (addresses.c.owner == ipam.SNAT_OWNER, addresses.c.node == name, addresses.c.subnet_id.in_(there))
        for row in ipam.release(tx, *held, addresses.c.address == int(choice.address)):
            tx.touch_node(name, snat_released=str(IPv4Address(row.address)))


def _set_physical_networks(tx: Transaction, spec: NodeSpec) -> None:
    table = node_uplinks.c
    query = select(table.physical_network, table.position).where(table.node == spec.name)
    had = {name: position for name, position in tx.connection.execute(query)}
    now = {name: position for position, name in enumerate(dict.fromkeys(spec.physical_networks))}
    if had == now:
        return
    tx.record(
        NODE,
        spec.name,
        UPDATE,
        {"physical_networks": list(now)},
        {"physical_networks": sorted(had, key=had.__getitem__)},
    )
    for name in had.keys() - now.keys():
        tx.connection.execute(delete(node_uplinks).where(table.node == spec.name, table.physical_network == name))
    for name, position in now.items():
        if name not in had:
            row = {"node": spec.name, "physical_network": name, "position": position}
            tx.connection.execute(insert(node_uplinks), row)
        elif had[name] != position:
            where = (table.node == spec.name, table.physical_network == name)
            tx.connection.execute(update(node_uplinks).where(*where).values(position=position))
    if had.keys() != now.keys():
        bindings.reconcile(tx, bindings.concerned(tx, spec.name))


def _forget_reports(tx: Transaction, name: str) -> None:
    """As if the node had never reported: its ports are unbound, or bound where else they were seen."""
    concerned = bindings.concerned(tx, name)
    tx.connection.execute(delete(interfaces).where(interfaces.c.node == name))
    for table in _NEIGHBOUR:
        tx.connection.execute(delete(table).where(table.c.node == name))
    tx.connection.execute(update(node_uplinks).where(node_uplinks.c.node == name).values(ofport=None))
    bindings.reconcile(tx, concerned)


def delete_node(tx: Transaction, name: str) -> None:
    """Its ports stay, unbound; its addresses are free again."""
    row = tx.connection.execute(select(nodes).where(nodes.c.name == name)).one_or_none()
    if row is None:
        raise NotFound("node_unknown", f"there is no node {name}")
    _forget_reports(tx, name)
    moves.forget_node(tx, name)
    ipam.release(tx, addresses.c.node == name)
    for table in (owed, node_leases, node_connections):
        tx.connection.execute(delete(table).where(table.c.node == name))
    tx.connection.execute(delete(node_uplinks).where(node_uplinks.c.node == name))
    tx.connection.execute(delete(nodes).where(nodes.c.name == name))
    tx.record(NODE, name, DELETE, {}, before(row, ("datapath_id", "snat_addresses", "tunnel_address")))
    gateway_nodes.settle(tx)


def learn_neighbour(tx: Transaction, node: str, network_id: str, address: IPv4Address | IPv6Address, mac: str) -> bool:
    """False when it was known. Raises NotFound."""
    if not count_rows(tx.connection, nodes, nodes.c.name == node):
        raise NotFound("node_unknown", f"there is no node {node}")
    if not count_rows(tx.connection, networks, networks.c.id == network_id):
        raise NotFound("network_unknown", f"there is no network {network_id}")
    of_ipv6 = isinstance(address, IPv6Address)
    table, value = (ipv6_neighbours, address) if of_ipv6 else (neighbours, int(address))
    place = {"holder": node, "network": network_id, "a": value}
    known = tx.connection.execute(select(table.c.mac).where(*_NEIGHBOUR[table]), place).scalar()
    if known == mac:
        return False
    if known is None:
        row = {"node": node, "network_id": network_id, "address": value, "mac": mac}
        tx.connection.execute(insert(table), row)
    else:
        tx.connection.execute(update(table).where(*_NEIGHBOUR[table]).values(mac=mac), place)
    tx.touch_node(node, neighbour=[str(address), mac], network_id=network_id)
    return True
