"""Next hops of IPv6 on external networks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "ipv6_neighbours",
        sa.Column("node", sa.String(length=255), nullable=False),
        sa.Column("network_id", sa.String(length=36), nullable=False),
        sa.Column("address", sa.String(length=39), nullable=False),
        sa.Column("mac", sa.String(length=17), nullable=False),
        sa.ForeignKeyConstraint(["node"], ["nodes.name"], name=op.f("fk_ipv6_neighbours_node")),
        sa.ForeignKeyConstraint(["network_id"], ["networks.id"], name=op.f("fk_ipv6_neighbours_network_id")),
        sa.PrimaryKeyConstraint("node", "network_id", "address", name=op.f("pk_ipv6_neighbours")),
    )
