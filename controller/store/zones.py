"""Conntrack zones: every interface of a port on a node has one, also where its VM is expected or has just left."""

from __future__ import annotations

from sqlalchemy import bindparam, select, union, update

from controller.store.journal import Transaction
from controller.store.schema import nodes, ports
from flows.pipeline import PORT_ZONES

_USED = union(
    *(
        select(zone).where(node == bindparam("holder"), zone.between(bindparam("low"), bindparam("high")))
        for node, zone in ((ports.c.bound_node, ports.c.zone), (ports.c.other_node, ports.c.other_zone))
    )
)
_NEXT_ZONE = select(nodes.c.next_zone).where(nodes.c.name == bindparam("holder"))
_SET_ZONE = update(nodes).where(nodes.c.name == bindparam("holder")).values(next_zone=bindparam("following"))


def free(tx: Transaction, node: str, count: int) -> list[int]:
    """Zones in turn, so that one that was just given back, and may still hold connections, comes last."""
    if not count:
        return []
    zone: int = tx.connection.execute(_NEXT_ZONE, {"holder": node}).scalar_one()
    found: list[int] = []
    walked = 0
    while walked < len(PORT_ZONES) and len(found) < count:
        high = min(zone + count + 63, PORT_ZONES[-1])
        used = set(tx.connection.execute(_USED, {"holder": node, "low": zone, "high": high}).scalars())
        while zone <= high and len(found) < count:
            if zone not in used:
                found.append(zone)
            zone += 1
            walked += 1
        zone = zone if zone in PORT_ZONES else PORT_ZONES[0]
    tx.connection.execute(_SET_ZONE, {"holder": node, "following": zone})
    return found
