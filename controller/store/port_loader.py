"""From rows to values for ports."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address

from sqlalchemy import Connection, select

from controller.store import codec, ipam, journal, machine_metadata, policy_loader
from controller.store.engine import AnyRow
from controller.store.ipv6_schema import ipv6_addresses, ipv6_subnets
from controller.store.policy_specs import GroupName
from controller.store.quarantine import Quarantine, Reading
from controller.store.rows import IDS, Rows, grouped
from controller.store.schema import addresses, networks, ports, virtual_addresses
from controller.store.specs import PortRecord
from flows.model import Binding, DhcpOption, FixedIp, Ipv6FixedIp, Migration, MigrationPhase, OwnAddress, Port

_PORTS = Rows(
    select(ports, networks.c.filtering, machine_metadata.REVISION.label("metadata"))
    .outerjoin(networks, networks.c.id == ports.c.network_id)  # without one it is to be told of
    .outerjoin(*machine_metadata.OF_PORT)
    .order_by(ports.c.key),
    ports.c.id.in_(IDS),
)
_FIXED = Rows(
    select(*addresses.c["port_id", "subnet_id", "address"])
    .where(addresses.c.owner == ipam.PORT_OWNER)
    .order_by(addresses.c.port_id, addresses.c.position),
    addresses.c.port_id.in_(IDS),
)
_IPV6_FIXED = Rows(
    select(*ipv6_addresses.c["port_id", "subnet_id", "address"])
    .join(ipv6_subnets, ipv6_subnets.c.id == ipv6_addresses.c.subnet_id)
    .where(ipv6_addresses.c.port_id.is_not(None))
    .order_by(ipv6_addresses.c.port_id, ipv6_subnets.c.position, ipv6_addresses.c.position),
    ipv6_addresses.c.port_id.in_(IDS),
)
_HOLDING = Rows(
    select(*virtual_addresses.c["port_id", "address", "mac"])
    .where(virtual_addresses.c.held)
    .order_by(virtual_addresses.c.port_id, virtual_addresses.c.address),
    virtual_addresses.c.port_id.in_(IDS),
)


def load_ports(
    connection: Connection, ids: Sequence[str] | None = None, quarantine: Quarantine | None = None
) -> list[PortRecord]:
    fixed_ips = grouped(_FIXED.of(connection, ids), "port_id")
    ipv6 = grouped(_IPV6_FIXED.of(connection, ids), "port_id")
    rows = list(_PORTS.of(connection, ids))
    sharing = [row.id for row in rows if row.address_pairs != []]  # also where they cannot be read
    held = grouped(_HOLDING.of(connection, None if ids is None else sharing), "port_id")
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
