"""Whom the resolver asks for a network."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("networks", sa.Column("dns_upstreams", sa.JSON(), nullable=False, server_default="[]"))
