"""What a call of the client can raise, and how an answer that is no success is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class ClientError(Exception):
    """What a call of `Client` can raise."""


class ApiError(ClientError):
    """The server answered, and the answer is no.

    `code` is for programs, `message` for people; `field` names the offending field if there is one. `request_id` finds
    the request in the server's log.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        field: str | None = None,
        details: Mapping[str, Any] | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(f"{message} ({status} {code})")
        self.status = status
        self.code = code
        self.message = message
        self.field = field
        self.details = dict(details or {})
        self.request_id = request_id


class Unreachable(ClientError):
    """No answer came: wrong address, no listener, a broken or silent connection."""


class Unconfirmed(ClientError):
    """Some nodes have not confirmed a revision in time. `missing` names them."""

    def __init__(self, revision: int, missing: Sequence[str]) -> None:
        nodes = ", ".join(missing) or "unknown"
        super().__init__(f"revision {revision} not confirmed by: {nodes}")
        self.revision = revision
        self.missing = tuple(missing)


def refusal_of(status: int, content: object, request_id: str | None = None, reason: str = "") -> ApiError:
    """What an answer that is no success says."""
    error = content.get("error") if isinstance(content, dict) else None
    if not isinstance(error, dict):  # a proxy in between, or another server
        return ApiError(status, "bad_answer", f"HTTP {status} {reason}, and no reason that can be read", None, {}, None)
    details = error.get("details")
    return ApiError(
        status,
        str(error.get("code", "unknown")),
        str(error.get("message", reason)),
        error.get("field"),
        details if isinstance(details, dict) else {},
        error.get("request_id") or request_id,
    )
