"""From where DHCP is relayed to a network."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("networks", sa.Column("dhcp_relays", sa.JSON(), nullable=False, server_default="[]"))
