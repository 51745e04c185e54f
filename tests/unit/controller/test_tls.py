"""OpenFlow over TLS, from accept to the end: real sockets, real certificates, green threads on both ends."""

from __future__ import annotations

import os
import socket as plain_socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import eventlet
import pytest
from eventlet.green import socket
from ryu.controller.handler import MAIN_DISPATCHER

from controller import newcomers, receive, tls_context
from controller.connection_factory import ConnectionFactory
from controller.pki.directory import CA, CERTIFICATE, CRL, KEY
from controller.pki.identity import CertificateName, Kind
from controller.tls_context import ServerTls
from controller.tls_settings import TlsSettings
from controller.tls_stream import TlsStream
from tests.pki import Pki
from tests.unit.controller.test_connection import Peer, World, message, ryu, until

__all__ = ["ryu"]  # a fixture


def client_stream(connection: Any, context: ssl.SSLContext) -> TlsStream:
    """The other end of one."""
    return TlsStream(connection, context, "127.0.0.1")


def settings(place: Path) -> TlsSettings:
    return TlsSettings(place / CERTIFICATE, place / KEY, place / CA, place / CRL)


def client_context(place: Path | None, ca: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca)
    if place is not None:
        context.load_cert_chain(place / CERTIFICATE, place / KEY)
    return context


class TlsWorld(World):
    def __init__(self, pki: Pki) -> None:
        super().__init__()
        self.pki = pki
        self.controller = pki.controller()
        self.tls = ServerTls(settings(self.controller))
        self.factory = ConnectionFactory(self.waiters, self.delivered.append, self.counters, self.tls)

    def certified(self, place: Path | None, ca: Path | None = None) -> Peer:
        """A peer after its own part of the handshake; in TLS 1.3 it does not know yet what the server makes of it."""
        peer = Peer(self.factory)
        stream = client_stream(peer.socket, client_context(place, ca or self.controller / CA))
        stream.handshake(5)
        peer.socket = stream
        return peer

    def refused(self, place: Path | None) -> bool:
        before = self.counters.get("openflow_tls_failures", 0)
        peer = self.certified(place)
        with eventlet.Timeout(5):
            assert peer.closed()
        until(lambda: self.counters.get("openflow_tls_failures", 0) > before)
        return not self.factory._open


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki") / "pki")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[TlsWorld]:
    made = TlsWorld(Pki(tmp_path / "pki"))
    yield made
    made.factory.close_all()


def live(world: TlsWorld, peer: Peer, datapath_id: int) -> Any:
    peer.shake_hands(datapath_id)
    found: list[Any] = []
    until(lambda: found.extend(one for one in world.factory._open if one.id == datapath_id) or found)
    until(lambda: found[0].state == MAIN_DISPATCHER)
    found[0].trust()
    return found[0]


def test_the_second_switch_connects_too_and_each_is_known_by_its_certificate(world: TlsWorld) -> None:
    """Ryu's own listener takes its TLS context apart for the first."""
    for number in (1, 2, 3):
        peer = world.certified(world.pki.node(f"n{number}"))
        connection = live(world, peer, number)
        assert connection.certified == f"n{number}"
        peer.send(message(2, b"x", xid=9))
        assert peer.next() == (3, 9, b"x")


def test_both_directions_are_busy_at_once(world: TlsWorld) -> None:
    peer = world.certified(world.pki.node("n1"))
    connection = live(world, peer, 1)
    echo = message(2, os.urandom(30_000), xid=77)
    pieces = 200

    def send() -> None:
        for _ in range(pieces):
            peer.send(echo)

    def push() -> None:
        for _ in range(pieces):
            connection.write(message(4, bytes(30_000)))  # nobody reads anything into it

    writers = [eventlet.spawn(send), eventlet.spawn(push)]
    replies = pushed = 0
    with eventlet.Timeout(60):
        while replies < pieces or pushed < pieces:
            kind, _, body = peer.next()
            if kind == receive.ECHO_REPLY and len(body) > 100:
                assert body == echo[8:]
                replies += 1
            pushed += kind == 4
        for writer in writers:
            writer.wait()


def test_threat_23_who_has_no_good_certificate_is_refused(world: TlsWorld, tmp_path: Path) -> None:
    pki = world.pki
    revoked = pki.node("stolen")
    pki.directory.revoke("node-stolen")
    for place in (
        None,
        Pki(tmp_path / "other").node("n1"),
        pki.expired_node("late"),
        revoked,
        pki.client("op"),
        world.controller,
    ):
        assert world.refused(place), place
    assert live(world, world.certified(pki.node("n1")), 1).certified == "n1"


def test_plain_openflow_on_the_tls_port_is_hung_up_on(world: TlsWorld) -> None:
    peer = Peer(world.factory)
    peer.send(message(0))
    with eventlet.Timeout(5):
        assert peer.closed()
    assert world.counters["openflow_tls_failures"] == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_versions_of_tls_are_refused(world: TlsWorld) -> None:
    context = client_context(world.pki.node("n1"), world.controller / CA)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    peer = Peer(world.factory)
    with pytest.raises(OSError):
        client_stream(peer.socket, context).handshake(5)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_new_versions_of_tls_do(world: TlsWorld, version: ssl.TLSVersion) -> None:
    context = client_context(world.pki.node("n1"), world.controller / CA)
    context.maximum_version = version
    peer = Peer(world.factory)
    stream = client_stream(peer.socket, context)
    stream.handshake(5)
    peer.socket = stream
    assert live(world, peer, 1).socket.protocol == ("TLSv1.2" if version is ssl.TLSVersion.TLSv1_2 else "TLSv1.3")


def test_threat_22_handshakes_are_bounded_in_time(world: TlsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also that of a peer which sends a byte now and then."""
    monkeypatch.setattr(tls_context, "HANDSHAKE_TIMEOUT", 0.3)
    silent, slow = Peer(world.factory), Peer(world.factory)
    with eventlet.Timeout(5):
        with suppress(OSError):
            for byte in b"\x16\x03\x01\x02\x00" + bytes(500):
                slow.socket.sendall(bytes([byte]))
                eventlet.sleep(0.01)
        assert silent.closed() and slow.closed()
    assert world.counters["openflow_tls_failures"] == 2 and not world.factory._newcomers


def test_threat_22_handshakes_are_bounded_in_number(world: TlsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newcomers, "MAX_HANDSHAKING", 3)
    place = world.pki.node("n1")
    silent = [Peer(world.factory) for _ in range(10)]
    until(lambda: len(world.factory._newcomers) == 3)
    assert live(world, world.certified(place), 1).certified == "n1"
    with eventlet.Timeout(5):
        assert all(peer.closed() for peer in silent[:7])


def test_random_bytes_within_tls_end_that_connection_alone(world: TlsWorld) -> None:
    good = world.certified(world.pki.node("n1"))
    live(world, good, 1)
    bad = world.certified(world.pki.node("n2"))
    live(world, bad, 2)
    bad.socket._socket.sendall(b"\x17\x03\x03\x01\x00" + os.urandom(256))
    with eventlet.Timeout(5):
        assert bad.closed()
    until(lambda: len(world.factory._open) == 1)
    good.send(message(2, b"here", xid=5))
    assert good.next() == (3, 5, b"here")


def test_the_end_is_an_end_however_it_comes(world: TlsWorld) -> None:
    place = world.pki.node("n1")
    for how in ("farewell", "fin", "reset"):
        peer = world.certified(place)
        live(world, peer, 1)
        raw = peer.socket._socket
        if how == "farewell":
            peer.socket.shutdown(plain_socket.SHUT_WR)
        elif how == "fin":
            raw.shutdown(plain_socket.SHUT_WR)
        else:
            raw.setsockopt(plain_socket.SOL_SOCKET, plain_socket.SO_LINGER, struct.pack("ii", 1, 0))
            raw.close()
        until(lambda: not world.factory._open)


def test_a_close_of_ours_is_seen_by_a_peer_that_sends_on(world: TlsWorld) -> None:
    peer = world.certified(world.pki.node("n1"))
    connection = live(world, peer, 1)
    peer.send(*(message(2, bytes(60_000)) for _ in range(20)))
    connection.close()
    with eventlet.Timeout(5):
        assert peer.closed()
    until(lambda: not world.factory._open)


def test_a_renewed_certificate_is_shown_from_the_next_handshake_on(world: TlsWorld) -> None:
    place = world.pki.node("n1")
    old = world.certified(place)
    live(world, old, 1)
    shown = old.socket._tls.getpeercert()["serialNumber"]
    world.pki.directory.renew("controller-ctl", days=30)
    new = world.certified(place)
    live(world, new, 2)
    assert new.socket._tls.getpeercert()["serialNumber"] != shown
    old.send(message(2, b"still", xid=3))
    assert old.next() == (3, 3, b"still")


def test_who_is_revoked_while_connected_is_hung_up_on(world: TlsWorld) -> None:
    peers = [world.certified(world.pki.node(name)) for name in ("n1", "n2")]
    for number, peer in enumerate(peers, 1):
        live(world, peer, number)
    world.pki.directory.revoke("node-n1")
    world.factory.close_revoked()
    with eventlet.Timeout(5):
        assert peers[0].closed()
    peers[1].send(message(2, b"still", xid=3))
    assert peers[1].next() == (3, 3, b"still") and world.counters["openflow_revoked"] == 1


def test_files_that_cannot_be_used_change_nothing(world: TlsWorld) -> None:
    place = world.pki.node("n1")
    key = (world.controller / KEY).read_bytes()
    (world.controller / KEY).write_bytes((place / KEY).read_bytes())
    live(world, world.certified(place), 1)
    (world.controller / KEY).unlink()
    live(world, world.certified(place), 2)
    (world.controller / KEY).write_bytes(key)
    live(world, world.certified(place), 3)


def test_at_first_they_must_be_there(world: TlsWorld, tmp_path: Path) -> None:
    good = settings(world.controller)
    (tmp_path / "rubbish").write_text("rubbish")
    for field in ("certificate", "key", "ca", "crl"):
        for path in (tmp_path / "missing", tmp_path / "rubbish"):
            wrong = TlsSettings(**{**{name: getattr(good, name) for name in TlsSettings.__slots__}, field: path})
            with pytest.raises(OSError, match=path.name):
                ServerTls(wrong)


def test_another_authoritys_list_locks_nobody_out(world: TlsWorld, tmp_path: Path) -> None:
    place = world.pki.node("n1")
    live(world, world.certified(place), 1)
    other = Pki(tmp_path / "other").controller()
    (world.controller / CRL).write_bytes((other / CRL).read_bytes())
    live(world, world.certified(place), 2)
    with pytest.raises(OSError, match="another authority's list"):
        ServerTls(settings(world.controller))


def test_an_echo_tells_whether_it_lives(world: TlsWorld) -> None:
    peer = world.certified(world.pki.node("n1"))
    connection = live(world, peer, 1)
    asked = eventlet.spawn(connection.answers, 5)
    while True:
        _, kind, length, xid = receive.HEADER.unpack(peer.read(8))
        peer.read(length - 8)
        if kind == receive.ECHO_REQUEST:
            peer.send(message(receive.ECHO_REPLY, xid=xid))
        if asked.dead or xid in connection._probes:
            break
    assert asked.wait() is True
    assert connection.answers(0.05) is False and not connection._probes
    asked = eventlet.spawn(connection.answers, 60)
    eventlet.sleep(0)
    peer.socket._socket.close()
    with eventlet.Timeout(5):
        assert asked.wait() is False


def test_identity_is_that_of_the_certificate(world: TlsWorld) -> None:
    peer = world.certified(world.pki.node("n1"))
    assert peer.socket.peer == CertificateName(Kind.CONTROLLER, "ctl")


def test_files_read_like_those_of_a_socket(pki: Pki) -> None:
    """What the HTTP server uses."""
    place = pki.controller("files")
    tls = ServerTls(settings(place))
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)
    client = socket.create_connection(listener.getsockname())
    accepted, _ = listener.accept()
    listener.close()
    shaking = eventlet.spawn(tls.accept, accepted)
    theirs = client_stream(client, client_context(pki.node("files"), place / CA))
    theirs.handshake(5)
    ours = shaking.wait()
    reader, writer = ours.makefile("rb"), ours.makefile("wb", 16384)
    theirs.sendall(b"line\n" + b"x" * 100_000)
    assert reader.readline() == b"line\n" and len(reader.read(100_000)) == 100_000
    writer.write(b"y" * 200_000)
    writer.flush()
    got = b""
    while len(got) < 200_000:
        got += theirs.recv(65536)
    ours.shutdown(plain_socket.SHUT_WR)  # nothing more from us; what the peer still says is read
    assert theirs.recv(1) == b""
    theirs.sendall(b"bye\n")
    assert reader.readline() == b"bye\n"
    ours.settimeout(0.05)
    with pytest.raises(TimeoutError):
        reader.read(1)
    for each in (ours, theirs):
        each.close()
