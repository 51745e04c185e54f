"""Who had which address, and when: a table of its own, which outlives ports, networks and the journal.

Written at the end of each transaction, of what has changed by then, so that it does not matter how an address came to
its port.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from ipaddress import IPv4Address
from typing import Any, TypeAlias

from sqlalchemy import Connection, bindparam, delete, insert, or_, select, update

from controller.store.address_specs import HistoryRecord
from controller.store.engine import chunks
from controller.store.journal import CREATE, DELETE, FLOATING_IP, PORT, UPDATE, Transaction
from controller.store.schema import address_history, addresses, floating_ips, networks, ports, subnets

_H = address_history.c
_IDS: Any = bindparam("ids", expanding=True)
_NETWORK = (networks.c.id.label("network_id"), networks.c.name.label("network_name"))
_OF_PORT = (ports.c.id.label("port_id"), ports.c.name.label("port_name"), ports.c.device_id, ports.c.mac)
_CURRENT = {
    PORT: (
        select(addresses.c.address, ports.c.id.label("object_id"), ports.c.project_id, *_NETWORK, *_OF_PORT)
        .select_from(addresses)
        .join(ports, ports.c.id == addresses.c.port_id)
        .join(networks, networks.c.id == ports.c.network_id)
        .where(ports.c.id.in_(_IDS))
    ),
    FLOATING_IP: (
        select(
            floating_ips.c.address,
            floating_ips.c.id.label("object_id"),
            floating_ips.c.project_id,
            *_NETWORK,
            *_OF_PORT,
        )
        .select_from(floating_ips)
        .join(subnets, subnets.c.id == floating_ips.c.subnet_id)
        .join(networks, networks.c.id == subnets.c.network_id)
        .outerjoin(ports, ports.c.id == floating_ips.c.port_id)
        .where(floating_ips.c.id.in_(_IDS))
    ),
}
# what an update of each kind tells of when it is about who has an address
_TELLING = {PORT: {"fixed_ips", "name", "device_id"}, FLOATING_IP: {"events"}}
_OPEN = select(address_history).where(_H.object_id.in_(_IDS), _H.ended_at.is_(None))
_END = (
    update(address_history)
    .where(
        _H.network_id == bindparam("of_network"),
        _H.address == bindparam("of_address"),
        _H.revision == bindparam("of_revision"),
    )
    .values(ended_at=bindparam("now"))
)
_ADD = insert(address_history)
_OLD = select(_H.network_id, _H.address, _H.revision).where(_H.ended_at < bindparam("before")).limit(bindparam("most"))
_FORGET = delete(address_history).where(
    _H.network_id == bindparam("of_network"),
    _H.address == bindparam("of_address"),
    _H.revision == bindparam("of_revision"),
)
_FIELDS = tuple(field.name for field in fields(HistoryRecord))
_WHO = tuple(name for name in _FIELDS if name not in ("kind", "began_at", "ended_at"))


_Place: TypeAlias = tuple[str, str, int]


def follow(tx: Transaction) -> None:
    """Take down what this transaction has changed. Call it when all else is written."""
    for kind, telling in _TELLING.items():
        before: list[str] = []
        after: list[str] = []
        for id_, action, payload in tx.entries(kind):
            if action != UPDATE or telling & payload.keys():
                before += [] if action == CREATE else [id_]
                after += [] if action == DELETE else [id_]
        now = _current(tx.connection, kind, after)
        _end_all(tx, before, now)
        if now:
            begun = {"kind": kind, "revision": tx.revision, "began_at": tx.now}
            tx.connection.execute(_ADD, [row | begun for row in now.values()])


def _current(connection: Connection, kind: str, ids: Sequence[str]) -> dict[_Place, dict[str, Any]]:
    rows = (row for part in chunks(ids) for row in connection.execute(_CURRENT[kind], {"ids": part}).mappings())
    return {_place(row): dict(row) for row in rows}


def _end_all(tx: Transaction, ids: Sequence[str], now: dict[_Place, dict[str, Any]]) -> None:
    """End what is not so any more. What goes on is taken out of `now`."""
    rows = [row for part in chunks(ids) for row in tx.connection.execute(_OPEN, {"ids": part}).mappings()]
    ended: list[dict[str, Any]] = []
    for row in rows:
        current = now.get(_place(row))
        if current is not None and all(current[name] == row[name] for name in _WHO):
            del now[_place(row)]
            continue
        place = {"of_network": row["network_id"], "of_address": row["address"], "of_revision": row["revision"]}
        ended.append(place | {"now": max(tx.now, row["began_at"])})  # the clock may have been set back
    if ended:
        tx.connection.execute(_END, ended)


def _place(row: Mapping[Any, Any]) -> _Place:
    return row["object_id"], row["network_id"], row["address"]


def forget(connection: Connection, before: float, most: int) -> int:
    """Delete up to `most` of what ended before then, in seconds since the epoch; how many there were."""
    old = connection.execute(_OLD, {"before": before, "most": most}).all()
    if old:
        names = ("of_network", "of_address", "of_revision")
        connection.execute(_FORGET, [dict(zip(names, row, strict=True)) for row in old])
    return len(old)


def load(
    connection: Connection,
    address: IPv4Address,
    network_id: str | None,
    project_id: str | None,
    at: float | None,
    limit: int,
) -> list[HistoryRecord]:
    """Who had it, newest first; `at`: at that time, in seconds since the epoch."""
    query = select(*(_H[name] for name in _FIELDS)).where(_H.address == int(address))
    if network_id is not None:
        query = query.where(_H.network_id == network_id)
    if project_id is not None:
        query = query.where(_H.project_id == project_id)
    if at is not None:
        query = query.where(_H.began_at <= at, or_(_H.ended_at.is_(None), _H.ended_at > at))
    query = query.order_by(_H.began_at.desc(), _H.revision.desc(), _H.network_id).limit(limit)
    return [
        HistoryRecord(**{**row, "address": IPv4Address(row["address"])}) for row in connection.execute(query).mappings()
    ]
