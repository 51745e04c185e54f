"""`trunkline-controller --config-file FILE`, and `trunkline-controller db COMMAND` (`database`)."""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

from controller import compat

APPLICATION = "controller.app"
_GC_THRESHOLD = 10_000
"""Objects made since the last collection of garbage: one request, or one change of the model, makes thousands."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the controller until SIGTERM or SIGINT: 0. Returns 1 when it cannot run, 2 for a wrong configuration.

    With `db` first, does something with the database instead.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["db"]:
        compat.quiet_deprecation()
        from controller import database

        return database.main(arguments[1:])
    gc.disable()  # until all is built: hardly anything of that is garbage, and looking takes a second of three
    compat.install()  # nothing that uses sockets, threads or Ryu may be imported before
    import structlog
    from ryu.base.app_manager import AppManager

    from agent.service_manager import ServiceManager
    from controller import config, logs

    settings = config.load(arguments)
    _raise_file_limit()
    events = _Events()
    manager = AppManager.get_instance()
    log = structlog.get_logger()
    try:
        manager.load_apps([APPLICATION])
        services = manager.instantiate_apps(**manager.create_contexts())
    except Exception as error:
        if not structlog.is_configured():  # by the application
            logs.configure(settings.log_format, settings.log_level)
        log.error("cannot_start", error=f"{type(error).__name__}: {error}", exc_info=settings.log_level == "DEBUG")
        return 1
    # else the garbage collector goes through all modules again and again, and everything stops for 60 ms (gc.freeze)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)
    gc.enable()
    for service in services:
        service.link(lambda _thread: events.service_ended())
    systemd = ServiceManager(os.environ)
    systemd.ready()
    log.info("started", openflow_port=settings.openflow_port, api_port=settings.api_port)
    reason = events.wait()
    log.info("stopping", reason=reason)
    systemd.stopping()
    for application in list(manager.applications.values()):
        try:
            application.close()
        except Exception:
            log.exception("close_failed", application=application.name)
    code = 0 if reason == "signal" else 1
    logging.shutdown()
    os._exit(code)  # all is written down; the interpreter would take a second to take itself apart


class _Events:
    """Why to stop. A signal must wake eventlet's hub, which only a file descriptor does for certain."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _ignore)

    def service_ended(self) -> None:
        """Ryu's OpenFlow listener has ended: its address cannot be had, and it has said so."""
        self._writer.send(b"\0")

    def wait(self) -> str:
        while number := self._reader.recv(1):
            if number in (bytes([signal.SIGTERM]), bytes([signal.SIGINT])):
                return "signal"
            if number == b"\0":
                return "service ended"
        return "closed"


def _ignore(_number: int, _frame: Any) -> None:
    """The byte in the wake-up socket is what counts."""


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
