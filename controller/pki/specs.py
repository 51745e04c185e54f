"""What the authority and its directory speak of. Nothing heavy is imported here: every `trunkline` command loads it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from controller.pki.identity import CertificateName

AUTHORITY_DAYS: Final = 3650
CERTIFICATE_DAYS: Final = 825
RENEW_DAYS: Final = 90
"""A certificate that ends within so many days is due."""


class PkiError(Exception):
    """One line for the operator."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key, in PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Description:
    """`addresses` are the names and addresses that a controller is reached by. `serial` is hexadecimal."""

    name: CertificateName | None
    serial: str
    begins: datetime
    ends: datetime
    addresses: tuple[str, ...] = ()

    def due(self, now: datetime) -> bool:
        return self.ends - now < timedelta(days=RENEW_DAYS)


@dataclass(frozen=True, slots=True)
class Entry:
    """A certificate that is kept, in its directory."""

    path: Path
    description: Description
    revoked: bool
