"""DNS over TCP, as the relay takes it and hands it on."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.client import Answer
from agent.relay import dns
from agent.relay.dns import Dns, server_failure
from agent.relay.limits import Rate
from agent.relay.stream import Stream
from agent.relay.upstream import Away

QUESTION = b"\x12\x34" + bytes(dnslib.DNSRecord.question("www.example.org", "AAAA").pack())[2:]


@dataclass
class FakeUpstream:
    answer: Answer | None = None
    asked: list[bytes] = field(default_factory=list)

    async def dns(self, port_key: int, message: bytes) -> Answer:
        self.asked.append(message)
        if self.answer is None:
            raise Away
        return self.answer


def answered(body: bytes, status: int = 200) -> FakeUpstream:
    return FakeUpstream(Answer(status, "application/dns-message", body))


def run(upstream: FakeUpstream, client: Callable[[socket.socket], Awaitable[None]]) -> None:
    async def scenario() -> None:
        near, far = socket.socketpair()
        for each in (near, far):
            each.setblocking(False)
        stream = Stream(near)
        serving = asyncio.create_task(Dns(upstream, Rate(0, 1)).serve(stream, 7))  # type: ignore[arg-type]
        serving.add_done_callback(lambda _: stream.close())
        with far:
            await client(far)
        ended, _ = await asyncio.wait({serving}, timeout=30)
        assert ended
        serving.result()

    asyncio.run(scenario())


def exchange(upstream: FakeUpstream, *sent: bytes) -> bytes:
    heard = b""

    async def client(far: socket.socket) -> None:
        nonlocal heard
        loop = asyncio.get_running_loop()
        for part in sent:
            await loop.sock_sendall(far, part)
        far.shutdown(socket.SHUT_WR)
        while more := await asyncio.wait_for(loop.sock_recv(far, 65536), 5):
            heard += more

    run(upstream, client)
    return heard


def framed(*messages: bytes) -> bytes:
    return b"".join(len(message).to_bytes(2) + message for message in messages)


def test_several_questions_of_one_connection_are_answered_in_turn() -> None:
    upstream = answered(b"a" * 60000)
    others = [bytes((0, n)) + QUESTION[2:] for n in range(3)]
    # cut in the middle of a length and of a question
    sent = framed(*others)
    assert exchange(upstream, sent[:1], sent[1:20], sent[20:]) == framed(*(b"a" * 60000,) * 3)
    assert upstream.asked == others


@pytest.mark.parametrize("upstream", [FakeUpstream(), answered(b"", 404), answered(b"x" * 11), answered(b"x" * 65536)])
def test_without_an_answer_it_says_so(upstream: FakeUpstream) -> None:
    reply = dnslib.DNSRecord.parse(exchange(upstream, framed(QUESTION))[2:])
    asked = dnslib.DNSRecord.parse(QUESTION)
    assert (reply.header.id, reply.header.rcode, reply.header.qr, reply.header.rd) == (asked.header.id, 2, 1, 1)
    assert [str(reply.q.qname), reply.q.qtype, len(reply.rr)] == ["www.example.org.", 28, 0]


@pytest.mark.parametrize("sent", [framed(b""), framed(b"x" * 11), framed(b"x" * 4097), framed(QUESTION)[:-1], b"\0"])
def test_what_is_no_question_ends_the_connection(sent: bytes) -> None:
    upstream = answered(b"y" * 12)
    assert exchange(upstream, sent) == b"" and upstream.asked == []


def test_an_answer_is_no_question() -> None:
    assert server_failure(bytes(dnslib.DNSRecord.parse(QUESTION).reply().pack())) is None


@given(st.binary(max_size=64))
def test_whatever_is_asked_the_failure_is_of_that_question(tail: bytes) -> None:
    said = server_failure(QUESTION[:12] + tail)
    assert said is not None and said[:2] == QUESTION[:2]
    parsed = dnslib.DNSHeader.parse(dnslib.DNSBuffer(said))
    assert (parsed.qr, parsed.rcode, parsed.a, parsed.auth, parsed.ar) == (1, 2, 0, 0, 0)
    assert said[12:] == (tail[: len(said) - 12] if parsed.q else b"")


def test_a_slow_question_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "_QUESTION_S", 0.1)

    async def client(far: socket.socket) -> None:
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while True:
                await asyncio.get_running_loop().sock_sendall(far, b"\x04")
                await asyncio.sleep(0.02)

    with pytest.raises(TimeoutError):
        run(answered(b""), client)


def test_too_many_questions_wait_and_then_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "_LONGEST_WAIT_S", 0.3)
    upstream = answered(QUESTION)

    async def scenario() -> None:
        service = Dns(upstream, Rate(0.01, 1))  # type: ignore[arg-type]
        assert await service._answer(7, QUESTION) == QUESTION
        began = time.monotonic()
        assert await service._answer(7, QUESTION) == server_failure(QUESTION) and time.monotonic() - began > 0.25

    asyncio.run(scenario())
    assert len(upstream.asked) == 1
