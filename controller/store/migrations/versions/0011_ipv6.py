"""IPv6: subnets, addresses, leases, and rules of security groups.

Whoever let everything out over IPv4 does so over IPv6, and a group whose members may reach each other lets them by
either. Nothing is opened by that: no network has an IPv6 subnet yet.
"""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_ADDRESS = 39
_RANGE = 43
_IPV6 = 6
_EVERYTHING_OUT = "egress any - - - - any"
_OWN_IN = "ingress any - - - - "
_LARGEST_KEY = 2**22 - 1


def upgrade() -> None:
    _subnets()
    _addresses()
    for name in ("security_group_rules", "default_rules"):
        with op.batch_alter_table(name) as table:
            table.alter_column("remote_cidr", existing_type=sa.String(length=18), type_=sa.String(length=_RANGE))
            table.add_column(sa.Column("family", sa.Integer(), server_default="4", nullable=False))
    _twins(op.get_bind())


def _subnets() -> None:
    op.create_table(
        "ipv6_subnets",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("network_id", sa.String(length=36), nullable=False),
        sa.Column("cidr", sa.String(length=_RANGE), nullable=False),
        sa.Column("first", sa.String(length=_ADDRESS), nullable=False),
        sa.Column("last", sa.String(length=_ADDRESS), nullable=False),
        sa.Column("gateway", sa.String(length=_ADDRESS), nullable=True),
        sa.Column("mode", sa.String(length=32), nullable=False),
        sa.Column("dns_servers", sa.JSON(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name=op.f("fk_ipv6_subnets_network_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ipv6_subnets")),
    )
    op.create_index(op.f("ix_ipv6_subnets_network_id"), "ipv6_subnets", ["network_id"], unique=False)
    op.create_index(op.f("ix_ipv6_subnets_first_last"), "ipv6_subnets", ["first", "last"], unique=False)
    op.create_table(
        "ipv6_subnet_ranges",
        sa.Column("subnet_id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("first", sa.String(length=_ADDRESS), nullable=False),
        sa.Column("last", sa.String(length=_ADDRESS), nullable=False),
        sa.ForeignKeyConstraint(["subnet_id"], ["ipv6_subnets.id"], name=op.f("fk_ipv6_subnet_ranges_subnet_id")),
        sa.PrimaryKeyConstraint("subnet_id", "kind", "first", name=op.f("pk_ipv6_subnet_ranges")),
    )
    op.create_table(
        "ipv6_pools",
        sa.Column("subnet_id", sa.String(length=36), nullable=False),
        sa.Column("first", sa.String(length=_ADDRESS), nullable=False),
        sa.Column("last", sa.String(length=_ADDRESS), nullable=False),
        sa.Column("next", sa.String(length=_ADDRESS), nullable=False),
        sa.ForeignKeyConstraint(["subnet_id"], ["ipv6_subnets.id"], name=op.f("fk_ipv6_pools_subnet_id")),
        sa.PrimaryKeyConstraint("subnet_id", "first", name=op.f("pk_ipv6_pools")),
    )


def _addresses() -> None:
    op.create_table(
        "ipv6_addresses",
        sa.Column("subnet_id", sa.String(length=36), nullable=False),
        sa.Column("address", sa.String(length=_ADDRESS), nullable=False),
        sa.Column("shown", sa.String(length=_ADDRESS), nullable=False),
        sa.Column("port_id", sa.String(length=36), nullable=True),
        sa.Column("position", sa.Integer(), nullable=True),
        sa.CheckConstraint("(port_id IS NULL) = (position IS NULL)", name=op.f("ck_ipv6_addresses_position_of_port")),
        sa.ForeignKeyConstraint(["subnet_id"], ["ipv6_subnets.id"], name=op.f("fk_ipv6_addresses_subnet_id")),
        sa.ForeignKeyConstraint(["port_id"], ["ports.id"], name=op.f("fk_ipv6_addresses_port_id")),
        sa.PrimaryKeyConstraint("subnet_id", "address", name=op.f("pk_ipv6_addresses")),
    )
    op.create_index(op.f("ix_ipv6_addresses_port_id"), "ipv6_addresses", ["port_id"], unique=False)
    op.create_table(
        "ipv6_address_history",
        sa.Column("network_id", sa.String(length=36), nullable=False),
        sa.Column("address", sa.String(length=_ADDRESS), nullable=False),
        sa.Column("revision", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("object_id", sa.String(length=36), nullable=False),
        sa.Column("network_name", sa.String(length=255), nullable=False),
        sa.Column("project_id", sa.String(length=255), nullable=True),
        sa.Column("port_id", sa.String(length=36), nullable=True),
        sa.Column("port_name", sa.String(length=255), nullable=True),
        sa.Column("device_id", sa.String(length=255), nullable=True),
        sa.Column("mac", sa.String(length=17), nullable=True),
        sa.Column("began_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("network_id", "address", "revision", name=op.f("pk_ipv6_address_history")),
    )
    for columns in (["address", "began_at"], ["object_id", "ended_at"]):
        name = op.f(f"ix_ipv6_address_history_{'_'.join(columns)}")
        op.create_index(name, "ipv6_address_history", columns, unique=False)
    op.create_table(
        "ipv6_leases",
        sa.Column("port_id", sa.String(length=36), nullable=False),
        sa.Column("address", sa.String(length=_ADDRESS), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("client_id", sa.String(length=255), nullable=False),
        sa.Column("hostname", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(["port_id"], ["ports.id"], name=op.f("fk_ipv6_leases_port_id")),
        sa.PrimaryKeyConstraint("port_id", "address", name=op.f("pk_ipv6_leases")),
    )


def _twins(connection: sa.Connection) -> None:
    """Rules that say of IPv6 what those that are here say of IPv4."""
    meta = sa.MetaData()
    names = ("default_rules", "security_group_rules", "counters")
    template, rules, counters = (sa.Table(name, meta, autoload_with=connection) for name in names)
    own = template.c.own_group & (template.c.matches == _OWN_IN + "own group")
    for row in connection.execute(sa.select(template).where((template.c.matches == _EVERYTHING_OUT) | own)).mappings():
        connection.execute(sa.insert(template), _twin(row))
    own = (rules.c.remote_group_id == rules.c.group_id) & (rules.c.matches == _OWN_IN + rules.c.group_id)
    found = connection.execute(sa.select(rules).where((rules.c.matches == _EVERYTHING_OUT) | own).order_by(rules.c.key))
    counter = counters.c.name == "security_rule_key"
    key: int = connection.execute(sa.select(counters.c.value).where(counter)).scalar_one()
    used = set(connection.execute(sa.select(rules.c.key)).scalars())
    for row in found.mappings().all():
        while key % _LARGEST_KEY + 1 in used:
            key += 1
        used.add(key % _LARGEST_KEY + 1)
        connection.execute(sa.insert(rules), {**_twin(row), "key": key % _LARGEST_KEY + 1})
        key += 1
    connection.execute(sa.update(counters).where(counter).values(value=key))


def _twin(row: sa.RowMapping) -> dict[str, object]:
    return {**row, "id": str(uuid.uuid4()), "family": _IPV6, "matches": f"{row['matches']} ipv6"}
