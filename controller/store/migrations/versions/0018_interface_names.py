"""Ports that are found by the name of their interface."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("ports", sa.Column("interface_name", sa.String(length=15), nullable=True))
    op.create_index(op.f("ix_ports_interface_name"), "ports", ["interface_name"], unique=False)
