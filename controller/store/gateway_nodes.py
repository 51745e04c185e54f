"""Which node is the way out of a network of gateway mode `single`.

One is elected when the network's first port is bound, in the same transaction: writers stand in line, so it happens
once. It stays until it cannot be that any more, is lost (`replace`), or the operator names another (`pin`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, exists, or_, select, update

from controller.store import ipam
from controller.store.audit import before
from controller.store.engine import AnyRow, chunks
from controller.store.journal import NETWORK, UPDATE, Transaction, count_rows
from controller.store.schema import addresses, networks, node_uplinks, nodes, ports, subnets
from controller.store.specs import Conflict, Invalid, NotFound
from flows.model import GatewayMode

_N = networks.c
_SINGLE = _N.gateway_mode == GatewayMode.SINGLE.value
_ANY = select(_N.id).where(_SINGLE).limit(1)
_COLUMNS = _N["id", "name", "physical_network", "external_network_id", "gateway_node", "gateway_node_pinned"]
_NETWORKS = select(*_COLUMNS).where(_SINGLE).order_by(_N.key)
_EXTERNALS = select(*_N["id", "physical_network"]).where(_N.external).order_by(_N.key)
_UPLINKS = select(*node_uplinks.c["node", "physical_network"])
_SNAT = (
    select(addresses.c.node, subnets.c.network_id)
    .join(subnets, subnets.c.id == addresses.c.subnet_id)
    .where(addresses.c.owner == ipam.SNAT_OWNER, addresses.c.for_network == "")
)
_SEATED = exists().where(
    ports.c.network_id == _N.id, or_(ports.c.bound_node.is_not(None), ports.c.other_node.is_not(None))
)
_MISSING = select(_N.id).where(_SINGLE, _N.gateway_node.is_(None), _SEATED).limit(1)
_SET = (
    update(networks)
    .where(_N.id == bindparam("network"))
    .values(gateway_node=bindparam("node"), gateway_node_pinned=bindparam("pinned"), revision=bindparam("r"))
)


@dataclass(frozen=True, slots=True)
class _Field:
    """Who could be a gateway node. `keys` are those of the nodes, `reach` is (node, physical network), `held` is (node,
    external network where it has an SNAT address), `served` counts the networks that a node is the way out of.
    """

    keys: Mapping[str, int]
    reach: Collection[tuple[str, str]]
    held: Collection[tuple[str, str]]
    externals: Mapping[str, str]
    served: Counter[str]

    @staticmethod
    def of(connection: Connection) -> _Field:
        served = connection.execute(select(_N.gateway_node).where(_N.gateway_node.is_not(None))).scalars()
        return _Field(
            keys={name: key for name, key in connection.execute(select(nodes.c.name, nodes.c.key))},
            reach={(node, name) for node, name in connection.execute(_UPLINKS)},
            held={(node, network_id) for node, network_id in connection.execute(_SNAT)},
            externals={id_: physical_network for id_, physical_network in connection.execute(_EXTERNALS)},
            served=Counter(served),
        )

    def outside(self, network: AnyRow) -> str | None:
        """As `flows.snapshot.Snapshot.external_network` says it."""
        return network.external_network_id or next(iter(self.externals), None)

    def fit(self, node: str, network: AnyRow) -> bool:
        """It is on the network's segment and, if there is an outside, has an address there."""
        if (node, network.physical_network) not in self.reach:
            return False
        outside = self.outside(network)
        return outside is None or ((node, self.externals[outside]) in self.reach and (node, outside) in self.held)

    def best(self, network: AnyRow, without: Collection[str] = (), first: str | None = None) -> str | None:
        """`first` if it can be, else the one that serves the fewest, the oldest of these."""
        if first is not None and self.fit(first, network):
            return first
        candidates = [node for node in self.keys if node not in without and self.fit(node, network)]
        return min(candidates, key=lambda node: (self.served[node], self.keys[node]), default=None)


def ensure(tx: Transaction, network_id: str, node: str) -> None:
    """The network's first port is about to be bound to a node."""
    network = _one(tx.connection, network_id)
    if network.gateway_node is None:
        chosen = _Field.of(tx.connection).best(network, first=node)
        if chosen is not None:
            _set(tx, network, chosen)


def settle(tx: Transaction, *, missing: bool = False) -> None:
    """Nodes, or the ways out of networks, are others now: whoever cannot be a gateway node any more is none.

    `missing`: only if a network that has ports has none.
    """
    connection = tx.connection
    if connection.execute(_MISSING if missing else _ANY).first() is None:
        return
    field = _Field.of(connection)
    for network in connection.execute(_NETWORKS.add_columns(_SEATED.label("seated"))).all():
        current = network.gateway_node
        if current is None and not network.seated:
            continue
        gone = current is not None and current not in field.keys
        if not gone and current is not None and (network.gateway_node_pinned or field.fit(current, network)):
            continue
        chosen = field.best(network)
        if chosen is not None or gone:
            _set(tx, network, chosen)
            field.served[chosen or ""] += 1


def replace(tx: Transaction, lost: Collection[str]) -> list[tuple[str, str]]:
    """Other nodes take over from those that are lost, but for what the operator has pinned there. (network, node)"""
    query = _NETWORKS.where(_N.gateway_node.in_(lost), ~_N.gateway_node_pinned)
    taken = []
    field = _Field.of(tx.connection)
    for network in tx.connection.execute(query).all():
        chosen = field.best(network, without=lost)
        if chosen is not None:
            _set(tx, network, chosen, lost=network.gateway_node)
            field.served[chosen] += 1
            taken.append((network.name, chosen))
    return taken


def pin(tx: Transaction, network_id: str, node: str | None) -> None:
    """The operator's choice; None: it stays where it is until that node cannot, or is lost.

    Raises Invalid `option_unfit`, NotFound `node_unknown`, Conflict `node_unfit`.
    """
    network = _one(tx.connection, network_id)
    if network.gateway_mode != GatewayMode.SINGLE:
        if node is not None:
            raise Invalid("option_unfit", "gateway_node is possible only with gateway mode single", "gateway_node")
        return
    if node is None:
        if network.gateway_node_pinned:
            _set(tx, network, network.gateway_node)
            settle(tx)
        return
    if not count_rows(tx.connection, nodes, nodes.c.name == node):
        raise NotFound("node_unknown", f"there is no node {node}", "gateway_node")
    if not _Field.of(tx.connection).fit(node, network):
        where = f"physical network '{network.physical_network}'"
        message = f"node {node} is not on {where}, or has no SNAT address where the network leaves"
        raise Conflict("node_unfit", message, "gateway_node")
    if (network.gateway_node, network.gateway_node_pinned) != (node, True):
        _set(tx, network, node, pinned=True)


def problems(connection: Connection, ids: Iterable[str]) -> dict[str, str]:
    """Networks that have ports and no node that could be their way out, and why."""
    found: dict[str, str] = {}
    field = _Field.of(connection)
    for part in chunks(list(ids)):
        for network in connection.execute(_NETWORKS.add_columns(_SEATED.label("seated")).where(_N.id.in_(part))).all():
            current = network.gateway_node
            if current is None and network.seated:
                found[network.id] = "no gateway node: none is on its segment with an SNAT address where it leaves"
            if current is not None and not field.fit(current, network):
                found[network.id] = f"its gateway node {current} has no SNAT address where the network leaves"
    return found


def _one(connection: Connection, network_id: str) -> AnyRow:
    return connection.execute(select(*_COLUMNS, _N.gateway_mode).where(_N.id == network_id)).one()


def _set(tx: Transaction, network: AnyRow, node: str | None, *, pinned: bool = False, **told: Any) -> None:
    payload = {"gateway_node": node, "gateway_node_pinned": pinned, **told}
    revision = tx.record(NETWORK, network.id, UPDATE, payload, before(network, payload))
    tx.connection.execute(_SET, {"network": network.id, "node": node, "pinned": pinned, "r": revision})
