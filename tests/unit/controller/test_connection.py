"""A connection from accept to its end, over real sockets, with Ryu's own handshake."""

from __future__ import annotations

import random
import socket as plain_socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from unittest.mock import Mock

import eventlet
import pytest
from eventlet.green import socket
from ryu.base import app_manager
from ryu.controller import controller as ryu_controller
from ryu.controller.handler import DEAD_DISPATCHER, MAIN_DISPATCHER
from ryu.controller.ofp_handler import OFPHandler
from ryu.ofproto import ofproto_protocol

from controller import newcomers, receive
from controller.connection import MOST_ECHO, MOST_UNREAD, SESSION_XIDS
from controller.connection_factory import ConnectionFactory
from controller.session_outbox import HIGH_WATER, SEND_SIZE, Outbox

HELLO = struct.pack("!BBHIHHI", 5, 0, 16, 1, 1, 8, 1 << 5)
ZERO_HELLO = bytes.fromhex("04000010000000130001000000000010")


def message(kind: int, body: bytes = b"", xid: int = 1, version: int = 5) -> bytes:
    return struct.pack("!BBHI", version, kind, 8 + len(body), xid) + body


class Receiver:
    def __init__(self) -> None:
        self.answers: list[tuple[int, int, bytes]] = []

    def packet_in(self, message: bytes) -> bytes | None:
        return b"<" + message[8:10] + b">"

    def answer(self, kind: int, xid: int, message: bytes) -> None:
        self.answers.append((kind, xid, message))


class Peer:
    """The switch's end of a connection."""

    def __init__(self, factory: ConnectionFactory, address: str = "127.0.0.1") -> None:
        """`address`: where the factory is told that it comes from."""
        theirs, self.socket = socket.socketpair()
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        self.socket = socket.create_connection(listener.getsockname())
        accepted, (_, port) = listener.accept()
        listener.close()
        theirs.close()
        self.socket.settimeout(5)
        self.thread = eventlet.spawn(factory, accepted, (address, port))
        self._rest = b""

    def send(self, *messages: bytes) -> None:
        self.socket.sendall(b"".join(messages))

    def read(self, size: int) -> bytes:
        while len(self._rest) < size:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self._rest += data
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def next(self) -> tuple[int, int, bytes]:
        """Type, xid and body of the next message that is no echo request."""
        while True:
            _, kind, length, xid = receive.HEADER.unpack(self.read(8))
            body = self.read(length - 8)
            if kind != receive.ECHO_REQUEST:
                return kind, xid, body

    def shake_hands(self, datapath_id: int = 7) -> None:
        self.send(HELLO)
        assert self.next()[0] == receive.HELLO
        kind, xid, _ = self.next()
        assert kind == 5
        self.send(message(6, struct.pack("!QIBB2xII", datapath_id, 0, 254, 0, 0, 0), xid))
        kind, xid, body = self.next()
        assert kind == 18 and body[:2] == b"\0\x0d"
        # a port whose length is 0: nobody may read it
        self.send(message(19, struct.pack("!HH4x", 13, 0) + bytes(80), xid))

    def closed(self) -> bool:
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionError:
            pass
        return True


class World:
    def __init__(self) -> None:
        self.counters: dict[str, int] = {}
        self.waiters: dict[int, dict[int, Any]] = {}
        self.delivered: list[Any] = []
        self.factory = ConnectionFactory(self.waiters, self.delivered.append, self.counters)

    def peer(self, address: str = "127.0.0.1") -> Peer:
        return Peer(self.factory, address)

    def connection(self) -> Any:
        (connection,) = self.factory._open
        return connection

    def live(self) -> tuple[Peer, Any, Receiver]:
        peer = self.peer()
        peer.shake_hands()
        connection = self.connection()
        until(lambda: connection.state == MAIN_DISPATCHER)
        connection.trust()
        connection.receiver = Receiver()
        return peer, connection, connection.receiver


def until(condition: Any) -> None:
    with eventlet.Timeout(30):
        while not condition():
            eventlet.sleep(0.001)


@pytest.fixture(scope="module", autouse=True)
def ryu() -> Iterator[None]:
    """Ryu's handshake application, without its listener."""
    supported = set(ofproto_protocol._supported_versions)
    ofproto_protocol.set_app_supported_versions([5])
    handler = OFPHandler()
    app_manager.register_app(handler)
    yield
    app_manager.unregister_app(handler)
    ofproto_protocol._supported_versions = supported


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.factory.close_all()


def test_handshake(world: World) -> None:
    peer, connection, _ = world.live()
    assert connection.id == 7 and connection.ports == {}


def test_packet_ins_of_one_read_are_answered_in_order(world: World) -> None:
    peer, _, _ = world.live()
    peer.send(*(message(10, struct.pack("!H", index) + bytes(32)) for index in range(100)))
    assert peer.read(400) == b"".join(b"<" + struct.pack("!H", index) + b">" for index in range(100))


def test_echo_is_returned(world: World) -> None:
    peer, _, _ = world.live()
    peer.send(message(2, b"payload", xid=99))
    assert peer.next() == (3, 99, b"payload")


def test_answers_go_to_the_session_and_nothing_else_does(world: World) -> None:
    peer, _, receiver = world.live()
    own = SESSION_XIDS + 5
    unused = [message(kind, bytes(40), own) for kind in (4, 8, 11, 12, 32, 99)]
    peer.send(*unused, message(21, b"", own), message(21, b"", 5), message(1, bytes(4), own), message(30, bytes(16), 0))
    until(lambda: len(receiver.answers) == 3)
    assert [(kind, xid) for kind, xid, _ in receiver.answers] == [(21, own), (1, own), (30, 0)]
    assert world.counters["openflow_ignored_messages"] == len(unused)


def test_statistics_that_somebody_waits_for_are_parsed_by_ryu(world: World) -> None:
    peer, _, receiver = world.live()
    reply = struct.pack("!HH4x", 0, 0) + b"Nicira".ljust(1056, b"\0")
    world.waiters[7] = {17: object()}
    peer.send(message(19, reply, 16), message(19, reply, 17))
    until(lambda: world.delivered)
    assert [delivered.xid for delivered in world.delivered] == [17]
    assert world.delivered[0].body.mfr_desc == b"Nicira" and receiver.answers == []


def test_ryus_transaction_ids_stay_below_ours(world: World) -> None:
    _, connection, _ = world.live()
    connection.xid = SESSION_XIDS - 1
    request = connection.ofproto_parser.OFPEchoRequest(connection)
    assert connection.set_xid(request) == 0


@pytest.mark.parametrize(
    "garbage",
    [
        ZERO_HELLO,
        message(0, version=99),
        message(6, bytes(24)),
        bytes.fromhex("0500000300000000"),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        bytes(range(256)) * 16,
    ],
    ids=["zero-length hello", "version 99", "features before hello", "length 3", "http", "bytes"],
)
def test_threat_22_garbage_is_hung_up_on(world: World, garbage: bytes) -> None:
    peer = world.peer()
    peer.send(garbage)
    with eventlet.Timeout(30):
        assert peer.closed()
    until(lambda: not world.factory._open)
    assert world.counters["openflow_bad_messages"] == 1


@pytest.mark.parametrize("bad", [message(10, bytes(20)), message(2, version=4), message(33, bytes(2))])
def test_a_switch_that_breaks_the_protocol_is_hung_up_on(world: World, bad: bytes) -> None:
    peer, connection, receiver = world.live()
    connection.receiver = None
    peer.send(bad)
    with eventlet.Timeout(30):
        assert peer.closed()


def test_port_descriptions_before_features_do_not_finish_the_handshake(world: World) -> None:
    peer = world.peer()
    peer.send(HELLO, message(19, struct.pack("!HH4x", 13, 0)))
    peer.send(message(2, b"x", xid=3))
    while peer.next()[0] != 3:
        pass
    assert world.connection().state != MAIN_DISPATCHER and world.connection().id is None


def test_only_openflow_14_is_spoken(world: World) -> None:
    peer = world.peer()
    assert peer.next()[0] == receive.HELLO
    peer.send(struct.pack("!BBHIHHI", 4, 0, 16, 1, 1, 8, 1 << 4))
    kind, _, body = peer.next()
    assert kind == receive.ERROR and b"version" in body


def test_a_handshake_that_does_not_end_is_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ryu_controller.CONF, "echo_request_interval", 0.05, raising=False)
    with eventlet.Timeout(30):
        assert world.peer().closed()
    assert world.counters["openflow_handshake_timeouts"] == 1


def test_a_switch_that_does_not_answer_echo_requests_is_dead(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    peer, connection, _ = world.live()
    assert connection.max_unreplied_echo_requests == ryu_controller.CONF.maximum_unreplied_echo_requests
    connection.echo_request_interval, connection.max_unreplied_echo_requests = 0.02, 3
    connection.unreplied_echo_requests = []
    watchdog = eventlet.spawn(connection._echo_request_loop)
    with eventlet.Timeout(30):
        watchdog.wait()
    assert connection.state == DEAD_DISPATCHER and len(connection.unreplied_echo_requests) == 3


def test_echo_replies_keep_a_connection(world: World) -> None:
    peer, connection, _ = world.live()
    connection.unreplied_echo_requests = [11, 12]
    peer.send(message(3, xid=11), message(3, xid=12))
    until(lambda: connection.unreplied_echo_requests == [])


def test_threat_22_a_switch_that_reads_nothing_is_dead(world: World) -> None:
    peer, connection, _ = world.live()
    connection.socket.settimeout(0.1)
    connection.socket.setsockopt(plain_socket.SOL_SOCKET, plain_socket.SO_SNDBUF, 4096)
    piece = bytes(SEND_SIZE)
    with eventlet.Timeout(30):
        while connection.write(piece):
            pass
    assert connection.outbox.closed
    until(lambda: not world.factory._open)


def test_threat_22_its_end_waits_for_no_queue(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ryu's queue of events is full, and who would empty it is who hangs up: as where hundreds come at once."""
    peer, connection, _ = world.live()
    told: list[str] = []
    room = eventlet.event.Event()

    def wait_for_room(_event: object, state: str) -> None:
        room.wait()
        told.append(state)

    monkeypatch.setattr(connection.ofp_brick, "send_event_to_observers", wait_for_room)
    with eventlet.Timeout(5):
        connection.close()
    connection.set_state(MAIN_DISPATCHER)  # what was read before its end
    assert connection.state == DEAD_DISPATCHER
    room.send()
    until(lambda: told == [DEAD_DISPATCHER])
    assert peer.closed()


def test_the_oldest_handshake_makes_room(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newcomers, "MAX_HANDSHAKING", 3)
    live, _, _ = world.live()
    peers = [world.peer() for _ in range(4)]
    with eventlet.Timeout(30):
        assert peers[0].closed()
    live.send(message(2, b"still here", xid=5))
    assert live.next() == (3, 5, b"still here")


def test_the_oldest_of_an_address_makes_room(world: World) -> None:
    """Its own share is full: it is not others that have to go."""
    world.factory = ConnectionFactory(world.waiters, world.delivered.append, world.counters, share=3)
    other = world.peer("198.51.100.7")
    mine = [world.peer() for _ in range(5)]
    with eventlet.Timeout(30):
        assert mine[0].closed() and mine[1].closed()
    other.shake_hands()
    until(lambda: any(one.id == 7 for one in world.factory._open))
    assert world.counters["openflow_handshakes_displaced"] == 2
    mine[4].shake_hands(8)
    until(lambda: any(one.state == MAIN_DISPATCHER and one.id == 8 for one in world.factory._open))
    mine.append(world.peer())
    until(lambda: len(world.factory._newcomers) == 3)  # a switch that has shaken hands is none of them
    assert world.counters["openflow_handshakes_displaced"] == 2


def test_handshakes_of_an_address_begin_at_a_bounded_rate(world: World) -> None:
    world.factory = ConnectionFactory(world.waiters, world.delivered.append, world.counters, share=3)
    peers = []
    with eventlet.Timeout(30):
        while not world.counters.get("openflow_handshakes_refused"):
            peers.append(world.peer())
            peers[-1].send(HELLO)
            eventlet.sleep()
    other = world.peer("2001:db8::1")
    other.shake_hands()
    until(lambda: any(one.id == 7 for one in world.factory._open))


class Stream:
    """Peers of one address that speak at once."""

    def __init__(self, share: int, chance: Callable[[], float]) -> None:
        self.now = 0.0
        self.table = newcomers.Newcomers(share, {}, lambda: self.now, chance)

    def begins(self) -> bool:
        peer = Mock()
        self.table.enter("192.0.2.1", peer)
        began = self.table.begin("192.0.2.1", peer)
        self.table.leave("192.0.2.1", peer)
        return began


def test_the_share_of_an_address_begins_at_once_and_as_much_by_chance() -> None:
    unlucky, lucky = Stream(10, lambda: 0.999), Stream(10, lambda: 0.0)
    assert [unlucky.begins() for _ in range(20)].count(True) == 10
    assert [lucky.begins() for _ in range(30)].count(True) == 20


def test_a_share_above_all_places_begins_no_more_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newcomers, "MAX_HANDSHAKING", 10)
    lucky = Stream(1000, lambda: 0.0)
    assert [lucky.begins() for _ in range(30)].count(True) == 20


def test_a_steady_stream_of_peers_does_not_take_each_handshake_of_its_address() -> None:
    """Twice as many as may begin, in step; the node comes right after one of them, once a second."""
    share, seconds, begun = 64, 200, 0
    stream = Stream(share, random.Random(1).random)
    for _ in range(seconds):
        for _ in range(2 * share):
            stream.now += newcomers.LEAST_TIME / (2 * share)
            stream.begins()
        stream.now += 0.0001
        begun += stream.begins()
    assert seconds / 3 < begun < seconds * 2 / 3


@pytest.mark.parametrize("until_known", ["in its handshake", "unknown"])
def test_threat_22_an_unknown_peer_that_does_not_read_is_hung_up_on(world: World, until_known: str) -> None:
    peer = world.peer()
    peer.socket.setsockopt(plain_socket.SOL_SOCKET, plain_socket.SO_RCVBUF, 4096)
    if until_known == "unknown":
        peer.shake_hands()
    else:
        peer.send(HELLO)
    until(lambda: len(world.factory._open) == 1)
    connection = world.connection()
    most = 0
    with eventlet.Timeout(30), suppress(OSError):
        while True:
            peer.send(message(2, bytes(MOST_ECHO - 8)) * 16)
            most = max(most, connection.outbox.size)
            eventlet.sleep(0)
    until(lambda: not world.factory._open)
    assert world.counters["openflow_unread_answers"] == 1 and most <= 2 * MOST_UNREAD


def test_threat_22_a_large_echo_request_of_an_unknown_peer_is_not_answered(world: World) -> None:
    peer = world.peer()
    peer.send(HELLO, message(2, bytes(MOST_ECHO)))
    with eventlet.Timeout(30):
        assert peer.closed()
    assert world.counters["openflow_bad_messages"] == 1


def test_outbox_joins_and_bounds() -> None:
    outbox = Outbox()
    small, large = b"a" * 1000, b"b" * (2 * SEND_SIZE)
    for _ in range(100):
        outbox.put(small)
    outbox.put(large)
    assert len(outbox.take()) == SEND_SIZE and len(outbox.take()) == 40_000 and outbox.take() == large
    assert outbox.size == 0
    outbox.put(bytes(HIGH_WATER + 1))
    waiter = eventlet.spawn(outbox.wait_for_room)
    eventlet.sleep(0)
    assert not waiter.dead
    outbox.take()
    assert waiter.wait() is True
    outbox.close()
    assert outbox.put(b"late") is False and outbox.take() == b"" and outbox.wait_for_room() is False
