"""Which files TLS is made of, and where there may be none."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """PEM files. `ca` says whose certificates are taken, `crl` which of them are not; `demand`: a peer needs one."""

    certificate: Path
    key: Path
    ca: Path
    crl: Path | None = None
    demand: bool = True

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.certificate, self.key, self.ca, *([] if self.crl is None else [self.crl]))


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """As configured; "" for what is not."""

    certificate: str = ""
    key: str = ""
    ca: str = ""
    crl: str = ""


def parse(common: TlsFiles, api: TlsFiles, *, demand: bool) -> tuple[TlsSettings | None, TlsSettings | None]:
    """Those of OpenFlow and of the API: `api` has its certificate where that is another one, `demand` is about its
    clients. Raises ValueError when something is missing.
    """
    needed = (common.certificate, common.key, common.ca)
    own = (api.certificate, api.key)
    if any(own) and not all(own):
        raise ValueError("[api] certificate and key belong together")
    if not any((*needed, *own, common.crl, demand)):
        return None, None
    if not all(needed):
        raise ValueError("[tls] needs certificate, key and ca: `trunkline pki controller` makes all three")
    certificate, key, ca = map(Path, needed)
    crl = Path(common.crl) if common.crl else None
    api_certificate, api_key = map(Path, own) if all(own) else (certificate, key)
    return TlsSettings(certificate, key, ca, crl), TlsSettings(api_certificate, api_key, ca, crl, demand)


def refuse_plain(section: str, listen: str) -> None:
    """What goes over a wire in plain text can be read and changed there, tokens and flows alike.

    Raises ValueError unless only this host can reach the address.
    """
    try:
        loopback = ip_address(listen).is_loopback
    except ValueError:
        loopback = listen == "localhost"
    if not loopback:
        raise ValueError(
            f"[{section}] listen is {listen}, which others can reach, and there is no TLS: set [tls] "
            f"(docs/security.md), or [{section}] plain_tcp = true where nobody else is on that network"
        )
