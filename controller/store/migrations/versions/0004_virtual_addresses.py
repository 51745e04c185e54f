"""Which ports may use an address by their pairs, and which of them holds it. Nobody is given such an address."""

from __future__ import annotations

from ipaddress import IPv4Network

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ADDRESS_BITS = 32


def upgrade() -> None:
    held = sa.text("held")
    table = op.create_table(
        "virtual_addresses",
        sa.Column("port_id", sa.String(length=36), nullable=False),
        sa.Column("address", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("mac", sa.String(length=17), nullable=False),
        sa.Column("network_id", sa.String(length=36), nullable=False),
        sa.Column("held", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["port_id"], ["ports.id"], name=op.f("fk_virtual_addresses_port_id")),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name=op.f("fk_virtual_addresses_network_id")),
        sa.PrimaryKeyConstraint("port_id", "address", "mac", name=op.f("pk_virtual_addresses")),
    )
    place = ["network_id", "address"]
    op.create_index(op.f("ix_virtual_addresses_network_id_address"), "virtual_addresses", place, unique=False)
    op.create_index("one_holder", "virtual_addresses", place, unique=True, sqlite_where=held, postgresql_where=held)
    _fill(op.get_bind(), table)


def _fill(connection: sa.Connection, table: sa.Table) -> None:
    ports = sa.table("ports", sa.column("id"), sa.column("network_id"), sa.column("address_pairs", sa.JSON()))
    subnets = sa.table("subnets", sa.column("id"), sa.column("network_id"), sa.column("cidr"))
    columns = ("subnet_id", "address", "owner", "for_network", "released_at")
    addresses = sa.table("addresses", *map(sa.column, columns))
    known: dict[str, list[tuple[str, IPv4Network]]] = {}
    for row in connection.execute(sa.select(subnets)):
        known.setdefault(row.network_id, []).append((row.id, IPv4Network(row.cidr)))
    rows, places = {}, set()
    for row in connection.execute(sa.select(ports)).all():
        for pair in row.address_pairs:
            cidr = IPv4Network(pair["cidr"])
            for subnet_id, subnet in known.get(row.network_id, ()):
                if cidr.prefixlen == _ADDRESS_BITS and cidr.subnet_of(subnet):
                    number = int(cidr.network_address)
                    rows[row.id, number, pair["mac"]] = row.network_id
                    places.add((subnet_id, number))
    if rows:
        values = [
            {"port_id": port_id, "address": number, "mac": mac, "network_id": network_id, "held": False}
            for (port_id, number, mac), network_id in rows.items()
        ]
        connection.execute(sa.insert(table), values)
    for subnet_id, number in sorted(places):
        here = (addresses.c.subnet_id == subnet_id, addresses.c.address == number)
        found = connection.execute(sa.select(addresses.c.owner).where(*here)).one_or_none()
        if found is None:
            new = {"subnet_id": subnet_id, "address": number, "owner": "pair", "for_network": ""}
            connection.execute(sa.insert(addresses).values(**new))
        elif found.owner is None:
            connection.execute(sa.update(addresses).where(*here).values(owner="pair", released_at=None))
