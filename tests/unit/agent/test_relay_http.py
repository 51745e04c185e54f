"""What the relay makes of requests for metadata, over a real socket, and what it hands on."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from agent.client import Answer
from agent.relay import http
from agent.relay.http import Http, Refused, upstream_path
from agent.relay.limits import Rate
from agent.relay.stream import Stream
from agent.relay.upstream import Away

KEY = 7
NO_LIMIT = Rate(0, 1)
GET = b"GET /latest/meta-data/ HTTP/1.1\r\nHost: 169.254.169.254\r\n"
END = b"\r\n"
CLOSE = b"Connection: close\r\n\r\n"

Asked = tuple[int, str, str, bytes | None, str]


@dataclass
class FakeUpstream:
    """Answers with the path, or with `answer`, or not at all."""

    answer: Answer | None = None
    away: bool = False
    asked: list[Asked] = field(default_factory=list)

    async def metadata(self, port_key: int, method: str, path: str, body: bytes | None, content_type: str) -> Answer:
        self.asked.append((port_key, method, path, body, content_type))
        if self.away:
            raise Away
        return self.answer or Answer(200, "text/plain", path.encode())


def run(upstream: FakeUpstream, client: Callable[[socket.socket], Awaitable[None]], rate: Rate = NO_LIMIT) -> None:
    """A connection from its beginning to its end. Raises what ended it, if that is not what was said over it."""

    async def scenario() -> None:
        near, far = socket.socketpair()
        for each in (near, far):
            each.setblocking(False)
        stream = Stream(near)

        async def serve() -> None:
            try:
                await Http(upstream, rate).serve(stream, KEY)  # type: ignore[arg-type]
            finally:
                stream.close()

        serving = asyncio.create_task(serve())
        with far:
            await client(far)
        ended, _ = await asyncio.wait({serving}, timeout=30)
        assert ended
        serving.result()

    asyncio.run(scenario())


async def say(far: socket.socket, *parts: bytes) -> None:
    for part in parts:
        await asyncio.get_running_loop().sock_sendall(far, part)


async def hear(far: socket.socket) -> bytes:
    """All until the relay ends the connection."""
    heard = b""
    while more := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(far, 65536), 5):
        heard += more
    return heard


def exchange(sent: bytes, upstream: FakeUpstream | None = None, rate: Rate = NO_LIMIT) -> bytes:
    heard = b""

    async def client(far: socket.socket) -> None:
        nonlocal heard
        await say(far, sent)
        heard = await hear(far)

    run(upstream or FakeUpstream(), client, rate)
    return heard


def status(heard: bytes) -> int:
    return int(heard.split(b" ", 2)[1])


def test_threat_18_method_path_and_body_go_on_and_nothing_else() -> None:
    upstream = FakeUpstream(Answer(201, "application/json", b"{}"))
    lies = b"X-Forwarded-For: 10.0.0.1\r\nX-Instance-ID: 9\r\nAuthorization: Bearer x\r\nContent-Type: text/x\r\n"
    head = b"POST /openstack/latest/password HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n" + lies
    heard = exchange(head + CLOSE + b"abc", upstream)
    assert heard.startswith(b"HTTP/1.1 201 ") and heard.endswith(b"\r\n\r\n{}")
    assert b"Content-Type: application/json\r\n" in heard and b"Content-Length: 2\r\n" in heard
    assert upstream.asked == [(KEY, "POST", "openstack/latest/password", b"abc", "text/x")]


def test_requests_in_one_go_are_answered_in_turn_over_one_connection() -> None:
    upstream = FakeUpstream()
    heard = exchange(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(3)) + GET + CLOSE, upstream)
    assert [path for _, _, path, _, _ in upstream.asked] == ["0", "1", "2", "latest/meta-data/"]
    assert heard.count(b"HTTP/1.1 200 ") == 4 and heard.endswith(b"latest/meta-data/")


def test_a_body_hides_no_second_request() -> None:
    upstream = FakeUpstream()
    inner = b"GET /inner HTTP/1.1\r\nHost: x\r\n\r\n"
    exchange(b"POST /outer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % len(inner) + CLOSE + inner, upstream)
    assert [path for _, _, path, _, _ in upstream.asked] == ["outer"]


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For : 1\r\n",
        b"GET / HTTP/1.1\r\n",  # RFC 9112, 3.2: no Host
        b"GET / \r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n",
    ],
)
def test_what_is_no_proper_request_is_refused(head: bytes) -> None:
    upstream = FakeUpstream()
    heard = exchange(head + END, upstream)
    assert status(heard) == 400 and b"Connection: close" in heard and upstream.asked == []


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/latest/meta-data/", "latest/meta-data/"),
        ("//latest///meta-data", "latest/meta-data"),
        ("/", ""),
        ("/a%20b/%C3%BC?x=1#y", "a%20b/%C3%BC"),
        ("/a?x=/../..", "a"),
        ("http://169.254.169.254/latest/", "latest/"),
        ("/...", "..."),
    ],
)
def test_paths(target: str, path: str) -> None:
    assert upstream_path(target.encode()) == path


@pytest.mark.parametrize(
    "target",
    [
        "/../../networks",
        "/latest/%2e%2e/x",
        "/latest/.%2E",
        "/./a",
        "/a%2f..%2fb",
        "/a\\..\\b",
        "/a%0d%0aX:%20y",
        "/a%00",
        "*",
        "latest",
        "ftp://x/y",
        "/" + "a" * 2048,
    ],
)
def test_a_path_that_could_lead_elsewhere_is_refused(target: str) -> None:
    """It is asked with the agent's token."""
    with pytest.raises(Refused) as refused:
        upstream_path(target.encode())
    assert refused.value.status == 400


def test_a_refused_path_leaves_the_connection_as_it_is() -> None:
    heard = exchange(b"GET /../x HTTP/1.1\r\nHost: x\r\n\r\n" + GET + CLOSE)
    assert status(heard) == 400 and b"HTTP/1.1 200 " in heard


@pytest.mark.parametrize("method", [b"PUT", b"DELETE", b"OPTIONS", b"TRACE"])
def test_other_methods_are_not_known(method: bytes) -> None:
    upstream = FakeUpstream()
    heard = exchange(method + b" /latest/api/token HTTP/1.1\r\nHost: x\r\n" + CLOSE, upstream)
    assert status(heard) == 405 and b"Allow: GET, HEAD, POST\r\n" in heard and upstream.asked == []


def test_head_is_get_without_the_body() -> None:
    upstream = FakeUpstream()
    heard = exchange(b"HEAD /abc HTTP/1.1\r\nHost: x\r\n\r\n" + GET + CLOSE, upstream)
    assert upstream.asked[0][1:3] == ("GET", "abc")
    assert heard.count(b"HTTP/1.1 200 ") == 2 and b"Content-Length: 3\r\n\r\nHTTP/1.1 200 " in heard


def test_http_1_0_ends_with_the_answer() -> None:
    heard = exchange(b"GET /x HTTP/1.0\r\n\r\n")
    assert heard.startswith(b"HTTP/1.1 200 ") and heard.endswith(b"\r\n\r\nx")


def test_a_body_that_waits_for_leave_gets_it() -> None:
    async def client(far: socket.socket) -> None:
        await say(far, b"POST /p HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n" + CLOSE)
        assert (await asyncio.get_running_loop().sock_recv(far, 9999)).startswith(b"HTTP/1.1 100 ")
        await say(far, b"ab")
        assert (await hear(far)).startswith(b"HTTP/1.1 200 ")

    run(FakeUpstream(), client)


def test_a_large_head_is_refused() -> None:
    assert status(exchange(GET + b"X: " + b"a" * 20000)) == 431


def test_threat_18_a_large_body_is_refused_before_it_is_there() -> None:
    upstream = FakeUpstream()
    sent = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n" + b"a" * 70000
    assert status(exchange(sent, upstream)) == 413 and upstream.asked == []
    chunked = b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"fff0\r\n" + b"a" * 65520 + END
    assert status(exchange(chunked + b"fff0\r\n" + b"a" * 9000, upstream)) == 413 and upstream.asked == []


def test_threat_18_a_slow_request_ends_however_often_it_says_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_REQUEST_S", 0.2)

    async def client(far: socket.socket) -> None:
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for letter in GET * 100:
                await say(far, bytes((letter,)))
                await asyncio.sleep(0.02)

    with pytest.raises(TimeoutError):
        run(FakeUpstream(), client)


def test_threat_18_who_does_not_read_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_WRITE_S", 0.2)

    async def client(far: socket.socket) -> None:
        await say(far, GET + END)
        await asyncio.sleep(0.5)

    with pytest.raises(TimeoutError):
        run(FakeUpstream(Answer(200, "text/plain", b"x" * 5_000_000)), client)


def test_without_a_controller_it_says_when_to_try_again() -> None:
    heard = exchange(GET + CLOSE, FakeUpstream(away=True))
    assert status(heard) == 503 and b"Retry-After: 1\r\n" in heard


def test_what_the_controller_says_of_trying_again_goes_on() -> None:
    heard = exchange(GET + CLOSE, FakeUpstream(Answer(429, "text/plain", b"", retry_after=30)))
    assert status(heard) == 429 and b"Retry-After: 30\r\n" in heard


def test_too_many_are_slowed_down_and_then_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_LONGEST_WAIT_S", 0.1)
    slow = Rate(0.25, 2)
    heard = exchange((GET + END) * 2 + GET + CLOSE, rate=slow)
    assert heard.count(b"HTTP/1.1 200 ") == 2 and heard.count(b"HTTP/1.1 429 ") == 1 and b"Retry-After: 1\r\n" in heard


@pytest.mark.parametrize(
    "bad", [b"GET /.. HTTP/1.1\r\nHost: x\r\n\r\n", b"PUT / HTTP/1.1\r\nHost: x\r\n\r\n", b"what?\r\n\r\n"]
)
def test_what_is_refused_is_counted_and_waits_its_turn_too(bad: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """To read a request and to refuse it costs the relay as much as to pass it on."""
    monkeypatch.setattr(http, "_LONGEST_WAIT_S", 0.3)
    spent = Rate(0.01, 1)
    assert status(exchange(bad + CLOSE, rate=spent)) in (400, 405)
    began = time.monotonic()
    assert status(exchange(bad + CLOSE, rate=spent)) == 429 and time.monotonic() - began > 0.25


def test_a_body_in_crumbs_is_refused_after_a_few() -> None:
    """64 KiB of chunks of one byte keep the whole relay busy for a tenth of a second."""
    head = b"POST /openstack/latest/password HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    upstream = FakeUpstream()
    assert status(exchange(head + b"1\r\na\r\n" * 1000 + b"0\r\n\r\n", upstream)) == 413 and upstream.asked == []
    heard = exchange(head + b"1\r\na\r\n" * 200 + b"0\r\n\r\n" + GET + CLOSE, upstream)
    assert status(heard) == 200 and upstream.asked[0][3] == b"a" * 200
