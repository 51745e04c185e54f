"""The HTTP server under the API: eventlet's, with its doors closed.

Ryu's own server listens on every address, sends tracebacks to clients and never gives up on a silent one.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Any

import eventlet
import eventlet.wsgi
import structlog

from controller.api.protocol import Connections, HardenedProtocol

MAX_CONNECTIONS = 1024
MAX_REQUEST_LINE = 8192

Application = Callable[..., Any]


class ApiServer:
    """Listens from the moment it is made, serves once started. Raises OSError when the address cannot be had."""

    def __init__(self, application: Application, address: str, port: int, per_address: int = 128) -> None:
        """`port` 0: any free one; see `port` of the object. `per_address`: connections that one client may have."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = eventlet.listen((address, port), family=family, backlog=512)
        # inherited by every connection: an answer must not wait for the client's delayed ACK
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._application = application
        self._connections = Connections(per_address)
        self._thread: Any = None

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def start(self) -> Any:
        """Serves in a green thread, which is returned (RyuApp.start may return it, to be joined)."""
        structlog.get_logger("controller.api").info(
            "api_listening", address=self._socket.getsockname()[0], port=self.port
        )
        self._thread = eventlet.spawn(self._serve)
        return self._thread

    def stop(self) -> None:
        """Takes no more connections."""
        if self._thread is not None:
            self._thread.kill()
            self._thread = None
        self._socket.close()

    def _protocol(self, connection: list[Any], server: Any) -> None:
        """Serves one connection: eventlet's [address, socket, state]."""
        address = str(connection[0][0])
        if not self._connections.enter(address):
            connection[1].close()
            return
        try:
            HardenedProtocol(connection, server)
        finally:
            self._connections.leave(address)

    def _serve(self) -> None:
        eventlet.wsgi.server(
            self._socket,
            self._application,
            log=logging.getLogger("controller.api.http"),
            log_output=False,
            max_size=MAX_CONNECTIONS,
            url_length_limit=MAX_REQUEST_LINE,
            debug=False,
            protocol=self._protocol,
        )
