"""Serves accepted sockets of the control channel: admission, TLS, then the connection to its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, MutableMapping
from socket import MSG_PEEK
from typing import Any, Final

import eventlet
import structlog

from controller import tls_context
from controller.connection import Connection, certified_node
from controller.newcomers import SHARE, Newcomers, client_of
from controller.tls_context import ServerTls
from controller.tls_stream import TlsStream

FIRST_WAIT: Final = 0.5
"""Seconds for the peer's first byte. Switches send their hello at once; who does not is greeted after this time."""


class ConnectionFactory:
    """What the listener calls for every accepted socket; it returns when the connection is over. With `tls` only nodes
    with a certificate get in. `share`: connections of one address before the end of their handshake.
    """

    def __init__(
        self,
        stats_waiters: Mapping[int, Mapping[int, Any]],
        deliver: Callable[[Any], object],
        counters: MutableMapping[str, int],
        tls: ServerTls | None = None,
        share: int = SHARE,
    ) -> None:
        self._stats_waiters = stats_waiters
        self._deliver = deliver
        self._counters = counters
        self._tls = tls
        self._open: dict[Connection, None] = {}
        self._newcomers = Newcomers(share, counters, time.monotonic)

    def __call__(self, socket: Any, address: Any) -> None:
        client = client_of(str(address[0]))
        self._newcomers.enter(client, socket)
        try:
            if self._tls is None:
                stream = socket if self._may_begin(client, socket) else None
            else:
                stream = self._shaken(self._tls, socket, address, client)
            if stream is not None:
                self._serve(stream, address, client, socket)
        except OSError as error:
            structlog.get_logger().info("openflow_hung_up", peer=str(address), error=str(error))
        finally:
            self._newcomers.leave(client, socket)
            socket.close()

    def _may_begin(self, client: str, socket: Any) -> bool:
        """Waits a moment for the peer to speak. False when it has hung up, or its address has begun too much."""
        try:
            socket.settimeout(FIRST_WAIT)
            if not socket.recv(1, MSG_PEEK):
                return False
        except TimeoutError:
            pass
        return self._newcomers.begin(client, socket)

    def _shaken(self, tls: ServerTls, socket: Any, address: Any, client: str) -> TlsStream | None:
        """As `_shake_hands`, and None also for a handshake that fails, which is counted."""
        try:
            return self._shake_hands(tls, socket, client)
        except OSError as error:
            if self._newcomers.leave(client, socket):  # else it was closed for another one
                self._count("openflow_tls_failures")
                structlog.get_logger().warning("openflow_tls_failed", peer=str(address), error=str(error))
            return None

    def _shake_hands(self, tls: ServerTls, socket: Any, client: str) -> TlsStream | None:
        """The connection of a peer that has shown a node's certificate; None when there are too many handshakes of its
        address. Raises OSError for any other.
        """
        with eventlet.Timeout(tls_context.HANDSHAKE_TIMEOUT, TimeoutError("TLS handshake not finished in time")):
            if not socket.recv(1, MSG_PEEK):
                raise ConnectionResetError("hung up before the TLS handshake")
            if not self._newcomers.begin(client, socket):
                return None
            stream = tls.accept(socket)
        if certified_node(stream) is None:
            raise PermissionError(f"the certificate is not a node's: {stream.peer and stream.peer.uri}")
        return stream

    def _serve(self, stream: Any, address: Any, client: str, socket: Any) -> None:
        """Raises OSError when the peer has hung up already."""
        connection = Connection(
            stream,
            address,
            self._stats_waiters,
            self._deliver,
            self._counters,
            lambda: self._newcomers.leave(client, socket),
        )
        self._open[connection] = None
        self._count("openflow_connections")
        try:
            connection.serve()
        except Exception:
            structlog.get_logger().exception("openflow_connection_failed", peer=str(address))
        finally:
            del self._open[connection]
            connection.close()

    def _count(self, name: str) -> None:
        self._counters[name] = self._counters.get(name, 0) + 1

    def close_revoked(self) -> None:
        """Hangs up on nodes whose certificates have been revoked meanwhile."""
        if self._tls is None:
            return
        for connection in list(self._open):
            if self._tls.is_revoked(connection.socket):
                self._count("openflow_revoked")
                structlog.get_logger().warning("openflow_revoked", node=connection.certified)
                connection.close()

    def close_all(self) -> None:
        for connection in list(self._open):
            connection.close()
