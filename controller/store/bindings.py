"""Which port is where: nodes report interfaces, and ports follow.

`reconcile` is the only thing that binds. It looks at what is reported now and makes it so, whatever led there: a
report, a new port, a port moved to another node, a node deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from sqlalchemy import Connection, bindparam, delete, insert, or_, select, update

from controller.store import address_holders, moves, node_addresses, own_snat, zones
from controller.store.engine import AnyRow, chunks
from controller.store.journal import PORT, UPDATE, Transaction
from controller.store.schema import interfaces, networks, node_uplinks, nodes, ports
from controller.store.specs import Conflict, Exhausted, InterfaceReport, Invalid, NotFound, ReportedInterface

BOUND, UNKNOWN, REFUSED = "bound", "unknown", "refused: "  # and the phase of a migration, where it is not bound

_COLUMNS = (
    *ports.c["id", "network_id", "node", "bound_node", "ofport", "zone", "binding_error"],
    *ports.c["migration", "other_node", "other_ofport", "other_zone"],
    networks.c.physical_network,
)
_KNOWN = select(*_COLUMNS).join(networks, networks.c.id == ports.c.network_id)
_PORTS = _KNOWN.where(ports.c.id.in_(bindparam("ids", expanding=True))).order_by(ports.c.key)
_SEATS = select(interfaces.c.iface_id, interfaces.c.node, interfaces.c.ofport).where(
    interfaces.c.iface_id.in_(bindparam("ids", expanding=True)), interfaces.c.ofport > 0
)
_REPORTED = select(*interfaces.c["iface_id", "ofport", "name", "mac"]).where(interfaces.c.node == bindparam("holder"))
_SEATED_PORTS = _KNOWN.join(interfaces, interfaces.c.iface_id == ports.c.id).where(
    interfaces.c.node == bindparam("holder")
)
_CONCERNED = select(ports.c.id).where(
    or_(
        ports.c.bound_node == bindparam("holder"),
        ports.c.other_node == bindparam("holder"),
        ports.c.id.in_(select(interfaces.c.iface_id).where(interfaces.c.node == bindparam("holder"))),
    )
)
_PLACE = (
    update(ports)
    .where(ports.c.id == bindparam("port"))
    .values(bound_node=bindparam("at"), ofport=bindparam("o"), zone=bindparam("z"), revision=bindparam("r"))
)
_EXPLAIN = (
    update(ports).where(ports.c.id == bindparam("port")).values(binding_error=bindparam("why"), revision=bindparam("r"))
)
_REACHED = select(node_uplinks.c.node, node_uplinks.c.physical_network).where(
    node_uplinks.c.node.in_(bindparam("names", expanding=True))
)
_ELSEWHERE = (
    select(interfaces.c.node, ports.c.id, ports.c.bound_node)
    .join(ports, ports.c.id == interfaces.c.iface_id)
    .where(
        interfaces.c.node.in_(bindparam("names", expanding=True)),
        interfaces.c.ofport > 0,
        ports.c.bound_node != interfaces.c.node,
        or_(ports.c.other_node.is_(None), ports.c.other_node != interfaces.c.node),
    )
    .order_by(ports.c.key)
)
_SERIAL = select(nodes.c.serial).where(nodes.c.name == bindparam("holder"))
_SET_SERIAL = update(nodes).where(nodes.c.name == bindparam("holder")).values(serial=bindparam("newest"))
_ADD = insert(interfaces)
_UPLINKS = select(node_uplinks.c.physical_network, node_uplinks.c.ofport).where(
    node_uplinks.c.node == bindparam("holder")
)
_FORGET = delete(interfaces).where(interfaces.c.node == bindparam("holder"), interfaces.c.iface_id == bindparam("i"))
_NAMED = 3  # ports of which a node's problems say each


def bind_new(tx: Transaction, port_ids: Sequence[str]) -> None:
    """Bind ports that have just been made, where their interfaces wait already."""
    waiting = [row.iface_id for part in chunks(port_ids) for row in tx.connection.execute(_SEATS, {"ids": part})]
    if waiting:
        reconcile(tx, sorted(set(waiting)))


def concerned(tx: Transaction, node: str) -> list[str]:
    """The ports that are bound to the node, or whose interfaces it shows."""
    return list(tx.connection.execute(_CONCERNED, {"holder": node}).scalars())


def reconcile(tx: Transaction, port_ids: Sequence[str]) -> None:
    """Bind, move and unbind these ports as the reported interfaces say, and note why one that is shown is not bound."""
    seats: dict[str, dict[str, int]] = {}
    rows: list[AnyRow] = []
    for part in chunks(port_ids):
        for iface_id, node, ofport in tx.connection.execute(_SEATS, {"ids": part}):
            seats.setdefault(iface_id, {})[node] = ofport
        rows += tx.connection.execute(_PORTS, {"ids": part})
    reached = _reached(tx, {node for places in seats.values() for node in places})
    changed = moves.follow(tx, [row for row in rows if row.migration is not None], seats, reached)
    if changed:
        again = {row.id: row for part in chunks(changed) for row in tx.connection.execute(_PORTS, {"ids": part})}
        rows = [again.get(row.id, row) for row in rows]
    errors: dict[str, str] = {}
    wanted = []
    for row in rows:
        shown = seats.get(row.id, {})
        target = _target(row, [node for node in shown if (node, row.physical_network) in reached])
        wanted.append((row, target))
        if shown and target is None:
            errors[row.id] = _homeless(row, shown)
    leaving = [row for row, target in wanted if row.bound_node is not None and target != row.bound_node]
    moves.end(tx, [row for row in leaving if row.migration is not None])
    _unbind(tx, leaving)
    arriving: dict[str, list[tuple[AnyRow, int]]] = {}
    for row, target in wanted:
        if target is None:
            continue
        ofport = seats[row.id][target]
        if target != row.bound_node:
            arriving.setdefault(target, []).append((row, ofport))
        elif ofport != row.ofport:
            _place(tx, [(row, target, ofport, row.zone)])
    for node, arrivals in arriving.items():
        errors |= _bind(tx, node, arrivals)
    _explain(tx, rows, errors)


def _reached(tx: Transaction, names: Iterable[str]) -> set[tuple[str, str]]:
    """(node, physical network) of these nodes."""
    return {
        (node, physical_network)
        for part in chunks(sorted(names))
        for node, physical_network in tx.connection.execute(_REACHED, {"names": part})
    }


def _target(row: AnyRow, places: Sequence[str]) -> str | None:
    """Where the port belongs: on its node, else where it is, else where it was found."""
    if row.node is not None:
        return row.node if row.node in places else None
    if row.bound_node in places:
        return str(row.bound_node)
    return min(places, default=None)


def _homeless(row: AnyRow, shown: Iterable[str]) -> str:
    """Why a port belongs on none of the nodes that show its interface."""
    node = min(shown)
    if row.node is not None:
        if row.node not in shown:
            return f"the port is scheduled on {row.node}, but its interface is on {node}"
        node = row.node
    return f"node {node} has no physical network '{row.physical_network}'"


def _explain(tx: Transaction, rows: Iterable[AnyRow], errors: Mapping[str, str]) -> None:
    changes = []
    for row in rows:
        why = errors.get(row.id)
        if why != row.binding_error:
            revision = tx.record(PORT, row.id, UPDATE, {"binding_error": why}, {"binding_error": row.binding_error})
            changes.append({"port": row.id, "why": why, "r": revision})
    if changes:
        tx.connection.execute(_EXPLAIN, changes)


def _bind(tx: Transaction, node: str, arrivals: Sequence[tuple[AnyRow, int]]) -> dict[str, str]:
    """Why some of them could not be bound."""
    refused: dict[str, str] = {}
    places = node_addresses.subnets_of_ports(tx.connection, [row.id for row, _ in arrivals])
    for (network_id, subnet_id), port_ids in places.items():
        try:
            node_addresses.ensure_gateway(tx, node, network_id, subnet_id)
        except Exhausted:
            why = f"the subnet has no address left for the gateway of node {node}"
            refused |= dict.fromkeys(port_ids, why)
    ready = [(row, ofport) for row, ofport in arrivals if row.id not in refused]
    found = zones.free(tx, node, len(ready))
    _place(tx, [(row, node, ofport, zone) for (row, ofport), zone in zip(ready, found, strict=False)])
    own_snat.settle(tx, node)
    for row, _ in ready[len(found) :]:
        refused[row.id] = f"node {node} has no conntrack zone left"
    return refused


def _place(tx: Transaction, places: Sequence[tuple[AnyRow, str | None, int | None, int | None]]) -> None:
    changes = []
    for row, node, ofport, zone in places:
        binding = None if node is None else {"node": node, "ofport": ofport, "zone": zone}
        old = None if row.bound_node is None else {"node": row.bound_node, "ofport": row.ofport, "zone": row.zone}
        revision = tx.record(PORT, row.id, UPDATE, {"binding": binding}, {"binding": old})
        changes.append({"port": row.id, "at": node, "o": ofport, "z": zone, "r": revision})
    if changes:
        tx.connection.execute(_PLACE, changes)
        address_holders.give_back(tx, [row.id for row, node, *_ in places if node is not None])


def _unbind(tx: Transaction, rows: Sequence[AnyRow]) -> None:
    _place(tx, [(row, None, None, None) for row in rows])
    node_addresses.note_idle_gateways(tx, sorted({(row.bound_node, row.network_id) for row in rows}))


def unbind(tx: Transaction, port_id: str) -> None:
    """Take a port that is about to be deleted off its node."""
    row = tx.connection.execute(_PORTS, {"ids": [port_id]}).one()
    if row.migration is not None:
        moves.end(tx, [row])
    if row.bound_node is not None:
        _unbind(tx, [row])


def report(tx: Transaction, node: str, said: InterfaceReport, last_serial: int) -> dict[str, str]:
    """Take in the whole truth of a node; what became of each interface. An unchanged truth writes nothing.

    `last_serial` is the highest serial this process has seen. Raises NotFound `node_unknown`, Conflict `serial_stale`.
    """
    stored = tx.connection.execute(_SERIAL, {"holder": node}).scalar()
    if stored is None:
        raise NotFound("node_unknown", f"there is no node {node}")
    newest = max(stored, last_serial)
    if said.serial < newest:
        raise Conflict("serial_stale", f"report {said.serial} is older than {newest}", "serial", serial=newest)
    now = {interface.iface_id: interface for interface in said.interfaces}
    changed = _store_interfaces(tx, node, now)
    # the first since the node has registered is written down in any case, for other controllers
    if _store_uplinks(tx, node, said.uplinks) or changed or stored == 0:
        tx.connection.execute(_SET_SERIAL, {"holder": node, "newest": said.serial})
    known = {row[0]: row for row in tx.connection.execute(_SEATED_PORTS, {"holder": node}).all()}
    # one that was refused may fit by now, and what we believe of a bound one must be what is so
    affected = changed | {
        id_ for id_, row in known.items() if row.bound_node != node or id_ in now and row.ofport != now[id_].ofport
    }
    if affected:
        reconcile(tx, sorted(affected))
    if not changed:  # a heartbeat: an address it had to do without may be free by now
        node_addresses.settle_snat(tx, node)
    for part in chunks(sorted(affected & now.keys())):
        known |= {row.id: row for row in tx.connection.execute(_PORTS, {"ids": part})}
    return {iface_id: _status(known.get(iface_id), node) for iface_id in now}


def _status(row: AnyRow | None, node: str) -> str:
    if row is None:
        return UNKNOWN
    if row.bound_node == node:
        return BOUND
    if row.other_node == node:
        return str(row.migration)
    if row.node not in (None, node):
        return f"{REFUSED}the port is scheduled on {row.node}"
    if row.bound_node is not None:
        return f"{REFUSED}the port is bound to {row.bound_node}"
    return REFUSED + (row.binding_error or "the interface has no OpenFlow port number")


def problems(connection: Connection, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (node, line) for interfaces of ports that are bound to another node."""
    found: dict[str, list[str]] = {}
    for part in chunks(names):
        for node, port_id, bound in connection.execute(_ELSEWHERE, {"names": part}):
            found.setdefault(node, []).append(f"the interface of port {port_id} is here, too: it is bound to {bound}")
    for node, lines in found.items():
        yield from ((node, line) for line in lines[:_NAMED])
        if len(lines) > _NAMED:
            yield node, f"so are interfaces of {len(lines) - _NAMED} more ports"


def _store_interfaces(tx: Transaction, node: str, now: Mapping[str, ReportedInterface]) -> set[str]:
    """The iface_ids that came, went or changed."""
    stored = tx.connection.execute(_REPORTED, {"holder": node}).all()
    before = {row[0]: ReportedInterface(*row) for row in stored}
    gone = [id_ for id_ in before if now.get(id_) != before[id_]]
    come = [interface for id_, interface in now.items() if before.get(id_) != interface]
    if gone:
        tx.connection.execute(_FORGET, [{"holder": node, "i": id_} for id_ in gone])
    if come:
        rows = [
            {"node": node, "iface_id": one.iface_id, "name": one.name, "ofport": one.ofport, "mac": one.mac}
            for one in come
        ]
        tx.connection.execute(_ADD, rows)
    return {*gone, *(interface.iface_id for interface in come)}


def _store_uplinks(tx: Transaction, node: str, now: Mapping[str, int]) -> bool:
    table = node_uplinks.c
    before = {name: ofport for name, ofport in tx.connection.execute(_UPLINKS, {"holder": node})}
    for name in now:
        if name not in before:
            message = f"node {node} is not registered on physical network {name}"
            raise Invalid("physical_network_unknown", message, "uplinks")
    changed = {name: now.get(name) for name, ofport in before.items() if now.get(name) != ofport}
    for name, ofport in changed.items():
        where = (table.node == node, table.physical_network == name)
        tx.connection.execute(update(node_uplinks).where(*where).values(ofport=ofport))
    if changed:
        tx.touch_node(node, uplinks=dict(now))
    return bool(changed)
