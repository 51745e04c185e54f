"""Security groups and what belongs to them: port security, limits of ports, quotas by name.

An upgrade cuts no VM off: networks that are here already are not filtered until the operator says so (`network set
--filtering`). Their ports get their project's default group, so that there is something to go by then.
"""

from __future__ import annotations

import time
import uuid

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

EGRESS = "egress"
ANYTHING_OUT = "egress any - - - - any"


def upgrade() -> None:
    _tables()
    for table, columns in _NEW_COLUMNS.items():
        for column in columns:
            op.add_column(table, column)
    op.execute(
        sa.text("UPDATE networks SET allow_same_net_traffic = :no WHERE shared OR external").bindparams(no=False)
    )
    op.execute("INSERT INTO project_quotas SELECT project_id, 'floating_ips', floating_ips FROM quotas")
    op.drop_table("quotas")
    _first_rows()


_NEW_COLUMNS = {
    "networks": (
        sa.Column("allow_same_net_traffic", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("filtering", sa.Boolean(), server_default=sa.false(), nullable=False),
    ),
    "ports": (
        sa.Column("port_security", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("address_pairs", sa.JSON(), server_default="[]", nullable=False),
        sa.Column("qos", sa.JSON(), server_default="{}", nullable=False),
    ),
}


def _tables() -> None:
    op.create_table(
        "security_groups",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("key", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("stateful", sa.Boolean(), nullable=False),
        sa.Column("log_accepted", sa.Boolean(), nullable=False),
        sa.Column("log_dropped", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_security_groups")),
        sa.UniqueConstraint("key", name=op.f("uq_security_groups_key")),
        sa.UniqueConstraint("project_id", "name", name=op.f("uq_security_groups_project_id_name")),
    )
    op.create_table(
        "security_group_rules",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("key", sa.Integer(), nullable=False),
        sa.Column("group_id", sa.String(length=36), nullable=False),
        sa.Column("direction", sa.String(length=16), nullable=False),
        sa.Column("protocol", sa.Integer(), nullable=True),
        sa.Column("first", sa.Integer(), nullable=True),
        sa.Column("last", sa.Integer(), nullable=True),
        sa.Column("icmp_type", sa.Integer(), nullable=True),
        sa.Column("icmp_code", sa.Integer(), nullable=True),
        sa.Column("remote_cidr", sa.String(length=18), nullable=True),
        sa.Column("remote_group_id", sa.String(length=36), nullable=True),
        sa.Column("log", sa.Boolean(), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("matches", sa.String(length=128), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.CheckConstraint(
            "remote_cidr IS NULL OR remote_group_id IS NULL", name=op.f("ck_security_group_rules_one_remote")
        ),
        sa.ForeignKeyConstraint(["group_id"], ["security_groups.id"], name=op.f("fk_security_group_rules_group_id")),
        sa.ForeignKeyConstraint(
            ["remote_group_id"], ["security_groups.id"], name=op.f("fk_security_group_rules_remote_group_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_security_group_rules")),
        sa.UniqueConstraint("key", name=op.f("uq_security_group_rules_key")),
        sa.UniqueConstraint("group_id", "matches", name=op.f("uq_security_group_rules_group_id_matches")),
    )
    op.create_index(
        op.f("ix_security_group_rules_remote_group_id"), "security_group_rules", ["remote_group_id"], unique=False
    )
    op.create_table(
        "port_security_groups",
        sa.Column("port_id", sa.String(length=36), nullable=False),
        sa.Column("group_id", sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(["port_id"], ["ports.id"], name=op.f("fk_port_security_groups_port_id")),
        sa.ForeignKeyConstraint(["group_id"], ["security_groups.id"], name=op.f("fk_port_security_groups_group_id")),
        sa.PrimaryKeyConstraint("port_id", "group_id", name=op.f("pk_port_security_groups")),
    )
    op.create_index(op.f("ix_port_security_groups_group_id"), "port_security_groups", ["group_id"], unique=False)
    op.create_table(
        "default_rules",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("applies_to", sa.String(length=16), nullable=False),
        sa.Column("direction", sa.String(length=16), nullable=False),
        sa.Column("protocol", sa.Integer(), nullable=True),
        sa.Column("first", sa.Integer(), nullable=True),
        sa.Column("last", sa.Integer(), nullable=True),
        sa.Column("icmp_type", sa.Integer(), nullable=True),
        sa.Column("icmp_code", sa.Integer(), nullable=True),
        sa.Column("remote_cidr", sa.String(length=18), nullable=True),
        sa.Column("own_group", sa.Boolean(), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("matches", sa.String(length=128), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("remote_cidr IS NULL OR NOT own_group", name=op.f("ck_default_rules_one_remote")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_default_rules")),
        sa.UniqueConstraint("applies_to", "matches", name=op.f("uq_default_rules_applies_to_matches")),
    )
    op.create_table(
        "provider_rules",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("key", sa.Integer(), nullable=False),
        sa.Column("direction", sa.String(length=16), nullable=True),
        sa.Column("protocol", sa.Integer(), nullable=True),
        sa.Column("first", sa.Integer(), nullable=True),
        sa.Column("last", sa.Integer(), nullable=True),
        sa.Column("icmp_type", sa.Integer(), nullable=True),
        sa.Column("icmp_code", sa.Integer(), nullable=True),
        sa.Column("cidr", sa.String(length=18), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("matches", sa.String(length=128), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_provider_rules")),
        sa.UniqueConstraint("key", name=op.f("uq_provider_rules_key")),
        sa.UniqueConstraint("matches", name=op.f("uq_provider_rules_matches")),
    )
    op.create_table(
        "project_quotas",
        sa.Column("project_id", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("value", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "name", name=op.f("pk_project_quotas")),
    )


def _first_rows() -> None:
    """The template lets everything out; each project that has ports gets its default group, and its ports are in it."""
    connection = op.get_bind()
    now = time.time()
    meta = sa.MetaData()
    names = ("security_groups", "security_group_rules", "default_rules", "counters", "journal")
    groups, rules, template, counters, journal = (sa.Table(name, meta, autoload_with=connection) for name in names)
    first = connection.execute(sa.select(counters.c.value).where(counters.c.name == "revision")).scalar_one() + 1
    out = {"direction": EGRESS, "description": "", "matches": ANYTHING_OUT, "created_at": now}
    connection.execute(
        sa.insert(template),
        {"id": str(uuid.uuid4()), "applies_to": "all", "own_group": False, "revision": first - 1, **out},
    )
    owners = [row[0] for row in connection.execute(sa.text("SELECT DISTINCT coalesce(project_id, '') FROM ports"))]
    events = []
    for key, project_id in enumerate(sorted(owners), start=1):
        id_ = str(uuid.uuid4())
        group = {
            "id": id_,
            "key": key,
            "project_id": project_id,
            "name": "default",
            "description": "",
            "stateful": True,
            "log_accepted": False,
            "log_dropped": False,
            "created_at": now,
            "revision": first + key - 1,
        }
        connection.execute(sa.insert(groups), group)
        connection.execute(
            sa.insert(rules), {"id": str(uuid.uuid4()), "key": key, "group_id": id_, "log": False, **out}
        )
        events.append(
            {
                "revision": group["revision"],
                "kind": "security_group",
                "object_id": id_,
                "action": "create",
                "actor": "upgrade",
                "at": now,
                "payload": {"name": "default", "project_id": project_id or None},
            }
        )
    if events:
        connection.execute(sa.insert(journal), events)
    connection.execute(
        sa.text(
            "INSERT INTO port_security_groups SELECT ports.id, security_groups.id FROM ports "
            "JOIN security_groups ON security_groups.project_id = coalesce(ports.project_id, '')"
        )
    )
    op.execute(sa.update(counters).where(counters.c.name == "revision").values(value=first - 1 + len(owners)))
    op.bulk_insert(
        counters,
        [
            {"name": "security_group_key", "value": len(owners)},
            {"name": "security_rule_key", "value": len(owners)},
            {"name": "provider_rule_key", "value": 0},
        ],
    )
