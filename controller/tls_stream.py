"""One TLS connection over a green socket, with the part of a socket's methods that its users need.

TLS is computed in memory (ssl.SSLObject), and only bytes go through the socket. eventlet's own SSL socket is not used:
when one green thread reads and another writes, as with OpenFlow, either may have to do the other's work there, which
eventlet refuses ("second simultaneous read"), and after a shutdown it reads ciphertext as if it were plain.
"""

from __future__ import annotations

import io
import ssl
from contextlib import suppress
from errno import ECONNRESET
from socket import MSG_DONTWAIT, MSG_PEEK, SHUT_RD
from typing import Any

import eventlet

from controller.pki.identity import CertificateName, of_peer

READ_SIZE = 65536
_CHUNK = 16384  # the most that a record holds (RFC 8446, 5.1)
_MOST_UNSENT = 65536  # bytes of answers to the peer's TLS, while it takes nothing


class TlsStream:
    """`handshake` first. One green thread may read while another writes. Whatever TLS objects to is an OSError."""

    def __init__(self, socket: Any, context: ssl.SSLContext, host: str | None = None) -> None:
        """The server's end; with the `host` of the server the client's."""
        self._socket = socket
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, host is None, host)
        self._sending = False
        self._ended = False

    def handshake(self, timeout_s: float) -> None:
        """Raises OSError: TimeoutError when it is not over after so many seconds, however busily the peer sends."""
        with eventlet.Timeout(timeout_s, TimeoutError("TLS handshake not finished in time")):
            while True:
                try:
                    self._tls.do_handshake()
                    self._flush()
                    return
                except ssl.SSLWantReadError:
                    self._flush()
                    if not self._fill():
                        raise ConnectionResetError(ECONNRESET, "hung up during the TLS handshake") from None
                except ssl.SSLError:
                    self._flush()  # the alert that tells the peer why
                    raise

    @property
    def peer(self) -> CertificateName | None:
        """Who the peer is by its certificate; None without one, and where it is none of ours."""
        return of_peer(self._tls.getpeercert())

    @property
    def serial(self) -> str | None:
        """Of the peer's certificate, hexadecimal as in `pki.specs.Description`; None without one."""
        shown = (self._tls.getpeercert() or {}).get("serialNumber")
        return None if shown is None else f"{int(str(shown), 16):x}"

    @property
    def protocol(self) -> str:
        """Such as TLSv1.3."""
        return self._tls.version() or ""

    # reading

    def recv(self, size: int) -> bytes:
        """All that is there of up to `size` bytes; waits when nothing is; b"" at the end."""
        pieces: list[bytes] = []
        left = size
        while left > 0:
            try:
                piece = self._tls.read(min(left, _CHUNK))
            except ssl.SSLWantReadError:
                self._flush()
                if self._outgoing.pending > _MOST_UNSENT:
                    raise ConnectionResetError(ECONNRESET, "asks for new keys and does not take them") from None
                if pieces:
                    break
                if not self._fill():
                    return b""
                continue
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                break
            except ssl.SSLError as error:
                raise ConnectionResetError(ECONNRESET, str(error)) from error
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def recv_into(self, buffer: Any, size: int = 0) -> int:
        view = memoryview(buffer).cast("B")
        data = self.recv(size or len(view))
        view[: len(data)] = data
        return len(data)

    def _fill(self) -> bool:
        """Takes what the peer has sent to TLS. False at the end."""
        data = b"" if self._ended else self._socket.recv(READ_SIZE)
        if not data:
            self._ended = True
            self._incoming.write_eof()
            return False
        self._incoming.write(data)
        return True

    # writing

    def sendall(self, data: Any) -> None:
        try:
            self._tls.write(data)
        except ssl.SSLError as error:
            raise ConnectionResetError(ECONNRESET, str(error)) from error
        self._flush()

    def _flush(self) -> None:
        """Sends what TLS has made. One at a time: who comes while another sends leaves it to that one, in order."""
        if self._sending:
            return
        self._sending = True
        try:
            while self._outgoing.pending:
                self._socket.sendall(self._outgoing.read())
        finally:
            self._sending = False

    def is_gone(self) -> bool:
        """The peer has said something that nobody has read, such as that it closes. Does not wait."""
        return self._ended or has_spoken(self._socket)

    # the rest of a socket

    def makefile(self, mode: str, buffering: int = -1) -> Any:
        """A buffered file for reading ("rb") or writing ("wb")."""
        size = io.DEFAULT_BUFFER_SIZE if buffering < 1 else buffering
        raw = _Raw(self)
        return io.BufferedReader(raw, size) if "r" in mode else io.BufferedWriter(raw, size)

    def shutdown(self, how: int) -> None:
        """Tells the peer that no more comes, if that can be said without waiting, then as of a socket."""
        if how != SHUT_RD and not self._sending:
            with suppress(ssl.SSLError, ValueError):  # it waits for the peer's farewell, or there is no peer any more
                self._tls.unwrap()
            with suppress(OSError):
                self._socket.fd.send(self._outgoing.read())
        self._socket.shutdown(how)

    def close(self) -> None:
        self._socket.close()

    def settimeout(self, seconds: float | None) -> None:
        self._socket.settimeout(seconds)

    def setsockopt(self, *option: Any) -> None:
        self._socket.setsockopt(*option)

    def getsockname(self) -> Any:
        return self._socket.getsockname()

    def fileno(self) -> int:
        return int(self._socket.fileno())


def has_spoken(socket: Any) -> bool:
    """Whether there is something to read from a green socket, the end included."""
    try:
        socket.fd.recv(1, MSG_PEEK | MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


class _Raw(io.RawIOBase):
    """A stream below Python's buffers. Closing it leaves the connection open, as with a socket's files."""

    def __init__(self, stream: TlsStream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._stream.recv_into(buffer)

    def write(self, data: Any) -> int:
        self._stream.sendall(data)
        return len(data)
