"""Networks: which ones may stand beside each other, and what a new one is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from controller.bounds import FIRST_VLAN, LAST_VLAN
from controller.store import (
    codec,
    dns_zones,
    gateway_nodes,
    ipv6_ports,
    ipv6_subnets,
    network_options,
    network_subnets,
    node_addresses,
    own_snat,
    ranges,
    routers,
)
from controller.store.audit import before, subnets_before
from controller.store.ipv6_schema import ipv6_neighbours
from controller.store.ipv6_specs import Ipv6SubnetSpec
from controller.store.journal import CREATE, DELETE, NETWORK, PORT, UPDATE, Transaction, count_rows
from controller.store.network_loader import load_networks
from controller.store.network_options import Frame
from controller.store.network_specs import Carving
from controller.store.ranges import place
from controller.store.schema import (
    addresses,
    neighbours,
    networks,
    pools,
    ports,
    subnet_ranges,
    subnets,
)
from controller.store.schema import floating_ip_pools as floating_ip_pool_rows
from controller.store.specs import Conflict, Exhausted, Invalid, NetworkSpec, NotFound, SubnetSpec
from flows.model import GatewayMode, Ipv6Mode, NetworkKind

# what may change: how it goes to its column
COLUMN_CHANGES: dict[str, Any] = {
    "name": str,
    "mtu": int,
    "dhcp": bool,
    "dns_domain": str,
    "arp_responder": bool,
    "external_network_id": lambda value: value,
    "lease_time": int,
    "dhcp_options": codec.dump_options,
    "ntp_servers": codec.dump_addresses,
    "routes": codec.dump_routes,
    "snat_exempt": codec.dump_ranges,
    "force_snat": codec.dump_ranges,
    "own_snat_address": bool,
    "dhcp_relays": codec.dump_addresses,
    "dns_upstreams": codec.dump_addresses,
    "router": str,
    "allow_same_net_traffic": bool,
    "filtering": bool,
    "assignable": bool,
}

MAX_NAME = 255
# what may change and is not a column, or not one alone
_TOLD = ("name", "kind", "physical_network", "segment", "project_id", "shared", "external")
_APART = frozenset({"subnets", "ipv6_subnets", "gateway_node"})

_TOUCH_PORT = update(ports).where(ports.c.id == bindparam("port")).values(revision=bindparam("r"))


def create(tx: Transaction, spec: NetworkSpec, vlan_range: tuple[int, int], segment: int | None = None) -> str:
    """The id of the new network. `segment`: chosen already, and free."""
    mode = _gateway_mode(spec)
    if spec.assignable:
        _check_assignable(spec.kind, spec.shared, spec.external)
    network_subnets.require_some(spec.subnets)
    given = tuple(network_subnets.checked(subnet, mode, index) for index, subnet in enumerate(spec.subnets))
    ipv6_subnets.require_apart(spec.ipv6_subnets)
    if spec.ipv6_subnets:
        ipv6_subnets.require_mtu(spec.mtu, "mtu")
    for index, ipv6_subnet in enumerate(spec.ipv6_subnets):
        ipv6_subnets.check(ipv6_subnet, mode, spec.external, index)
        ipv6_subnets.require_alone(tx.connection, ipv6_subnet, spec.project_id, index)
    network_options.check(Frame.of(mode, spec.external, given), {name: getattr(spec, name) for name in COLUMN_CHANGES})
    if spec.external_network_id is not None:
        _require_external(tx.connection, spec.external_network_id)
    carrier_nat = False
    for index, subnet in enumerate(given):
        if ranges.overlaps(tx.connection, spec, subnet.cidr, index):
            carrier_nat = True
            if mode is GatewayMode.SINGLE:
                # carrier addresses are undone where the port is
                message = f"another network uses {subnet.cidr}: gateway mode single needs a range of its own"
                raise Conflict("cidr_overlap", message, f"{place(index)}.cidr")
    segment = _segment(tx.connection, spec, vlan_range) if segment is None else segment
    private = not (spec.shared or spec.external)
    if spec.allow_same_net_traffic is None:
        spec = replace(spec, allow_same_net_traffic=private)
    member = routers.Member(None, spec.project_id, private, spec.external, tuple(subnet.cidr for subnet in given))
    key, router_key = routers.keys(tx, member, spec.router)
    id_ = str(uuid4())
    payload = {"name": spec.name, "kind": spec.kind, "physical_network": spec.physical_network, "segment": segment}
    cidrs = [str(cidr) for cidr in (*(it.cidr for it in given), *(it.cidr for it in spec.ipv6_subnets))]
    payload |= {"cidrs": cidrs, "project_id": spec.project_id, "shared": spec.shared, "external": spec.external}
    row = {
        "id": id_,
        "key": key,
        "router_key": router_key,
        "project_id": spec.project_id,
        "shared": spec.shared,
        "external": spec.external,
        "kind": spec.kind.value,
        "physical_network": spec.physical_network,
        "segment": segment,
        "gateway_mode": mode.value,
        "carrier_nat": carrier_nat,
        "created_at": tx.now,
        "revision": tx.record(NETWORK, id_, CREATE, payload),
    }
    row |= {name: to_column(getattr(spec, name)) for name, to_column in COLUMN_CHANGES.items()}
    tx.connection.execute(insert(networks), row)
    network_subnets.add(tx, id_, dict(enumerate(given)))
    ipv6_subnets.add(tx, id_, dict(enumerate(spec.ipv6_subnets)))
    if spec.external:
        node_addresses.give_snat_to_all(tx, id_)
        own_snat.settle(tx)
        gateway_nodes.settle(tx)
    if spec.gateway_node is not None:
        gateway_nodes.pin(tx, id_, spec.gateway_node)
    return id_


def create_many(tx: Transaction, spec: NetworkSpec, carving: Carving, vlan_range: tuple[int, int]) -> list[str]:
    """The ids of the new networks. Raises what `ranges.carve` and `create` do, and Invalid `carving_invalid`."""
    if len(spec.subnets) != 1:
        raise Invalid("carving_invalid", "networks that are cut from a range have one subnet each", "subnets")
    (subnet,) = spec.subnets
    if len(spec.ipv6_subnets) > 1:
        raise Invalid("carving_invalid", "networks that are cut from a range have one IPv6 subnet at most", "subnets")
    if carving.count == 1:
        (cidr,) = ranges.carve(tx.connection, spec, carving)
        return [create(tx, replace(spec, subnets=(replace(subnet, cidr=cidr),)), vlan_range)]
    for name in ("gateway", "allocation_ranges", "reserved", "host_routes"):
        if getattr(subnet, name):
            raise Invalid("carving_invalid", f"{name} is one network's alone", f"subnets.0.{name}")
    if len(_part_name(spec, carving.count - 1)) > MAX_NAME:
        raise Invalid("carving_invalid", f"with its number the name has more than {MAX_NAME} characters", "name")
    cidrs = ranges.carve(tx.connection, spec, carving)
    ipv6 = [ipv6_subnets.carve(tx.connection, subnet, carving.count) for subnet in spec.ipv6_subnets]
    segments = _segments(tx.connection, spec, vlan_range, carving.count)
    made = []
    for index, (cidr, segment) in enumerate(zip(cidrs, segments, strict=True)):
        part = replace(
            spec,
            name=_part_name(spec, index),
            segment=None,
            subnets=(replace(subnet, cidr=cidr),),
            ipv6_subnets=tuple(parts[index] for parts in ipv6),
        )
        made.append(create(tx, part, vlan_range, segment))
    return made


def _part_name(spec: NetworkSpec, index: int) -> str:
    return f"{spec.name}_{index}"


def _check_assignable(kind: NetworkKind, shared: bool, external: bool) -> None:
    if kind is not NetworkKind.VLAN or shared or external:
        message = "only a VLAN network that is neither shared nor external can be given to a project"
        raise Invalid("assignable_invalid", message, "assignable")


def _gateway_mode(spec: NetworkSpec) -> GatewayMode:
    if not spec.external:
        return spec.gateway_mode or GatewayMode.PER_HOST
    if spec.gateway_mode not in (None, GatewayMode.EXTERNAL):
        raise Invalid("gateway_mode_invalid", "an external network's gateway is external", "gateway_mode")
    return GatewayMode.EXTERNAL


def _segment(connection: Connection, spec: NetworkSpec, vlan_range: tuple[int, int]) -> int:
    """The VLAN id, or 0 for a flat network."""
    if spec.kind is NetworkKind.FLAT:
        if spec.segment is not None:
            raise Invalid("segment_invalid", "a flat network has no segment", "segment")
        if 0 in _used_segments(connection, spec):
            message = f"physical network {spec.physical_network} has a flat network already"
            raise Conflict("physical_network_in_use", message, "physical_network")
        return 0
    if spec.segment is None:
        return _segments(connection, spec, vlan_range, 1)[0]
    _check_vlan(spec.segment)
    if spec.segment in _used_segments(connection, spec):
        message = f"VLAN {spec.segment} is in use on {spec.physical_network}"
        raise Conflict("vlan_in_use", message, "segment")
    return spec.segment


def _segments(connection: Connection, spec: NetworkSpec, vlan_range: tuple[int, int], count: int) -> list[int]:
    """The lowest free VLAN ids, from the wanted one on if there is one. Raises Exhausted `no_free_vlan`."""
    if spec.kind is NetworkKind.FLAT:
        message = f"physical network {spec.physical_network} can have one flat network"
        raise Conflict("physical_network_in_use", message, "physical_network")
    first, last = vlan_range
    if spec.segment is not None:
        _check_vlan(spec.segment)
        first, last = spec.segment, LAST_VLAN
    used = _used_segments(connection, spec)
    free = list(islice((segment for segment in range(first, last + 1) if segment not in used), count))
    if len(free) < count:
        what = "no VLAN" if count == 1 else f"no {count} VLANs"
        message = f"{what} of {first}..{last} {'is' if count == 1 else 'are'} free on {spec.physical_network}"
        raise Exhausted("no_free_vlan", message, "segment")
    return free


def _used_segments(connection: Connection, spec: NetworkSpec) -> set[int]:
    query = select(networks.c.segment).where(networks.c.physical_network == spec.physical_network)
    return set(connection.execute(query).scalars())


def _check_vlan(segment: int) -> None:
    if not FIRST_VLAN <= segment <= LAST_VLAN:
        raise Invalid("segment_invalid", f"VLAN {segment} is not within {FIRST_VLAN}..{LAST_VLAN}", "segment")


def _require_external(connection: Connection, network_id: str) -> None:
    if not count_rows(connection, networks, networks.c.id == network_id, networks.c.external):
        message = f"there is no external network {network_id}"
        raise Invalid("external_network_unknown", message, "external_network_id")


def require_revision(connection: Connection, network_id: str, expected: int | None) -> None:
    """Raises Conflict `network_changed` when the network has another revision than a change was made from."""
    found = connection.execute(select(networks.c.revision).where(networks.c.id == network_id)).scalar()
    if None not in (expected, found) and found != expected:
        message = f"the network has changed meanwhile: its revision is {found}, not {expected}"
        raise Conflict("network_changed", message, "expected_revision", revision=found)


def update_network(tx: Transaction, network_id: str, changes: Mapping[str, Any]) -> None:
    """Raises Invalid `immutable` for what is fixed at creation."""
    row = tx.connection.execute(select(networks).where(networks.c.id == network_id)).one_or_none()
    if row is None:
        raise NotFound("network_unknown", f"there is no network {network_id}")
    for name in changes:
        if name not in _APART and name not in COLUMN_CHANGES:
            known = name in NetworkSpec.__dataclass_fields__
            code, why = ("immutable", "cannot change") if known else ("unknown_field", "is unknown")
            raise Invalid(code, f"{name} of a network {why}", name)
    if changes.get("external_network_id") is not None:
        _require_external(tx.connection, changes["external_network_id"])
    values = {name: COLUMN_CHANGES[name](value) for name, value in changes.items() if name not in _APART}
    values = {name: value for name, value in values.items() if row._mapping[name] != value}
    (record,) = load_networks(tx.connection, [network_id])
    changed: dict[str, Any] = {}
    old = before(row, values)
    if "subnets" in changes:
        changed |= _update_subnets(tx, network_id, record.spec, row.carrier_nat, changes["subnets"])
        if "subnets" in changed:
            old["subnets"] = subnets_before(record.spec.subnets, changed["subnets"])
        (record,) = load_networks(tx.connection, [network_id])
    if "ipv6_subnets" in changes:
        changed |= _update_ipv6_subnets(
            tx, network_id, record.spec, changes["ipv6_subnets"], values.get("mtu", row.mtu)
        )
        if "ipv6_subnets" in changed:
            old["ipv6_subnets"] = subnets_before(record.spec.ipv6_subnets, changed["ipv6_subnets"])
    if values.get("mtu", row.mtu) != row.mtu and changes.get("ipv6_subnets", record.spec.ipv6_subnets):
        ipv6_subnets.require_mtu(values["mtu"], "mtu")
    frame = Frame.of(GatewayMode(row.gateway_mode), row.external, record.spec.subnets)
    network_options.check(frame, {"routes": record.spec.routes, **changes})
    if values.get("assignable"):
        _check_assignable(NetworkKind(row.kind), row.shared, row.external)
        for cidr in frame.cidrs:
            ranges.require_alone(tx.connection, network_id, cidr)
        if row.project_id is None:
            require_no_ports(tx.connection, network_id)
    private = not (row.shared or row.external)
    member = routers.Member(network_id, row.project_id, private, row.external, frame.cidrs)
    if "router" in values:
        values["router_key"] = routers.change(tx, member, row.key, values["router"])
    elif "subnets" in changed:
        routers.require_apart(tx.connection, member, row.router_key)
    changed |= values
    if changed:
        values["revision"] = tx.record(NETWORK, network_id, UPDATE, changed, old)
        tx.connection.execute(update(networks).where(networks.c.id == network_id).values(**values))
    if changed.keys() & {"own_snat_address", "external_network_id"}:
        own_snat.settle(tx)
    if "external_network_id" in changed:
        gateway_nodes.settle(tx)
    if "gateway_node" in changes:
        gateway_nodes.pin(tx, network_id, changes["gateway_node"])
    if "filtering" in values:
        ids = tx.connection.execute(select(ports.c.id).where(ports.c.network_id == network_id)).scalars().all()
        told = [{"port": id_, "r": tx.record(PORT, id_, UPDATE, {"filtering": values["filtering"]})} for id_ in ids]
        if told:
            tx.connection.execute(_TOUCH_PORT, told)


def _update_subnets(
    tx: Transaction, network_id: str, spec: NetworkSpec, carrier_nat: bool, wanted: Sequence[SubnetSpec]
) -> dict[str, Any]:
    """The network's subnets become these: one that is not listed goes, one that is not known comes."""
    network_subnets.require_some(wanted)
    assert spec.gateway_mode is not None
    known = network_subnets.rows_of(tx.connection, network_id)
    changed: dict[str, Any] = {}
    for cidr in sorted(known.keys() - {subnet.cidr for subnet in wanted}):
        network_subnets.remove(tx, known[cidr])
        changed[str(cidr)] = None
    added: dict[int, SubnetSpec] = {}
    for index, subnet in enumerate(wanted):
        row = known.get(subnet.cidr)
        if row is None:
            added[index] = network_subnets.checked(subnet, spec.gateway_mode, index)
            if ranges.overlaps(tx.connection, spec, subnet.cidr, index, network_id) and not carrier_nat:
                message = f"another network uses {subnet.cidr}, and this one was not made to share ranges"
                raise Conflict("cidr_overlap", message, f"{place(index)}.cidr")
            changed[str(subnet.cidr)] = {"gateway": None if subnet.gateway is None else str(subnet.gateway)}
        elif new := network_subnets.change(tx, row, subnet, index):
            changed[str(subnet.cidr)] = new
    network_subnets.add(tx, network_id, added)
    if spec.external and added:
        node_addresses.settle_snat_of_all(tx, network_id)
    return {"subnets": changed} if changed else {}


def _update_ipv6_subnets(
    tx: Transaction, network_id: str, spec: NetworkSpec, wanted: Sequence[Ipv6SubnetSpec], mtu: int
) -> dict[str, Any]:
    """As `_update_subnets`. Ports get addresses in what comes, and lose those that follow from MACs in what goes."""
    ipv6_subnets.require_apart(wanted)
    assert spec.gateway_mode is not None
    known = ipv6_subnets.rows_of(tx.connection, network_id)
    changed: dict[str, Any] = {}
    for cidr in sorted(known.keys() - {subnet.cidr for subnet in wanted}):
        if known[cidr].mode != Ipv6Mode.STATEFUL:
            ipv6_ports.leave(tx, known[cidr].id)
        ipv6_subnets.remove(tx, known[cidr])
        changed[str(cidr)] = None
    added: dict[int, Ipv6SubnetSpec] = {}
    for index, subnet in enumerate(wanted):
        row = known.get(subnet.cidr)
        if row is None:
            ipv6_subnets.require_mtu(mtu, f"{ipv6_subnets.place(index)}.cidr")
            ipv6_subnets.check(subnet, spec.gateway_mode, spec.external, index)
            ipv6_subnets.require_alone(tx.connection, subnet, spec.project_id, index)
            added[index] = subnet
            changed[str(subnet.cidr)] = {"mode": subnet.mode.value}
        elif new := ipv6_subnets.change(tx, row, subnet, index):
            changed[str(subnet.cidr)] = new
    ipv6_ports.join(tx, network_id, ipv6_subnets.add(tx, network_id, added))
    return {"ipv6_subnets": changed} if changed else {}


def require_no_ports(connection: Connection, network_id: str) -> None:
    """Raises Conflict `network_in_use`."""
    used = count_rows(connection, ports, ports.c.network_id == network_id)
    if used:
        raise Conflict("network_in_use", f"the network has ports: {used}", ports=used)


def delete_network(tx: Transaction, network_id: str) -> None:
    """Raises NotFound, Conflict `network_in_use` while there are ports, or networks that leave through it, Conflict
    `network_has_project` while it is lent to one.
    """
    connection = tx.connection
    row = connection.execute(select(networks).where(networks.c.id == network_id)).one_or_none()
    if row is None:
        raise NotFound("network_unknown", f"there is no network {network_id}")
    if row.assignable and row.project_id is not None:
        message = f"the network is given to project {row.project_id}: disassociate it first"
        raise Conflict("network_has_project", message, project_id=row.project_id)
    require_no_ports(connection, network_id)
    users = count_rows(connection, networks, networks.c.external_network_id == network_id)
    if users:
        raise Conflict("network_in_use", f"networks leave through this one: {users}", networks=users)
    routers.require_unnamed(connection, network_id)
    held = count_rows(connection, floating_ip_pool_rows, floating_ip_pool_rows.c.network_id == network_id)
    if held:
        raise Conflict("network_in_use", f"the network has floating IP pools: {held}", floating_ip_pools=held)
    dns_zones.forget_network(tx, network_id)
    own = select(subnets.c.id).where(subnets.c.network_id == network_id)
    holders = set(connection.execute(select(addresses.c.node).where(addresses.c.subnet_id.in_(own))).scalars())
    for table in (neighbours, ipv6_neighbours):
        holders |= set(connection.execute(select(table.c.node).where(table.c.network_id == network_id)).scalars())
    for holder in sorted(name for name in holders if name is not None):
        tx.touch_node(holder, network_deleted=network_id)
    for table in (addresses, pools, subnet_ranges):
        connection.execute(delete(table).where(table.c.subnet_id.in_(own)))
    ipv6_subnets.remove_all(connection, network_id)
    for table in (neighbours, ipv6_neighbours, subnets):
        connection.execute(delete(table).where(table.c.network_id == network_id))
    connection.execute(delete(networks).where(networks.c.id == network_id))
    tx.record(NETWORK, network_id, DELETE, {}, before(row, _TOLD))
    own_snat.settle(tx)  # nothing is for this network any more, and others may leave elsewhere now
    gateway_nodes.settle(tx)
