"""Authorities for tests, and what theirs and a hostile one's certificates look like."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from controller.pki import authority
from controller.pki.authority import Authority
from controller.pki.directory import CA, CA_KEY, CERTIFICATE, KEY, PkiDirectory
from controller.pki.identity import CertificateName, Kind

DAYS = 30


class Pki:
    """An authority in a directory."""

    def __init__(self, path: Path) -> None:
        self.directory = PkiDirectory(path)
        self.directory.init("authority of tests")

    def controller(self, name: str = "ctl", *addresses: str) -> Path:
        """The directory with certificate.pem, key.pem, ca.pem and crl.pem; so for the others."""
        return self.directory.issue(CertificateName(Kind.CONTROLLER, name), ("127.0.0.1", *addresses), days=DAYS)

    def node(self, name: str, *, force: bool = False) -> Path:
        return self.directory.issue(CertificateName(Kind.NODE, name), days=DAYS, force=force)

    def client(self, name: str) -> Path:
        return self.directory.issue(CertificateName(Kind.CLIENT, name), days=DAYS)

    def expired_node(self, name: str) -> Path:
        """Ended a minute ago."""
        place = self.node(name)
        then = authority.now() - timedelta(days=1, minutes=1)
        path = self.directory.path
        issued = Authority((path / CA).read_bytes(), (path / CA_KEY).read_bytes()).issue(
            CertificateName(Kind.NODE, name), (), 1, then
        )
        (place / CERTIFICATE).write_bytes(issued.certificate)
        (place / KEY).write_bytes(issued.key)
        return place
