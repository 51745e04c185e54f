"""HTTP on one connection: eventlet's, with an end to everything that a client can draw out or leave open.

What comes must come by a deadline, however many bytes are sent meanwhile; so must what is sent be taken. What proxies
and servers read unlike (chunks, two lengths, lines that are no headers) is refused, so that nobody can hide a request
in another."""

from __future__ import annotations

import io
import json
import re
import secrets
import socket
import time
from collections import Counter
from http import HTTPStatus
from typing import Any, Final

import eventlet
import eventlet.wsgi
import structlog

from controller.api.certificates import NODE
from controller.api.errors import ApiError
from controller.api.http import MAX_BODY, body_length
from controller.api.peer import PEER
from controller.pki.identity import Kind
from controller.tls_context import ServerTls
from controller.tls_stream import TlsStream, has_spoken

FIRST_WAIT: Final = 10.0
KEEPALIVE: Final = 75.0
"""Seconds until the first request must begin, and until another one must (agents report every 10)."""

HEAD_TIME: Final = 10.0
BODY_TIME: Final = 30.0
ANSWER_TIME: Final = 60.0
"""Seconds that a request's head may take once it has begun, its body after that, and the reading of the answer."""

DRAIN: Final = 4 * MAX_BODY
DRAIN_TIME: Final = 2.0
COMPLAINT_PERIOD: Final = 10.0
WRITE_SIZE: Final = 16384
"""Bytes of an answer between two looks at the clock."""

# RFC 9112, section 5: a name, a colon right after it, and a value without control characters
_HEADER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r?\n")
_END = (b"\r\n", b"\n")
_GONE = eventlet.wsgi.BROKEN_SOCK | eventlet.wsgi.BAD_SOCK


class Connections:
    """How many each client has."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._of: Counter[str] = Counter()
        self._complained = 0.0

    def enter(self, address: str) -> bool:
        """False: one more is too many."""
        if self._of[address] >= self._most:
            now = time.monotonic()
            if now - self._complained >= COMPLAINT_PERIOD:
                self._complained = now
                structlog.get_logger("controller.api").warning("api_too_many_connections", address=address)
            return False
        self._of[address] += 1
        return True

    def leave(self, address: str) -> None:
        self._of[address] -= 1
        if not self._of[address]:
            del self._of[address]


class _Stream(io.RawIOBase):
    """One direction of a connection, of which all reads or writes together end by a deadline: then TimeoutError."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._deadline: float | None = None

    def allow(self, seconds: float | None) -> None:
        """From now on; None: `ANSWER_TIME` from the next write on."""
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._set_timeout()
        return int(self._connection.recv_into(buffer))

    def write(self, data: Any) -> int:
        if self._deadline is None:
            self.allow(ANSWER_TIME)
        self._set_timeout()
        part = bytes(data[:WRITE_SIZE])
        self._connection.sendall(part)
        return len(part)

    def _set_timeout(self) -> None:
        left = ANSWER_TIME if self._deadline is None else self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time is over")
        self._connection.settimeout(left)


class _BadHead(Exception):
    """A line that is no header, or an end in the middle."""


class _StrictLines:
    """The lines of a request's head. Python's parser takes what is no header for the end of them."""

    def __init__(self, lines: Any) -> None:
        self._lines = lines

    def readline(self, size: int = -1) -> bytes:
        line: bytes = self._lines.readline(size)
        if line not in _END and not _HEADER.fullmatch(line):
            raise _BadHead
        return line


class HardenedProtocol(eventlet.wsgi.HttpProtocol):  # type: ignore[misc]
    """With `tls` a connection ends whose certificate has been revoked."""

    rfile: Any
    wfile: Any

    def __init__(self, connection: list[Any], server: Any, tls: ServerTls | None = None) -> None:
        self._tls = tls
        super().__init__(connection, server)  # which serves it to its end

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.wfile.close()
        self._incoming, self._outgoing = _Stream(self.connection), _Stream(self.connection)
        self.rfile = io.BufferedReader(self._incoming)
        self.wfile = io.BufferedWriter(self._outgoing, self.wbufsize)
        self._first = True

    def _read_request_line(self) -> bytes:
        self._incoming.allow(FIRST_WAIT if self._first else KEEPALIVE)
        self._first = False
        eventlet.sleep(0)  # who sends many requests at once gets one answer in its turn
        try:
            if self.rfile.closed or not self.rfile.peek(1):
                return b""
            self._incoming.allow(HEAD_TIME)
            self._outgoing.allow(None)
            line: bytes = self.rfile.readline(self.server.url_length_limit)
        except OSError as error:
            if error.errno in _GONE:
                return b""
            raise
        return line

    def parse_request(self) -> bool:
        """Refuses, by its head, a request whose body has no length or a long one: eventlet would read such a body to
        its end after the answer.
        """
        self.rfile = _StrictLines(self.rfile)
        try:
            if not super().parse_request():
                return False
            if self._tls is not None and self._tls.is_revoked(self.connection):
                self.close_connection = True
                return False
            body_length(self.headers.get("transfer-encoding"), self.headers.get_all("content-length", ()))
        except _BadHead:
            refusal = ApiError(400, "bad_header", "a line is no header")
        except (eventlet.wsgi.HeaderLineTooLong, eventlet.wsgi.HeadersTooLarge):
            refusal = ApiError(431, "headers_too_large", "the headers are too large")
        except ApiError as error:
            refusal = error
        else:
            self._incoming.allow(BODY_TIME)
            return True
        self._refuse(refusal)
        return False

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        environ[PEER] = self
        stream = self.connection
        if isinstance(stream, TlsStream):
            environ["wsgi.url_scheme"] = "https"
            peer = stream.peer
            environ[NODE] = peer.name if peer is not None and peer.kind is Kind.NODE else None
        return environ

    def is_gone(self) -> bool:
        """Between a request and its answer a client has nothing to say."""
        stream = self.connection
        return stream.is_gone() if isinstance(stream, TlsStream) else has_spoken(stream)

    def more_time(self) -> None:
        self._outgoing.allow(None)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the parser refuses. What it says holds what the client has sent."""
        self._refuse(ApiError(code, "bad_request", HTTPStatus(code).description or HTTPStatus(code).phrase))

    def _refuse(self, refusal: ApiError) -> None:
        body = json.dumps(refusal.envelope()).encode()
        head = (
            f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}",
            "Content-Type: application/json; charset=utf-8",
            f"Content-Length: {len(body)}",
            f"X-Request-Id: {secrets.token_hex(8)}",
            "Connection: close",
        )
        self.wfile.write("\r\n".join((*head, "", "")).encode() + body)
        self.wfile.flush()
        self.close_connection = True
        self._drain()

    def _drain(self) -> None:
        """Reads some of what comes: closing at once would reset the connection before the answer is read."""
        left = DRAIN
        by = time.monotonic() + DRAIN_TIME
        try:
            self.connection.shutdown(socket.SHUT_WR)
            while left > 0 and (wait := by - time.monotonic()) > 0:
                self.connection.settimeout(wait)
                chunk = self.connection.recv(min(left, 65536))
                if not chunk:
                    return
                left -= len(chunk)
        except OSError:
            pass

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the name is the base class's)
        """The gate logs requests; what never reached it is noise from outside."""
        self.server.log.debug(format % args)
