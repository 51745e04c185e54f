"""Long work gives others their turn: it calls what it was given for that, often, and that does the rest."""

from __future__ import annotations


def no_turn() -> None:
    """Nobody else wants one."""
