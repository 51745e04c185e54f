"""The HTTP server under the API: eventlet's, with its doors closed.

Ryu's own server listens on every address, sends tracebacks to clients and never gives up on a silent one.
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable
from typing import Any

import eventlet
import eventlet.wsgi
import structlog

from controller.api.certificates import NODE
from controller.api.errors import ApiError
from controller.api.http import MAX_BODY, body_length
from controller.pki.identity import Kind
from controller.tls_context import ServerTls
from controller.tls_stream import TlsStream

SOCKET_TIMEOUT = 30.0
KEEPALIVE = 75
"""Seconds a client may be silent within a request, and between two of them (agents report every 10)."""

MAX_CONNECTIONS = 1024
MAX_REQUEST_LINE = 8192
DRAIN = 4 * MAX_BODY

Application = Callable[..., Any]


class HardenedProtocol(eventlet.wsgi.HttpProtocol):  # type: ignore[misc]
    """Refuses a body without a length, or a long one, by its headers.

    eventlet would read such a body to its end after the answer, however long that takes. With `tls` a connection ends
    whose certificate has been revoked.
    """

    def __init__(self, connection: list[Any], server: Any, tls: ServerTls | None = None) -> None:
        self._tls = tls
        super().__init__(connection, server)  # which serves it to its end

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        if self._tls is not None and self._tls.is_revoked(self.connection):
            self.close_connection = True
            return False
        refusal = self._refusal()
        if refusal is None:
            return True
        body = json.dumps(refusal.envelope()).encode()
        self.send_response(refusal.status)
        for name, value in (
            ("Content-Type", "application/json; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        self.close_connection = True
        self._drain()
        return False

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        stream = self.connection
        if isinstance(stream, TlsStream):
            environ["wsgi.url_scheme"] = "https"
            peer = stream.peer
            environ[NODE] = peer.name if peer is not None and peer.kind is Kind.NODE else None
        return environ

    def _refusal(self) -> ApiError | None:
        try:
            body_length(self.headers.get("transfer-encoding"), self.headers.get_all("content-length", ()))
        except ApiError as refusal:
            return refusal
        return None

    def _drain(self) -> None:
        """Reads some of the body: closing at once would reset the connection before the answer is read."""
        left = DRAIN
        self.connection.settimeout(1.0)
        try:
            self.connection.shutdown(socket.SHUT_WR)
            while left > 0 and (chunk := self.connection.recv(min(left, 65536))):
                left -= len(chunk)
        except OSError:
            pass

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the name is the base class's)
        """The gate logs requests; what never reached it is noise from outside."""
        self.server.log.debug(format % args)


class ApiServer:
    """Listens from the moment it is made, serves once started. Raises OSError when the address cannot be had. With
    `tls` it is HTTPS.
    """

    def __init__(self, application: Application, address: str, port: int, tls: ServerTls | None = None) -> None:
        """`port` 0: any free one; see `port` of the object."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = eventlet.listen((address, port), family=family, backlog=512)
        # inherited by every connection: an answer must not wait for the client's delayed ACK
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._application = application
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

    def _protocol(self, connection: list[Any], server: Any) -> HardenedProtocol | None:
        """Serves one connection: eventlet's [address, socket, state]. Its green thread also shakes hands."""
        if self._tls is not None:
            try:
                connection[1] = self._tls.accept(connection[1])
            except OSError as error:
                server.log.info("TLS with %s failed: %s", connection[0], error)
                return None
            connection[1].settimeout(SOCKET_TIMEOUT)
        return HardenedProtocol(connection, server, self._tls)

    def _serve(self) -> None:
        eventlet.wsgi.server(
            self._socket,
            self._application,
            log=logging.getLogger("controller.api.http"),
            log_output=False,
            max_size=MAX_CONNECTIONS,
            keepalive=KEEPALIVE,
            url_length_limit=MAX_REQUEST_LINE,
            socket_timeout=SOCKET_TIMEOUT,
            debug=False,
            protocol=self._protocol,
        )
