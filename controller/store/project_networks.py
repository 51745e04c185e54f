"""Which project has which of the networks that can be given away, and on which networks its machines are.

What nova-network's VLAN manager did: a network without a project is free, and is a project's from its first port on.
"""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, select, update

from controller.store import ipam, routers, security_groups
from controller.store import networks as network_rows
from controller.store.engine import AnyRow
from controller.store.journal import NETWORK, UPDATE, Transaction, count_rows
from controller.store.network_specs import Scrubbed
from controller.store.networks import MAX_NAME
from controller.store.schema import networks
from controller.store.specs import Conflict, Exhausted, Invalid, NotFound, PortSpec
from flows.model import NetworkKind

_N = networks.c
# a network that others are routed with by its id is in use
_FREE = (
    select(networks)
    .where(_N.assignable, _N.project_id.is_(None), _N.id.not_in(select(_N.router)))
    .order_by(_N.key)
    .limit(1)
)


def associate(tx: Transaction, network_id: str, project_id: str) -> None:
    """Raises NotFound, Conflict `network_not_assignable`, `network_has_project` when it is another's, or what a change
    of its router can raise.
    """
    row = _assignable(tx.connection, network_id)
    if row.project_id == project_id:
        return
    if row.project_id is not None:
        raise _taken(row)
    _give(tx, row, project_id)


def take_free(tx: Transaction, project_id: str) -> str:
    """The id of a free network, which is the project's now. Raises Exhausted `no_free_network`."""
    row = tx.connection.execute(_FREE).one_or_none()
    if row is None:
        raise Exhausted("no_free_network", "no free network is left: an administrator makes one, or frees one")
    _give(tx, row, project_id)
    return str(row.id)


def disassociate(tx: Transaction, network_id: str) -> None:
    """Raises NotFound, Conflict `network_not_assignable`, or `network_in_use` while it has ports: whoever is given it
    next would find them there.
    """
    row = _assignable(tx.connection, network_id)
    if row.project_id is None:
        return
    network_rows.require_no_ports(tx.connection, network_id)
    _give(tx, row, None)


def scrub(tx: Transaction, project_id: str) -> Scrubbed:
    """Raises Conflict `network_in_use` or `security_group_in_use`."""
    query = select(_N.id).where(_N.project_id == project_id, _N.assignable).order_by(_N.key)
    ids = tuple(tx.connection.execute(query).scalars())
    for network_id in ids:
        disassociate(tx, network_id)
    return Scrubbed(ids, tuple(security_groups.delete_all(tx, project_id)))


def of_device(tx: Transaction, project_id: str) -> list[str]:
    """The networks of a machine that names none, by age.

    Those of its project; a project that has none is given a free one where there are networks to be given. A project
    without a VLAN network is on the shared flat networks, too. Raises Exhausted `no_free_network`, Conflict
    `no_network`.
    """
    connection = tx.connection
    own = connection.execute(
        select(*networks.c["id", "kind"]).where(_N.project_id == project_id, ~_N.external).order_by(_N.key)
    ).all()
    if any(row.kind == NetworkKind.VLAN.value for row in own):
        return [row.id for row in own]
    if not own and count_rows(connection, networks, _N.assignable):
        return [take_free(tx, project_id)]
    flat = (_N.kind == NetworkKind.FLAT.value, ~_N.external, _N.shared | (_N.project_id == project_id))
    found = list(connection.execute(select(_N.id).where(*flat).order_by(_N.key)).scalars())
    if not found:
        raise Conflict("no_network", f"project {project_id} has no network: name one", "network_id")
    return found


def device_ports(tx: Transaction, project_id: str, template: PortSpec) -> list[PortSpec]:
    """The ports of such a machine. The first is called as the template, the others NAME-2, NAME-3, ...

    Raises what `of_device` does, and Invalid `name_invalid` where that is longer than a name may be.
    """
    specs = [
        replace(
            template,
            network_id=network_id,
            project_id=project_id,
            name=template.name if number == 1 or not template.name else f"{template.name}-{number}",
        )
        for number, network_id in enumerate(of_device(tx, project_id), start=1)
    ]
    if len(specs[-1].name) > MAX_NAME:
        message = f"with the number of its last port the name has more than {MAX_NAME} characters"
        raise Invalid("name_invalid", message, "name")
    return specs


def _assignable(connection: Connection, network_id: str) -> AnyRow:
    row = connection.execute(select(networks).where(_N.id == network_id)).one_or_none()
    if row is None:
        raise NotFound("network_unknown", f"there is no network {network_id}")
    if not row.assignable:
        raise Conflict("network_not_assignable", "the network is not one that can be given to a project and taken back")
    return row


def _give(tx: Transaction, row: AnyRow, project_id: str | None) -> None:
    """To a project or to nobody: it is routed with its new siblings, and no more with its old ones."""
    cidrs = tuple(subnet.cidr for subnet in ipam.subnets_of(tx.connection, [row.id])[row.id])
    member = routers.Member(row.id, project_id, True, False, cidrs)
    router_key = routers.change(tx, member, row.key, row.router)
    values = {"project_id": project_id, "router_key": router_key}
    # what has been read is what is changed, whatever the isolation of the database
    as_read = _N.project_id.is_(None) if row.project_id is None else _N.project_id == row.project_id
    query = update(networks).where(_N.id == row.id, as_read)
    revision = tx.record(NETWORK, row.id, UPDATE, {"project_id": project_id}, {"project_id": row.project_id})
    if tx.connection.execute(query.values(**values, revision=revision)).rowcount != 1:
        raise _taken(row)


def _taken(row: AnyRow) -> Conflict:
    whose = f"of project {row.project_id}" if row.project_id else "given away already"
    return Conflict("network_has_project", f"the network is {whose}: disassociate it first", project_id=row.project_id)
