"""Who changes something, and how that came: what the journal says of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """`token`: its name, if it is one of the store; `address`: of the client; `request_id`: as in the log. None: not by
    a request.
    """

    token: str | None = None
    address: str | None = None
    request_id: str | None = None


NOWHERE = Origin()


class Actor(str):
    """A name such as `admin` or `member:a`, as the store takes and keeps it, with its origin."""

    __slots__ = ("origin",)
    origin: Origin

    def __new__(cls, name: str, origin: Origin = NOWHERE) -> Actor:
        made = super().__new__(cls, name)
        made.origin = origin
        return made


def origin_of(actor: str) -> Origin:
    return actor.origin if isinstance(actor, Actor) else NOWHERE
