"""The tables of IPv6: as those of `schema`, but that an address does not fit a database's integer.

There are no rows of addresses that nobody has: a /64 has too many to tell which were used once.
"""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Any

from sqlalchemy import (
    JSON,
    CheckConstraint,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
)
from sqlalchemy.types import TypeDecorator

from controller.store.schema import ID, history_table, lease_table, metadata, neighbour_table


class Ipv6Column(TypeDecorator[IPv6Address]):
    """All digits of an address: as text they are in the order of the addresses."""

    impl = String(39)
    cache_ok = True

    def process_bind_param(self, value: IPv6Address | None, dialect: Dialect) -> str | None:
        return None if value is None else value.exploded

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Also what is no address: one row must not stop a query."""
        try:
            return None if value is None else IPv6Address(value)
        except ValueError:
            return value


ipv6_subnets = Table(
    "ipv6_subnets",
    metadata,
    Column("id", ID, primary_key=True),
    Column("network_id", ID, ForeignKey("networks.id"), nullable=False, index=True),
    Column("cidr", String(43), nullable=False),
    Column("first", Ipv6Column, nullable=False),
    Column("last", Ipv6Column, nullable=False),
    Column("gateway", Ipv6Column),
    Column("mode", String(32), nullable=False),
    Column("dns_servers", JSON, nullable=False),
    Column("position", Integer, nullable=False),
    Index(None, "first", "last"),
)

# As `subnet_ranges`.
ipv6_subnet_ranges = Table(
    "ipv6_subnet_ranges",
    metadata,
    Column("subnet_id", ID, ForeignKey("ipv6_subnets.id"), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("first", Ipv6Column, primary_key=True),
    Column("last", Ipv6Column, nullable=False),
)

# What follows from it, of mode dhcpv6-stateful: the ranges to choose from. `next` goes round, so that an address that
# was given back comes last.
ipv6_pools = Table(
    "ipv6_pools",
    metadata,
    Column("subnet_id", ID, ForeignKey("ipv6_subnets.id"), primary_key=True),
    Column("first", Ipv6Column, primary_key=True),
    Column("last", Ipv6Column, nullable=False),
    Column("next", Ipv6Column, nullable=False),
)

# Who has an address: a port, or (NULL) the subnet's gateway. `shown` is the address as people write it, to be searched.
ipv6_addresses = Table(
    "ipv6_addresses",
    metadata,
    Column("subnet_id", ID, ForeignKey("ipv6_subnets.id"), primary_key=True),
    Column("address", Ipv6Column, primary_key=True),
    Column("shown", String(39), nullable=False),
    Column("port_id", ID, ForeignKey("ports.id"), index=True),
    Column("position", Integer),
    CheckConstraint("(port_id IS NULL) = (position IS NULL)", name="position_of_port"),
)

ipv6_address_history = history_table("ipv6_address_history", Ipv6Column)

ipv6_neighbours = neighbour_table("ipv6_neighbours", Ipv6Column)

ipv6_leases = lease_table("ipv6_leases", Ipv6Column)
