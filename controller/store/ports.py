"""Ports: their keys, MAC addresses and fixed IPs. A thousand at once cost a dozen statements."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from controller.store import (
    address_pairs,
    bindings,
    codec,
    floating_ips,
    interface_names,
    ipam,
    ipv6_ipam,
    ipv6_ports,
    lease_holds,
    machine_metadata,
    macs,
    memberships,
    policy_loader,
    port_addresses,
    port_policy,
    quotas,
    security_groups,
    virtual_addresses,
)
from controller.store.address_specs import HoldPolicy
from controller.store.audit import before
from controller.store.engine import chunks
from controller.store.ipv6_schema import ipv6_leases
from controller.store.journal import CREATE, DELETE, PORT, UPDATE, Transaction
from controller.store.port_drafts import Draft, blaming
from controller.store.quota_specs import Limits
from controller.store.schema import addresses, leases, nodes, ports
from controller.store.specs import Conflict, Exhausted, Invalid, NotFound, PortSpec

GENERATED_PREFIX = "fa:16:3e"
MAC_ATTEMPTS = 5

COLUMN_CHANGES: dict[str, Any] = {
    "name": str,
    "hostname": str,
    "device_id": str,
    "node": lambda value: value,
    "interface_name": lambda value: value,
    "dhcp_options": codec.dump_options,
    "qos": policy_loader.dump_qos,
}

_TOLD = ("network_id", "mac", "name", "hostname", "project_id", "device_id", "node", "port_security")

# what changes with more than a column
_OWN_WAY = frozenset({"fixed_ips", *port_policy.FIELDS})

_INSERT = insert(ports)
_IDS = select(ports.c.id).where(ports.c.id.in_(bindparam("ids", expanding=True)))
_NODES = select(nodes.c.name).where(nodes.c.name.in_(bindparam("names", expanding=True)))
_MACS = select(ports.c.mac).where(
    ports.c.network_id == bindparam("network"), ports.c.mac.in_(bindparam("macs", expanding=True))
)


def create(
    tx: Transaction,
    specs: Sequence[PortSpec],
    rng: random.Random,
    auto_assign_pool: str | None,
    limits: Limits,
) -> list[str]:
    """The ids of the new ports, in order. Each that can have one gets a floating IP of `auto_assign_pool`."""
    if not specs:
        return []
    drafts: list[Draft] = []
    for index, spec in enumerate(specs):
        with blaming(index):
            pairs = port_policy.normal_pairs(spec.address_pairs)
            drafts.append(Draft(_port_id(spec), replace(spec, address_pairs=pairs), index))
    by_network: dict[str, list[Draft]] = {}
    for draft in drafts:
        by_network.setdefault(draft.spec.network_id, []).append(draft)
    known_subnets = ipam.subnets_of(tx.connection, by_network)
    known_ipv6 = ipv6_ipam.subnets_of(tx.connection, by_network)
    for draft in drafts:
        draft.wanted, draft.ipv6 = port_addresses.by_family(
            draft.spec.fixed_ips, known_ipv6.get(draft.spec.network_id, ())
        )
    for network_id, members in by_network.items():
        if network_id not in known_subnets:
            with blaming(members[0].index):
                raise NotFound("network_unknown", f"there is no network {network_id}", "network_id")
        if known_subnets[network_id][0].free:
            with blaming(members[0].index):
                message = "the network is free, for whichever project is given it: associate it first"
                raise Conflict("network_unassociated", message, "network_id")
    _refuse_known_ids(tx.connection, drafts)
    _refuse_unknown_nodes(tx.connection, drafts)
    for network_id, members in by_network.items():
        _give_macs(tx.connection, network_id, members, rng)
    # addresses point at ports, so the ports go first; their journal rows tell the addresses, so they come last
    keys = tx.new_keys("port_key", len(drafts))
    owners = {draft.id: _owner(draft.spec, known_subnets[draft.spec.network_id][0].project_id) for draft in drafts}
    # before the ports: their revision is that of the whole change then
    lacking = {owners[draft.id] for draft in drafts if port_policy.by_default(draft.spec)}
    by_default = security_groups.defaults(tx, lacking)
    _require_room(tx.connection, drafts, owners, limits)
    rows = [_row(tx, draft, key, owners[draft.id]) for draft, key in zip(drafts, keys, strict=True)]
    tx.connection.execute(_INSERT, rows)
    for draft in drafts:
        with blaming(draft.index):
            interface_names.check(tx.connection, draft.id, draft.spec.interface_name, draft.spec.node)
    for network_id, members in by_network.items():
        port_addresses.give_ipv4(tx, known_subnets[network_id], members, owners)
        port_addresses.give_ipv6(tx, known_ipv6.get(network_id, ()), members)
    _give_policy(tx, drafts, owners, by_default, limits)
    for draft in drafts:
        tx.record(PORT, draft.id, CREATE, {"fixed_ips": list(draft.fixed_ips)})
    if auto_assign_pool is not None:
        floating_ips.assign(tx, auto_assign_pool, [draft.id for draft in drafts])
    bindings.bind_new(tx, [draft.id for draft in drafts])
    return [draft.id for draft in drafts]


def _require_room(
    connection: Connection, drafts: Sequence[Draft], owners: Mapping[str, str | None], limits: Limits
) -> None:
    """Raises Exhausted `quota_exceeded` when a project may not have so many ports, or fixed IPs, more."""
    wanted: dict[str, list[int]] = {}
    for draft in drafts:
        project_id = owners[draft.id]
        if project_id is not None:
            wanted.setdefault(project_id, []).append(len(draft.wanted))
    for project_id, counts in wanted.items():
        quotas.require_ports(connection, project_id, len(counts), sum(counts), limits)


def _give_policy(
    tx: Transaction,
    drafts: Sequence[Draft],
    owners: Mapping[str, str | None],
    by_default: Mapping[str | None, str],
    limits: Limits,
) -> None:
    """Their groups, and whether they can have their address pairs: last, for no pair may be another's address."""
    wanted = []
    for draft in drafts:
        spec, project_id = draft.spec, owners[draft.id]
        with blaming(draft.index):
            groups = port_policy.groups(spec)
            if spec.address_pairs:
                address_pairs.require_room(tx.connection, project_id, len(spec.address_pairs), limits)
                address_pairs.check(tx.connection, spec.network_id, draft.id, project_id, spec.address_pairs)
                virtual_addresses.put(tx, spec.network_id, draft.id, address_pairs.dump(spec.address_pairs, draft.mac))
        wanted.append(memberships.Wanted(draft.id, project_id, groups, draft.index))
    memberships.join(tx, wanted, by_default)


def _port_id(spec: PortSpec) -> str:
    if spec.id is None:
        return str(uuid4())
    try:
        return str(UUID(spec.id))
    except ValueError:
        raise Invalid("id_invalid", f"{spec.id!r} is not a UUID", "id") from None


def _refuse_known_ids(connection: Connection, drafts: Sequence[Draft]) -> None:
    given = [draft.id for draft in drafts if draft.spec.id is not None]
    known = {id_ for part in chunks(given) for id_ in connection.execute(_IDS, {"ids": part}).scalars()}
    if known or len(set(given)) < len(given):
        twice = sorted(known or {id_ for id_ in given if given.count(id_) > 1})
        with blaming(max(draft.index for draft in drafts if draft.id == twice[0])):
            raise Conflict("port_exists", f"there is a port {twice[0]}", "id", ids=twice)


def _refuse_unknown_nodes(connection: Connection, drafts: Sequence[Draft]) -> None:
    """A port scheduled on a node that does not exist would wait for ever."""
    wanted = sorted({draft.spec.node for draft in drafts if draft.spec.node is not None})
    known = {name for part in chunks(wanted) for name in connection.execute(_NODES, {"names": part}).scalars()}
    for draft in drafts:
        if draft.spec.node is not None and draft.spec.node not in known:
            with blaming(draft.index):
                raise NotFound("node_unknown", f"there is no node {draft.spec.node}", "node")


def _give_macs(connection: Connection, network_id: str, drafts: Sequence[Draft], rng: random.Random) -> None:
    taken: set[str] = set()
    for draft in drafts:
        if draft.spec.mac is not None:
            with blaming(draft.index):
                draft.mac = macs.normal(draft.spec.mac)
                if draft.mac in taken:
                    raise Conflict("mac_in_use", f"{draft.mac} is wanted twice", "mac", mac=draft.mac)
            taken.add(draft.mac)
    used = _used_macs(connection, network_id, sorted(taken))
    if used:
        mac = min(used)
        with blaming(next(draft.index for draft in drafts if draft.mac == mac)):
            raise Conflict("mac_in_use", f"{mac} is in use on the network", "mac", mac=mac)
    missing = [draft for draft in drafts if not draft.mac]
    for _ in range(MAC_ATTEMPTS):
        for draft in missing:
            draft.mac = _random_mac(rng)
        used = _used_macs(connection, network_id, [draft.mac for draft in missing])
        again = []
        for draft in missing:
            if draft.mac in used or draft.mac in taken:
                again.append(draft)
            else:
                taken.add(draft.mac)
        missing = again
        if not missing:
            return
    raise Exhausted("no_free_mac", f"no unused MAC address found in {MAC_ATTEMPTS} attempts", "mac")


def _random_mac(rng: random.Random) -> str:
    tail = rng.getrandbits(24)
    return f"{GENERATED_PREFIX}:{tail >> 16:02x}:{tail >> 8 & 0xFF:02x}:{tail & 0xFF:02x}"


def _used_macs(connection: Connection, network_id: str, wanted: Sequence[str]) -> set[str]:
    return {
        mac
        for part in chunks(wanted)
        for mac in connection.execute(_MACS, {"network": network_id, "macs": part}).scalars()
    }


def _owner(spec: PortSpec, network_project: str | None) -> str | None:
    return spec.project_id if spec.project_id is not None else network_project


def _row(tx: Transaction, draft: Draft, key: int, project_id: str | None) -> dict[str, Any]:
    spec = draft.spec
    payload: dict[str, Any] = {
        "network_id": spec.network_id,
        "mac": draft.mac,
        "name": spec.name,
        "device_id": spec.device_id,
    }
    payload |= {"project_id": project_id, "hostname": spec.hostname, "node": spec.node}
    return {
        "id": draft.id,
        "key": key,
        "network_id": spec.network_id,
        "mac": draft.mac,
        "name": spec.name,
        "hostname": spec.hostname,
        "project_id": project_id,
        "device_id": spec.device_id,
        "node": spec.node,
        "dhcp_options": codec.dump_options(spec.dhcp_options),
        "port_security": spec.port_security,
        "address_pairs": address_pairs.dump(spec.address_pairs, draft.mac),
        "qos": policy_loader.dump_qos(spec.qos),
        "interface_name": spec.interface_name,
        "created_at": tx.now,
        "revision": tx.record(PORT, draft.id, CREATE, payload),
    }


def update_port(tx: Transaction, port_id: str, changes: Mapping[str, Any], limits: Limits, holds: HoldPolicy) -> None:
    """Raises Invalid `immutable` for what is fixed at creation."""
    row = tx.connection.execute(select(ports).where(ports.c.id == port_id)).one_or_none()
    if row is None:
        raise NotFound("port_unknown", f"there is no port {port_id}")
    for name in changes:
        if name not in _OWN_WAY and name not in COLUMN_CHANGES:
            known = name in PortSpec.__dataclass_fields__
            code, why = ("immutable", "cannot change") if known else ("unknown_field", "is unknown")
            raise Invalid(code, f"{name} of a port {why}", name)
    values = {name: COLUMN_CHANGES[name](value) for name, value in changes.items() if name not in _OWN_WAY}
    values = {name: value for name, value in values.items() if row._mapping[name] != value}
    if values.get("node") is not None:
        _refuse_unknown_nodes(tx.connection, [Draft(port_id, PortSpec(row.network_id, node=values["node"]))])
    if "node" in values or "interface_name" in values:
        node, name = (values.get(key, row._mapping[key]) for key in ("node", "interface_name"))
        interface_names.check(tx.connection, port_id, name, node)
    changed = dict(values)
    old = before(row, values)
    if "fixed_ips" in changes:
        had = [*port_addresses.ipv4_of(tx.connection, port_id), *ipv6_ports.of_port(tx.connection, port_id)]
        changed |= port_addresses.change(tx, row, changes["fixed_ips"], limits, holds)
        old |= {"fixed_ips": had} if "fixed_ips" in changed else {}
    columns, groups, joined = port_policy.change(tx, row, changes, limits)
    old |= before(row, columns) | joined
    if "address_pairs" in columns:
        lost = virtual_addresses.put(tx, row.network_id, port_id, columns["address_pairs"])
        floating_ips.leave(tx, port_id, lost)
    values |= columns
    changed |= columns | groups
    if not changed:
        return
    values["revision"] = tx.record(PORT, port_id, UPDATE, changed, old)
    tx.connection.execute(update(ports).where(ports.c.id == port_id).values(**values))
    if "device_id" in changed:
        machine_metadata.leave(tx, row, values["device_id"])
    if "node" in changed:
        bindings.reconcile(tx, [port_id])


def delete_port(tx: Transaction, port_id: str, holds: HoldPolicy) -> None:
    """The addresses come back as the last to be chosen again, once nobody may use them any more. Floating IPs stay
    with their project.
    """
    row = tx.connection.execute(select(ports).where(ports.c.id == port_id)).first()
    if row is None:
        raise NotFound("port_unknown", f"there is no port {port_id}")
    network_id = row.network_id
    floating_ips.leave_port(tx, port_id)
    virtual_addresses.put(tx, network_id, port_id, ())
    released = ipam.release(tx, addresses.c.port_id == port_id)
    known = ipam.subnets_of(tx.connection, [network_id])[network_id]
    ipv6 = ipv6_ports.release(tx, port_id)
    numbers = [row.address for row in released]
    virtual_addresses.reserve(tx, known, numbers)
    lease_holds.keep(tx, port_id, [subnet.id for subnet in known], numbers, holds)
    bindings.unbind(tx, port_id)
    for table in (leases, ipv6_leases):
        tx.connection.execute(delete(table).where(table.c.port_id == port_id))
    memberships.leave(tx, port_id)
    tx.connection.execute(delete(ports).where(ports.c.id == port_id))
    machine_metadata.leave(tx, row)
    given_back = [*map(str, map(IPv4Address, numbers)), *map(str, ipv6)]
    tx.record(PORT, port_id, DELETE, {"released": given_back}, before(row, _TOLD) | {"fixed_ips": given_back})
