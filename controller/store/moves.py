"""VMs that move: the second binding of a port, from the order to expect it to the end of passing on what comes late.

`prepare`, `activate` and `withdraw` are somebody's wish; `follow` is what nodes report.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import select, update

from controller.store import node_addresses, own_snat, zones
from controller.store.audit import before
from controller.store.engine import AnyRow
from controller.store.journal import PORT, UPDATE, Transaction
from controller.store.schema import networks, node_uplinks, nodes, ports
from controller.store.specs import Conflict, NotFound
from flows.model import MigrationPhase

_NOWHERE: Mapping[str, Any] = {
    "migration": None,
    "other_node": None,
    "other_ofport": None,
    "other_zone": None,
    "moved_at": None,
}
_ROW = select(ports, networks.c.physical_network).join(networks, networks.c.id == ports.c.network_id)


def prepare(tx: Transaction, port_id: str, node: str) -> None:
    """Have a node expect the port. It is served there once it has come; `follow` looks whether its interface has.

    Raises NotFound, Conflict, Exhausted.
    """
    row = _port(tx, port_id)
    if tx.connection.execute(select(nodes.c.name).where(nodes.c.name == node)).first() is None:
        raise NotFound("node_unknown", f"there is no node {node}", "node")
    if row.bound_node is None:
        raise Conflict("port_unbound", "the port is bound nowhere, so there is nothing to move", "node")
    if node == row.bound_node:
        raise Conflict("binding_exists", f"the port is bound to {node}", "node")
    if row.migration == MigrationPhase.PREPARED:
        if node == row.other_node:
            return
        raise Conflict("binding_exists", f"{row.other_node} already expects the port", "node", node=row.other_node)
    there = (node_uplinks.c.node == node, node_uplinks.c.physical_network == row.physical_network)
    if tx.connection.execute(select(node_uplinks.c.node).where(*there)).first() is None:
        raise Conflict("node_unfit", f"node {node} has no physical network '{row.physical_network}'", "node")
    if row.migration is not None:
        end(tx, [row])
    for network_id, subnet_id in node_addresses.subnets_of_ports(tx.connection, [port_id]):
        node_addresses.ensure_gateway(tx, node, network_id, subnet_id)
    _write(tx, row, migration=MigrationPhase.PREPARED.value, other_node=node)
    own_snat.settle(tx, node)


def activate(tx: Transaction, port_id: str, node: str) -> None:
    """The port is served by the node that expects it. Where it is served already, nothing happens."""
    row = _port(tx, port_id)
    if row.bound_node == node:
        return
    _refuse_unexpected(row, node)
    if row.migration != MigrationPhase.PREPARED:
        raise Conflict("binding_moved", f"the port has moved away from {node}: prepare it to move back", "node")
    if row.other_ofport is None:
        raise Conflict("binding_unseen", f"node {node} does not show the port's interface", "node")
    _move(tx, row)


def withdraw(tx: Transaction, port_id: str, node: str) -> None:
    """The node no longer expects the port, or has passed on enough."""
    row = _port(tx, port_id)
    if row.bound_node == node:
        raise Conflict("binding_active", f"{node} serves the port", "node")
    _refuse_unexpected(row, node)
    end(tx, [row])


def end_old(tx: Transaction, older_than_s: float) -> int:
    """End what has been passed on for long enough; how many."""
    long_ago = (ports.c.migration == MigrationPhase.MOVED, ports.c.moved_at <= tx.now - older_than_s)
    rows = tx.connection.execute(_ROW.where(*long_ago).order_by(ports.c.key)).all()
    end(tx, rows)
    return len(rows)


def follow(
    tx: Transaction,
    rows: Sequence[AnyRow],
    seats: Mapping[str, Mapping[str, int]],
    reached: Collection[tuple[str, str]],
) -> list[str]:
    """What the reported interfaces mean for ports on their way. The ids of those that it changes.

    Where the interface is gone from the node that expected it, the move is off. Where it is gone from the node that
    served it, the VM can only be on the other one; and there it is to be when the port is scheduled there.
    """
    changed = []
    for row in rows:
        if row.migration != MigrationPhase.PREPARED:
            continue
        shown = seats.get(row.id, {})
        places = {node: ofport for node, ofport in shown.items() if (node, row.physical_network) in reached}
        ofport = places.get(row.other_node)
        if ofport is None:
            if row.other_ofport is None:
                continue
            end(tx, [row])
        elif row.bound_node not in places or row.node == row.other_node:
            zone = row.other_zone or _zone(tx, row.other_node)
            if zone is None:
                continue
            _move(tx, row, ofport, zone)
        elif ofport != row.other_ofport:
            zone = row.other_zone or _zone(tx, row.other_node)
            if zone is None:
                continue
            _write(tx, row, other_ofport=ofport, other_zone=zone)
        else:
            continue
        changed.append(row.id)
    return changed


def end(tx: Transaction, rows: Sequence[AnyRow]) -> None:
    """Each of them has one node again."""
    for row in rows:
        _write(tx, row, **_NOWHERE)
    for node, network_id, phase in sorted({(row.other_node, row.network_id, row.migration) for row in rows}):
        lease_time = select(networks.c.lease_time).where(networks.c.id == network_id)
        # the VM keeps the gateway that it was given until it renews its lease
        kept = tx.connection.execute(lease_time).scalar_one() if phase == MigrationPhase.MOVED else 0
        node_addresses.note_idle_gateways(tx, [(node, network_id)], kept)


def forget_node(tx: Transaction, node: str) -> None:
    """End all moves from and to a node that is about to be deleted."""
    end(tx, tx.connection.execute(_ROW.where(ports.c.other_node == node).order_by(ports.c.key)).all())


def _move(tx: Transaction, row: AnyRow, ofport: int | None = None, zone: int | None = None) -> None:
    """The two bindings change places."""
    _write(
        tx,
        row,
        bound_node=row.other_node,
        ofport=row.other_ofport if ofport is None else ofport,
        zone=row.other_zone if zone is None else zone,
        migration=MigrationPhase.MOVED.value,
        other_node=row.bound_node,
        other_ofport=row.ofport,
        other_zone=row.zone,
        moved_at=tx.now,
        # where it is scheduled follows
        **({} if row.node is None else {"node": row.other_node}),
    )


def _zone(tx: Transaction, node: str) -> int | None:
    return next(iter(zones.free(tx, node, 1)), None)


def _write(tx: Transaction, row: AnyRow, **values: Any) -> None:
    revision = tx.record(PORT, row.id, UPDATE, values, before(row, values))
    tx.connection.execute(update(ports).where(ports.c.id == row.id).values(**values, revision=revision))


def _port(tx: Transaction, port_id: str) -> AnyRow:
    row = tx.connection.execute(_ROW.where(ports.c.id == port_id)).one_or_none()
    if row is None:
        raise NotFound("port_unknown", f"there is no port {port_id}")
    return row


def _refuse_unexpected(row: AnyRow, node: str) -> None:
    if row.other_node != node:
        raise NotFound("binding_unknown", f"the port has no binding to {node}")
