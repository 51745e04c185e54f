"""`python -m tests.faults.controller DIRECTORY --config-file FILE`: the controller, and what files there ask for.

`die`: the name of a step of a write at which the process kills itself (`STEPS`). `clock`: how many seconds the clock is
ahead, as if somebody had set it. `read_only`: SQLite writes nothing, as if its disk could only be read. The product
knows nothing of this: its functions are replaced before it starts.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

STEPS = (
    "before_commit",
    "after_commit",
    "before_bundle",
    "before_barrier",
    "before_bundle_commit",
)
"""In the order of a write: it is in the database; the bundle is opened, full, and found good by the switch."""

DIE = "die"
CLOCK = "clock"
READ_ONLY = "read_only"
_SENT_S = 0.05
"""Seconds after which another green thread has sent what waits to be sent."""

_writes_of: ContextVar[str] = ContextVar("_writes_of", default="")


class Faults:
    """What the files ask for, now. `actor`: the writes of nobody else are of interest."""

    def __init__(self, directory: Path, actor: str = "admin") -> None:
        self._die = directory / DIE
        self._clock = directory / CLOCK
        self._read_only = directory / READ_ONLY
        self._actor = actor

    def die_at(self, step: str, *, sent: bool = False) -> None:
        """The end, if this is the step. `sent`: what was to be sent by now has been."""
        if _read(self._die) == step:
            if sent:
                import eventlet

                eventlet.sleep(_SENT_S)
            os.kill(os.getpid(), signal.SIGKILL)

    def set_clock(self) -> None:
        """To be called before anything keeps `time.time`."""
        right, file = time.time, self._clock
        time.time = lambda: right() + float(_read(file) or 0)

    def in_store(self) -> None:
        from controller.store import engine, writer

        write, commit = writer.Writer._write, engine._commit

        def noted(store: Any, actor: str, work: Callable[[Any], Any]) -> Any:
            token = _writes_of.set(actor)
            try:
                return write(store, actor, work)
            finally:
                _writes_of.reset(token)

        def restricted(connection: Any, work: Callable[[Any], Any]) -> Any:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql(f"PRAGMA query_only={int(self._read_only.exists())}")
            return work(connection)

        def watched(connections: Any, work: Callable[[Any], Any], *rest: Any) -> Any:
            if _writes_of.get() != self._actor:
                return commit(connections, lambda connection: restricted(connection, work), *rest)

            def complete(connection: Any) -> Any:
                value = restricted(connection, work)
                self.die_at("before_commit")
                return value

            value = commit(connections, complete, *rest)
            self.die_at("after_commit")
            return value

        writer.Writer._write = noted  # type: ignore[method-assign]
        engine._commit = watched

    def in_sessions(self) -> None:
        from controller.session_bundle import Conversation
        from flows import wire

        apply, send_flows, commit = Conversation.apply, Conversation._send_flows, wire.bundle_commit

        def applied(talk: Conversation, bundle: Any) -> Any:
            self.die_at("before_bundle")
            return apply(talk, bundle)

        def filled(talk: Conversation, *what: Any) -> None:
            send_flows(talk, *what)
            self.die_at("before_barrier", sent=True)

        def committed(xid: int) -> bytes:
            self.die_at("before_bundle_commit")
            return commit(xid)

        Conversation.apply = applied  # type: ignore[method-assign]
        Conversation._send_flows = filled  # type: ignore[method-assign]
        wire.bundle_commit = committed


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def main(directory: Path, arguments: list[str]) -> int:
    faults = Faults(directory)
    faults.set_clock()
    from controller import compat

    compat.install()
    faults.in_store()
    faults.in_sessions()
    from controller.__main__ import main as run

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
