"""Networks whose way out is one node: which it is, and whether the operator has said so."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("networks", sa.Column("gateway_node", sa.String(length=255), nullable=True))
    op.add_column("networks", sa.Column("gateway_node_pinned", sa.Boolean(), server_default=sa.false(), nullable=False))
