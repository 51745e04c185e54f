"""The store's methods for tokens of the API.

create_token(spec: TokenSpec, actor) -> Written[TokenRecord]       Conflict `token_exists`
rotate_token(id, digest, grace_s, actor) -> Written[TokenRecord]   Conflict `token_revoked`
revoke_token(id, actor) -> Written[TokenRecord]                    Conflict `token_revoked`
get_token(id) -> TokenRecord                                       NotFound `token_unknown`, as of the two above
list_tokens(*, name=None, role=None, limit=None, marker=None) -> list[TokenRecord]
all_tokens(known: TokenMark | None) -> tuple[TokenMark, list[TokenRecord]] | None      None: nothing has changed
tokens_used(times: Mapping[str, float]) -> None                    no journal
forget_tokens(older_than_s) -> int                                 some that ended before then; until it answers 0
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import structlog
from sqlalchemy import Connection

from controller.store import tokens
from controller.store.journal import Transaction
from controller.store.pages import page
from controller.store.quarantine import Quarantine
from controller.store.specs import Written
from controller.store.token_schema import api_tokens
from controller.store.token_specs import TokenRecord, TokenSpec
from controller.store.writer import SYSTEM, Writer, equal

TokenMark: TypeAlias = tuple[int, int]
_log = structlog.get_logger("controller.store")


class TokenStore(Writer):
    def create_token(self, spec: TokenSpec, actor: str) -> Written[TokenRecord]:
        return self._write(actor, lambda tx: tokens.find(tx.connection, tokens.create(tx, spec)))

    def rotate_token(self, token_id: str, digest: str, grace_s: float, actor: str) -> Written[TokenRecord]:
        def work(tx: Transaction) -> TokenRecord:
            tokens.rotate(tx, token_id, digest, grace_s)
            return tokens.find(tx.connection, token_id)

        return self._write(actor, work)

    def revoke_token(self, token_id: str, actor: str) -> Written[TokenRecord]:
        def work(tx: Transaction) -> TokenRecord:
            tokens.revoke(tx, token_id)
            return tokens.find(tx.connection, token_id)

        return self._write(actor, work)

    def get_token(self, token_id: str) -> TokenRecord:
        return self._database.read(lambda connection: tokens.find(connection, token_id))

    def list_tokens(
        self, *, name: str | None = None, role: str | None = None, limit: int | None = None, marker: str | None = None
    ) -> list[TokenRecord]:
        table = api_tokens.c
        conditions = equal({table.name: name, table.role: role})

        def work(connection: Connection) -> list[TokenRecord]:
            return page(connection, table.id, table.key, conditions, limit, marker, tokens.load)

        return self._database.read(work)

    def all_tokens(self, known: TokenMark | None) -> tuple[TokenMark, list[TokenRecord]] | None:
        def work(connection: Connection) -> tuple[TokenMark, list[TokenRecord]] | None:
            mark = tokens.mark(connection)
            return None if mark == known else (mark, tokens.load(connection, None, damaged))

        damaged = Quarantine()
        found = self._database.read(work)
        for of, fault in damaged:
            _log.warning("token_unreadable", id=of.id, name=fault.name, why=fault.why)
        return found

    def tokens_used(self, times: Mapping[str, float]) -> None:
        if times:
            self._database.write(lambda connection: tokens.used(connection, times))

    def forget_tokens(self, older_than_s: float) -> int:
        return self._write(SYSTEM, lambda tx: tokens.forget(tx, tx.now - older_than_s)).value
