"""The table of the API's tokens. What a token is stands nowhere: only its SHA-256."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Double, String, Table

from controller.store.schema import ID, NAME, metadata

# `key`: the journal's revision that made it, which is the order of lists. `scope`: the project of a member or the node
# of an agent. `previous_digest`: good until then, after it was rotated.
api_tokens = Table(
    "api_tokens",
    metadata,
    Column("id", ID, primary_key=True),
    Column("key", BigInteger, nullable=False, unique=True),
    Column("name", NAME, nullable=False, index=True),
    Column("role", String(16), nullable=False),
    Column("scope", NAME),
    Column("scopes", JSON, nullable=False),
    Column("digest", String(64), nullable=False, unique=True),
    Column("previous_digest", String(64)),
    Column("previous_until", Double),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("last_used_at", Double),
    Column("revoked_at", Double),
    Column("revision", BigInteger, nullable=False),
)
