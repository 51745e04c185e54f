"""What a machine is answered."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from controller.metadata.documents import TEXT

RETRY_AFTER: Final = "1"
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Reply:
    status: HTTPStatus
    body: bytes
    content_type: str = TEXT
    headers: tuple[tuple[str, str], ...] = ()


def refusal(status: HTTPStatus, why: str = "") -> Reply:
    """`why` in place of the status's own words."""
    again = status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
    headers = (("Retry-After", RETRY_AFTER),) if again else ()
    return Reply(status, f"{status.value} {why or status.phrase}\n".encode(), headers=headers)
