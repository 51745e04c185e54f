"""What a handler that takes long may ask of the connection that its request has come by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

PEER: Final = "trunkline.peer"
"""Where it is in the WSGI environment."""


class Peer(Protocol):
    def is_gone(self) -> bool:
        """It has closed the connection; or says something while it should listen. Does not wait."""
        ...

    def more_time(self) -> None:
        """The next part of the answer may take as long to be read as a whole one."""
        ...


class _Nobody:
    """Where there is no connection, as in tests."""

    def is_gone(self) -> bool:
        return False

    def more_time(self) -> None:
        pass


def peer_of(environ: Mapping[str, Any]) -> Peer:
    found: Peer = environ.get(PEER) or _Nobody()
    return found
