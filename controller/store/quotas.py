"""How much a project may have. Writers stand in one line (`journal.Transaction.start`), so that a count is exact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from controller.store.journal import QUOTA, UPDATE, Transaction, count_rows
from controller.store.policy_specs import DEFAULT_GROUP
from controller.store.quota_specs import UNLIMITED, Limits, QuotaRecord
from controller.store.schema import (
    addresses,
    dns_records,
    dns_zones,
    floating_ips,
    networks,
    ports,
    quotas,
    security_groups,
)
from controller.store.specs import Exhausted

NAMES = tuple(field.name for field in fields(Limits))

_FIXED_IPS = (
    select(func.count())
    .select_from(addresses)
    .join(ports, ports.c.id == addresses.c.port_id)
    .where(ports.c.project_id == bindparam("project"))
)
_OWN = select(quotas.c.name, quotas.c.value).where(quotas.c.project_id == bindparam("project"))


def _own(connection: Connection, project_id: str) -> dict[str, int]:
    """What is set for it. A damaged row is as if it were not there."""
    rows = connection.execute(_OWN, {"project": project_id})
    return {name: value for name, value in rows if name in NAMES and isinstance(value, int)}


def limits(connection: Connection, project_id: str, defaults: Limits) -> Limits:
    """What the project may have: as set for it, else as configured."""
    return replace(defaults, **_own(connection, project_id))


def load(connection: Connection, project_id: str, defaults: Limits) -> QuotaRecord:
    own = _own(connection, project_id)
    return QuotaRecord(
        project_id,
        replace(defaults, **own),
        tuple(name for name in NAMES if name in own),
        floating_ips_used(connection, project_id),
        security_groups_used(connection, project_id),
        networks_used(connection, project_id),
        ports_used(connection, project_id),
        fixed_ips_used(connection, project_id),
        dns_zones_used(connection, project_id),
    )


def floating_ips_used(connection: Connection, project_id: str) -> int:
    return count_rows(connection, floating_ips, floating_ips.c.project_id == project_id, ~floating_ips.c.auto)


def security_groups_used(connection: Connection, project_id: str) -> int:
    """Those that somebody made: the group `default` makes itself."""
    table = security_groups.c
    return count_rows(connection, security_groups, table.project_id == project_id, table.name != DEFAULT_GROUP)


def networks_used(connection: Connection, project_id: str) -> int:
    """Those of its own: not what it was given, and can be taken from it."""
    table = networks.c
    return count_rows(connection, networks, table.project_id == project_id, ~table.assignable, ~table.external)


def ports_used(connection: Connection, project_id: str) -> int:
    return count_rows(connection, ports, ports.c.project_id == project_id)


def fixed_ips_used(connection: Connection, project_id: str) -> int:
    return int(connection.execute(_FIXED_IPS, {"project": project_id}).scalar_one())


def dns_zones_used(connection: Connection, project_id: str) -> int:
    return count_rows(connection, dns_zones, dns_zones.c.project_id == project_id)


def dns_records_used(connection: Connection, zone_id: str) -> int:
    return count_rows(connection, dns_records, dns_records.c.zone_id == zone_id)


def require(whose: str, what: str, limit: int, used: int, more: int, field: str | None = None) -> None:
    """Raises Exhausted `quota_exceeded` when so many more are too many."""
    if limit != UNLIMITED and used + more > limit:
        message = f"{whose} may have {limit} {what}, and has {used}"
        raise Exhausted("quota_exceeded", message, field, limit=limit, used=used)


def require_floating_ips(connection: Connection, project_id: str, more: int, defaults: Limits) -> None:
    """Raises Exhausted `quota_exceeded` when the project may not have so many floating IPs more."""
    limit = limits(connection, project_id, defaults).floating_ips
    used = floating_ips_used(connection, project_id)
    require(f"project {project_id}", "floating IPs", limit, used, more)


def require_network(connection: Connection, project_id: str, defaults: Limits) -> None:
    """Raises Exhausted `quota_exceeded` when the project may not have one more network of its own."""
    limit = limits(connection, project_id, defaults).networks
    require(f"project {project_id}", "networks of its own", limit, networks_used(connection, project_id), 1)


def require_ports(connection: Connection, project_id: str, more: int, more_fixed_ips: int, defaults: Limits) -> None:
    """Raises Exhausted `quota_exceeded` when the project may not have so many ports, or fixed IPs, more."""
    own = limits(connection, project_id, defaults)
    if more and own.ports != UNLIMITED:
        require(f"project {project_id}", "ports", own.ports, ports_used(connection, project_id), more)
    if own.fixed_ips != UNLIMITED:
        used = fixed_ips_used(connection, project_id)
        require(f"project {project_id}", "fixed IPs", own.fixed_ips, used, more_fixed_ips)


def require_dns_zone(connection: Connection, project_id: str, defaults: Limits) -> None:
    """Raises Exhausted `quota_exceeded` when the project may not have one more DNS zone."""
    limit = limits(connection, project_id, defaults).dns_zones
    require(f"project {project_id}", "DNS zones", limit, dns_zones_used(connection, project_id), 1)


def require_dns_record(connection: Connection, project_id: str, zone_id: str, defaults: Limits) -> None:
    """Raises Exhausted `quota_exceeded` when a project's zone may not have one more record."""
    limit = limits(connection, project_id, defaults).dns_records
    require("the zone", "records", limit, dns_records_used(connection, zone_id), 1)


def set_limits(tx: Transaction, project_id: str, changes: Mapping[str, int | None]) -> None:
    """None: as configured. A project that has more keeps them."""
    own = {name: value for name, value in tx.connection.execute(_OWN, {"project": project_id})}
    table = quotas.c
    for name, value in changes.items():
        if own.get(name) == value:
            continue
        here = (table.project_id == project_id, table.name == name)
        if value is None:
            tx.connection.execute(delete(quotas).where(*here))
        elif name in own:
            tx.connection.execute(update(quotas).where(*here).values(value=value))
        else:
            tx.connection.execute(insert(quotas), {"project_id": project_id, "name": name, "value": value})
        tx.record(QUOTA, project_id, UPDATE, {name: value}, {name: own.get(name)})
