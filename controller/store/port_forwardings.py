"""Ports of a floating IP that lead to ports of several machines."""

from __future__ import annotations

from ipaddress import IPv4Address
from uuid import uuid4

from sqlalchemy import delete, insert, select

from controller.store import floating_ips
from controller.store.floating_ip_specs import PortForwardingSpec
from controller.store.journal import Transaction
from controller.store.schema import port_forwardings
from controller.store.specs import Conflict, Exhausted, Invalid, NotFound
from flows.model import FloatingIp, PortForwarding

LAST_PORT = 2**16 - 1
# a range that is moved costs a flow for each port, on each change of the floating IP
LONGEST_MOVED = 256
# of one floating IP, together
MOST_FORWARDINGS = 100
MOST_MOVED = 512

_T = port_forwardings.c


def find(floating_ip: FloatingIp, id_: str) -> PortForwarding:
    """Raises NotFound `port_forwarding_unknown`."""
    for forwarding in floating_ip.port_forwardings:
        if forwarding.id == id_:
            return forwarding
    raise NotFound("port_forwarding_unknown", f"there is no port forwarding {id_}")


def create(tx: Transaction, floating_ip_id: str, spec: PortForwardingSpec) -> str:
    """The id of the new forwarding.

    Raises NotFound, Invalid `port_range_invalid` or as `floating_ips.target` does, Conflict `floating_ip_associated`
    or `ports_in_use`, Exhausted `too_many_forwardings`.
    """
    to = spec.first if spec.to is None else spec.to
    _check_ranges(spec, to)
    row = floating_ips.find(tx.connection, floating_ip_id)
    address = IPv4Address(row.address)
    if row.port_id is not None:
        raise Conflict("floating_ip_associated", f"{address} is associated with a port as a whole")
    port_id, fixed_ip = floating_ips.target(tx.connection, row, spec.port_id, spec.fixed_ip)
    query = select(_T.first, _T.last).where(
        _T.floating_ip_id == floating_ip_id,
        _T.protocol == spec.protocol,
        _T.first <= spec.last,
        _T.last >= spec.first,
    )
    for first, last in tx.connection.execute(query):
        raise Conflict("ports_in_use", f"ports {first}-{last} of {address} are forwarded already", "ports")
    _require_room(tx, floating_ip_id, spec, to)
    (key,) = tx.new_keys("port_forwarding_key", 1)
    id_ = str(uuid4())
    values = {
        "id": id_,
        "key": key,
        "floating_ip_id": floating_ip_id,
        "protocol": spec.protocol,
        "first": spec.first,
        "last": spec.last,
        "port_id": port_id,
        "fixed_ip": fixed_ip,
        "to": to,
        "created_at": tx.now,
    }
    tx.connection.execute(insert(port_forwardings), values)
    floating_ips.touch(tx, floating_ip_id, port_forwarding_created={**values, "fixed_ip": str(IPv4Address(fixed_ip))})
    return id_


def _require_room(tx: Transaction, floating_ip_id: str, spec: PortForwardingSpec, to: int) -> None:
    known = tx.connection.execute(select(_T.first, _T.last, _T.to).where(_T.floating_ip_id == floating_ip_id)).all()
    if len(known) >= MOST_FORWARDINGS:
        message = f"a floating IP can have {MOST_FORWARDINGS} port forwardings"
        raise Exhausted("too_many_forwardings", message, "floating_ip_id")
    ranges = [(row.first, row.last, row.to) for row in known] + [(spec.first, spec.last, to)]
    if to != spec.first and sum(last - first + 1 for first, last, to in ranges if first != to) > MOST_MOVED:
        message = f"a floating IP can move {MOST_MOVED} ports to others; forward to the same ports, or use another one"
        raise Exhausted("too_many_forwardings", message, "ports")


def _check_ranges(spec: PortForwardingSpec, to: int) -> None:
    count = spec.last - spec.first + 1
    if not 1 <= spec.first <= spec.last <= LAST_PORT:
        raise Invalid("port_range_invalid", f"{spec.first}-{spec.last} is no range of ports 1..{LAST_PORT}", "ports")
    if not 1 <= to <= LAST_PORT - count + 1:
        raise Invalid("port_range_invalid", f"{count} ports from {to} on are not within 1..{LAST_PORT}", "to")
    if to != spec.first and count > LONGEST_MOVED:
        message = f"a range of {count} ports cannot be moved to others, only one of {LONGEST_MOVED}"
        raise Invalid("port_range_invalid", message, "to")


def delete_forwarding(tx: Transaction, floating_ip_id: str, id_: str) -> None:
    tx.connection.execute(delete(port_forwardings).where(_T.id == id_))
    floating_ips.touch(tx, floating_ip_id, port_forwardings_deleted=[id_])
