"""What nodes owe to forget, written in the transaction that makes them owe it: no crash can come between the two.

What was before is what others still see: one write is in progress at a time, and a reader sees none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import structlog
from sqlalchemy import Connection, bindparam, delete, insert, or_, select

from controller.forgetting import Debt, End, Forget, left_behind, network_leaves
from controller.store import model
from controller.store.engine import chunks
from controller.store.floating_ip_loader import load_floating_ips
from controller.store.journal import FLOATING_IP, NETWORK, PORT, Transaction
from controller.store.network_loader import load_networks, network_of
from controller.store.port_loader import load_ports
from controller.store.quarantine import UNREADABLE, Quarantine
from controller.store.schema import networks, nodes, owed, ports
from flows.model import Change, NetworkChange
from flows.snapshot import Snapshot

T = TypeVar("T")


class Read(Protocol):
    """What shows the database as it was before."""

    def __call__(self, work: Callable[[Connection], T]) -> T: ...


_EXTERNAL = select(networks.c.id).where(networks.c.external)
_SINCE = select(owed).where(owed.c.revision > bindparam("after"))
_OF_ZONE = (owed.c.node == bindparam("of_node"), owed.c.zone == bindparam("of_zone"))
_EXACTLY = (owed.c.end == bindparam("of_end"), owed.c.address == bindparam("of_address"))
_UNTIL = owed.c.revision <= bindparam("until")
_REPLACE = delete(owed).where(*_OF_ZONE, *_EXACTLY)
_DONE = delete(owed).where(*_OF_ZONE, *_EXACTLY, _UNTIL)
_ZONE_DONE = delete(owed).where(*_OF_ZONE, _UNTIL)


def incur(tx: Transaction, revision: int, read: Read) -> None:
    """Write down what a finished transaction leaves behind. `read` shows the database as it was before."""
    changed = tx.changed((NETWORK, PORT, FLOATING_IP))
    if changed[NETWORK]:
        networks_now = model.as_they_are(tx.connection, {NETWORK: changed[NETWORK]})
        # of those that leave nothing, nobody has to know the ports: there may be thousands
        changed[NETWORK] = read(lambda connection: _leaving(connection, networks_now))
    if not any(changed.values()):
        return
    before = read(lambda connection: _before(connection, changed))
    if not before.ports:
        return  # nothing of this was on any node
    left = left_behind(before, model.as_they_are(tx.connection, changed))
    known = set(tx.connection.execute(select(nodes.c.name).where(nodes.c.name.in_(left))).scalars()) if left else set()
    rows = [_row(Debt(node, what, revision)) for node in sorted(known) for what in sorted(left[node], key=_order)]
    if rows:
        tx.connection.execute(_REPLACE, [_place(row) for row in rows])
        tx.connection.execute(insert(owed), rows)


def since(connection: Connection, revision: int) -> list[Debt]:
    """What has been owed since a revision, and still is."""
    found = []
    for row in connection.execute(_SINCE, {"after": revision}):
        try:
            what = Forget(int(row.zone), End(row.end or None), int(row.address))
            found.append(Debt(str(row.node), what, int(row.revision)))
        except UNREADABLE as error:  # it can be done for nobody
            structlog.get_logger().error("debt_unreadable", node=row.node, error=str(error))
    return found


def settle(connection: Connection, paid: Sequence[Debt]) -> int:
    """What is forgotten is owed no more, if it has not been owed again since: how much was said to be."""
    zones: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    for debt in paid:
        row = _row(debt)
        # a zone that is forgotten as a whole pays all that was owed of it
        (zones if debt.what.end is End.ALL else others).append(_place(row) | {"until": row["revision"]})
    if zones:
        connection.execute(_ZONE_DONE, [{k: one[k] for k in ("of_node", "of_zone", "until")} for one in zones])
    if others:
        connection.execute(_DONE, others)
    return len(paid)


def _leaving(connection: Connection, now: Iterable[Change]) -> list[str]:
    changes = [one for one in now if isinstance(one, NetworkChange) and one.new is not None]
    ids = {one.id for one in changes} | set(
        connection.execute(_EXTERNAL).scalars()
    )  # the ways out of those that change
    found = load_networks(connection, sorted(ids), Quarantine())
    before = Snapshot.build(0, map(network_of, found), (), (), ())
    known = before.networks
    return [one.id for one in changes if one.id in known and one.new and network_leaves(before, known[one.id], one.new)]


def _before(connection: Connection, changed: Mapping[str, Sequence[str]]) -> Snapshot:
    """What `left_behind` looks at, as far as it is on nodes."""
    unusable = Quarantine()  # nothing of these is on any node
    floating_ips = [one.floating_ip for one in load_floating_ips(connection, changed[FLOATING_IP], unusable)]
    port_ids = {*changed[PORT], *(port_id for one in floating_ips for port_id in one.port_ids)}
    network_ids: set[str] = set()
    for part in chunks(changed[NETWORK]):
        seated = or_(ports.c.bound_node.is_not(None), ports.c.other_node.is_not(None))
        port_ids |= set(connection.execute(select(ports.c.id).where(ports.c.network_id.in_(part), seated)).scalars())
        network_ids |= set(connection.execute(_EXTERNAL).scalars())
    seated_ports = [one.port for one in load_ports(connection, sorted(port_ids), unusable) if one.port.bindings]
    if not seated_ports:
        return Snapshot(0)
    network_ids |= {port.network_id for port in seated_ports}
    found = load_networks(connection, sorted(network_ids), unusable)
    known = {one.id for one in found}
    usable = (port for port in seated_ports if port.network_id in known)
    return Snapshot.build(0, map(network_of, found), usable, (), floating_ips)


def _row(debt: Debt) -> dict[str, Any]:
    zone, end, address = debt.what
    return {
        "node": debt.node,
        "zone": zone,
        "end": end.value or "",
        "address": address,
        "revision": debt.revision,
    }


def _place(row: Mapping[str, Any]) -> dict[str, Any]:
    return {f"of_{name}": row[name] for name in ("node", "zone", "end", "address")}


def _order(what: Forget) -> tuple[int, str, int]:
    return what.zone, what.end.value or "", what.address
