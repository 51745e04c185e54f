"""Security groups: made with the rules of the template, one called `default` for every project that has use for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from controller.store import default_rules, quotas
from controller.store.audit import before
from controller.store.engine import AnyRow, chunks
from controller.store.journal import CREATE, DELETE, SECURITY_GROUP, UPDATE, Transaction
from controller.store.policy_specs import DEFAULT_GROUP, SecurityGroupSpec
from controller.store.quota_specs import Limits
from controller.store.schema import port_security_groups, ports, security_group_rules, security_groups
from controller.store.specs import Conflict, Forbidden, Invalid, NotFound

# what may change: how it goes to its column
COLUMN_CHANGES: dict[str, Any] = {
    "name": str,
    "description": str,
    "stateful": bool,
    "log_accepted": bool,
    "log_dropped": bool,
}

NAMED_USERS = 5
"""Of those that keep a group from being deleted."""

_G = security_groups.c
_R = security_group_rules.c
_M = port_security_groups.c
_ONE = select(security_groups).where(_G.id == bindparam("group"))
_DEFAULTS = select(_G.project_id, _G.id).where(
    _G.name == DEFAULT_GROUP, _G.project_id.in_(bindparam("projects", expanding=True))
)
_TOUCH = update(security_groups).where(_G.id == bindparam("group")).values(revision=bindparam("r"))
_MEMBERS = (
    select(ports.c.id, ports.c.name)
    .join(port_security_groups, _M.port_id == ports.c.id)
    .where(_M.group_id == bindparam("group"))
    .order_by(ports.c.key)
)
_REFERRERS = (
    select(_G.id, _G.name, _G.project_id)
    .join(security_group_rules, _R.group_id == _G.id)
    .where(_R.remote_group_id == bindparam("group"), _G.id != bindparam("group"))
    .distinct()
    .order_by(_G.name)
)


def owner(project_id: str | None) -> str:
    """As a column holds it: a NULL would escape the unique constraint."""
    return project_id or ""


def find(connection: Connection, group_id: str, field: str | None = None) -> AnyRow:
    """Raises NotFound `security_group_unknown`."""
    row = connection.execute(_ONE, {"group": group_id}).one_or_none()
    if row is None:
        raise NotFound("security_group_unknown", f"there is no security group {group_id}", field)
    return row


def create(tx: Transaction, spec: SecurityGroupSpec, limits: Limits) -> str:
    """The id of the new group. Raises Invalid `log_stateless`, Conflict `security_group_exists`, Exhausted
    `quota_exceeded`.
    """
    refuse_log(spec.stateful, spec.log_accepted, "log_accepted")
    defaults(tx, [spec.project_id])
    _refuse_taken(tx.connection, spec.project_id, spec.name)
    if spec.project_id is not None:
        limit = quotas.limits(tx.connection, spec.project_id, limits).security_groups
        used = quotas.security_groups_used(tx.connection, spec.project_id)
        quotas.require(f"project {spec.project_id}", "security groups", limit, used, 1)
    return _add(tx, spec)


def refuse_log(stateful: bool, log_accepted: bool, field: str) -> None:
    """Raises Invalid `log_stateless`: without connections nobody can tell which packet begins one."""
    if log_accepted and not stateful:
        message = f"{field}: what a stateless group accepts is not reported, as it knows no connections"
        raise Invalid("log_stateless", message, field)


_TOLD = ("name", "project_id", "description", "stateful", "log_accepted", "log_dropped")


def _refuse_taken(connection: Connection, project_id: str | None, name: str) -> None:
    query = select(_G.id).where(_G.project_id == owner(project_id), _G.name == name)
    taken = connection.execute(query).scalar()
    if taken is not None:
        raise Conflict("security_group_exists", f"there is a security group {name} in the project", "name", id=taken)


def _add(tx: Transaction, spec: SecurityGroupSpec) -> str:
    (key,) = tx.new_keys("security_group_key", 1)
    id_ = str(uuid4())
    row = {name: to_column(getattr(spec, name)) for name, to_column in COLUMN_CHANGES.items()}
    payload = {"name": spec.name, "project_id": spec.project_id, "stateful": spec.stateful}
    row |= {
        "id": id_,
        "key": key,
        "project_id": owner(spec.project_id),
        "created_at": tx.now,
        "revision": tx.record(SECURITY_GROUP, id_, CREATE, payload),
    }
    tx.connection.execute(insert(security_groups), row)
    rules = default_rules.rows_for(tx, id_, spec.name == DEFAULT_GROUP)
    if rules:
        tx.connection.execute(insert(security_group_rules), rules)
    return id_


def defaults(tx: Transaction, projects: Iterable[str | None]) -> dict[str | None, str]:
    """The ids of these projects' default groups, made where there are none."""
    wanted = {owner(project_id): project_id for project_id in projects}
    found: dict[str | None, str] = {}
    for part in chunks(sorted(wanted)):
        for project_id, id_ in tx.connection.execute(_DEFAULTS, {"projects": part}):
            found[wanted[project_id]] = id_
    for project_id in wanted.values():
        if project_id not in found:
            found[project_id] = _add(tx, SecurityGroupSpec(DEFAULT_GROUP, project_id))
    return found


def has_default(connection: Connection, project_id: str | None) -> bool:
    return connection.execute(_DEFAULTS, {"projects": [owner(project_id)]}).first() is not None


def update_group(tx: Transaction, group_id: str, changes: Mapping[str, Any]) -> None:
    """Raises Forbidden for another name of the group `default`, Invalid `log_stateless`, Conflict
    `security_group_exists`, or `security_groups_mixed` when `stateful` would differ from another group's of a port.
    """
    row = find(tx.connection, group_id)
    for name in changes:
        if name not in COLUMN_CHANGES:
            known = name in SecurityGroupSpec.__dataclass_fields__
            code, why = ("immutable", "cannot change") if known else ("unknown_field", "is unknown")
            raise Invalid(code, f"{name} of a security group {why}", name)
    values = {name: COLUMN_CHANGES[name](value) for name, value in changes.items()}
    values = {name: value for name, value in values.items() if row._mapping[name] != value}
    if "name" in values:
        if row.name == DEFAULT_GROUP:
            raise Forbidden("security_group_default", "the group default keeps its name", "name")
        _refuse_taken(tx.connection, row.project_id, values["name"])
    if values.get("log_accepted"):
        refuse_log(values.get("stateful", row.stateful), True, "log_accepted")
    if "stateful" in values:
        reported = values.get("log_accepted", row.log_accepted) or _a_rule_logs(tx.connection, group_id)
        refuse_log(values["stateful"], reported, "stateful")
        _refuse_mixed(tx.connection, group_id, values["stateful"])
    if values:
        touch(tx, group_id, values, before(row, values))
        tx.connection.execute(update(security_groups).where(_G.id == group_id).values(**values))


def _a_rule_logs(connection: Connection, group_id: str) -> bool:
    return connection.execute(select(_R.id).where(_R.group_id == group_id, _R.log).limit(1)).first() is not None


def _refuse_mixed(connection: Connection, group_id: str, stateful: bool) -> None:
    """A port is tracked or it is not: no port may be in groups of both kinds."""
    other, membership = security_groups.alias(), port_security_groups.alias()
    query = (
        select(_M.port_id, other.c.name)
        .join(membership, membership.c.port_id == _M.port_id)
        .join(other, other.c.id == membership.c.group_id)
        .where(_M.group_id == group_id, other.c.id != group_id, other.c.stateful != stateful)
        .limit(1)
    )
    for port_id, name in connection.execute(query):
        kind = "stateless" if stateful else "stateful"
        message = f"port {port_id} is also in group {name}, which is {kind}: a port cannot be in both kinds"
        raise Conflict("security_groups_mixed", message, "stateful", port_id=port_id)


def touch(tx: Transaction, group_id: str, payload: Mapping[str, Any], old: Mapping[str, Any] | None = None) -> None:
    """Note a change of a group: one row, however many members it has."""
    revision = tx.record(SECURITY_GROUP, group_id, UPDATE, payload, old)
    tx.connection.execute(_TOUCH, {"group": group_id, "r": revision})


def delete_group(tx: Transaction, group_id: str, any_user: bool) -> None:
    """Raises Forbidden `security_group_default`, Conflict `security_group_in_use` that names the users; those of other
    projects only with `any_user`.
    """
    row = find(tx.connection, group_id)
    if row.name == DEFAULT_GROUP:
        raise Forbidden("security_group_default", "the group default cannot be deleted")
    _remove(tx, row, any_user)


def delete_all(tx: Transaction, project_id: str) -> list[str]:
    """The ids of all groups of a project, which are gone; `default` too, until it is needed again. Raises Conflict
    `security_group_in_use`; that they name each other is no use.
    """
    query = select(security_groups).where(_G.project_id == project_id).order_by(_G.key)
    groups = tx.connection.execute(query).all()
    for part in chunks([group.id for group in groups]):
        tx.connection.execute(delete(security_group_rules).where(_R.group_id.in_(part)))
    for group in groups:
        _remove(tx, group, any_user=True)
    return [group.id for group in groups]


def _remove(tx: Transaction, row: AnyRow, any_user: bool) -> None:
    """Raises Conflict `security_group_in_use` that names the users."""
    group_id = row.id
    members = tx.connection.execute(_MEMBERS, {"group": group_id}).all()
    if members:
        names, one = _named("port", members)
        message = f"{names} {'is' if one else 'are'} in the group"
        raise Conflict("security_group_in_use", message, ports=[member.id for member in members[:NAMED_USERS]])
    referrers = tx.connection.execute(_REFERRERS, {"group": group_id}).all()
    if referrers:
        shown = [one for one in referrers if any_user or one.project_id == row.project_id]
        whose = [_named("group", shown)[0]] if shown else []
        whose += ["another project"] if len(shown) < len(referrers) else []
        ids = [referrer.id for referrer in shown[:NAMED_USERS]]
        message = f"rules of {' and of '.join(whose)} are about its members"
        raise Conflict("security_group_in_use", message, security_groups=ids)
    tx.connection.execute(delete(security_group_rules).where(_R.group_id == group_id))
    tx.connection.execute(delete(security_groups).where(_G.id == group_id))
    tx.record(SECURITY_GROUP, group_id, DELETE, {}, before(row, _TOLD))


def _named(what: str, users: Sequence[AnyRow]) -> tuple[str, bool]:
    """The users by name, and whether it is one."""
    shown = ", ".join(user.name or user.id for user in users[:NAMED_USERS])
    more = f" and {len(users) - NAMED_USERS} more" if len(users) > NAMED_USERS else ""
    one = len(users) == 1
    return f"{what} {shown}" if one else f"{what}s {shown}{more}", one
