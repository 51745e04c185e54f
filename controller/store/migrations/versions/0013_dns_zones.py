"""DNS zones and their records."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "dns_zones",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("key", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("scope", sa.String(length=16), nullable=False),
        sa.Column("audience", sa.String(length=255), nullable=False),
        sa.Column("project_id", sa.String(length=255), nullable=True),
        sa.Column("ttl", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dns_zones")),
        sa.UniqueConstraint("key", name=op.f("uq_dns_zones_key")),
        sa.UniqueConstraint("name", "audience", name=op.f("uq_dns_zones_name_audience")),
    )
    op.create_index(op.f("ix_dns_zones_project_id"), "dns_zones", ["project_id"])
    op.create_table(
        "dns_zone_networks",
        sa.Column("zone_id", sa.String(length=36), nullable=False),
        sa.Column("network_id", sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(["zone_id"], ["dns_zones.id"], name=op.f("fk_dns_zone_networks_zone_id")),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name=op.f("fk_dns_zone_networks_network_id")),
        sa.PrimaryKeyConstraint("zone_id", "network_id", name=op.f("pk_dns_zone_networks")),
    )
    op.create_index(op.f("ix_dns_zone_networks_network_id"), "dns_zone_networks", ["network_id"])
    op.create_table(
        "dns_records",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("key", sa.Integer(), nullable=False),
        sa.Column("zone_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("data", sa.String(length=1024), nullable=False),
        sa.Column("ttl", sa.Integer(), nullable=True),
        sa.Column("floating_ip_id", sa.String(length=36), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["zone_id"], ["dns_zones.id"], name=op.f("fk_dns_records_zone_id")),
        sa.ForeignKeyConstraint(["floating_ip_id"], ["floating_ips.id"], name=op.f("fk_dns_records_floating_ip_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dns_records")),
        sa.UniqueConstraint("key", name=op.f("uq_dns_records_key")),
        sa.UniqueConstraint("zone_id", "name", "type", "data", name=op.f("uq_dns_records_zone_id_name_type_data")),
    )
    for column in ("name", "data", "floating_ip_id"):
        op.create_index(op.f(f"ix_dns_records_{column}"), "dns_records", [column])
    counters = sa.table("counters", sa.column("name", sa.String()), sa.column("value", sa.BigInteger()))
    op.bulk_insert(counters, [{"name": "dns_zone_key", "value": 0}, {"name": "dns_record_key", "value": 0}])
