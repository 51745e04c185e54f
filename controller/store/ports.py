"""Ports: their keys, MAC addresses and fixed IPs. A thousand at once cost a dozen statements."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from controller.store import (
    address_holders,
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
    node_addresses,
    policy_loader,
    port_policy,
    quotas,
    security_groups,
    virtual_addresses,
)
from controller.store.address_specs import HoldPolicy
from controller.store.audit import before
from controller.store.engine import AnyRow, chunks
from controller.store.ipv6_schema import ipv6_leases
from controller.store.journal import CREATE, DELETE, PORT, UPDATE, Transaction
from controller.store.quota_specs import Limits
from controller.store.schema import addresses, leases, nodes, ports
from controller.store.specs import Conflict, Exhausted, FixedIpSpec, Invalid, NotFound, PortSpec, StoreError

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


@dataclass(slots=True)
class _Draft:
    """A port on its way in, `index` among the others. `wanted` are its IPv4 addresses, and `ipv6` those of IPv6, by
    their place in `fixed_ips` of the spec. `mac` and `fixed_ips` are filled in step by step; `had` are the addresses it
    has given back for it.
    """

    id: str
    spec: PortSpec
    index: int = 0
    wanted: tuple[tuple[int, FixedIpSpec], ...] = ()
    ipv6: tuple[tuple[int, FixedIpSpec], ...] = ()
    mac: str = ""
    fixed_ips: tuple[str, ...] = ()
    had: frozenset[int] = frozenset()


@contextmanager
def _blaming(index: int) -> Iterator[None]:
    """Says of a refusal which of the ports it is about."""
    try:
        yield
    except StoreError as error:
        error.index = index
        raise


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
    drafts: list[_Draft] = []
    for index, spec in enumerate(specs):
        with _blaming(index):
            pairs = port_policy.normal_pairs(spec.address_pairs)
            drafts.append(_Draft(_port_id(spec), replace(spec, address_pairs=pairs), index))
    by_network: dict[str, list[_Draft]] = {}
    for draft in drafts:
        by_network.setdefault(draft.spec.network_id, []).append(draft)
    known_subnets = ipam.subnets_of(tx.connection, by_network)
    known_ipv6 = ipv6_ipam.subnets_of(tx.connection, by_network)
    for draft in drafts:
        draft.wanted, draft.ipv6 = _by_family(draft.spec.fixed_ips, known_ipv6.get(draft.spec.network_id, ()))
    for network_id, members in by_network.items():
        if network_id not in known_subnets:
            with _blaming(members[0].index):
                raise NotFound("network_unknown", f"there is no network {network_id}", "network_id")
        if known_subnets[network_id][0].free:
            with _blaming(members[0].index):
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
        with _blaming(draft.index):
            interface_names.check(tx.connection, draft.id, draft.spec.interface_name, draft.spec.node)
    for network_id, members in by_network.items():
        _give_addresses(tx, known_subnets[network_id], members, owners)
        _give_ipv6_addresses(tx, known_ipv6.get(network_id, ()), members)
    _give_policy(tx, drafts, owners, by_default, limits)
    for draft in drafts:
        tx.record(PORT, draft.id, CREATE, {"fixed_ips": list(draft.fixed_ips)})
    if auto_assign_pool is not None:
        floating_ips.assign(tx, auto_assign_pool, [draft.id for draft in drafts])
    bindings.bind_new(tx, [draft.id for draft in drafts])
    return [draft.id for draft in drafts]


def _require_room(
    connection: Connection, drafts: Sequence[_Draft], owners: Mapping[str, str | None], limits: Limits
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
    drafts: Sequence[_Draft],
    owners: Mapping[str, str | None],
    by_default: Mapping[str | None, str],
    limits: Limits,
) -> None:
    """Their groups, and whether they can have their address pairs: last, for no pair may be another's address."""
    wanted = []
    for draft in drafts:
        spec, project_id = draft.spec, owners[draft.id]
        with _blaming(draft.index):
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


def _refuse_known_ids(connection: Connection, drafts: Sequence[_Draft]) -> None:
    given = [draft.id for draft in drafts if draft.spec.id is not None]
    known = {id_ for part in chunks(given) for id_ in connection.execute(_IDS, {"ids": part}).scalars()}
    if known or len(set(given)) < len(given):
        twice = sorted(known or {id_ for id_ in given if given.count(id_) > 1})
        with _blaming(max(draft.index for draft in drafts if draft.id == twice[0])):
            raise Conflict("port_exists", f"there is a port {twice[0]}", "id", ids=twice)


def _refuse_unknown_nodes(connection: Connection, drafts: Sequence[_Draft]) -> None:
    """A port scheduled on a node that does not exist would wait for ever."""
    wanted = sorted({draft.spec.node for draft in drafts if draft.spec.node is not None})
    known = {name for part in chunks(wanted) for name in connection.execute(_NODES, {"names": part}).scalars()}
    for draft in drafts:
        if draft.spec.node is not None and draft.spec.node not in known:
            with _blaming(draft.index):
                raise NotFound("node_unknown", f"there is no node {draft.spec.node}", "node")


def _give_macs(connection: Connection, network_id: str, drafts: Sequence[_Draft], rng: random.Random) -> None:
    taken: set[str] = set()
    for draft in drafts:
        if draft.spec.mac is not None:
            with _blaming(draft.index):
                draft.mac = macs.normal(draft.spec.mac)
                if draft.mac in taken:
                    raise Conflict("mac_in_use", f"{draft.mac} is wanted twice", "mac", mac=draft.mac)
            taken.add(draft.mac)
    used = _used_macs(connection, network_id, sorted(taken))
    if used:
        mac = min(used)
        with _blaming(next(draft.index for draft in drafts if draft.mac == mac)):
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


def _row(tx: Transaction, draft: _Draft, key: int, project_id: str | None) -> dict[str, Any]:
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


def _give_addresses(
    tx: Transaction, known: Sequence[ipam.SubnetRow], drafts: Sequence[_Draft], projects: Mapping[str, str | None]
) -> None:
    """Requested addresses before chosen ones, so that no choice takes what another port of the batch asked for."""
    given: dict[tuple[str, int], str] = {}
    chosen: dict[tuple[str, ...], list[ipam.Owner]] = {}
    for draft in drafts:
        for position, (place, wanted) in enumerate(draft.wanted):
            with _blaming(draft.index):
                candidates = _candidates(known, wanted, place)
                owner = ipam.Owner(ipam.PORT_OWNER, port_id=draft.id, position=position)
                if wanted.address is None:
                    chosen.setdefault(tuple(subnet.id for subnet in candidates), []).append(owner)
                else:
                    subnet = candidates[0]
                    assert isinstance(wanted.address, IPv4Address)
                    virtual_addresses.make_way(tx, subnet, int(wanted.address), projects[draft.id])
                    field, had = f"fixed_ips.{place}.address", int(wanted.address) in draft.had
                    ipam.claim(tx, subnet, wanted.address, owner, field, had=had)
                    given[draft.id, position] = str(wanted.address)
    # those that may be of any subnet come last: they find room elsewhere
    for subnet_ids, owners in sorted(chosen.items(), key=lambda item: len(item[0])):
        for owner, address in zip(owners, ipam.allocate_in(tx, subnet_ids, owners), strict=True):
            assert owner.port_id is not None and owner.position is not None
            given[owner.port_id, owner.position] = str(address)
    for draft in drafts:
        draft.fixed_ips = tuple(given[draft.id, position] for position in range(len(draft.wanted)))


def _by_family(
    asked: Sequence[FixedIpSpec], known_ipv6: Sequence[ipv6_ipam.Ipv6SubnetRow]
) -> tuple[tuple[tuple[int, FixedIpSpec], ...], tuple[tuple[int, FixedIpSpec], ...]]:
    """What is asked for of IPv4, which is one address at least, and of IPv6, by place."""
    ipv4: list[tuple[int, FixedIpSpec]] = []
    ipv6: list[tuple[int, FixedIpSpec]] = []
    for place, item in enumerate(asked):
        (ipv6 if ipv6_ports.is_asked(item, known_ipv6) else ipv4).append((place, item))
    return tuple(ipv4) or ((len(ipv6), FixedIpSpec()),), tuple(ipv6)


def _give_ipv6_addresses(tx: Transaction, known: Sequence[ipv6_ipam.Ipv6SubnetRow], drafts: Sequence[_Draft]) -> None:
    wishes = [ipv6_ports.Wish(draft.id, draft.mac, draft.ipv6, index=draft.index) for draft in drafts]
    given = ipv6_ports.give(tx, known, wishes, _blaming)
    for draft in drafts:
        draft.fixed_ips += tuple(map(str, given[draft.id]))


def _candidates(known: Sequence[ipam.SubnetRow], wanted: FixedIpSpec, position: int) -> list[ipam.SubnetRow]:
    """The subnets that a wanted address may be of; never none."""
    candidates = [subnet for subnet in known if wanted.subnet_id in (None, subnet.id)]
    if not candidates:
        message = f"subnet {wanted.subnet_id} is not of this network"
        raise Invalid("subnet_unknown", message, f"fixed_ips.{position}.subnet_id")
    fitting = [subnet for subnet in candidates if wanted.address is None or wanted.address in subnet.cidr]
    if not fitting:
        cidrs = ", ".join(str(subnet.cidr) for subnet in candidates)
        message = f"{wanted.address} is not in {cidrs}"
        raise Invalid("address_outside_subnet", message, f"fixed_ips.{position}.address", cidr=cidrs)
    return fitting


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
        _refuse_unknown_nodes(tx.connection, [_Draft(port_id, PortSpec(row.network_id, node=values["node"]))])
    if "node" in values or "interface_name" in values:
        node, name = (values.get(key, row._mapping[key]) for key in ("node", "interface_name"))
        interface_names.check(tx.connection, port_id, name, node)
    changed = dict(values)
    old = before(row, values)
    if "fixed_ips" in changes:
        had = [*_ipv4_addresses(tx.connection, port_id), *ipv6_ports.of_port(tx.connection, port_id)]
        changed |= _update_fixed_ips(tx, row, changes["fixed_ips"], limits, holds)
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


def _update_fixed_ips(
    tx: Transaction, row: AnyRow, wanted: tuple[FixedIpSpec, ...], limits: Limits, holds: HoldPolicy
) -> dict[str, Any]:
    """The port's addresses become these; "any" is met by one it has already, if there is one left."""
    port_id, network_id = row.id, row.network_id
    known_ipv6 = ipv6_ipam.subnets_of(tx.connection, [network_id]).get(network_id, [])
    ipv4, ipv6 = _by_family(wanted, known_ipv6)
    given = _update_ipv4(tx, row, ipv4, limits, holds)
    before, now = ipv6_ports.change(tx, known_ipv6, ipv6_ports.Wish(port_id, row.mac, ipv6))
    if given is None and before == now:
        return {}
    if given is None:
        given = _ipv4_addresses(tx.connection, port_id)
    return {"fixed_ips": [*given, *map(str, now)]}


def _ipv4_addresses(connection: Connection, port_id: str) -> list[str]:
    query = select(addresses.c.address).where(addresses.c.port_id == port_id).order_by(addresses.c.position)
    return [str(IPv4Address(address)) for address in connection.execute(query).scalars()]


def _update_ipv4(
    tx: Transaction, row: AnyRow, wanted: Sequence[tuple[int, FixedIpSpec]], limits: Limits, holds: HoldPolicy
) -> list[str] | None:
    """The port's IPv4 addresses from now on; None: those that it has."""
    port_id, network_id = row.id, row.network_id
    query = select(addresses.c.address).where(addresses.c.port_id == port_id).order_by(addresses.c.position)
    old = list(tx.connection.execute(query).scalars())
    spare = [address for address in old if address not in {int(ip.address) for _, ip in wanted if ip.address}]
    known = ipam.subnets_of(tx.connection, [network_id])[network_id]
    resolved: list[tuple[int, FixedIpSpec]] = []
    for place, item in wanted:
        cidrs = [subnet.cidr for subnet in _candidates(known, item, place)]
        kept = next((address for address in spare if any(IPv4Address(address) in cidr for cidr in cidrs)), None)
        if item.address is None and kept is not None:
            spare.remove(kept)
            item = FixedIpSpec(IPv4Address(kept))
        resolved.append((place, item))
    if [int(item.address) if item.address else None for _, item in resolved] == old:
        return None
    if row.project_id is not None and len(resolved) > len(old):
        quotas.require_ports(tx.connection, row.project_id, 0, len(resolved) - len(old), limits)
    ipam.release(tx, addresses.c.port_id == port_id)
    draft = _Draft(port_id, PortSpec(network_id), wanted=tuple(resolved), had=frozenset(old))
    _give_addresses(tx, known, [draft], {port_id: row.project_id})
    virtual_addresses.reserve(tx, known, old)
    fixed = [int(IPv4Address(address)) for address in draft.fixed_ips]
    lease_holds.keep(tx, port_id, [subnet.id for subnet in known], set(old) - set(fixed), holds)
    floating_ips.leave_port(tx, port_id, [*fixed, *virtual_addresses.of_port(tx.connection, port_id)])
    if row.bound_node is not None:
        address_holders.give_back(tx, [port_id])
    _move_gateways(tx, row)
    return list(draft.fixed_ips)


def _move_gateways(tx: Transaction, row: AnyRow) -> None:
    """Its nodes are gateways where its addresses are now. Raises Exhausted `subnet_full`."""
    places = node_addresses.subnets_of_ports(tx.connection, [row.id])
    for node in (row.bound_node, row.other_node):
        if node is not None:
            for network_id, subnet_id in places:
                node_addresses.ensure_gateway(tx, node, network_id, subnet_id)
            node_addresses.note_idle_gateways(tx, [(node, row.network_id)])


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
