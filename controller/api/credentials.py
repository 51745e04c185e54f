"""Which token is whose (bearer tokens, RFC 6750). Only hashes are known here: nobody learns a token from the database,
from a file that holds its hash, or from this process.

A token that is made here has 256 random bits. One round of SHA-256 is enough for it: a slow hash is for what people
think of, which can be guessed. So a token of the configuration that is short enough to be guessed has its tries limited
(`guessable`)."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from controller.api.auth import Identity, Role, allowed_by
from controller.store.actors import Origin
from controller.store.token_specs import TokenRecord

PREFIX = "tl_"
"""Of a token that is made here, for those who look for secrets in what they publish."""

HASHED = "sha256="
SAFE_LENGTH = 32
"""Characters of a token that is not taken for one that can be guessed."""

# RFC 6750 section 2.1 (b64token)
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{4,255}=*")
_HASH = re.compile(r"[0-9a-f]{64}")
_SCOPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,254}")
_WITHOUT_SCOPE = (Role.ADMIN, Role.READER)


def new_token() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def digest_of(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


@dataclass(frozen=True, slots=True)
class Credential:
    """`digest`: SHA-256 of the token, in hexadecimal digits. `id`: of a token of the store. Times in seconds since the
    epoch; `expires_at` None: never.
    """

    digest: str
    identity: Identity
    guessable: bool = False
    id: str | None = None
    expires_at: float | None = None

    def __repr__(self) -> str:  # a hash must not get into a log by way of a dataclass either
        return f"Credential({self.identity})"

    @property
    def key(self) -> str:
        """By which its requests are counted."""
        return self.id or self.digest


def parse_credential(text: str) -> Credential:
    """Reads `ROLE:TOKEN[:SCOPE]`, where TOKEN may be `sha256=` and its hash. Raises ValueError, with a message that
    does not hold the token.
    """
    role_name, _, rest = text.strip().partition(":")
    token, separator, scope = rest.partition(":")
    try:
        role = Role(role_name)
    except ValueError:
        raise ValueError(f"the role must be one of {', '.join(Role)} (format ROLE:TOKEN[:SCOPE])") from None
    hashed = token.startswith(HASHED)
    digest = token.removeprefix(HASHED)
    if hashed and not _HASH.fullmatch(digest):
        raise ValueError(f"{HASHED} must be followed by the 64 hexadecimal digits of the token's SHA-256")
    if not hashed and not _TOKEN.fullmatch(token):
        raise ValueError("the token must be 4 to 255 letters, digits or ._~+/- characters")
    if separator and not _SCOPE.fullmatch(scope):
        raise ValueError("the scope must be letters, digits or ._@- characters")
    if role is Role.MEMBER and not scope:
        raise ValueError("a member needs its project: member:TOKEN:PROJECT")
    if role in _WITHOUT_SCOPE and scope:
        raise ValueError(f"role {role} has no scope")
    guessable = not hashed and len(token) < SAFE_LENGTH
    return Credential(digest if hashed else digest_of(token), Identity(role, scope or None), guessable)


def parse_credentials(texts: Iterable[str]) -> tuple[Credential, ...]:
    """Raises ValueError naming the position of the bad token, from 1."""
    credentials: list[Credential] = []
    for position, text in enumerate(texts, start=1):
        try:
            credential = parse_credential(text)
        except ValueError as error:
            raise ValueError(f"token number {position}: {error}") from None
        if any(credential.digest == other.digest for other in credentials):
            raise ValueError(f"token number {position}: the same token is configured twice")
        credentials.append(credential)
    return tuple(credentials)


def stored(record: TokenRecord) -> Iterable[Credential]:
    """What may be used of a token of the store: none of one that is revoked, and for a while two of one that is
    rotated.
    """
    if record.revoked_at is not None or record.role not in frozenset(Role):
        return  # a damaged row may hold any role
    allowed = allowed_by(record.scopes) if record.scopes else None
    identity = Identity(Role(record.role), record.scope, allowed, Origin(token=record.name))
    yield Credential(record.digest, identity, id=record.id, expires_at=record.expires_at)
    if record.previous_digest is not None and record.previous_until is not None:
        until = record.previous_until if record.expires_at is None else min(record.previous_until, record.expires_at)
        yield Credential(record.previous_digest, identity, id=record.id, expires_at=until)


class Authenticator:
    """Finds the credential of a token, in memory. Those of the configuration stay, those of the store are replaced.

    A hash is looked up by all of it at once and compared in constant time: what the time of an answer tells is of the
    hash, of which nobody can choose a part."""

    def __init__(self, configured: Iterable[Credential]) -> None:
        self._configured = {credential.digest: credential for credential in configured}
        self._stored: dict[str, Credential] = {}

    def __len__(self) -> int:
        return len(self._configured) + len(self._stored)

    def replace(self, records: Sequence[TokenRecord]) -> None:
        """These are the tokens of the store now."""
        self._stored = {credential.digest: credential for record in records for credential in stored(record)}

    def identify(self, authorization: str | None, now: float) -> Credential | None:
        """The credential behind an `Authorization` header, or None. `now` in seconds since the epoch."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        digest = digest_of(token.strip())
        found = self._configured.get(digest) or self._stored.get(digest)
        if found is None or not hmac.compare_digest(found.digest, digest):
            return None
        return None if found.expires_at is not None and now >= found.expires_at else found
