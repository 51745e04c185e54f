"""Which port has an address that several may use, as they say by ARP. What leads to the address leads to that port."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address

from sqlalchemy import bindparam, select, update

from controller.store import floating_ips, virtual_addresses
from controller.store.engine import chunks
from controller.store.journal import PORT, UPDATE, Transaction
from controller.store.schema import addresses, ports, subnets
from controller.store.schema import virtual_addresses as _table
from controller.store.specs import Conflict, NotFound

_V = _table.c
_PAIR = select(_V.network_id, _V.held).where(
    _V.port_id == bindparam("port"), _V.address == bindparam("number"), _V.mac == bindparam("pair_mac")
)
_OWNED = (
    select(_V.network_id, _V.address, addresses.c.port_id)
    .join(subnets, subnets.c.network_id == _V.network_id)
    .join(addresses, (addresses.c.subnet_id == subnets.c.id) & (addresses.c.address == _V.address))
    .where(addresses.c.port_id.in_(bindparam("ids", expanding=True)))
    .distinct()
)


def claim(tx: Transaction, port_id: str, address: IPv4Address, mac: str) -> bool:
    """The port has said that it has the address of a pair. False when that was known.

    Raises NotFound `address_pair_unknown`, Conflict `address_in_use` while a port whose own address it is is on a node.
    """
    number = int(address)
    row = tx.connection.execute(_PAIR, {"port": port_id, "number": number, "pair_mac": mac}).one_or_none()
    if row is None:
        raise NotFound("address_pair_unknown", f"port {port_id} has no pair {address} {mac}")
    if row.held:
        return False
    if virtual_addresses.owner_at_work(tx.connection, row.network_id, number):
        raise Conflict("address_in_use", f"{address} is another port's own address")
    _pass(tx, row.network_id, number, port_id, mac)
    floating_ips.follow(tx, row.network_id, number, port_id)
    return True


def give_back(tx: Transaction, port_ids: Sequence[str]) -> None:
    """These ports are on nodes: addresses that they have as their own, and others use, are theirs."""
    for part in chunks(port_ids):
        for network_id, number, port_id in tx.connection.execute(_OWNED, {"ids": part}).all():
            _pass(tx, network_id, number, None)
            floating_ips.follow(tx, network_id, number, port_id)


def _pass(tx: Transaction, network_id: str, number: int, port_id: str | None, mac: str = "") -> None:
    """From whom has it to a port, or to nobody."""
    before = virtual_addresses.holder(tx.connection, network_id, number)
    virtual_addresses.hold(tx, network_id, number, port_id, mac)
    for changed in {before, port_id} - {None}:
        held = select(_V.address).where(_V.port_id == changed, _V.held).order_by(_V.address)
        now = [str(IPv4Address(one)) for one in tx.connection.execute(held).scalars()]
        revision = tx.record(PORT, str(changed), UPDATE, {"held_addresses": now})
        tx.connection.execute(update(ports).where(ports.c.id == changed).values(revision=revision))
