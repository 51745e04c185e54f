"""What the API was given for machines. The snapshot has its revision alone: 64 KB for each machine is much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from sqlalchemy import Connection, and_, bindparam, case, delete, func, insert, or_, select, update

from controller.store.engine import AnyRow
from controller.store.journal import PORT, UPDATE, Transaction
from controller.store.metadata_specs import MachineMetadata, MachineRecord
from controller.store.schema import machine_metadata, ports
from controller.store.specs import Conflict, NotFound

_M, _P = machine_metadata.c, ports.c
REVISION = _M.revision

_PROJECT = func.coalesce(_P.project_id, "")
_MACHINE = case((_P.device_id == "", _P.id), else_=_P.device_id)
OF_PORT = (machine_metadata, and_(_M.project_id == _PROJECT, _M.machine_id == _MACHINE))
"""What to join to ports, and how."""

_OF = (_M.project_id == bindparam("project"), _M.machine_id == bindparam("machine"))
_FIND = select(machine_metadata).where(*_OF)
_FORGET = delete(machine_metadata).where(*_OF)
_ADD = insert(machine_metadata)
_PORT = select(_P.id, _PROJECT.label("project"), _MACHINE.label("machine")).where(_P.id == bindparam("port"))
_PORTS = (
    select(_P.id)
    # as _MACHINE says it, but by indexes
    .where(or_(_P.device_id == bindparam("machine"), and_(_P.id == bindparam("machine"), _P.device_id == "")))
    .where(bindparam("project") == _PROJECT)
    .order_by(_P.key)
)
_TOUCH = update(ports).where(_P.id == bindparam("port")).values(revision=bindparam("new"))

_NOTHING = MachineMetadata()
_FIELDS = tuple(field.name for field in fields(MachineMetadata))


def get(connection: Connection, port_id: str) -> MachineRecord:
    """Raises NotFound `port_unknown`."""
    key = _key(connection, port_id)
    port_ids = tuple(connection.execute(_PORTS, key).scalars())
    return MachineRecord(key["project"] or None, key["machine"], port_ids, load(connection, **key) or _NOTHING)


def load(connection: Connection, project: str, machine: str) -> MachineMetadata | None:
    row = connection.execute(_FIND, {"project": project, "machine": machine}).one_or_none()
    return None if row is None else MachineMetadata(**{name: row._mapping[name] for name in _FIELDS})


def change(tx: Transaction, port_id: str, changes: Mapping[str, Any]) -> None:
    """Raises NotFound `port_unknown`."""
    record = get(tx.connection, port_id)
    new = replace(record.metadata, **changes)
    names = sorted(name for name in changes if getattr(new, name) != getattr(record.metadata, name))
    if names:
        _put(tx, record, new, names)


def set_password(tx: Transaction, port_id: str, password: str) -> None:
    """Raises NotFound `port_unknown`, Conflict `password_set`."""
    record = get(tx.connection, port_id)
    if record.metadata.password is not None:
        raise Conflict("password_set", "the machine has told its password already", "password")
    _put(tx, record, replace(record.metadata, password=password), ["password"])


def leave(tx: Transaction, port: AnyRow, device_id: str | None = None) -> None:
    """A port has left its machine, for another or (None) for good. What its last port leaves behind is forgotten; where
    that port was the machine itself, and is the only one of what it is called now, it is taken along.
    """
    key = {"project": port.project_id or "", "machine": port.device_id or port.id}
    known = load(tx.connection, **key)
    if known is None or tx.connection.execute(_PORTS, key).first() is not None:
        return
    tx.connection.execute(_FORGET, key)
    to = key | {"machine": device_id}
    if device_id and not port.device_id and tx.connection.execute(_PORTS, to).scalars().all() == [port.id]:
        tx.connection.execute(_ADD, _row(to, replace(known, revision=tx.revision)))


def _key(connection: Connection, port_id: str) -> dict[str, str]:
    row = connection.execute(_PORT, {"port": port_id}).one_or_none()
    if row is None:
        raise NotFound("port_unknown", f"there is no port {port_id}")
    return {"project": row.project, "machine": row.machine}


def _put(tx: Transaction, record: MachineRecord, new: MachineMetadata, names: list[str]) -> None:
    """All its ports are told, so that whoever knows them knows that what it remembers of the machine is old."""
    key = {"project": record.project_id or "", "machine": record.machine_id}
    tx.connection.execute(_FORGET, key)
    if replace(new, revision=0) != _NOTHING:
        tx.connection.execute(_ADD, _row(key, replace(new, revision=tx.revision)))
    touched = [
        {"port": port_id, "new": tx.record(PORT, port_id, UPDATE, {"metadata": names})} for port_id in record.port_ids
    ]
    tx.connection.execute(_TOUCH, touched)


def _row(key: Mapping[str, Any], metadata: MachineMetadata) -> dict[str, Any]:
    values = {name: getattr(metadata, name) for name in _FIELDS}
    return {"project_id": key["project"], "machine_id": key["machine"], **values}
