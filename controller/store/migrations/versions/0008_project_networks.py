"""Networks that may be given to a project."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # those that are there belong to whoever has them: nothing is given away by an upgrade
    op.add_column("networks", sa.Column("assignable", sa.Boolean(), server_default=sa.false(), nullable=False))
