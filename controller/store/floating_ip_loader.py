"""From rows to values for floating IPs and the ports of them that are forwarded."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address

from sqlalchemy import Connection, select

from controller.store import journal
from controller.store.engine import AnyRow
from controller.store.floating_ip_specs import FloatingIpRecord
from controller.store.quarantine import Quarantine, Reading
from controller.store.rows import IDS, Rows, grouped
from controller.store.schema import floating_ip_pools, floating_ips, port_forwardings
from flows.model import FloatingIp, PortForwarding

_ALL = (
    select(floating_ips, floating_ip_pools.c.network_id, floating_ip_pools.c.name.label("pool"))
    .join(floating_ip_pools, floating_ip_pools.c.id == floating_ips.c.pool_id)
    .order_by(floating_ips.c.key)
)
_FLOATING_IPS = Rows(_ALL, floating_ips.c.id.in_(IDS))
_OF_PORTS = Rows(_ALL, floating_ips.c.port_id.in_(IDS))
_FORWARDINGS = Rows(
    select(port_forwardings).order_by(port_forwardings.c.key), port_forwardings.c.floating_ip_id.in_(IDS)
)


def load_floating_ips(
    connection: Connection, ids: Sequence[str] | None = None, quarantine: Quarantine | None = None
) -> list[FloatingIpRecord]:
    forwardings = grouped(_FORWARDINGS.of(connection, ids), "floating_ip_id")
    reading = Reading(journal.FLOATING_IP, ids, quarantine)

    def build(row: AnyRow) -> FloatingIpRecord:
        of_it = forwardings.get(row.id, ())
        parts = reading.parts(of_it, _forwarding, "port_forwarding", row.id, ("id",))
        floating_ip = _floating_ip(row, parts)
        return FloatingIpRecord(floating_ip, row.pool_id, row.pool, row.auto, row.created_at, row.revision)

    return list(reading.objects(_FLOATING_IPS.of(connection, ids), build))


def floating_ips_of_ports(connection: Connection, port_ids: Sequence[str]) -> dict[str, list[FloatingIp]]:
    """Those associated with these ports. They have no forwardings."""
    rows = grouped(_OF_PORTS.of(connection, port_ids), "port_id")
    reading = Reading(journal.FLOATING_IP, None, None)
    return {port_id: list(reading.objects(group, lambda row: _floating_ip(row, ()))) for port_id, group in rows.items()}


def _floating_ip(row: AnyRow, forwardings: tuple[PortForwarding, ...]) -> FloatingIp:
    return FloatingIp(
        id=row.id,
        key=row.key,
        network_id=row.network_id,
        address=IPv4Address(row.address),
        project_id=row.project_id,
        port_id=row.port_id,
        fixed_ip=None if row.fixed_ip is None else IPv4Address(row.fixed_ip),
        port_forwardings=forwardings,
    )


def _forwarding(row: AnyRow) -> PortForwarding:
    fixed_ip = IPv4Address(row.fixed_ip)
    return PortForwarding(row.id, row.key, row.protocol, row.first, row.last, row.port_id, fixed_ip, row.to)
