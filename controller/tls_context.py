"""What the controller shows and demands in TLS: certificate, authority, who is revoked. Read anew when changed."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import structlog

from controller.pki import authority
from controller.pki.specs import PkiError
from controller.tls_settings import TlsSettings
from controller.tls_stream import TlsStream

HANDSHAKE_TIMEOUT = 5.0
"""Seconds for the whole of it."""


class ServerTls:
    """Contexts are made when the files change, and never again for a connection: Ryu takes its own apart at the first.

    While new files cannot be used, what was read before goes on.
    """

    def __init__(self, settings: TlsSettings) -> None:
        """Raises OSError with a text for the operator when the files cannot be used."""
        self._settings = settings
        self._seen = self._state()
        self._context, self._revoked = _context(settings), _revoked(settings)
        self._complaint = ""

    def accept(self, socket: Any) -> TlsStream:
        """Shakes hands. Raises OSError. Only the green thread of this connection waits."""
        stream = TlsStream(socket, self.context())
        stream.handshake(HANDSHAKE_TIMEOUT)
        return stream

    def is_revoked(self, stream: TlsStream) -> bool:
        """Whether the peer's certificate was revoked after its handshake."""
        self.context()
        return stream.serial in self._revoked

    def context(self) -> ssl.SSLContext:
        """As the files are now. Never waits."""
        state = self._state()
        if state != self._seen:
            try:
                self._context, self._revoked = _context(self._settings), _revoked(self._settings)
            except OSError as error:  # the certificate is there and its key not yet, say: next time
                if str(error) != self._complaint:
                    self._complaint = str(error)
                    structlog.get_logger().error("tls_files_unusable", error=self._complaint)
            else:
                self._seen, self._complaint = state, ""
                structlog.get_logger().info("tls_files_read", certificate=str(self._settings.certificate))
        return self._context

    def _state(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_state_of(path) for path in self._settings.files)


def _state_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _context(settings: TlsSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED if settings.demand else ssl.CERT_OPTIONAL
    # who comes back proves anew who it is
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    for path in settings.files:
        _readable(path)
    try:
        context.load_cert_chain(settings.certificate, settings.key, _no_password)
    except (ssl.SSLError, ValueError) as error:
        raise OSError(f"{settings.certificate} and {settings.key} are no certificate and its key: {error}") from error
    for path in (settings.ca, *([] if settings.crl is None else [settings.crl])):
        try:
            context.load_verify_locations(path)
        except ssl.SSLError as error:
            raise OSError(f"{path} holds no certificate of an authority, or no list of hers: {error}") from error
    if settings.crl is not None:
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context


def _revoked(settings: TlsSettings) -> frozenset[str]:
    """Serials. Raises OSError."""
    if settings.crl is None:
        return frozenset()
    try:
        content = settings.crl.read_bytes()
        authority.check_list(content, settings.ca.read_bytes())
        return frozenset(authority.revoked(content))
    except PkiError as error:
        raise OSError(f"{settings.crl}: {error}") from error


def _readable(path: Path) -> None:
    """Raises OSError, as ssl does, but with the path in it."""
    with path.open("rb"):
        pass


def _no_password() -> str:
    """OpenSSL would ask for one on the terminal."""
    raise ValueError("the key is protected by a password")
