"""The authority: what it makes, what it refuses to spoil, and that TLS takes it, and takes it only for what it is."""

from __future__ import annotations

import ssl
import stat
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from controller.pki import authority, directory
from controller.pki.authority import Authority
from controller.pki.directory import CA, CERTIFICATE, CRL, KEY, PkiDirectory
from controller.pki.identity import CertificateName, Kind, checked, of_peer, of_uris, parse_uri
from controller.pki.specs import AUTHORITY_DAYS, PkiError
from tests.pki import Pki


@pytest.fixture
def pki(tmp_path: Path) -> Iterator[Pki]:
    yield Pki(tmp_path / "pki")


def context(role: int, place: Path, ca: Path | None = None) -> ssl.SSLContext:
    made = ssl.SSLContext(role)
    made.verify_mode = ssl.CERT_REQUIRED
    made.verify_flags |= ssl.VERIFY_X509_STRICT  # the default of clients from Python 3.13 on
    made.load_cert_chain(place / CERTIFICATE, place / KEY)
    made.load_verify_locations(ca or place / CA)
    return made


def shake(server: ssl.SSLContext, client: ssl.SSLContext, host: str = "127.0.0.1") -> tuple[ssl.SSLObject, ...]:
    """Both ends after a handshake in memory. Raises SSLError."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        server.wrap_bio(up, down, server_side=True),
        client.wrap_bio(down, up, server_hostname=host),
    )
    for _ in range(6):
        for end in ends:
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    for end in ends:
        end.do_handshake()
    return ends


def server_and_client(server: Path, client: Path, host: str = "127.0.0.1") -> tuple[ssl.SSLObject, ...]:
    return shake(context(ssl.PROTOCOL_TLS_SERVER, server), context(ssl.PROTOCOL_TLS_CLIENT, client), host)


def test_keys_are_for_their_owner_alone(pki: Pki) -> None:
    places = [pki.controller(), pki.node("n1"), pki.client("op")]
    root = pki.directory.path
    for path in (root, root / "issued", *places):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for path in (root / "ca-key.pem", *(place / KEY for place in places)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {path.name for path in places[1].iterdir()} == {CERTIFICATE, KEY, CA, CRL}


def test_nothing_is_overwritten_unasked(pki: Pki) -> None:
    place = pki.node("n1")
    before = {path: path.read_bytes() for path in pki.directory.path.rglob("*.pem")}
    with pytest.raises(PkiError, match="--force"):
        pki.node("n1")
    with pytest.raises(PkiError, match="--force"):
        pki.directory.init("another")
    assert {path: path.read_bytes() for path in pki.directory.path.rglob("*.pem")} == before
    pki.node("n1", force=True)
    assert (place / KEY).read_bytes() != before[place / KEY]


def test_tls_takes_them_and_knows_who_is_who(pki: Pki) -> None:
    controller, node = pki.controller("ctl", "ctl.example"), pki.node("n1")
    server, client = server_and_client(controller, node, "ctl.example")
    assert of_peer(server.getpeercert()) == CertificateName(Kind.NODE, "n1")
    assert of_peer(client.getpeercert()) == CertificateName(Kind.CONTROLLER, "ctl")


def test_a_controller_is_believed_for_its_addresses_only(pki: Pki) -> None:
    controller, node = pki.controller(), pki.node("n1")
    with pytest.raises(ssl.SSLCertVerificationError, match="match"):
        server_and_client(controller, node, "127.0.0.2")


def test_a_node_cannot_pass_for_a_controller(pki: Pki) -> None:
    """Whatever addresses its certificate had: it may not serve."""
    thief, node = pki.directory.issue(CertificateName(Kind.NODE, "evil"), ["127.0.0.1"], days=30), pki.node("n1")
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        server_and_client(thief, node)


def test_another_authority_of_the_same_name_is_another(pki: Pki, tmp_path: Path) -> None:
    other = Pki(tmp_path / "other")
    with pytest.raises(ssl.SSLError):
        server_and_client(pki.controller(), other.node("n1"))


def test_a_revoked_name_is_refused_with_all_its_certificates(pki: Pki) -> None:
    controller, node, good = pki.controller(), pki.node("n1"), pki.node("n2")
    older = context(ssl.PROTOCOL_TLS_CLIENT, node)
    pki.directory.renew("node-n1", days=30)
    pki.directory.revoke("node-n1")

    def server() -> ssl.SSLContext:
        made = context(ssl.PROTOCOL_TLS_SERVER, controller)
        made.load_verify_locations(controller / CRL)
        made.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        return made

    for client in (older, context(ssl.PROTOCOL_TLS_CLIENT, node)):
        with pytest.raises(ssl.SSLError, match="revoked"):
            shake(server(), client)
    shake(server(), context(ssl.PROTOCOL_TLS_CLIENT, good))
    assert {entry.path.name: entry.revoked for entry in pki.directory.entries()}["node-n1"]
    with pytest.raises(PkiError, match="revoked"):
        pki.directory.renew("node-n1", days=30)
    pki.node("n1", force=True)  # a machine made anew
    pki.directory.revoke("node-n2")
    shake(server(), context(ssl.PROTOCOL_TLS_CLIENT, node))


def test_a_clock_that_is_a_day_behind_locks_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose certificates were made, and whose list was made anew, by a clock that is right."""
    now = authority.now
    monkeypatch.setattr(directory.authority, "now", lambda: now() + timedelta(days=1, hours=1))
    pki = Pki(tmp_path / "pki")
    controller, node = pki.controller(), pki.node("n1")
    pki.node("n2")
    pki.directory.revoke("node-n2")
    server = context(ssl.PROTOCOL_TLS_SERVER, controller)
    server.load_verify_locations(controller / CRL)
    server.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    shake(server, context(ssl.PROTOCOL_TLS_CLIENT, node))


def test_renewing_keeps_name_and_addresses_and_takes_what_is_due(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    place = pki.controller("ctl", "192.0.2.1", "2001:db8::1", "ctl.example")
    before = authority.describe((place / CERTIFICATE).read_bytes())
    assert list(pki.directory.due()) == ["controller-ctl"]  # 30 days are left
    pki.directory.renew("controller-ctl", days=825)
    after = authority.describe((place / CERTIFICATE).read_bytes())
    assert (after.name, after.addresses) == (before.name, before.addresses)
    assert after.serial != before.serial and after.ends > before.ends
    assert list(pki.directory.due()) == []
    with pytest.raises(PkiError, match="known: controller-ctl"):
        pki.directory.renew("node-n1", days=825)


def test_nothing_outlives_the_authority(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    own = pki.directory.describe_authority()
    monkeypatch.setattr(directory.authority, "now", lambda: own.ends - timedelta(days=3))
    assert authority.describe((pki.node("n1") / CERTIFICATE).read_bytes()).ends == own.ends
    monkeypatch.setattr(directory.authority, "now", lambda: own.ends + timedelta(days=3))
    with pytest.raises(PkiError, match="has ended"):
        pki.node("n2")
    assert (own.ends - own.begins).days >= AUTHORITY_DAYS


def test_files_of_an_earlier_authority_are_not_shown(pki: Pki) -> None:
    pki.node("n1")
    pki.directory.init("another", force=True)
    pki.node("n2")
    assert [entry.path.name for entry in pki.directory.entries()] == ["node-n2"]


def test_mistakes_are_explained(pki: Pki, tmp_path: Path) -> None:
    with pytest.raises(PkiError, match="pki init"):
        PkiDirectory(tmp_path / "nothing").issue(CertificateName(Kind.NODE, "n1"), days=1)
    with pytest.raises(PkiError, match="neither an address nor a name"):
        pki.directory.issue(CertificateName(Kind.CONTROLLER, "c"), ["bücher.example"], days=1)
    with pytest.raises(PkiError, match="no certificate node-n9"):
        pki.directory.revoke("node-n9")
    (pki.directory.path / "ca-key.pem").write_bytes(b"rubbish")
    with pytest.raises(PkiError, match="key cannot be read"):
        pki.node("n1")
    other = authority.new_authority("x", authority.now())
    with pytest.raises(PkiError, match="does not belong"):
        Authority((pki.directory.path / CA).read_bytes(), other.key)


@pytest.mark.parametrize("name", ["", "-n", "a b", "n1\n", "../x", "n" * 254, "é"])
def test_names_that_no_node_has(name: str) -> None:
    with pytest.raises(ValueError, match="is no name"):
        checked(Kind.NODE, name)


def test_the_longest_name_has_a_certificate(pki: Pki) -> None:
    described = authority.describe((pki.node("n" * 200) / CERTIFICATE).read_bytes())
    assert described.name == CertificateName(Kind.NODE, "n" * 200)


@pytest.mark.parametrize("uri", ["trunkline:node:", "trunkline:root:n1", "trunkline:node:a b", "spiffe://node/n1", "x"])
def test_uris_that_name_nobody(uri: str) -> None:
    assert parse_uri(uri) is None


def test_two_names_are_none() -> None:
    assert of_uris(["trunkline:node:n1", "trunkline:node:n2"]) is None
    assert of_uris(["https://x", "trunkline:node:n2"]) == CertificateName(Kind.NODE, "n2")
    assert of_peer(None) is None and of_peer({}) is None
