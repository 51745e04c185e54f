"""Which security groups a port is in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, or_, select

from controller.store import security_groups
from controller.store.engine import AnyRow, chunks
from controller.store.journal import Transaction
from controller.store.policy_specs import DEFAULT_GROUP
from controller.store.schema import port_security_groups
from controller.store.schema import security_groups as groups
from controller.store.specs import Conflict, NotFound

_M = port_security_groups.c
_G = groups.c


@dataclass(frozen=True, slots=True)
class Wanted:
    """`groups`: names or ids of groups of the port's project; None: its default group. `index`: see `ports`."""

    port_id: str
    project_id: str | None
    groups: tuple[str, ...] | None
    index: int = 0


def join(tx: Transaction, wanted: Sequence[Wanted], by_default: Mapping[str | None, str]) -> None:
    """Puts new ports into their groups. Raises as `resolve` does, with the index of the port.

    `by_default`: the default groups of the projects.
    """
    known: dict[tuple[str | None, tuple[str, ...]], list[str]] = {}
    rows: list[dict[str, str]] = []
    for one in wanted:
        if one.groups is None:
            found = [by_default[one.project_id]]
        else:
            key = (one.project_id, one.groups)
            try:
                if key not in known:
                    known[key] = resolve(tx, one.project_id, one.groups)
            except (NotFound, Conflict) as error:
                error.index = one.index
                raise
            found = known[key]
        rows += [{"port_id": one.port_id, "group_id": group_id} for group_id in found]
    if rows:
        tx.connection.execute(insert(port_security_groups), rows)


def resolve(tx: Transaction, project_id: str | None, wanted: Sequence[str]) -> list[str]:
    """The ids of groups that are named by id or name, each once, by key. The default group is made when it is named.

    Raises NotFound `security_group_unknown`, Conflict `security_groups_mixed`.
    """
    if DEFAULT_GROUP in wanted:
        security_groups.defaults(tx, [project_id])
    rows: list[AnyRow] = []
    for part in chunks(sorted(set(wanted))):
        query = select(*_G["id", "key", "name", "stateful"]).where(
            _G.project_id == security_groups.owner(project_id), or_(_G.id.in_(part), _G.name.in_(part))
        )
        rows += tx.connection.execute(query).all()
    by_id, by_name = {row.id: row for row in rows}, {row.name: row for row in rows}
    found: dict[str, AnyRow] = {}
    for position, reference in enumerate(wanted):
        row = by_id.get(reference) or by_name.get(reference)
        if row is None:
            message = f"there is no security group {reference} in the port's project"
            raise NotFound("security_group_unknown", message, f"security_groups.{position}")
        found[row.id] = row
        for other in found.values():
            if other.stateful != row.stateful:
                one, two = (other, row) if other.stateful else (row, other)
                message = f"{one.name} is stateful and {two.name} is stateless: a port cannot be in both kinds"
                raise Conflict("security_groups_mixed", message, f"security_groups.{position}")
    return [row.id for row in sorted(found.values(), key=lambda row: row.key)]


def change(tx: Transaction, port_id: str, project_id: str | None, wanted: tuple[str, ...] | None) -> list[str] | None:
    """The port's groups become these. Answers their ids, or None when it is in them already."""
    if wanted is None:
        new = list(security_groups.defaults(tx, [project_id]).values())
    else:
        new = resolve(tx, project_id, wanted)
    if set(new) == set(of_port(tx.connection, port_id)):
        return None
    leave(tx, port_id)
    if new:
        rows = [{"port_id": port_id, "group_id": group_id} for group_id in new]
        tx.connection.execute(insert(port_security_groups), rows)
    return new


def of_port(connection: Connection, port_id: str) -> list[str]:
    return list(connection.execute(select(_M.group_id).where(_M.port_id == port_id)).scalars())


def leave(tx: Transaction, port_id: str) -> None:
    tx.connection.execute(delete(port_security_groups).where(_M.port_id == port_id))
