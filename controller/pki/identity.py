"""Who a certificate stands for: one URI among its alternative names, `trunkline:KIND:NAME`. No I/O.

The common name and all else in a certificate is for people.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

SCHEME = "trunkline"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
"""The names that nodes may have."""


class Kind(StrEnum):
    """CONTROLLER serves; NODE is a node's agent and its Open vSwitch; CLIENT may connect to the API and no more."""

    CONTROLLER = "controller"
    NODE = "node"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class CertificateName:
    kind: Kind
    name: str

    @property
    def uri(self) -> str:
        return f"{SCHEME}:{self.kind}:{self.name}"

    @property
    def label(self) -> str:
        return f"{self.kind}-{self.name}"


def checked(kind: Kind, name: str) -> CertificateName:
    """Raises ValueError for a name that no node could have."""
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name: letters, digits, dots, dashes and underscores")
    return CertificateName(kind, name)


def parse_uri(uri: str) -> CertificateName | None:
    scheme, _, rest = uri.partition(":")
    kind, _, name = rest.partition(":")
    if scheme != SCHEME or kind not in frozenset(Kind) or not NAME.fullmatch(name):
        return None
    return CertificateName(Kind(kind), name)


def of_uris(uris: Iterable[str]) -> CertificateName | None:
    """None where there is no name of ours, or more than one."""
    found = [name for uri in uris if (name := parse_uri(uri)) is not None]
    return found[0] if len(found) == 1 else None


def of_peer(certificate: Mapping[str, Any] | None) -> CertificateName | None:
    """Of what `ssl.SSLObject.getpeercert` returns: a certificate that has been verified."""
    names = () if certificate is None else certificate.get("subjectAltName", ())
    return of_uris(value for kind, value in names if kind == "URI")
