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
from controller.tls_context import ServerTls

MAX_CONNECTIONS = 2048
MAX_REQUEST_LINE = 8192

Application = Callable[..., Any]


class ApiServer:
    """Listens from the moment it is made, serves once started. Raises OSError when the address cannot be had. With
    `tls` it is HTTPS.
    """

    def __init__(
        self,
        application: Application,
        address: str,
        port: int,
        per_address: int = 128,
        tls: ServerTls | None = None,
    ) -> None:
        """`port` 0: any free one; see `port` of the object. `per_address`: connections that one client may have."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = eventlet.listen((address, port), family=family, backlog=512)
        # inherited by every connection: an answer must not wait for the client's delayed ACK
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._application = application
        self._connections = Connections(per_address)
        self._tls = tls
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
        """Serves one connection: eventlet's [address, socket, state]. Its green thread also shakes hands."""
        address = str(connection[0][0])
        if not self._connections.enter(address):
            connection[1].close()
            return
        try:
            if self._shake_hands(connection, server):
                HardenedProtocol(connection, server, self._tls)
        finally:
            self._connections.leave(address)

    def _shake_hands(self, connection: list[Any], server: Any) -> bool:
        if self._tls is not None:
            try:
                connection[1] = self._tls.accept(connection[1])
            except OSError as error:
                server.log.info("TLS with %s failed: %s", connection[0], error)
                return False
        return True

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
