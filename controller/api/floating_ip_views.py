"""What the API answers about floating IPs, as `views` does about the rest."""

from __future__ import annotations

from controller.api.views import Json, time_of
from controller.store.floating_ip_specs import FloatingIpPoolRecord, FloatingIpRecord
from flows.model import PortForwarding
from flows.protocols import PROTOCOL_NAMES


def pool(record: FloatingIpPoolRecord) -> Json:
    return {
        "id": record.id,
        "name": record.spec.name,
        "network_id": record.spec.network_id,
        "ranges": [str(part) for part in record.spec.ranges],
        "used": record.used,
        "created_at": time_of(record.created_at),
        "revision": record.revision,
    }


def floating_ip(record: FloatingIpRecord, node: str | None, active: bool) -> Json:
    """`node` is where its port is, `active`: that node has confirmed it."""
    it = record.floating_ip
    return {
        "id": it.id,
        "key": it.key,
        "address": str(it.address),
        "pool": record.pool,
        "pool_id": record.pool_id,
        "network_id": it.network_id,
        "project_id": it.project_id,
        "port_id": it.port_id,
        "fixed_ip": None if it.fixed_ip is None else str(it.fixed_ip),
        "port_forwardings": [port_forwarding(forwarding) for forwarding in it.port_forwardings],
        "node": node,
        "status": "active" if active else "down",
        "auto": record.auto,
        "created_at": time_of(record.created_at),
        "revision": record.revision,
    }


def port_forwarding(it: PortForwarding) -> Json:
    return {
        "id": it.id,
        "key": it.key,
        "protocol": PROTOCOL_NAMES[it.protocol],
        "ports": str(it.first) if it.first == it.last else f"{it.first}-{it.last}",
        "port_id": it.port_id,
        "fixed_ip": str(it.fixed_ip),
        "to": it.to,
    }
