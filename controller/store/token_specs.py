"""Tokens of the API as the store has them: never the token itself, only its hash."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenSpec:
    """`role` and `scopes` are words of `controller.api.auth`; `scope` is the project of a member or the node of an
    agent. `digest`: SHA-256 in hexadecimal digits. `expires_at`: seconds since the epoch, None: never.
    """

    name: str
    role: str
    scope: str | None
    scopes: tuple[str, ...]
    digest: str
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """`previous_digest`: what it was before it was rotated, good until `previous_until`. `last_used_at` is only known
    to some minutes. Times in seconds since the epoch.
    """

    id: str
    name: str
    role: str
    scope: str | None
    scopes: tuple[str, ...]
    digest: str
    created_at: float
    revision: int
    expires_at: float | None = None
    previous_digest: str | None = None
    previous_until: float | None = None
    last_used_at: float | None = None
    revoked_at: float | None = None

    def __repr__(self) -> str:  # a hash has no business in a log
        return f"TokenRecord({self.name}, {self.role}, {self.id})"
