"""Ports whose interface says nothing of itself, and is known by its name: which port an interface of a node is."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, or_, select

from controller.store.engine import chunks
from controller.store.schema import ports
from controller.store.specs import Conflict

_HERE = ports.c.node == bindparam("here")
_EXPECTED = ports.c.other_node == bindparam("here")
_FREE = ports.c.node.is_(None) & or_(ports.c.bound_node.is_(None), ports.c.bound_node == bindparam("here"))
# a port of this very node before one that is expected, or of any node
_CLAIMS = (
    select(ports.c.interface_name, ports.c.id)
    .where(ports.c.interface_name.in_(bindparam("names", expanding=True)), or_(_HERE, _EXPECTED, _FREE))
    .order_by(_HERE, _EXPECTED, ports.c.key.desc())
)
_OTHERS = select(ports.c.id, ports.c.node).where(
    ports.c.interface_name == bindparam("name"), ports.c.id != bindparam("port")
)


def claims(connection: Connection, node: str, names: Sequence[str]) -> dict[str, str]:
    """The ids of the ports that these interfaces of a node are, by name; others are nobody's."""
    found: dict[str, str] = {}
    for part in chunks(sorted(set(names))):
        found |= {name: id_ for name, id_ in connection.execute(_CLAIMS, {"here": node, "names": part})}
    return found


def check(connection: Connection, port_id: str, name: str | None, node: str | None) -> None:
    """Raises Conflict `interface_name_in_use` when another port may be found by the name on the same node."""
    if name is None:
        return
    for other, its_node in connection.execute(_OTHERS, {"name": name, "port": port_id}):
        if node is None or its_node is None or its_node == node:
            raise Conflict("interface_name_in_use", f"port {other} has that name, too", "interface_name", port_id=other)
