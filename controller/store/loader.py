"""From rows to values: records for the API, and what the compiler knows of them (`model`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, TypeVar

from sqlalchemy import BindParameter, ColumnElement, Connection, Select, bindparam, select

from controller.store import codec, ipam, journal, machine_metadata, policy_loader
from controller.store.engine import AnyRow, chunks
from controller.store.floating_ip_specs import FloatingIpRecord
from controller.store.ipv6_schema import ipv6_addresses, ipv6_neighbours, ipv6_subnet_ranges, ipv6_subnets
from controller.store.ipv6_specs import Ipv6Range, Ipv6SubnetSpec
from controller.store.policy_specs import GroupName
from controller.store.quarantine import UNREADABLE_OBJECT, Quarantine, Reading
from controller.store.schema import (
    addresses,
    floating_ip_pools,
    floating_ips,
    neighbours,
    networks,
    node_uplinks,
    nodes,
    port_forwardings,
    ports,
    subnet_ranges,
    subnets,
    virtual_addresses,
)
from controller.store.soundness import check
from controller.store.specs import (
    AddressRange,
    Conflict,
    HostAddress,
    Invalid,
    NetworkRecord,
    NetworkSpec,
    NodeRecord,
    NodeSpec,
    PortRecord,
    SubnetSpec,
)
from flows.model import (
    Binding,
    DhcpOption,
    FixedIp,
    FloatingIp,
    GatewayMode,
    Ipv6FixedIp,
    Ipv6Mode,
    Ipv6Subnet,
    Migration,
    MigrationPhase,
    Neighbour,
    Network,
    NetworkAddress,
    NetworkKind,
    Node,
    OwnAddress,
    Port,
    PortForwarding,
    SnatAddress,
    Subnet,
    Uplink,
)

T = TypeVar("T")

NTP_SERVERS_OPTION = 42  # RFC 2132, 8.3

_IDS: BindParameter[Any] = bindparam("ids", expanding=True)
_NETWORKS = select(networks).order_by(networks.c.key)
_SUBNETS = select(subnets).order_by(subnets.c.position)
_RANGES = select(subnet_ranges).order_by(subnet_ranges.c.first)
_IPV6_SUBNETS = select(ipv6_subnets).order_by(ipv6_subnets.c.position)
_IPV6_RANGES = select(ipv6_subnet_ranges).order_by(ipv6_subnet_ranges.c.first)
_PORTS = (
    select(ports, networks.c.filtering, machine_metadata.REVISION.label("metadata"))
    .outerjoin(networks, networks.c.id == ports.c.network_id)  # without one it is to be told of
    .outerjoin(*machine_metadata.OF_PORT)
    .order_by(ports.c.key)
)
_FIXED = (
    select(*addresses.c["port_id", "subnet_id", "address"])
    .where(addresses.c.owner == ipam.PORT_OWNER)
    .order_by(addresses.c.port_id, addresses.c.position)
)
_IPV6_FIXED = (
    select(*ipv6_addresses.c["port_id", "subnet_id", "address"])
    .join(ipv6_subnets, ipv6_subnets.c.id == ipv6_addresses.c.subnet_id)
    .where(ipv6_addresses.c.port_id.is_not(None))
    .order_by(ipv6_addresses.c.port_id, ipv6_subnets.c.position, ipv6_addresses.c.position)
)
_HOLDING = (
    select(*virtual_addresses.c["port_id", "address", "mac"])
    .where(virtual_addresses.c.held)
    .order_by(virtual_addresses.c.port_id, virtual_addresses.c.address)
)
_PHYSICAL_NETWORKS = select(node_uplinks.c.physical_network).distinct()
_NODES = select(nodes).order_by(nodes.c.key)
_UPLINKS = select(node_uplinks).order_by(node_uplinks.c.position)
_HELD = (
    select(*addresses.c["node", "owner", "address", "for_network"], subnets.c.network_id)
    .join(subnets, subnets.c.id == addresses.c.subnet_id)
    .where(addresses.c.node.is_not(None))
    .order_by(subnets.c.network_id, addresses.c.for_network, subnets.c.position)
)
_NEIGHBOURS = select(neighbours).order_by(neighbours.c.network_id, neighbours.c.address)
_IPV6_NEIGHBOURS = select(ipv6_neighbours).order_by(ipv6_neighbours.c.network_id, ipv6_neighbours.c.address)
_FLOATING_IPS = (
    select(floating_ips, floating_ip_pools.c.network_id, floating_ip_pools.c.name.label("pool"))
    .join(floating_ip_pools, floating_ip_pools.c.id == floating_ips.c.pool_id)
    .order_by(floating_ips.c.key)
)
_FORWARDINGS = select(port_forwardings).order_by(port_forwardings.c.key)
_SUBNET_IDS = select(subnets.c.id).where(subnets.c.network_id.in_(_IDS))
_IPV6_SUBNET_IDS = select(ipv6_subnets.c.id).where(ipv6_subnets.c.network_id.in_(_IDS))

# each statement with the restriction to some objects, prepared: a single object is read for every change
_SOME = {
    _NETWORKS: _NETWORKS.where(networks.c.id.in_(_IDS)),
    _SUBNETS: _SUBNETS.where(subnets.c.network_id.in_(_IDS)),
    _RANGES: _RANGES.where(subnet_ranges.c.subnet_id.in_(_SUBNET_IDS)),
    _IPV6_SUBNETS: _IPV6_SUBNETS.where(ipv6_subnets.c.network_id.in_(_IDS)),
    _IPV6_RANGES: _IPV6_RANGES.where(ipv6_subnet_ranges.c.subnet_id.in_(_IPV6_SUBNET_IDS)),
    _PORTS: _PORTS.where(ports.c.id.in_(_IDS)),
    _FIXED: _FIXED.where(addresses.c.port_id.in_(_IDS)),
    _IPV6_FIXED: _IPV6_FIXED.where(ipv6_addresses.c.port_id.in_(_IDS)),
    _HOLDING: _HOLDING.where(virtual_addresses.c.port_id.in_(_IDS)),
    _NODES: _NODES.where(nodes.c.name.in_(_IDS)),
    _UPLINKS: _UPLINKS.where(node_uplinks.c.node.in_(_IDS)),
    _HELD: _HELD.where(addresses.c.node.in_(_IDS)),
    _NEIGHBOURS: _NEIGHBOURS.where(neighbours.c.node.in_(_IDS)),
    _IPV6_NEIGHBOURS: _IPV6_NEIGHBOURS.where(ipv6_neighbours.c.node.in_(_IDS)),
    _FLOATING_IPS: _FLOATING_IPS.where(floating_ips.c.id.in_(_IDS)),
    _FORWARDINGS: _FORWARDINGS.where(port_forwardings.c.floating_ip_id.in_(_IDS)),
}
_OF_PORTS = _FLOATING_IPS.where(floating_ips.c.port_id.in_(_IDS))


def _rows(connection: Connection, query: Select[Any], ids: Sequence[str] | None) -> Iterator[AnyRow]:
    """The rows of these objects, or (None) of all."""
    if ids is None:
        yield from connection.execute(query).all()
        return
    for part in chunks(ids):
        yield from connection.execute(_SOME[query], {"ids": part}).all()


def _grouped(rows: Iterable[AnyRow], column: str) -> dict[str, list[AnyRow]]:
    groups: dict[str, list[AnyRow]] = {}
    for row in rows:
        groups.setdefault(row._mapping[column], []).append(row)
    return groups


def load_networks(
    connection: Connection, ids: Sequence[str] | None = None, quarantine: Quarantine | None = None
) -> list[NetworkRecord]:
    by_subnet = _grouped(_rows(connection, _RANGES, ids), "subnet_id")
    by_network = _grouped(_rows(connection, _SUBNETS, ids), "network_id")
    by_ipv6_subnet = _grouped(_rows(connection, _IPV6_RANGES, ids), "subnet_id")
    ipv6_by_network = _grouped(_rows(connection, _IPV6_SUBNETS, ids), "network_id")
    reached = set(connection.execute(_PHYSICAL_NETWORKS).scalars())

    def build(row: AnyRow) -> NetworkRecord:
        record = NetworkRecord(
            id=row.id,
            key=row.key,
            router_key=row.router_key,
            carrier_nat=row.carrier_nat,
            spec=NetworkSpec(
                name=row.name,
                kind=NetworkKind(row.kind),
                physical_network=row.physical_network,
                subnets=tuple(_subnet(subnet, by_subnet.get(subnet.id, ())) for subnet in by_network.get(row.id, ())),
                project_id=row.project_id,
                shared=row.shared,
                external=row.external,
                segment=row.segment or None,
                mtu=row.mtu,
                gateway_mode=GatewayMode(row.gateway_mode),
                dhcp=row.dhcp,
                dns_domain=row.dns_domain,
                arp_responder=row.arp_responder,
                external_network_id=row.external_network_id,
                lease_time=row.lease_time,
                dhcp_options=codec.load_options(row.dhcp_options),
                ntp_servers=codec.load_addresses(row.ntp_servers),
                routes=codec.load_static_routes(row.routes),
                snat_exempt=codec.load_ranges(row.snat_exempt),
                force_snat=codec.load_ranges(row.force_snat),
                own_snat_address=row.own_snat_address,
                dhcp_relays=codec.load_addresses(row.dhcp_relays),
                dns_upstreams=codec.load_addresses(row.dns_upstreams),
                router=row.router,
                allow_same_net_traffic=row.allow_same_net_traffic,
                filtering=row.filtering,
                assignable=row.assignable,
                gateway_node=row.gateway_node if row.gateway_node_pinned else None,
                ipv6_subnets=tuple(
                    _ipv6_subnet(subnet, by_ipv6_subnet.get(subnet.id, ()))
                    for subnet in ipv6_by_network.get(row.id, ())
                ),
            ),
            created_at=row.created_at,
            revision=row.revision,
            reached=row.physical_network in reached,
            gateway_node=row.gateway_node,
        )
        check(network_of(record))
        return record

    return list(Reading(journal.NETWORK, ids, quarantine).objects(_rows(connection, _NETWORKS, ids), build))


def _subnet(row: AnyRow, ranges: Iterable[AnyRow]) -> SubnetSpec:
    declared: dict[str, list[AddressRange]] = {ipam.ALLOCATION: [], ipam.RESERVED: []}
    for item in ranges:
        declared[item.kind].append(AddressRange(IPv4Address(item.first), IPv4Address(item.last)))
    return SubnetSpec(
        id=row.id,
        cidr=IPv4Network(row.cidr),
        gateway=None if row.gateway is None else IPv4Address(row.gateway),
        allocation_ranges=tuple(declared[ipam.ALLOCATION]),
        reserved=tuple(declared[ipam.RESERVED]),
        dns_servers=codec.load_addresses(row.dns_servers),
        host_routes=codec.load_routes(row.host_routes),
    )


def _ipv6_subnet(row: AnyRow, ranges: Iterable[AnyRow]) -> Ipv6SubnetSpec:
    declared: dict[str, list[Ipv6Range]] = {ipam.ALLOCATION: [], ipam.RESERVED: []}
    for item in ranges:
        declared[item.kind].append(Ipv6Range(item.first, item.last))
    return Ipv6SubnetSpec(
        id=row.id,
        cidr=IPv6Network(row.cidr),
        gateway=row.gateway,
        mode=Ipv6Mode(row.mode),
        allocation_ranges=tuple(declared[ipam.ALLOCATION]),
        reserved=tuple(declared[ipam.RESERVED]),
        dns_servers=codec.load_ipv6_addresses(row.dns_servers),
    )


def network_of(record: NetworkRecord) -> Network:
    """The compiler's view of a network."""
    spec = record.spec
    assert spec.gateway_mode is not None and spec.allow_same_net_traffic is not None
    options = [DhcpOption(option.code, option.payload) for option in spec.dhcp_options]
    if spec.ntp_servers:
        options.insert(0, DhcpOption(NTP_SERVERS_OPTION, b"".join(server.packed for server in spec.ntp_servers)))
    return Network(
        id=record.id,
        key=record.key,
        name=spec.name,
        kind=spec.kind,
        physical_network=spec.physical_network,
        router_key=record.router_key,
        project_id=spec.project_id,
        shared=spec.shared,
        external=spec.external,
        segment=spec.segment,
        mtu=spec.mtu,
        gateway_mode=spec.gateway_mode,
        dhcp=spec.dhcp,
        dns_domain=spec.dns_domain,
        arp_responder=spec.arp_responder,
        carrier_nat=record.carrier_nat,
        external_network_id=spec.external_network_id,
        lease_time=spec.lease_time,
        subnets=tuple(
            Subnet(subnet.id or "", subnet.cidr, subnet.gateway, subnet.dns_servers, subnet.host_routes)
            for subnet in spec.subnets
        ),
        dhcp_options=tuple(options),
        routes=spec.routes,
        snat_exempt=spec.snat_exempt,
        force_snat=spec.force_snat,
        own_snat_address=spec.own_snat_address,
        dhcp_relays=spec.dhcp_relays,
        dns_upstreams=spec.dns_upstreams,
        allow_same_net_traffic=spec.allow_same_net_traffic,
        gateway_node=record.gateway_node,
        ipv6_subnets=tuple(
            Ipv6Subnet(subnet.id or "", subnet.cidr, subnet.gateway, subnet.mode, subnet.dns_servers)
            for subnet in spec.ipv6_subnets
        ),
    )


def load_ports(
    connection: Connection, ids: Sequence[str] | None = None, quarantine: Quarantine | None = None
) -> list[PortRecord]:
    fixed_ips = _grouped(_rows(connection, _FIXED, ids), "port_id")
    ipv6 = _grouped(_rows(connection, _IPV6_FIXED, ids), "port_id")
    rows = list(_rows(connection, _PORTS, ids))
    sharing = [row.id for row in rows if row.address_pairs != []]  # also where they cannot be read
    held = _grouped(_rows(connection, _HOLDING, None if ids is None else sharing), "port_id")
    groups = policy_loader.load_memberships(connection, ids)

    def build(row: AnyRow) -> PortRecord:
        return _port(
            row,
            tuple(FixedIp(one.subnet_id, IPv4Address(one.address)) for one in fixed_ips.get(row.id, ())),
            tuple(Ipv6FixedIp(one.subnet_id, one.address) for one in ipv6.get(row.id, ())),
            tuple(OwnAddress(IPv4Address(one.address), one.mac) for one in held.get(row.id, ())),
            tuple(groups.get(row.id, ())),
        )

    return list(Reading(journal.PORT, ids, quarantine).objects(rows, build))


def _port(
    row: AnyRow,
    fixed_ips: tuple[FixedIp, ...],
    ipv6_addresses: tuple[Ipv6FixedIp, ...],
    held: tuple[OwnAddress, ...],
    groups: tuple[GroupName, ...],
) -> PortRecord:
    options = codec.load_options(row.dhcp_options)
    port = Port(
        id=row.id,
        key=row.key,
        network_id=row.network_id,
        mac=row.mac,
        fixed_ips=fixed_ips,
        name=row.name,
        hostname=row.hostname,
        project_id=row.project_id,
        node=row.node,
        binding=None if row.bound_node is None else Binding(row.bound_node, row.ofport, row.zone),
        dhcp_options=tuple(DhcpOption(option.code, option.payload) for option in options),
        migration=_migration(row),
        security_groups=tuple(group.id for group in groups) if row.filtering and row.port_security else None,
        port_security=row.port_security,
        address_pairs=policy_loader.load_pairs(row.address_pairs),
        held=held,
        qos=policy_loader.load_qos(row.qos),
        device_id=row.device_id,
        metadata=row.metadata,
        ipv6_addresses=ipv6_addresses,
    )
    return PortRecord(
        port,
        row.device_id,
        options,
        row.created_at,
        row.revision,
        row.binding_error,
        expected_on=row.other_node,
        security_groups=groups,
        interface_name=row.interface_name,
    )


def _migration(row: AnyRow) -> Migration | None:
    """None while the interface on the other node has not been seen."""
    if row.other_ofport is None:
        return None
    return Migration(MigrationPhase(row.migration), Binding(row.other_node, row.other_ofport, row.other_zone))


def load_nodes(
    connection: Connection, names: Sequence[str] | None = None, quarantine: Quarantine | None = None
) -> list[NodeRecord]:
    uplinks = _grouped(_rows(connection, _UPLINKS, names), "node")
    held = _grouped(_rows(connection, _HELD, names), "node")
    known = _grouped(_rows(connection, _NEIGHBOURS, names), "node")
    ipv6_known = _grouped(_rows(connection, _IPV6_NEIGHBOURS, names), "node")
    reading = Reading(journal.NODE, names, quarantine)

    def build(row: AnyRow) -> NodeRecord:
        name = row.name
        hops = (*known.get(name, ()), *ipv6_known.get(name, ()))
        neighbours = reading.parts(hops, _neighbour, "neighbour", name, ("network_id", "address"))
        return _node(row, uplinks.get(name, ()), held.get(name, ()), neighbours)

    return list(reading.objects(_rows(connection, _NODES, names), build, "name"))


def _neighbour(row: AnyRow) -> Neighbour:
    address = row.address if isinstance(row.address, IPv6Address) else IPv4Address(row.address)
    return Neighbour(row.network_id, address, row.mac)


def _node(row: AnyRow, uplinks: Iterable[AnyRow], held: Iterable[AnyRow], known: tuple[Neighbour, ...]) -> NodeRecord:
    by_owner = _grouped(held, "owner")
    choices = {name: codec.load_snat_choice(text) for name, text in row.snat_addresses.items()}
    of_host = {choice.address for choice in choices.values() if isinstance(choice, HostAddress)}
    node = Node(
        name=row.name,
        key=row.key,
        datapath_id=int(row.datapath_id, 16),
        uplinks=tuple(Uplink(one.physical_network, one.ofport) for one in uplinks if one.ofport is not None),
        gateways=tuple(
            NetworkAddress(one.network_id, IPv4Address(one.address)) for one in by_owner.get(ipam.GATEWAY_OWNER, ())
        ),
        snat_addresses=tuple(_snat_address(one, of_host) for one in by_owner.get(ipam.SNAT_OWNER, ())),
        neighbours=known,
    )
    spec = NodeSpec(
        name=row.name,
        datapath_id=node.datapath_id,
        physical_networks=tuple(one.physical_network for one in uplinks),
        snat_addresses=choices,
        tunnel_address=None if row.tunnel_address is None else IPv4Address(row.tunnel_address),
        versions=row.versions,
    )
    return NodeRecord(node, spec, row.serial, row.created_at, row.revision)


def _snat_address(held: AnyRow, of_host: Collection[IPv4Address]) -> SnatAddress:
    address = IPv4Address(held.address)
    return SnatAddress(held.network_id, address, held.for_network or None, address in of_host)


def load_floating_ips(
    connection: Connection, ids: Sequence[str] | None = None, quarantine: Quarantine | None = None
) -> list[FloatingIpRecord]:
    forwardings = _grouped(_rows(connection, _FORWARDINGS, ids), "floating_ip_id")
    reading = Reading(journal.FLOATING_IP, ids, quarantine)

    def build(row: AnyRow) -> FloatingIpRecord:
        of_it = forwardings.get(row.id, ())
        parts = reading.parts(of_it, _forwarding, "port_forwarding", row.id, ("id",))
        floating_ip = _floating_ip(row, parts)
        return FloatingIpRecord(floating_ip, row.pool_id, row.pool, row.auto, row.created_at, row.revision)

    return list(reading.objects(_rows(connection, _FLOATING_IPS, ids), build))


def floating_ips_of_ports(connection: Connection, port_ids: Sequence[str]) -> dict[str, list[FloatingIp]]:
    """Those associated with these ports. They have no forwardings."""
    rows = (row for part in chunks(port_ids) for row in connection.execute(_OF_PORTS, {"ids": part}).all())
    grouped = _grouped(rows, "port_id")
    reading = Reading(journal.FLOATING_IP, None, None)
    return {
        port_id: list(reading.objects(group, lambda row: _floating_ip(row, ()))) for port_id, group in grouped.items()
    }


def _floating_ip(row: AnyRow, forwardings: tuple[PortForwarding, ...]) -> FloatingIp:
    return FloatingIp(
        id=row.id,
        key=row.key,
        network_id=row.network_id,
        address=IPv4Address(row.address),
        project_id=row.project_id,
        port_id=row.port_id,
        fixed_ip=None if row.fixed_ip is None else IPv4Address(row.fixed_ip),
        port_forwardings=forwardings,
    )


def _forwarding(row: AnyRow) -> PortForwarding:
    fixed_ip = IPv4Address(row.fixed_ip)
    return PortForwarding(row.id, row.key, row.protocol, row.first, row.last, row.port_id, fixed_ip, row.to)


def page(
    connection: Connection,
    id_column: ColumnElement[str],
    key_column: ColumnElement[int],
    conditions: Sequence[Any],
    limit: int | None,
    marker: str | None,
    load: Callable[[Connection, Sequence[str]], list[T]],
) -> list[T]:
    """One page of a list, in order of creation, as `load` makes it of ids. Raises Invalid `marker_unknown`.

    What cannot be used is not on it, and makes it no shorter: a page that is not full is the last one.
    """
    found: list[T] = []
    while True:
        wanted = None if limit is None else limit - len(found)
        ids = _ids(connection, id_column, key_column, conditions, wanted, marker)
        try:
            found += load(connection, ids)
        except Conflict as error:  # one that was alone on its page
            if error.code != UNREADABLE_OBJECT:
                raise
        if wanted is None or len(ids) < wanted or len(found) == limit:
            return found
        marker = ids[-1]


def _ids(
    connection: Connection,
    id_column: ColumnElement[str],
    key_column: ColumnElement[int],
    conditions: Sequence[Any],
    limit: int | None,
    marker: str | None,
) -> list[str]:
    query = select(id_column).where(*conditions).order_by(key_column).limit(limit)
    if marker is not None:
        start = connection.execute(select(key_column).where(id_column == marker)).scalar()
        if start is None:
            raise Invalid("marker_unknown", f"there is no {marker} to go on from", "marker")
        query = query.where(key_column > start)
    return list(connection.execute(query).scalars())
