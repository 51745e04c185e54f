"""What is no error, but what the writer of an object should know. The command line says it on stderr."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from controller.store.engine import UNAVAILABLE


def of_name(kind: str, name: str | None, called: Callable[[str], Sequence[object]]) -> list[str]:
    """`name`: the one that was just given, None or "" where none was. `called`: at least two of those that the caller
    sees under a name, if there are as many.
    """
    if not name:
        return []
    try:
        found = called(name)
    except UNAVAILABLE:  # it is written all the same
        return []
    return [f"another {kind} is called {name!r}, too: commands need their ids"] if len(found) > 1 else []
