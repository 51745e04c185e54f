"""The tokens that are good now, in memory: those of the configuration and those of the store.

A request never asks the database for its token, so that tokens are known also while it is away. What this controller
changes is in force with the answer; what others change, with the next look.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from controller.api.credentials import Authenticator, Credential
from controller.store.engine import UNAVAILABLE
from controller.store.token_specs import TokenRecord
from controller.store.token_store import TokenMark

LOOK_PERIOD: Final = 0.5
"""Seconds after which what another controller has changed is in force here."""

USED_PERIOD: Final = 300.0
"""Seconds between two times of writing down when tokens were last used."""

KEPT_DAYS: Final = 90
"""For which a token is listed after it has ended."""


class Store(Protocol):
    def all_tokens(self, known: TokenMark | None) -> tuple[TokenMark, list[TokenRecord]] | None: ...

    def tokens_used(self, times: Mapping[str, float]) -> None: ...


class TokenKeeper:
    """Raises what the database raises when it is made: a controller starts with all tokens, or not at all. `clock`:
    seconds since the epoch, by which they end.
    """

    def __init__(self, store: Store, configured: Iterable[Credential], clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self.clock = clock
        self._authenticator = Authenticator(configured)
        self._mark: TokenMark | None = None
        self._used: dict[str, float] = {}
        self.refresh()

    def __len__(self) -> int:
        return len(self._authenticator)

    def identify(self, authorization: str | None) -> Credential | None:
        """The credential behind an `Authorization` header, or None."""
        now = self.clock()
        found = self._authenticator.identify(authorization, now)
        if found is not None and found.id is not None:
            self._used[found.id] = now
        return found

    def refresh(self) -> None:
        """Takes over what has changed in the store."""
        found = self._store.all_tokens(self._mark)
        if found is not None:
            self._mark, records = found
            self._authenticator.replace(records)

    def look(self) -> None:
        """As `refresh`, but a database that is away changes nothing."""
        try:
            self.refresh()
        except UNAVAILABLE:
            return

    def write_uses(self) -> None:
        """Writes down when tokens were last used. What cannot be written now is, with the next."""
        times, self._used = self._used, {}
        try:
            self._store.tokens_used(times)
        except UNAVAILABLE:
            self._used = {**times, **self._used}
