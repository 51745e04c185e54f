"""What the conntrack of nodes must still forget."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "owed",
        sa.Column("node", sa.String(length=255), nullable=False),
        sa.Column("zone", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("end", sa.String(length=32), nullable=False),
        sa.Column("address", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["node"], ["nodes.name"], name=op.f("fk_owed_node")),
        sa.PrimaryKeyConstraint("node", "zone", "end", "address", name=op.f("pk_owed")),
    )
    op.create_index(op.f("ix_owed_revision"), "owed", ["revision"], unique=False)
