"""The tables by which several controllers share the nodes. None of it is part of the model, or journalled."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Double, String, Table

from controller.store.schema import ID, NAME, metadata

# Who is alive. Times are those of the database's clock.
controllers = Table(
    "controllers",
    metadata,
    Column("name", NAME, primary_key=True),
    Column("instance", ID, nullable=False),
    Column("api_url", String(2048), nullable=False),
    Column("started_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
)

# Which switches answer which controller. Without foreign keys, so that nobody waits for a writer of the model.
node_connections = Table(
    "node_connections",
    metadata,
    Column("controller", NAME, primary_key=True),
    Column("node", NAME, primary_key=True),
)

# Who masters a node, and what he has confirmed. `session` is how he describes it.
node_leases = Table(
    "node_leases",
    metadata,
    Column("node", NAME, primary_key=True),
    Column("controller", NAME, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("confirmed", BigInteger, nullable=False),
    Column("unclaimed", BigInteger),
    Column("session", JSON(none_as_null=True)),
)
