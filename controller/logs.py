"""Logging set-up: one line per event, an event name with fields, as JSON or for the eye.

Ours are structlog loggers (`structlog.get_logger()`), Ryu's and SQLAlchemy's come through the standard library;
both leave by the same handler in the same form.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from controller.object_names import KINDS

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# a traceback is ours, and is meant to have lines
_MAY_HAVE_LINES = frozenset({"exception", "stack"})
# these say at INFO what we log ourselves, or nothing
_QUIET = ("ryu.base.app_manager", "ryu.controller", "ryu.lib.hub", "alembic", "sqlalchemy", "controller.api.http")


NameOf = Callable[[str, str], str]


def one_line(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escapes control characters, so that no host name or path from outside can forge a log line."""
    for key, value in event.items():
        if isinstance(value, str) and key not in _MAY_HAVE_LINES and _CONTROL.search(value):
            event[key] = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", value)
    return event


def naming(name_of: NameOf) -> Processor:
    """Adds the names that people know to the ids of objects."""

    def add_names(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        for kind in KINDS:
            id_ = event.get(kind)
            name = name_of(kind, id_) if isinstance(id_, str) else ""
            if name and name != id_:
                event[f"{kind}_name"] = name
        return event

    return add_names


def configure(
    form: str = "console", level: str = "INFO", stream: TextIO | None = None, name_of: NameOf = lambda kind, id_: ""
) -> None:
    """Sends all logging to `stream` (standard error). `form` is json or console, `level` a standard name. `name_of`
    knows objects of the `object_names.KINDS` by their ids, and says "" of others; it must not wait.
    """
    target = sys.stderr if stream is None else stream
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,  # the request that is worked on, see controller.api.gate
        naming(name_of),
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Processor]
    if form == "json":
        last = [structlog.processors.format_exc_info, one_line, structlog.processors.JSONRenderer()]
    else:
        # the default prints all local variables: a snapshot takes seconds, in which nobody else runs
        plain = structlog.dev.plain_traceback
        last = [one_line, structlog.dev.ConsoleRenderer(colors=target.isatty(), exception_formatter=plain)]
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
