"""Where the authority keeps what it has made: a directory, with one more for each certificate, to be copied as it is.

    ca.pem, ca-key.pem      the authority; its key stays where it is
    crl.pem                 the certificates that were revoked
    issued/                 every certificate that was ever issued, without its key: all of a name are revoked at once
    node-n1/                certificate.pem, key.pem, ca.pem and crl.pem: what node n1 needs
    controller-ctl1/        the same for a controller

Directories are for their owner alone, and so is every file with a key.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from controller.pki import authority
from controller.pki.authority import Authority
from controller.pki.identity import CertificateName
from controller.pki.specs import Description, Entry, Issued, PkiError

CA, CA_KEY, CRL = "ca.pem", "ca-key.pem", "crl.pem"
CERTIFICATE, KEY = "certificate.pem", "key.pem"
ISSUED = "issued"
_PRIVATE, _PUBLIC, _DIRECTORY = 0o600, 0o644, 0o700
_KEY_NAMES: Final = frozenset({CA_KEY, KEY})


class PkiDirectory:
    """Every method raises PkiError, and OSError for what the file system refuses."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def init(self, name: str, *, force: bool = False) -> Path:
        """A new authority. With `force` in place of another, whose certificates are good no more."""
        if not force and ((self.path / CA).exists() or (self.path / CA_KEY).exists()):
            raise PkiError(f"{self.path} has an authority: --force makes another, for which all is to be made anew")
        self.path.mkdir(mode=_DIRECTORY, parents=True, exist_ok=True)
        os.chmod(self.path, _DIRECTORY)
        made = authority.new_authority(name, authority.now())
        _write(self.path / CA_KEY, made.key)
        _write(self.path / CA, made.certificate)
        _write(self.path / CRL, Authority(made.certificate, made.key).revocations({}, authority.now()))
        return self.path / CA

    def issue(self, name: CertificateName, addresses: Sequence[str] = (), *, days: int, force: bool = False) -> Path:
        """A key and a certificate, in the directory that is returned."""
        place = self.path / name.label
        if not force and ((place / KEY).exists() or (place / CERTIFICATE).exists()):
            raise PkiError(f"{place} is there: pki renew {name.label} gives it a new certificate, --force another one")
        issued = self._authority().issue(name, addresses, days, authority.now())
        self._keep(place, issued)
        return place

    def renew(self, label: str, *, days: int) -> Path:
        """A new key and certificate for the same name and addresses."""
        entry = self.entry(label)
        name = entry.description.name
        if name is None or entry.revoked:
            raise PkiError(f"{label} is revoked" if entry.revoked else f"{entry.path} is none of ours")
        issued = self._authority().issue(name, entry.description.addresses, days, authority.now())
        self._keep(entry.path, issued)
        return entry.path

    def due(self) -> Iterator[str]:
        """What is to be renewed."""
        now = authority.now()
        for entry in self.entries():
            if entry.description.due(now) and not entry.revoked:
                yield entry.path.name

    def revoke(self, label: str) -> Path:
        """Adds all certificates of a name to the list, which is returned. The name's directory stays as it is."""
        now = authority.now()
        found = [authority.describe(path.read_bytes()) for path in (self.path / ISSUED).glob("*.pem")]
        of_name = [one.serial for one in found if one.name is not None and one.name.label == label]
        if not of_name:
            raise PkiError(f"no certificate {label} was issued in {self.path}")
        serials = dict.fromkeys(of_name, now) | self._revoked()
        _write(self.path / CRL, self._authority().revocations(serials, now))
        for other in self.entries():
            _write(other.path / CRL, self._read(CRL))
        return self.path / CRL

    def entries(self) -> Iterator[Entry]:
        """By name, with those that belong to an earlier authority left out."""
        ca, revoked = self._read(CA), self._revoked()
        for path in sorted(self.path.glob(f"*/{CERTIFICATE}")):
            content = path.read_bytes()
            if authority.signed_by(content, ca):
                described = authority.describe(content)
                yield Entry(path.parent, described, described.serial in revoked)

    def entry(self, label: str) -> Entry:
        """By the name of its directory, `node-n1` say."""
        found = next((entry for entry in self.entries() if entry.path.name == label), None)
        if found is None:
            known = ", ".join(entry.path.name for entry in self.entries()) or "none"
            raise PkiError(f"there is no certificate {label} in {self.path} (known: {known})")
        return found

    def describe_authority(self) -> Description:
        return authority.describe(self._read(CA))

    def _authority(self) -> Authority:
        return Authority(self._read(CA), self._read(CA_KEY))

    def _revoked(self) -> dict[str, datetime]:
        return authority.revoked(self._read(CRL))

    def _read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            raise PkiError(f"{self.path} has no {name}: begin with pki init, or name the directory") from None

    def _keep(self, place: Path, issued: Issued) -> None:
        for directory in (place, self.path / ISSUED):
            directory.mkdir(mode=_DIRECTORY, exist_ok=True)
        serial = authority.describe(issued.certificate).serial
        _write(self.path / ISSUED / f"{serial}.pem", issued.certificate)
        # Open vSwitch looks at the key first and then, if that has changed, at the certificate: this is to be there
        _write(place / CERTIFICATE, issued.certificate)
        _write(place / KEY, issued.key)
        for name in (CA, CRL):
            _write(place / name, self._read(name))


def _write(path: Path, content: bytes) -> None:
    """In one step: whoever reads finds the old file or the new one, whole."""
    mode = _PRIVATE if path.name in _KEY_NAMES else _PUBLIC
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        os.fsync(file.fileno())
    os.replace(new, path)
