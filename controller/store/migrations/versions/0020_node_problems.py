"""What does not work on a node itself, as its agent says."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("nodes", sa.Column("problems", sa.JSON(), nullable=False, server_default="[]"))
