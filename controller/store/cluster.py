"""How several controllers share the nodes, in transactions that they make one after the other. PostgreSQL only.

All times are the database's: the clocks of the controllers do not matter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, Double, bindparam, cast, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from controller.bounds import MOST_TTL
from controller.cluster.assign import assign
from controller.cluster.state import ClusterState, Member, NodeLease
from controller.store.cluster_schema import controllers, node_connections, node_leases
from controller.store.schema import nodes

LEASES: Final = "trunkline_leases"
"""Notified when another controller may be a node's master now, or has come or gone."""

CONFIRMED: Final = "trunkline_confirmed"
"""Notified when a controller has written what its nodes have confirmed."""

GREATEST: Final = 2**62
"""A switch that says it has seen this generation or a later one is not believed: soon none would fit into the column,
and one broken switch must not stop all others from being given away.
"""

# one after the other; and a controller that is stopped in the middle holds up the others for a moment only
_TURN: Final = select(
    func.set_config("idle_in_transaction_session_timeout", "1000", True), func.pg_advisory_xact_lock(0x54524C4C)
)
_NOW: Final = select(cast(func.extract("epoch", func.clock_timestamp()), Double))

_C, _L, _N = controllers.c, node_leases.c, node_connections.c
_JOIN: Final = upsert(controllers).on_conflict_do_update(
    index_elements=[_C.name],
    set_={name: upsert(controllers).excluded[name] for name in ("instance", "api_url", "started_at", "expires_at")},
)
_OTHER_MASTER: Final = (
    update(node_leases)
    .where(_L.node == bindparam("of_node"))
    .values(controller=bindparam("new"), generation=_L.generation + 1, session=None)
)
_RAISE: Final = (
    update(node_leases)
    .where(_L.node == bindparam("of_node"), _L.controller == bindparam("holder"))
    .values(generation=func.greatest(_L.generation, bindparam("seen")) + 1)
)
_CONFIRM: Final = (
    update(node_leases)
    .where(
        _L.node == bindparam("of_node"),
        _L.controller == bindparam("holder"),
        _L.generation == bindparam("of_generation"),
    )
    .values(confirmed=bindparam("revision"), unclaimed=bindparam("since"), session=bindparam("said"))
)


class NameInUse(Exception):
    """Another process has this controller's name, and was alive when it was last heard."""

    def __init__(self, other: Member) -> None:
        super().__init__(f"another controller is called {other.name}")
        self.other = other


@dataclass(frozen=True, slots=True)
class Own:
    """This process."""

    name: str
    instance: str
    api_url: str


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Of a node that this controller masters: see `NodeLease`."""

    node: str
    generation: int
    confirmed: int
    unclaimed: int | None
    session: Mapping[str, Any]


def tick(
    connection: Connection, own: Own, connected: Collection[str], ttl_s: float, replaced: Collection[str]
) -> ClusterState:
    """This controller lives for `ttl_s` more seconds and is connected to these nodes; who is dead by now goes, and each
    node goes to whom it belongs then. `replaced`: other instances of its name that are known to be over. Raises
    NameInUse.
    """
    connection.execute(_TURN)
    now = connection.execute(_NOW).scalar_one()
    before = read(connection)
    known = before.members.get(own.name)
    if known is not None and known.instance not in (own.instance, *replaced) and known.expires_at > now:
        raise NameInUse(known)
    again = known is not None and known.instance == own.instance
    me = Member(own.name, own.instance, own.api_url, known.started_at if known and again else now, now + ttl_s)
    # who is late itself, and was not missed by anybody, could not reach the database: nor could the others
    all_late = known is not None and again and known.expires_at <= now
    # nobody has said that he lives for so long: the database's clock was set back, and he might be dead for as long
    never = now + max(ttl_s, MOST_TTL)
    anew = {
        name: replace(one, expires_at=now + ttl_s)
        for name, one in before.members.items()
        if name != own.name and (one.expires_at > never or (one.expires_at <= now and all_late))
    }
    members = {name: one for name, one in before.members.items() if one.expires_at > now} | anew | {own.name: me}
    connection.execute(_JOIN, [_row(one) for one in (*anew.values(), me)])
    registered = set(connection.execute(select(nodes.c.name).where(nodes.c.name.in_(connected))).scalars())
    return _settle(connection, before, members, {**before.connections, own.name: frozenset(registered)})


def resign(connection: Connection, own: Own) -> ClusterState:
    """This controller is about to end: its nodes go to others at once."""
    connection.execute(_TURN)
    before = read(connection)
    known = before.members.get(own.name)
    if known is None or known.instance != own.instance:
        return before
    now = connection.execute(_NOW).scalar_one()
    members = {name: one for name, one in before.members.items() if one.expires_at > now and name != own.name}
    return _settle(connection, before, members, before.connections)


def _settle(
    connection: Connection,
    before: ClusterState,
    members: Mapping[str, Member],
    connections: Mapping[str, frozenset[str]],
) -> ClusterState:
    """Write who is left, and what follows from it."""
    gone = before.members.keys() - members.keys()
    if gone:
        connection.execute(delete(controllers).where(_C.name.in_(gone)))
    connections = {name: its for name, its in connections.items() if name in members}
    for name in before.connections.keys() | connections.keys():
        _connect(connection, name, before.connections.get(name, frozenset()), connections.get(name, frozenset()))
    leases = dict(before.leases)
    for node, controller in assign(members, connections).items():
        lease = leases.get(node)
        if lease is None:
            leases[node] = NodeLease(node, controller, 1)
            row = {"node": node, "controller": controller, "generation": 1, "confirmed": 0}
            connection.execute(insert(node_leases), row)
        elif lease.controller != controller:
            leases[node] = NodeLease(node, controller, lease.generation + 1, lease.confirmed, lease.unclaimed)
            connection.execute(_OTHER_MASTER, {"of_node": node, "new": controller})
    after = ClusterState(members, connections, leases)
    if (members.keys(), connections, leases) != (before.members.keys(), before.connections, before.leases):
        _notify(connection, LEASES)
    return after


def _connect(connection: Connection, controller: str, before: frozenset[str], now: frozenset[str]) -> None:
    if before - now:
        lost = (_N.controller == controller, _N.node.in_(before - now))
        connection.execute(delete(node_connections).where(*lost))
    if now - before:
        rows = [{"controller": controller, "node": node} for node in sorted(now - before)]
        connection.execute(insert(node_connections), rows)


def raise_generation(connection: Connection, own: Own, node: str, seen: int) -> bool:
    """The node's switch has seen a generation that is not this one's. False when the node is not this controller's."""
    connection.execute(_TURN)
    known = connection.execute(select(_C.instance).where(_C.name == own.name)).scalar()
    if known != own.instance or not 0 <= seen < GREATEST:
        return False
    raised = connection.execute(_RAISE, {"of_node": node, "holder": own.name, "seen": seen}).rowcount
    if raised:
        _notify(connection, LEASES)
    return bool(raised)


def confirm(connection: Connection, controller: str, confirmations: Sequence[Confirmation]) -> None:
    """What is another's by now stays as it is."""
    rows = [
        {
            "of_node": one.node,
            "holder": controller,
            "of_generation": one.generation,
            "revision": one.confirmed,
            "since": one.unclaimed,
            "said": dict(one.session),
        }
        for one in confirmations
    ]
    connection.execute(_CONFIRM, rows)
    _notify(connection, CONFIRMED)


def read(connection: Connection) -> ClusterState:
    """As it is written, whoever is dead by now."""
    members = {row.name: Member(**row._mapping) for row in connection.execute(select(controllers))}
    connections: defaultdict[str, set[str]] = defaultdict(set)
    for row in connection.execute(select(node_connections)):
        connections[row.controller].add(row.node)
    leases = {row.node: NodeLease(**row._mapping) for row in connection.execute(select(node_leases))}
    return ClusterState(members, {name: frozenset(its) for name, its in connections.items()}, leases)


def _row(member: Member) -> dict[str, Any]:
    return {
        "name": member.name,
        "instance": member.instance,
        "api_url": member.api_url,
        "started_at": member.started_at,
        "expires_at": member.expires_at,
    }


def _notify(connection: Connection, channel: str) -> None:
    connection.execute(select(func.pg_notify(channel, "")))
