"""One server is asked, by real sockets: what it says counts, and what others say in its name does not."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from dnslib import QTYPE, RR, TXT, A, DNSRecord

from controller.dns.exchange import ask
from controller.dns.reply import Unusable
from controller.dns.upstreams import Upstream
from tests.unit.dns.scene import query

Answers = Callable[[bytes, socket.socket, tuple[str, int]], None]


def reply(message: bytes, *, count: int = 1, address: str = "192.0.2.1", tc: int = 0) -> bytes:
    made = DNSRecord.parse(message).reply(aa=0, ra=1)
    made.header.tc = tc
    name = made.q.qname
    for _ in range(count):
        made.add_answer(RR(name, QTYPE.A, ttl=60, rdata=A(address)))
    return bytes(made.pack())


def both() -> tuple[socket.socket, socket.socket]:
    """A port that is free for UDP may be somebody's for TCP: then another one."""
    while True:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        udp.bind(("127.0.0.1", 0))
        try:
            tcp.bind(udp.getsockname())
        except OSError:
            udp.close()
            tcp.close()
        else:
            return udp, tcp


@contextmanager
def server(answers: Answers, by_tcp: Callable[[bytes], bytes] | None = None) -> Iterator[Upstream]:
    udp, tcp = both()
    tcp.listen()
    udp.settimeout(5)
    tcp.settimeout(5)

    def serve_udp() -> None:
        message, client = udp.recvfrom(4096)
        answers(message, udp, client)

    def serve_tcp() -> None:
        if by_tcp is not None:
            connection, _ = tcp.accept()
            with connection:
                size = int.from_bytes(connection.recv(2))
                said = by_tcp(connection.recv(size))
                for piece in (said[:1], said[1:9], said[9:]):
                    connection.sendall(piece)

    threads = [threading.Thread(target=serve) for serve in (serve_udp, serve_tcp)]
    for thread in threads:
        thread.start()
    try:
        yield Upstream(*udp.getsockname())
    finally:
        for thread in threads:
            thread.join(10)
        udp.close()
        tcp.close()


def test_others_answers_are_not_heard() -> None:
    """From another port, with another id, about another name; then the server's own."""

    def answers(message: bytes, udp: socket.socket, client: tuple[str, int]) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", 0))
            other.sendto(reply(message, address="192.0.2.66"), client)
        wrong = reply(message, address="192.0.2.66")
        udp.sendto((int.from_bytes(wrong[:2]) ^ 1).to_bytes(2) + wrong[2:], client)
        udp.sendto(wrong.replace(b"example", b"exbmple"), client)
        udp.sendto(message, client)
        udp.sendto(b"", client)
        udp.sendto(reply(message), client)

    with server(answers) as upstream:
        found = ask(upstream, query("example.com"), 5)
    assert found.data[-4:] == bytes((192, 0, 2, 1)) and found.answers == 1


def test_ids_and_ports_differ() -> None:
    seen = set()

    def answers(message: bytes, udp: socket.socket, client: tuple[str, int]) -> None:
        seen.add((message[:2], client[1]))
        udp.sendto(reply(message), client)

    for _ in range(8):
        with server(answers) as upstream:
            ask(upstream, query("example.com"), 5)
    assert len({id_ for id_, _ in seen}) > 4 and len({port for _, port in seen}) > 4


def test_a_flood_of_wrong_answers_ends_it() -> None:
    def answers(message: bytes, udp: socket.socket, client: tuple[str, int]) -> None:
        for _ in range(70):
            udp.sendto(b"\0" * 12, client)

    with server(answers) as upstream, pytest.raises(Unusable):
        ask(upstream, query("example.com"), 5)


def test_silence_takes_as_long_as_it_may() -> None:
    began = time.monotonic()
    with server(lambda message, udp, client: None) as upstream, pytest.raises(TimeoutError):
        ask(upstream, query("example.com"), 0.2)
    assert time.monotonic() - began < 4


def test_where_nobody_is_it_is_said_at_once() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        nobody = Upstream(*udp.getsockname())
    with pytest.raises(ConnectionRefusedError):
        ask(nobody, query("example.com"), 30)


def test_the_whole_by_tcp() -> None:
    def short(message: bytes, udp: socket.socket, client: tuple[str, int]) -> None:
        udp.sendto(reply(message, count=0, tc=1), client)

    def whole(message: bytes) -> bytes:
        made = DNSRecord.parse(message).reply(aa=0, ra=1)
        made.add_answer(*(RR(made.q.qname, QTYPE.TXT, ttl=60, rdata=TXT("x" * 250)) for _ in range(200)))
        packed = bytes(made.pack())
        return len(packed).to_bytes(2) + packed

    with server(short, whole) as upstream:
        found = ask(upstream, query("example.com", "TXT"), 5)
    assert found.answers == 200 and len(found.data) > 50000


@pytest.mark.parametrize("said", [b"", b"\0", b"\0\x20abc", b"\0\x0c" + bytes(12)])
def test_nothing_sound_by_tcp(said: bytes) -> None:
    def short(message: bytes, udp: socket.socket, client: tuple[str, int]) -> None:
        udp.sendto(reply(message, count=0, tc=1), client)

    with server(short, lambda message: said) as upstream, pytest.raises(Unusable):
        ask(upstream, query("example.com"), 5)
