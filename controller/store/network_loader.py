"""From rows to values for networks and their subnets: records for the API, and what the compiler knows of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from sqlalchemy import Connection, select

from controller.store import codec, ipam, journal
from controller.store.engine import AnyRow
from controller.store.ipv6_schema import ipv6_subnet_ranges, ipv6_subnets
from controller.store.ipv6_specs import Ipv6Range, Ipv6SubnetSpec
from controller.store.quarantine import Quarantine, Reading
from controller.store.rows import IDS, Rows, grouped
from controller.store.schema import networks, node_uplinks, subnet_ranges, subnets
from controller.store.soundness import check
from controller.store.specs import AddressRange, NetworkRecord, NetworkSpec, SubnetSpec
from flows.model import DhcpOption, GatewayMode, Ipv6Mode, Ipv6Subnet, Network, NetworkKind, Subnet

NTP_SERVERS_OPTION = 42  # RFC 2132, 8.3

_NETWORKS = Rows(select(networks).order_by(networks.c.key), networks.c.id.in_(IDS))
_SUBNETS = Rows(select(subnets).order_by(subnets.c.position), subnets.c.network_id.in_(IDS))
_RANGES = Rows(
    select(subnet_ranges).order_by(subnet_ranges.c.first),
    subnet_ranges.c.subnet_id.in_(select(subnets.c.id).where(subnets.c.network_id.in_(IDS))),
)
_IPV6_SUBNETS = Rows(select(ipv6_subnets).order_by(ipv6_subnets.c.position), ipv6_subnets.c.network_id.in_(IDS))
_IPV6_RANGES = Rows(
    select(ipv6_subnet_ranges).order_by(ipv6_subnet_ranges.c.first),
    ipv6_subnet_ranges.c.subnet_id.in_(select(ipv6_subnets.c.id).where(ipv6_subnets.c.network_id.in_(IDS))),
)
_PHYSICAL_NETWORKS = select(node_uplinks.c.physical_network).distinct()


def load_networks(
    connection: Connection, ids: Sequence[str] | None = None, quarantine: Quarantine | None = None
) -> list[NetworkRecord]:
    by_subnet = grouped(_RANGES.of(connection, ids), "subnet_id")
    by_network = grouped(_SUBNETS.of(connection, ids), "network_id")
    by_ipv6_subnet = grouped(_IPV6_RANGES.of(connection, ids), "subnet_id")
    ipv6_by_network = grouped(_IPV6_SUBNETS.of(connection, ids), "network_id")
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

    return list(Reading(journal.NETWORK, ids, quarantine).objects(_NETWORKS.of(connection, ids), build))


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
