"""Tokens of the API: one row each, also of those that are revoked, until nobody asks for them any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, bindparam, case, delete, func, insert, or_, select, update

from controller.store.engine import AnyRow
from controller.store.journal import API_TOKEN, CREATE, DELETE, UPDATE, Transaction, count_rows
from controller.store.journal import revision as last_revision
from controller.store.quarantine import Quarantine, Reading
from controller.store.specs import Conflict, Exhausted, NotFound
from controller.store.token_schema import api_tokens
from controller.store.token_specs import TokenRecord, TokenSpec

MAX_TOKENS = 10_000
"""All of them are in the memory of each controller."""

FORGET_AT_ONCE = 100

_T = api_tokens.c
_COLUMNS = tuple(_T[field.name] for field in fields(TokenRecord))
_MARK = select(func.count(), func.max(case((_T.revision <= bindparam("last"), _T.revision))))
_USED = (
    update(api_tokens)
    .where(_T.id == bindparam("token"), or_(_T.last_used_at.is_(None), _T.last_used_at < bindparam("at")))
    .values(last_used_at=bindparam("at"))
)


def _record(row: AnyRow) -> TokenRecord:
    if not isinstance(row.scopes, list):  # none at all would be more than some
        raise ValueError("scopes are no list")
    return TokenRecord(**{**row._mapping, "scopes": tuple(row.scopes)})


def find(connection: Connection, token_id: str) -> TokenRecord:
    """Raises NotFound `token_unknown`."""
    row = connection.execute(select(*_COLUMNS).where(_T.id == token_id)).one_or_none()
    if row is None:
        raise NotFound("token_unknown", f"there is no token {token_id}")
    (record,) = Reading(API_TOKEN, [token_id], None).objects([row], _record)
    return record


def load(
    connection: Connection, ids: Sequence[str] | None = None, quarantine: Quarantine | None = None
) -> list[TokenRecord]:
    """These, or (None) all, in order of creation. What cannot be read is good for nothing, and is left out."""
    query = select(*_COLUMNS).order_by(_T.key)
    rows = connection.execute(query if ids is None else query.where(_T.id.in_(ids)))
    return list(Reading(API_TOKEN, ids, quarantine).objects(rows, _record))


def mark(connection: Connection) -> tuple[int, int]:
    """Another one when any token has changed, been made or been lost, by whichever way."""
    count, revision = connection.execute(_MARK, {"last": last_revision(connection)}).one()
    return int(count), int(revision or 0)


def create(tx: Transaction, spec: TokenSpec) -> str:
    """The id of the new token. Raises Conflict `token_exists` (its name), Exhausted `too_many_tokens`."""
    if tx.connection.execute(select(_T.id).where(_T.name == spec.name, _T.revoked_at.is_(None))).first():
        raise Conflict("token_exists", f"there is a token {spec.name}", "name")
    if count_rows(tx.connection, api_tokens) >= MAX_TOKENS:
        raise Exhausted("too_many_tokens", f"there are {MAX_TOKENS} tokens")
    id_ = str(uuid4())
    told = {
        "name": spec.name,
        "role": spec.role,
        "scope": spec.scope,
        "scopes": list(spec.scopes),
    }
    until = None if spec.expires_at is None else datetime.fromtimestamp(spec.expires_at, UTC).isoformat()
    revision = tx.record(API_TOKEN, id_, CREATE, told | {"expires_at": until})
    row = {"id": id_, "key": revision, "digest": spec.digest, "created_at": tx.now, "revision": revision, **told}
    row["expires_at"] = spec.expires_at
    tx.connection.execute(insert(api_tokens), row)
    return id_


def rotate(tx: Transaction, token_id: str, digest: str, grace_s: float) -> None:
    """It becomes another one; what it was is good for `grace_s` seconds more. Raises Conflict `token_revoked`."""
    known = _live(tx, token_id)
    until = tx.now + grace_s if grace_s else None
    new = {"digest": digest, "previous_digest": known.digest if grace_s else None, "previous_until": until}
    _change(tx, known, new, {"rotated": True, "grace": grace_s}, {})


def revoke(tx: Transaction, token_id: str) -> None:
    """Nothing can be done with it any more. Raises Conflict `token_revoked`."""
    known = _live(tx, token_id)
    _change(tx, known, {"revoked_at": tx.now}, {"revoked": True}, {"revoked": False})


def _live(tx: Transaction, token_id: str) -> TokenRecord:
    known = find(tx.connection, token_id)
    if known.revoked_at is not None:
        raise Conflict("token_revoked", f"token {known.name} is revoked")
    return known


def _change(
    tx: Transaction, known: TokenRecord, values: Mapping[str, Any], told: Mapping[str, Any], old: Mapping[str, Any]
) -> None:
    revision = tx.record(API_TOKEN, known.id, UPDATE, told, old)
    tx.connection.execute(update(api_tokens).where(_T.id == known.id), {**values, "revision": revision})


def forget(tx: Transaction, before: float) -> int:
    """Some of those that ended before then go. Returns how many."""
    ended = or_(_T.revoked_at < before, _T.expires_at < before)
    ids = list(tx.connection.execute(select(_T.id).where(ended).order_by(_T.key).limit(FORGET_AT_ONCE)).scalars())
    for id_ in ids:
        tx.record(API_TOKEN, id_, DELETE, {})
        tx.connection.execute(delete(api_tokens).where(_T.id == id_))
    return len(ids)


def used(connection: Connection, times: Mapping[str, float]) -> None:
    """When tokens (by id) were last used. No journal: nobody has changed anything."""
    connection.execute(_USED, [{"token": id_, "at": at} for id_, at in times.items()])
