"""From rows to values for nodes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address

from sqlalchemy import Connection, select

from controller.store import codec, ipam, journal
from controller.store.engine import AnyRow
from controller.store.ipv6_schema import ipv6_neighbours
from controller.store.quarantine import Quarantine, Reading
from controller.store.rows import IDS, Rows, grouped
from controller.store.schema import addresses, neighbours, node_uplinks, nodes, subnets
from controller.store.specs import HostAddress, NodeRecord, NodeSpec
from flows.model import DatapathType, Neighbour, NetworkAddress, Node, SnatAddress, Uplink

_NODES = Rows(select(nodes).order_by(nodes.c.key), nodes.c.name.in_(IDS))
_UPLINKS = Rows(select(node_uplinks).order_by(node_uplinks.c.position), node_uplinks.c.node.in_(IDS))
_HELD = Rows(
    select(*addresses.c["node", "owner", "address", "for_network"], subnets.c.network_id)
    .join(subnets, subnets.c.id == addresses.c.subnet_id)
    .where(addresses.c.node.is_not(None))
    .order_by(subnets.c.network_id, addresses.c.for_network, subnets.c.position),
    addresses.c.node.in_(IDS),
)
_NEIGHBOURS = Rows(
    select(neighbours).order_by(neighbours.c.network_id, neighbours.c.address), neighbours.c.node.in_(IDS)
)
_IPV6_NEIGHBOURS = Rows(
    select(ipv6_neighbours).order_by(ipv6_neighbours.c.network_id, ipv6_neighbours.c.address),
    ipv6_neighbours.c.node.in_(IDS),
)


def load_nodes(
    connection: Connection, names: Sequence[str] | None = None, quarantine: Quarantine | None = None
) -> list[NodeRecord]:
    uplinks = grouped(_UPLINKS.of(connection, names), "node")
    held = grouped(_HELD.of(connection, names), "node")
    known = grouped(_NEIGHBOURS.of(connection, names), "node")
    ipv6_known = grouped(_IPV6_NEIGHBOURS.of(connection, names), "node")
    reading = Reading(journal.NODE, names, quarantine)

    def build(row: AnyRow) -> NodeRecord:
        name = row.name
        hops = (*known.get(name, ()), *ipv6_known.get(name, ()))
        neighbours = reading.parts(hops, _neighbour, "neighbour", name, ("network_id", "address"))
        return _node(row, uplinks.get(name, ()), held.get(name, ()), neighbours)

    return list(reading.objects(_NODES.of(connection, names), build, "name"))


def _neighbour(row: AnyRow) -> Neighbour:
    address = row.address if isinstance(row.address, IPv6Address) else IPv4Address(row.address)
    return Neighbour(row.network_id, address, row.mac)


def _node(row: AnyRow, uplinks: Iterable[AnyRow], held: Iterable[AnyRow], known: tuple[Neighbour, ...]) -> NodeRecord:
    by_owner = grouped(held, "owner")
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
        datapath_type=DatapathType(row.datapath_type),
    )
    spec = NodeSpec(
        name=row.name,
        datapath_id=node.datapath_id,
        physical_networks=tuple(one.physical_network for one in uplinks),
        snat_addresses=choices,
        tunnel_address=None if row.tunnel_address is None else IPv4Address(row.tunnel_address),
        versions=row.versions,
        datapath_type=node.datapath_type,
        problems=tuple(row.problems),
    )
    return NodeRecord(node, spec, row.serial, row.created_at, row.revision)


def _snat_address(held: AnyRow, of_host: Collection[IPv4Address]) -> SnatAddress:
    address = IPv4Address(held.address)
    return SnatAddress(held.network_id, address, held.for_network or None, address in of_host)
