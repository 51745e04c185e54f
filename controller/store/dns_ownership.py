"""What a project may call its networks, zones and ports, so that it never answers for the names of others.

The name of a network's domain is told to the VMs of all networks that are routed to it and, where networks are handed
out, to everybody; a port's host name to all of its network. A private zone is told to the VMs of its project alone.
Administrators call things as they like.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, or_, select

from controller.store.engine import chunks
from controller.store.port_drafts import blaming
from controller.store.schema import dns_records, dns_zones, networks, ports
from controller.store.specs import Conflict, PortSpec
from flows.host_name import host_name
from flows.model import ZoneScope

_LONGEST_LABEL = 63  # a longer host name is cut: see flows.host_name
_N, _Z, _R, _P = networks.c, dns_zones.c, dns_records.c, ports.c


def require_domain(connection: Connection, project_id: str, domain: str) -> None:
    """Raises Conflict `dns_domain_in_use` for a network's domain that another project or the operator has, or that
    holds one of theirs, or lies within one of another project. Within the operator's it must hold no name. A private
    zone, which only its own project's VMs are told, takes no name but its own: `internal` would take all below it.
    """
    wanted = _normal(domain)
    if not wanted:
        return
    for taken in _domains(connection, project_id):
        holds, lies_within = _within(taken.name, wanted), _within(wanted, taken.name)
        if taken.private:
            is_taken = holds and lies_within
        else:
            lies_within = lies_within and (taken.project_id is not None or _has_names(connection, taken, wanted))
            is_taken = holds or lies_within
        if is_taken:
            raise _in_use(wanted)


def require_zone(connection: Connection, project_id: str, name: str) -> None:
    """Raises Conflict `dns_domain_in_use` for a private zone that is, or lies within, the domain of another project's
    network or a public zone of another project. Other private zones are invisible to it, as it is to them.
    """
    wanted = _normal(name)
    for taken in _domains(connection, project_id):
        if taken.project_id is not None and not taken.private and _within(wanted, taken.name):
            raise _in_use(wanted, "name")


def require_new_domain(connection: Connection, project_id: str, network_id: str, changes: Mapping[str, Any]) -> None:
    """As `require_domain`, for a network that has one already."""
    domain = changes.get("dns_domain")
    if domain is not None and domain != connection.execute(select(_N.dns_domain).where(_N.id == network_id)).scalar():
        require_domain(connection, project_id, domain)


def require_host_names(connection: Connection, project_id: str, specs: Sequence[PortSpec]) -> None:
    """Raises Conflict `hostname_in_use` for a host name that a port of another project has on the network."""
    wanted: dict[str, dict[int, str]] = {}
    for index, spec in enumerate(specs):
        if spec.hostname:
            wanted.setdefault(spec.network_id, {})[index] = _host(spec.hostname)
    for network_id, names in wanted.items():
        taken = _host_names(connection, project_id, network_id, names.values())
        for index, name in names.items():
            if name in taken:
                with blaming(index):
                    raise _host_name_in_use(name)


def require_new_host_name(connection: Connection, project_id: str, port_id: str, changes: Mapping[str, Any]) -> None:
    """As `require_host_names`, for a port that has one already."""
    name = _host(changes.get("hostname") or "")
    row = connection.execute(select(_P.network_id, _P.hostname).where(_P.id == port_id)).one_or_none()
    if row is None or not name or name == _host(row.hostname):
        return
    if name in _host_names(connection, project_id, row.network_id, [name]):
        raise _host_name_in_use(name)


def _host_names(connection: Connection, project_id: str, network_id: str, wanted: Iterable[str]) -> set[str]:
    """Those that ports of others have on a network."""
    others = select(_P.hostname).where(_P.network_id == network_id, _foreign(_P.project_id, project_id))
    found: set[str] = set()
    for part in chunks(sorted(set(wanted))):
        like = or_(func.lower(_P.hostname).in_(part), func.length(_P.hostname) > _LONGEST_LABEL)
        found.update(map(_host, connection.execute(others.where(like)).scalars()))
    return found


@dataclass(frozen=True, slots=True)
class _Domain:
    """`project_id`: None for the operator's. `zone_id`: None for a network's."""

    name: str
    project_id: str | None
    zone_id: str | None = None
    private: bool = False


def _domains(connection: Connection, project_id: str) -> Iterator[_Domain]:
    """Those of others."""
    query = select(_N.dns_domain, _N.project_id).distinct()
    for name, owner in connection.execute(query.where(_N.dns_domain != "", _foreign(_N.project_id, project_id))):
        yield _Domain(_normal(name), owner)
    zones = select(_Z.id, _Z.name, _Z.project_id, _Z.scope).where(_foreign(_Z.project_id, project_id))
    for id_, name, owner, scope in connection.execute(zones):
        yield _Domain(name, owner, id_, private=scope != ZoneScope.PUBLIC.value)


def _has_names(connection: Connection, within: _Domain, domain: str) -> bool:
    query = select(_R.name).where(_R.zone_id == within.zone_id, _R.name.endswith(domain, autoescape=True))
    return any(_within(name, domain) for name in connection.execute(query).scalars())


def _foreign(column: ColumnElement[str | None], project_id: str) -> ColumnElement[bool]:
    return or_(column.is_(None), column != project_id)


def _within(name: str, domain: str) -> bool:
    return name == domain or name.endswith(f".{domain}")


def _normal(domain: str) -> str:
    return domain.lower().removesuffix(".")


def _host(name: str) -> str:
    return host_name(name).lower()


def _in_use(domain: str, field: str = "dns_domain") -> Conflict:
    message = f"names in {domain} are those of another project, or of the operator: choose another domain"
    return Conflict("dns_domain_in_use", message, field)


def _host_name_in_use(name: str) -> Conflict:
    message = f"a port of another project has the host name {name} on this network"
    return Conflict("hostname_in_use", message, "hostname")
