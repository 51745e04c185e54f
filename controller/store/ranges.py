"""Which ranges networks may have: what may overlap, and how a range is cut into many."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from ipaddress import IPv4Network

from sqlalchemy import Connection, select

from controller.store.engine import AnyRow
from controller.store.network_specs import DEFAULT_SIZE, LEAST_SIZE, Carving
from controller.store.schema import networks, subnets
from controller.store.specs import Conflict, Exhausted, Invalid, NetworkSpec

LARGEST_PREFIX = 30


def place(index: int) -> str:
    """Where a subnet stands in what was asked for."""
    return f"subnets.{index}"


def overlaps(
    connection: Connection, spec: NetworkSpec, cidr: IPv4Network, index: int, network_id: str | None = None
) -> bool:
    """True when another project uses the range of this subnet of a network. Raises Conflict `cidr_overlap` where that
    cannot be told apart.
    """
    found = [other for other in _within(connection, cidr) if other.id != network_id]
    for other in found:
        if not _apart(spec, other):
            raise _overlap(spec, cidr, other, index)
    return bool(found)


def require_alone(connection: Connection, network_id: str, cidr: IPv4Network) -> None:
    """Raises Conflict `cidr_overlap` when any other network uses part of the range."""
    for other in _within(connection, cidr):
        if other.id != network_id:
            message = f"{cidr} overlaps network {other.name} ({other.cidr})"
            raise Conflict("cidr_overlap", message, network_id=other.id)


def carve(connection: Connection, spec: NetworkSpec, carving: Carving) -> list[IPv4Network]:
    """The lowest parts of the range that are free. A part that is in use, or holds one that is, is passed over.

    Raises Invalid `carving_invalid`, Exhausted `no_free_cidr` when there are not so many, Conflict `cidr_overlap` when
    a part that is needed is inside a larger range in use.
    """
    cidr = spec.subnets[0].cidr
    prefix = _prefix(cidr, carving)
    waiting = deque(
        sorted((row for row in _within(connection, cidr) if not _apart(spec, row)), key=lambda row: row.first)
    )
    chosen: list[IPv4Network] = []
    near: list[AnyRow] = []
    for part in cidr.subnets(new_prefix=prefix):
        first, last = int(part[0]), int(part[-1])
        while waiting and waiting[0].first <= last:
            near.append(waiting.popleft())
        near = [row for row in near if row.last >= first]
        for row in near:
            if row.first <= first and row.last >= last and row.cidr != str(part):
                raise _overlap(spec, part, row, 0)
        if not near:
            chosen.append(part)
        if len(chosen) == carving.count:
            return chosen
    message = f"{cidr} has room for {len(chosen)} networks of {2 ** (32 - prefix)} addresses, not for {carving.count}"
    raise Exhausted("no_free_cidr", message, f"{place(0)}.cidr", free=len(chosen))


def _prefix(cidr: IPv4Network, carving: Carving) -> int:
    """The length of the parts' prefix. A size that is chosen here is rounded down, so that they fit."""
    if carving.size is None:
        bits = min(DEFAULT_SIZE, cidr.num_addresses // carving.count).bit_length() - 1
    else:
        bits = (carving.size - 1).bit_length()
    prefix = 32 - bits
    if not cidr.prefixlen <= prefix <= LARGEST_PREFIX:
        size = carving.size or cidr.num_addresses // carving.count
        message = f"networks of {size} addresses are no parts of {cidr} with {LEAST_SIZE} addresses or more"
        raise Invalid("carving_invalid", message, "network_size" if carving.size else "count")
    return prefix


def _within(connection: Connection, cidr: IPv4Network) -> Sequence[AnyRow]:
    """The networks that use part of a range."""
    query = (
        select(networks, subnets.c.cidr, subnets.c.first, subnets.c.last)
        .join(subnets, subnets.c.network_id == networks.c.id)
        .where(subnets.c.first <= int(cidr[-1]), subnets.c.last >= int(cidr[0]))
        .order_by(networks.c.key)
    )
    return connection.execute(query).all()


def _apart(spec: NetworkSpec, other: AnyRow) -> bool:
    """Whether both may use one range: two projects' own, which never meet. One that can be given away meets anybody."""
    common = spec.shared or spec.external or spec.assignable or other.shared or other.external or other.assignable
    return not common and None not in (spec.project_id, other.project_id) and spec.project_id != other.project_id


def _overlap(spec: NetworkSpec, cidr: IPv4Network, other: AnyRow, index: int) -> Conflict:
    # a network without a project is made by administrators only, who see everything
    visible = other.shared or other.external or spec.project_id in (None, other.project_id)
    what = f"network {other.name} ({other.cidr})" if visible else "a network of another project"
    details = {"network_id": other.id} if visible else {}
    return Conflict("cidr_overlap", f"{cidr} overlaps {what}", f"{place(index)}.cidr", **details)
