"""Who had which address, and when: tables of their own, which outlive ports, networks and the journal.

Written at the end of each transaction, of what has changed by then, so that it does not matter how an address came to
its port.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from ipaddress import IPv4Address, IPv6Address
from typing import Any, TypeAlias

from sqlalchemy import Connection, Delete, Select, Table, Update, bindparam, delete, insert, or_, select, update

from controller.store.address_specs import HistoryRecord
from controller.store.engine import chunks
from controller.store.ipv6_schema import ipv6_address_history, ipv6_addresses
from controller.store.journal import CREATE, DELETE, FLOATING_IP, PORT, UPDATE, Transaction
from controller.store.schema import address_history, addresses, floating_ips, networks, ports, subnets

_IDS: Any = bindparam("ids", expanding=True)
_NETWORK = (networks.c.id.label("network_id"), networks.c.name.label("network_name"))
_OF_PORT = (ports.c.id.label("port_id"), ports.c.name.label("port_name"), ports.c.device_id, ports.c.mac)


def _of_ports(table: Table) -> Select[Any]:
    """What ports have by a table of addresses."""
    return (
        select(table.c.address, ports.c.id.label("object_id"), ports.c.project_id, *_NETWORK, *_OF_PORT)
        .select_from(table)
        .join(ports, ports.c.id == table.c.port_id)
        .join(networks, networks.c.id == ports.c.network_id)
        .where(ports.c.id.in_(_IDS))
    )


_OF_FLOATING_IPS = (
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
)
# what an update of each kind tells of when it is about who has an address
_TELLING = {
    PORT: {"fixed_ips", "fixed_ips_added", "fixed_ips_removed", "name", "device_id"},
    FLOATING_IP: {"events"},
}


@dataclass(frozen=True, slots=True)
class _Ledger:
    """The history of one family. `current`: by kind, who has what now."""

    table: Table
    current: Mapping[str, Select[Any]]
    open: Select[Any]
    end: Update
    old: Select[Any]
    forget: Delete

    @staticmethod
    def of(table: Table, current: Mapping[str, Select[Any]]) -> _Ledger:
        column = table.c
        row = (
            column.network_id == bindparam("of_network"),
            column.address == bindparam("of_address"),
            column.revision == bindparam("of_revision"),
        )
        still = select(table).where(column.object_id.in_(_IDS), column.ended_at.is_(None))
        old = select(column.network_id, column.address, column.revision).where(column.ended_at < bindparam("before"))
        return _Ledger(
            table,
            current,
            still,
            update(table).where(*row).values(ended_at=bindparam("now")),
            old.limit(bindparam("most")),
            delete(table).where(*row),
        )


_IPV4 = _Ledger.of(address_history, {PORT: _of_ports(addresses), FLOATING_IP: _OF_FLOATING_IPS})
_IPV6 = _Ledger.of(ipv6_address_history, {PORT: _of_ports(ipv6_addresses)})
_FIELDS = tuple(field.name for field in fields(HistoryRecord))
_WHO = tuple(name for name in _FIELDS if name not in ("kind", "began_at", "ended_at"))


_Place: TypeAlias = tuple[str, str, int | IPv6Address]


def follow(tx: Transaction) -> None:
    """Take down what this transaction has changed. Call it when all else is written."""
    for kind, telling in _TELLING.items():
        before: list[str] = []
        after: list[str] = []
        for id_, action, payload in tx.entries(kind):
            if action != UPDATE or telling & payload.keys():
                before += [] if action == CREATE else [id_]
                after += [] if action == DELETE else [id_]
        for ledger in (_IPV4, _IPV6):
            if kind in ledger.current:
                _write(tx, ledger, kind, before, after)


def _write(tx: Transaction, ledger: _Ledger, kind: str, before: Sequence[str], after: Sequence[str]) -> None:
    now = _now(tx.connection, ledger.current[kind], after)
    _end_all(tx, ledger, before, now)
    if now:
        begun = {"kind": kind, "revision": tx.revision, "began_at": tx.now}
        tx.connection.execute(insert(ledger.table), [row | begun for row in now.values()])


def _now(connection: Connection, query: Select[Any], ids: Sequence[str]) -> dict[_Place, dict[str, Any]]:
    rows = (row for part in chunks(ids) for row in connection.execute(query, {"ids": part}).mappings())
    return {_place(row): dict(row) for row in rows}


def _end_all(tx: Transaction, ledger: _Ledger, ids: Sequence[str], now: dict[_Place, dict[str, Any]]) -> None:
    """End what is not so any more. What goes on is taken out of `now`."""
    rows = [row for part in chunks(ids) for row in tx.connection.execute(ledger.open, {"ids": part}).mappings()]
    ended: list[dict[str, Any]] = []
    for row in rows:
        current = now.get(_place(row))
        if current is not None and all(current[name] == row[name] for name in _WHO):
            del now[_place(row)]
            continue
        place = {"of_network": row["network_id"], "of_address": row["address"], "of_revision": row["revision"]}
        ended.append(place | {"now": max(tx.now, row["began_at"])})  # the clock may have been set back
    if ended:
        tx.connection.execute(ledger.end, ended)


def _place(row: Mapping[Any, Any]) -> _Place:
    return row["object_id"], row["network_id"], row["address"]


def forget(connection: Connection, before: float, most: int) -> int:
    """Delete up to `most` of what ended before then, in seconds since the epoch; how many there were."""
    count = 0
    for ledger in (_IPV4, _IPV6):
        old = connection.execute(ledger.old, {"before": before, "most": most - count}).all()
        if old:
            names = ("of_network", "of_address", "of_revision")
            connection.execute(ledger.forget, [dict(zip(names, row, strict=True)) for row in old])
        count += len(old)
    return count


def load(
    connection: Connection,
    address: IPv4Address | IPv6Address,
    network_id: str | None,
    project_id: str | None,
    at: float | None,
    limit: int,
) -> list[HistoryRecord]:
    """Who had it, newest first; `at`: at that time, in seconds since the epoch."""
    of_ipv6 = isinstance(address, IPv6Address)
    column = (_IPV6 if of_ipv6 else _IPV4).table.c
    query = select(*(column[name] for name in _FIELDS)).where(column.address == (address if of_ipv6 else int(address)))
    if network_id is not None:
        query = query.where(column.network_id == network_id)
    if project_id is not None:
        query = query.where(column.project_id == project_id)
    if at is not None:
        query = query.where(column.began_at <= at, or_(column.ended_at.is_(None), column.ended_at > at))
    query = query.order_by(column.began_at.desc(), column.revision.desc(), column.network_id).limit(limit)
    return [HistoryRecord(**{**row, "address": address}) for row in connection.execute(query).mappings()]
