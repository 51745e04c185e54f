"""A small authority: keys on P-256 and certificates signed with SHA-256. Values in, values out; no files.

What a certificate may be used for is in it (RFC 5280, 4.2.1.12), and that is what keeps a node from passing for a
controller: Open vSwitch and OpenSSL look at it. Keys are elliptic because handshakes are cheap with them, and on P-256
because everything that speaks TLS knows that curve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from controller.pki.identity import CertificateName, Kind, of_uris
from controller.pki.specs import AUTHORITY_DAYS, Description, Issued, PkiError

_ORGANIZATION: Final = "Trunkline"
_CLOCKS_DIFFER: Final = timedelta(days=2)
"""A certificate, and a list of those that are revoked, is valid from a while ago: a clock may be behind, also one that
was set back by a day. A list that is of later would lock everybody out.
"""

_LONGEST_COMMON_NAME: Final = 64  # ub-common-name, RFC 5280, appendix A
_SERVER, _CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
_USAGES: Final = {Kind.CONTROLLER: (_SERVER, _CLIENT), Kind.NODE: (_CLIENT,), Kind.CLIENT: (_CLIENT,)}


class Authority:
    """Raises PkiError for PEM that is none, and for a key that does not belong to the certificate."""

    def __init__(self, certificate: bytes, key: bytes) -> None:
        self._certificate = _load(certificate)
        try:
            loaded = serialization.load_pem_private_key(key, password=None)
        except (ValueError, TypeError) as error:
            raise PkiError(f"the authority's key cannot be read: {error}") from None
        if not isinstance(loaded, ec.EllipticCurvePrivateKey) or loaded.public_key() != self._certificate.public_key():
            raise PkiError("the authority's key does not belong to its certificate")
        self._key = loaded

    def issue(self, name: CertificateName, addresses: Sequence[str], days: int, now: datetime) -> Issued:
        """A certificate with a key of its own. It does not outlive the authority. Raises PkiError when that is over."""
        ends = min(now + timedelta(days=days), self._certificate.not_valid_after_utc)
        if ends <= now:
            raise PkiError(f"the authority has ended on {ends:%Y-%m-%d}: begin a new one with pki init --force")
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.UniformResourceIdentifier(name.uri), *map(_general_name, addresses)]
        built = (
            _builder(_subject(name.name), self._certificate.subject, key.public_key(), now, ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(_USAGES[name.kind]), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(_authority_id(self._key), critical=False)
        )
        return Issued(_pem(built.sign(self._key, hashes.SHA256())), _key_pem(key))

    def revocations(self, serials: Mapping[str, datetime], now: datetime) -> bytes:
        """The list of revoked certificates with their times, in PEM. It does not end before the authority: an old list
        that nobody has made anew must not lock everybody out.
        """
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(now - _CLOCKS_DIFFER)
            .next_update(self._certificate.not_valid_after_utc)
            .add_extension(_authority_id(self._key), critical=False)
            .add_extension(x509.CRLNumber(int(now.timestamp())), critical=False)
        )
        for serial, since in sorted(serials.items()):
            revoked = x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(since)
            builder = builder.add_revoked_certificate(revoked.build())
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def new_authority(name: str, now: datetime) -> Issued:
    """Raises PkiError for a name that is too long."""
    if not 0 < len(name) <= _LONGEST_COMMON_NAME:
        raise PkiError(f"the authority's name may have {_LONGEST_COMMON_NAME} characters")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(name)
    built = (
        _builder(subject, subject, key.public_key(), now, now + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Issued(_pem(built.sign(key, hashes.SHA256())), _key_pem(key))


def describe(certificate: bytes) -> Description:
    """Raises PkiError when it is no certificate in PEM."""
    loaded = _load(certificate)
    uris: list[str] = []
    addresses: list[str] = []
    try:
        names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    for one in names:
        (uris if isinstance(one, x509.UniformResourceIdentifier) else addresses).append(str(one.value))
    return Description(
        of_uris(uris),
        f"{loaded.serial_number:x}",
        loaded.not_valid_before_utc,
        loaded.not_valid_after_utc,
        tuple(addresses),
    )


def signed_by(certificate: bytes, authority: bytes) -> bool:
    """Raises PkiError when one of them is no certificate in PEM."""
    try:
        _load(certificate).verify_directly_issued_by(_load(authority))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def revoked(list_: bytes) -> dict[str, datetime]:
    """The serials in a list, and since when. Raises PkiError when it is none."""
    try:
        return {f"{one.serial_number:x}": one.revocation_date_utc for one in x509.load_pem_x509_crl(list_)}
    except ValueError as error:
        raise PkiError(f"no list of revoked certificates: {error}") from None


def check_list(list_: bytes, authorities: bytes) -> None:
    """Raises PkiError when none of the authorities has signed the list: with another one's nobody would get in."""
    try:
        found = x509.load_pem_x509_crl(list_)
        known = x509.load_pem_x509_certificates(authorities)
        signed = any(found.is_signature_valid(each.public_key()) for each in known)  # type: ignore[arg-type]
    except (ValueError, TypeError) as error:
        raise PkiError(f"no list of revoked certificates: {error}") from None
    if not signed:
        raise PkiError("it is another authority's list of revoked certificates")


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _load(certificate: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(certificate)
    except ValueError as error:
        raise PkiError(f"no certificate: {error}") from None


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(ends)
    )


def _subject(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, name[:_LONGEST_COMMON_NAME]),
        ]
    )


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(address))
    except ValueError:
        pass
    try:
        return x509.DNSName(address)
    except ValueError:
        raise PkiError(f"{address!r} is neither an address nor a name in ASCII") from None


def _authority_id(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
