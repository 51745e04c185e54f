"""The way that a browser takes into the quickstart's laboratory."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from etc.lab import netns
from etc.lab.relay import LOOPBACK, Relay
from tests.conftest import PREFIX

NAMESPACE = f"{PREFIX}-relay"


@pytest.fixture
def echo(root: None) -> Iterator[int]:
    """The port of an echo server in a namespace, where nobody gets but by a relay."""
    netns.create(NAMESPACE)
    try:
        with netns.inside(NAMESPACE):
            listener = socket.create_server((LOOPBACK, 0))
        with listener:
            threading.Thread(target=_answer, args=(listener,), daemon=True).start()
            yield int(listener.getsockname()[1])
            listener.shutdown(socket.SHUT_RDWR)
    finally:
        netns.delete(NAMESPACE)


def _answer(listener: socket.socket) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_echo, args=(connection,), daemon=True).start()


def _echo(connection: socket.socket) -> None:
    with connection, suppress(OSError):
        while data := connection.recv(65536):
            connection.sendall(data)
        connection.sendall(b", bye")


def _say(connection: socket.socket, message: bytes) -> None:
    with suppress(OSError):
        connection.sendall(message)
        connection.shutdown(socket.SHUT_WR)


def ask(port: int, message: bytes) -> bytes:
    with socket.create_connection((LOOPBACK, port), timeout=10) as connection:
        threading.Thread(target=_say, args=(connection, message)).start()
        answer = bytearray()
        while data := connection.recv(65536):
            answer += data
    return bytes(answer)


def test_all_gets_there_and_back(echo: int) -> None:
    with Relay(NAMESPACE, (LOOPBACK, echo), 0) as relay:
        large = bytes(range(256)) * 8000
        assert ask(relay.port, large) == large + b", bye"
        with socket.create_connection((LOOPBACK, relay.port), timeout=10) as one:  # which says nothing
            assert ask(relay.port, b"x") == b"x, bye"
            one.sendall(b"late")
            assert one.recv(4) == b"late"


def test_another_port_is_taken_where_somebody_has_it(echo: int) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        with Relay(NAMESPACE, (LOOPBACK, echo), port) as relay:
            assert relay.port != port
            assert ask(relay.port, b"x") == b"x, bye"


def test_nothing_is_left_of_it(echo: int) -> None:
    with Relay(NAMESPACE, (LOOPBACK, echo), 0) as relay:
        port = relay.port
        waiting = socket.create_connection((LOOPBACK, port), timeout=10)
        waiting.sendall(b"x")
        assert waiting.recv(1) == b"x"
    with waiting, suppress(ConnectionError):
        assert waiting.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        ask(port, b"x")


def test_who_cannot_be_reached_is_hung_up_on(echo: int) -> None:
    with Relay(NAMESPACE, (LOOPBACK, 1), 0) as relay, suppress(ConnectionError):
        assert ask(relay.port, b"x") == b""
