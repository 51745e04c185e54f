"""Which datapath a node's Open vSwitch has. Until its agent tells, a node keeps the flows that it had."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("nodes", sa.Column("datapath_type", sa.String(length=16), nullable=False, server_default="netdev"))
