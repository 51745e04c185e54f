"""Floating IPs: allocated from a pool, led to ports, released. The journal tells what happened in `events`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from controller.store import dns_records, floating_ip_pools, ipam, quotas, virtual_addresses
from controller.store.engine import AnyRow, chunks
from controller.store.floating_ip_specs import FloatingIpSpec
from controller.store.journal import CREATE, DELETE, FLOATING_IP, UPDATE, Transaction, count_rows
from controller.store.quota_specs import Limits
from controller.store.schema import addresses, floating_ips, networks, port_forwardings, ports
from controller.store.specs import Conflict, Exhausted, Forbidden, Invalid, NotFound
from flows.model import GatewayMode

ALLOCATE, ASSOCIATE, DISASSOCIATE, RELEASE = "allocate", "associate", "disassociate", "release"

_F = floating_ips.c
_INSERT = insert(floating_ips)
_ONE = select(floating_ips).where(_F.id == bindparam("floating_ip"))
_SOME = select(floating_ips).where(_F.id.in_(bindparam("ids", expanding=True)))
_LEAD = (
    update(floating_ips)
    .where(_F.id == bindparam("floating_ip"))
    .values(port_id=bindparam("to_port"), fixed_ip=bindparam("to_fixed"), revision=bindparam("r"))
)
_TARGET = (
    select(*networks.c["id", "name", "external", "gateway_mode"], addresses.c.address, ports.c.project_id)
    .select_from(ports)
    .join(networks, networks.c.id == ports.c.network_id)
    .join(addresses, addresses.c.port_id == ports.c.id)
    .where(ports.c.id == bindparam("port"))
    .order_by(addresses.c.position)
)
_NEW = (
    select(*ports.c["id", "project_id"], addresses.c.address)
    .select_from(ports)
    .join(networks, networks.c.id == ports.c.network_id)
    .join(addresses, addresses.c.port_id == ports.c.id)
    .where(ports.c.id.in_(bindparam("ids", expanding=True)), addresses.c.position == 0)
    .where(~networks.c.external, networks.c.gateway_mode != GatewayMode.NONE.value)
    .order_by(ports.c.key)
)


@dataclass(frozen=True, slots=True)
class _New:
    """With `port_id`, it is one that comes with that port."""

    project_id: str | None
    port_id: str | None = None
    fixed_ip: int | None = None


def find(connection: Connection, floating_ip_id: str) -> AnyRow:
    """Raises NotFound `floating_ip_unknown`."""
    row = connection.execute(_ONE, {"floating_ip": floating_ip_id}).one_or_none()
    if row is None:
        raise NotFound("floating_ip_unknown", f"there is no floating IP {floating_ip_id}")
    return row


def allocate(tx: Transaction, spec: FloatingIpSpec, limits: Limits) -> list[str]:
    """The ids of the new floating IPs.

    Raises NotFound `floating_ip_pool_unknown`, Exhausted `quota_exceeded` or `pool_exhausted`, and for chosen
    addresses Invalid `address_outside_pool` or `address_reserved`, Conflict `address_in_use`.
    """
    pool = floating_ip_pools.find(tx.connection, spec.pool, "pool")
    count = len(spec.addresses) or spec.count
    if spec.project_id is not None:
        quotas.require_floating_ips(tx.connection, spec.project_id, count, limits)
    chosen = _claim(tx, pool, spec.addresses) if spec.addresses else _choose(tx, pool, count)
    ids = _add(tx, pool, chosen, [_New(spec.project_id)] * count)
    if spec.port_id is not None:
        for id_ in ids:
            associate(tx, id_, spec.port_id, spec.fixed_ip)
    return ids


def assign(tx: Transaction, reference: str, port_ids: Sequence[str]) -> None:
    """Give each new port that can have one a floating IP of its own. Raises NotFound and Exhausted as `allocate`."""
    targets = [row for part in chunks(port_ids) for row in tx.connection.execute(_NEW, {"ids": part})]
    if not targets:
        return
    pool = floating_ip_pools.find(tx.connection, reference)
    places = _choose(tx, pool, len(targets))
    _add(tx, pool, places, [_New(port.project_id, port.id, port.address) for port in targets])


def _choose(tx: Transaction, pool: AnyRow, count: int) -> list[tuple[str, IPv4Address]]:
    """(subnet, address) of free addresses."""
    known = {row.id: row for row in ipam.subnets_of(tx.connection, [pool.network_id])[pool.network_id]}
    found: list[tuple[str, IPv4Address]] = []
    for subnet_id, spans in floating_ip_pools.spans(tx.connection, pool.id).items():
        given, moved = ipam.allocate_floating(tx, known[subnet_id], spans, count - len(found))
        floating_ip_pools.move(tx.connection, subnet_id, moved)
        found += [(subnet_id, address) for address in given]
        if len(found) == count:
            return found
    raise Exhausted("pool_exhausted", f"No more floating IPs in pool {pool.name}", "pool", pool=pool.name)


def _claim(tx: Transaction, pool: AnyRow, wanted: Sequence[IPv4Address]) -> list[tuple[str, IPv4Address]]:
    """(subnet, address) of these very addresses."""
    known = {row.id: row for row in ipam.subnets_of(tx.connection, [pool.network_id])[pool.network_id]}
    spans = floating_ip_pools.spans(tx.connection, pool.id)
    found = []
    for index, address in enumerate(wanted):
        field = "address" if len(wanted) == 1 else f"addresses.{index}"
        inside = [
            subnet_id
            for subnet_id, parts in spans.items()
            if any(part.first <= int(address) <= part.last for part in parts)
        ]
        if not inside:
            raise Invalid("address_outside_pool", f"{address} is not in pool {pool.name}", field)
        ipam.claim(tx, known[inside[0]], address, ipam.Owner(ipam.FLOATING_IP_OWNER), field)
        found.append((inside[0], address))
    return found


def _add(tx: Transaction, pool: AnyRow, places: Sequence[tuple[str, IPv4Address]], news: Sequence[_New]) -> list[str]:
    rows: list[dict[str, Any]] = []
    keys = tx.new_keys("floating_ip_key", len(places))
    for (subnet_id, address), new, key in zip(places, news, keys, strict=True):
        id_, auto = str(uuid4()), new.port_id is not None
        payload = {"address": str(address), "pool_id": pool.id, "project_id": new.project_id, "auto": auto}
        revision = tx.record_event(FLOATING_IP, id_, CREATE, ALLOCATE, **payload)
        if new.port_id is not None and new.fixed_ip is not None:
            led = {"port_id": new.port_id, "fixed_ip": str(IPv4Address(new.fixed_ip))}
            tx.record_event(FLOATING_IP, id_, CREATE, ASSOCIATE, **led)
        rows.append(
            {
                "id": id_,
                "key": key,
                "pool_id": pool.id,
                "subnet_id": subnet_id,
                "address": int(address),
                "project_id": new.project_id,
                "port_id": new.port_id,
                "fixed_ip": new.fixed_ip,
                "auto": auto,
                "created_at": tx.now,
                "revision": revision,
            }
        )
    tx.connection.execute(_INSERT, rows)
    return [row["id"] for row in rows]


def target(connection: Connection, floating_ip: AnyRow, port_id: str, fixed_ip: IPv4Address | None) -> tuple[str, int]:
    """The port and its address that a floating IP may lead to: this one, or its first.

    It may be one of several ports that may use the address; then it is the one that has it now. One of a project leads
    to its own ports only, whoever asks: an administrator names the wrong port, too.
    Raises NotFound `port_unknown`, Invalid `network_not_translated` or `fixed_ip_unknown`, Conflict `projects_differ`.
    """
    rows = connection.execute(_TARGET, {"port": port_id}).all()
    if not rows:
        raise NotFound("port_unknown", f"there is no port {port_id}", "port_id")
    if rows[0].external or rows[0].gateway_mode == GatewayMode.NONE:
        message = f"the nodes do not translate for network {rows[0].name}: it is external or its gateway mode is none"
        raise Invalid("network_not_translated", message, "port_id")
    if floating_ip.project_id not in (None, rows[0].project_id):
        whose = "no project" if rows[0].project_id is None else f"project {rows[0].project_id}"
        address = IPv4Address(floating_ip.address)
        message = f"{address} is of project {floating_ip.project_id}, but the port is of {whose}"
        raise Conflict("projects_differ", message, "port_id")
    own = [int(row.address) for row in rows]
    wanted = own[0] if fixed_ip is None else int(fixed_ip)
    if wanted not in own and wanted not in virtual_addresses.of_port(connection, port_id):
        raise Invalid("fixed_ip_unknown", f"the port does not have {fixed_ip}", "fixed_ip")
    return virtual_addresses.holder(connection, rows[0].id, wanted) or port_id, wanted


def associate(
    tx: Transaction,
    floating_ip_id: str,
    port_id: str,
    fixed_ip: IPv4Address | None,
    expected_port_id: str | None = None,
) -> None:
    """Lead it to the port, wherever it led before.

    Raises NotFound, Invalid as `target` does, Forbidden `floating_ip_auto`, Conflict `floating_ip_elsewhere` or
    `floating_ip_forwarded`.
    """
    row = find(tx.connection, floating_ip_id)
    _require_free_to_move(row, expected_port_id)
    port_id, fixed = target(tx.connection, row, port_id, fixed_ip)
    if count_rows(tx.connection, port_forwardings, port_forwardings.c.floating_ip_id == floating_ip_id):
        message = f"ports of {IPv4Address(row.address)} are forwarded"
        raise Conflict("floating_ip_forwarded", message, "port_id")
    _lead(tx, row, port_id, fixed)


def disassociate(tx: Transaction, floating_ip_id: str, expected_port_id: str | None = None) -> None:
    """Nothing happens when it is associated with no port.

    Raises NotFound, Forbidden `floating_ip_auto`, Conflict `floating_ip_elsewhere`.
    """
    row = find(tx.connection, floating_ip_id)
    _require_free_to_move(row, expected_port_id)
    _lead(tx, row, None, None)


def _require_free_to_move(row: AnyRow, expected_port_id: str | None) -> None:
    _refuse_auto(row)
    if expected_port_id is not None and row.port_id not in (None, expected_port_id):
        message = f"{IPv4Address(row.address)} is associated with another port"
        raise Conflict("floating_ip_elsewhere", message, "expected_port_id")


def _refuse_auto(row: AnyRow) -> None:
    if row.auto:
        message = f"{IPv4Address(row.address)} was assigned with its port, and goes with it"
        raise Forbidden("floating_ip_auto", message)


def _lead(tx: Transaction, row: AnyRow, port_id: str | None, fixed_ip: int | None) -> None:
    """Each transition is told: one from port to port is two."""
    if (row.port_id, row.fixed_ip) == (port_id, fixed_ip):
        return
    if row.port_id is not None:
        _tell(tx, row, UPDATE, DISASSOCIATE, from_port_id=row.port_id)
    if port_id is not None and fixed_ip is not None:
        _tell(tx, row, UPDATE, ASSOCIATE, port_id=port_id, fixed_ip=str(IPv4Address(fixed_ip)))
    fixed = None if row.fixed_ip is None else str(IPv4Address(row.fixed_ip))
    revision = tx.record(FLOATING_IP, row.id, UPDATE, {}, {"port_id": row.port_id, "fixed_ip": fixed})
    change = {"floating_ip": row.id, "to_port": port_id, "to_fixed": fixed_ip, "r": revision}
    tx.connection.execute(_LEAD, change)


def _tell(tx: Transaction, row: AnyRow, action: str, event: str, **payload: Any) -> None:
    who = {"address": str(IPv4Address(row.address)), "project_id": row.project_id}
    tx.record_event(FLOATING_IP, row.id, action, event, **who, **payload)


def release(tx: Transaction, ids: Sequence[str]) -> None:
    """Give them back to their pools. Raises NotFound `floating_ip_unknown`, Forbidden `floating_ip_auto`."""
    rows = [row for part in chunks(ids) for row in tx.connection.execute(_SOME, {"ids": part})]
    unknown = set(ids) - {row.id for row in rows}
    if unknown:
        raise NotFound("floating_ip_unknown", f"there is no floating IP {min(unknown)}")
    for row in rows:
        _refuse_auto(row)
    _release(tx, rows)


def _release(tx: Transaction, rows: Sequence[AnyRow]) -> None:
    by_subnet: dict[str, list[int]] = {}
    for row in rows:
        by_subnet.setdefault(row.subnet_id, []).append(row.address)
        if row.port_id is not None:
            _tell(tx, row, DELETE, DISASSOCIATE, from_port_id=row.port_id)
        _tell(tx, row, DELETE, RELEASE)
    dns_records.release(tx, [row.id for row in rows])
    for part in chunks([row.id for row in rows]):
        tx.connection.execute(delete(port_forwardings).where(port_forwardings.c.floating_ip_id.in_(part)))
        tx.connection.execute(delete(floating_ips).where(_F.id.in_(part)))
    for subnet_id, given_back in by_subnet.items():
        for numbers in chunks(given_back):
            ipam.release(tx, addresses.c.subnet_id == subnet_id, addresses.c.address.in_(numbers))


def leave_port(tx: Transaction, port_id: str, kept: Iterable[int] = ()) -> None:
    """Before a port is deleted, or loses all its addresses but those `kept` and so what led to them.

    What led to an address that another port may use leads there. What was assigned with the port goes with it, or
    follows it to its first address.
    """
    still = list(kept)
    rows = tx.connection.execute(select(floating_ips).where(_F.port_id == port_id).order_by(_F.key)).all()
    lost = [row for row in rows if row.fixed_ip not in still]
    if not still:
        _release(tx, [row for row in lost if row.auto])
    for row in lost:
        if row.auto and still:
            _lead(tx, row, port_id, still[0])
    forwarded = select(port_forwardings.c.fixed_ip).where(port_forwardings.c.port_id == port_id).distinct()
    numbers = {row.fixed_ip for row in lost if not row.auto} | set(tx.connection.execute(forwarded).scalars())
    leave(tx, port_id, numbers - set(still))


def leave(tx: Transaction, port_id: str, numbers: Iterable[int]) -> None:
    """A port loses addresses: what led to them leads to another port that may use them, or nowhere."""
    network_id = tx.connection.execute(select(ports.c.network_id).where(ports.c.id == port_id)).scalar_one()
    for number in sorted(numbers):
        heir = virtual_addresses.heir(tx.connection, network_id, number, port_id)
        _hand_on(tx, [port_id], number, heir)


def follow(tx: Transaction, network_id: str, number: int, port_id: str) -> None:
    """What leads to an address of a network leads to this port from now on."""
    others = select(_F.port_id).join(ports, ports.c.id == _F.port_id).where(_F.fixed_ip == number)
    table = port_forwardings.c
    forwarded = select(table.port_id).join(ports, ports.c.id == table.port_id).where(table.fixed_ip == number)
    found = {
        id_
        for query in (others, forwarded)
        for id_ in tx.connection.execute(query.where(ports.c.network_id == network_id)).scalars()
    }
    _hand_on(tx, sorted(found - {port_id}), number, port_id)


def _hand_on(tx: Transaction, port_ids: Sequence[str], number: int, heir: str | None) -> None:
    """What leads to an address of these ports leads to the same one of another port, or nowhere. What was assigned
    with a port stays with it.
    """
    led = (_F.port_id.in_(port_ids), _F.fixed_ip == number, ~_F.auto)
    for row in tx.connection.execute(select(floating_ips).where(*led).order_by(_F.key)).all():
        _lead(tx, row, heir, None if heir is None else number)
    table = port_forwardings.c
    concerned = (table.port_id.in_(port_ids), table.fixed_ip == number)
    rows = tx.connection.execute(select(table.id, table.floating_ip_id).where(*concerned).order_by(table.key)).all()
    if heir is None:
        tx.connection.execute(delete(port_forwardings).where(*concerned))
    else:
        tx.connection.execute(update(port_forwardings).where(*concerned).values(port_id=heir))
    by_floating_ip: dict[str, list[str]] = {}
    for row in rows:
        by_floating_ip.setdefault(row.floating_ip_id, []).append(row.id)
    for floating_ip_id, ids in by_floating_ip.items():
        touch(tx, floating_ip_id, **{"port_forwardings_deleted" if heir is None else "port_forwardings_moved": ids})


def touch(tx: Transaction, floating_ip_id: str, **payload: Any) -> None:
    """Note that its forwardings have changed."""
    revision = tx.record(FLOATING_IP, floating_ip_id, UPDATE, payload)
    tx.connection.execute(update(floating_ips).where(_F.id == floating_ip_id).values(revision=revision))
