"""Addresses that are kept for a while after their release, and the history of who had which."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("addresses", sa.Column("held_until", sa.Double(), nullable=True))
    op.add_column("addresses", sa.Column("leased_until", sa.Double(), nullable=True))
    op.create_index(op.f("ix_addresses_held_until"), "addresses", ["held_until"], unique=False)
    op.create_table(
        "address_history",
        sa.Column("network_id", sa.String(length=36), nullable=False),
        sa.Column("address", sa.BigInteger(), nullable=False),
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
        sa.PrimaryKeyConstraint("network_id", "address", "revision", name=op.f("pk_address_history")),
    )
    op.create_index(op.f("ix_address_history_address_began_at"), "address_history", ["address", "began_at"])
    op.create_index(op.f("ix_address_history_object_id_ended_at"), "address_history", ["object_id", "ended_at"])
    for statement in _WHO_HAS_WHAT:
        op.execute(statement)


_COLUMNS = (
    "network_id, address, revision, kind, object_id, network_name, project_id, port_id, port_name, device_id, mac, "
    "began_at"
)
# what is so now has been so since its object was made, for all that is known
_WHO_HAS_WHAT = (
    f"""INSERT INTO address_history ({_COLUMNS})
        SELECT networks.id, addresses.address, 0, 'port', ports.id, networks.name, ports.project_id, ports.id,
            ports.name, ports.device_id, ports.mac, ports.created_at
        FROM addresses JOIN ports ON ports.id = addresses.port_id JOIN networks ON networks.id = ports.network_id""",
    f"""INSERT INTO address_history ({_COLUMNS})
        SELECT networks.id, floating_ips.address, 0, 'floating_ip', floating_ips.id, networks.name,
            floating_ips.project_id, ports.id, ports.name, ports.device_id, ports.mac, floating_ips.created_at
        FROM floating_ips JOIN subnets ON subnets.id = floating_ips.subnet_id
        JOIN networks ON networks.id = subnets.network_id LEFT JOIN ports ON ports.id = floating_ips.port_id""",
)
