"""Machines of Nova's, answered by a nova-metadata that checks who asks."""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from controller.metadata.nova import MOST_BYTES, NovaSettings
from tests.unit.metadata.model import Cloud, port

SECRET = "s3cret"
UUID = "7d5ea0a2-5a55-4bd2-b1e0-0d63a3b0a077"


class FakeNova(BaseHTTPRequestHandler):
    """As nova.api.metadata.handler does it: 403 for a wrong signature, 404 for a machine that is not the project's."""

    secret = SECRET
    replies: dict[str, tuple[int, bytes]]
    seen: list[tuple[str, str, str, bytes]]
    silent: threading.Event

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        instance = self.headers.get("X-Instance-ID", "")
        wanted = hmac.new(self.secret.encode(), instance.encode(), hashlib.sha256).hexdigest()
        signed = hmac.compare_digest(wanted, self.headers.get("X-Instance-ID-Signature", ""))
        if self.path == "/silent":
            self.silent.wait(10)
        status, content = self.replies.get(self.path, (200, f"{self.command} {self.path}".encode()))
        if not signed:
            status, content = 403, b"Invalid proxy request signature."
        elif (instance, self.headers.get("X-Tenant-ID")) != (UUID, "p"):
            status, content = 404, b""
        self.seen.append((self.command, self.path, self.headers.get("X-Forwarded-For", ""), body))
        self.send_response(status)
        self.send_header("Content-Type", "text/nova")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with suppress(BrokenPipeError):  # who has given up does not read it
            self.wfile.write(content)

    do_GET = do_POST = _handle

    def log_message(self, format: str, *args: object) -> None:
        pass


class World(Cloud):
    def __init__(self, handler: type[FakeNova], url: str, secret: str = SECRET) -> None:
        super().__init__(
            port(5, device_id=UUID), port(6), port(8, device_id="vm\u00fc"), nova=NovaSettings(url, secret, 0.5)
        )
        self.nova = handler
        self.url = url


@pytest.fixture
def world() -> Iterator[World]:
    handler = type("Handler", (FakeNova,), {"replies": {}, "seen": [], "silent": threading.Event()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield World(handler, f"http://127.0.0.1:{server.server_port}/")
    handler.silent.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_g2_it_is_asked_with_the_signed_headers(world: World) -> None:
    assert world.ask("/openstack/latest/meta_data.json") == (200, b"GET /openstack/latest/meta_data.json")
    assert world.ask("latest/a b?c#d") == (200, b"GET /latest/a%20b%3Fc%23d")
    assert world.ask("openstack/latest/password", body=b"pw")[1].startswith(b"POST")
    assert [(method, address, body) for method, _, address, body in world.nova.seen] == [
        ("GET", "10.0.0.5", b""),
        ("GET", "10.0.0.5", b""),
        ("POST", "10.0.0.5", b"pw"),
    ]
    reply = world.service.answer("n1", 5, "GET", "x")
    assert reply is not None and reply.content_type == "text/nova"


def test_g2_ports_that_are_not_novas_are_answered_here(world: World) -> None:
    for key in (6, 8):
        assert world.ask("latest", key) == (200, b"meta-data/")
    assert world.nova.seen == []


def test_g2_what_it_refuses_and_where_it_fails(world: World) -> None:
    world.nova.replies = {
        **{f"/{status}": (status, b"why") for status in (204, 400, 401, 404, 409, 500, 502, 302)},
        "/long": (200, bytes(MOST_BYTES + 1)),
        "/whole": (200, bytes(MOST_BYTES)),
    }
    for status, told in ((400, 400), (404, 404), (409, 409), (401, 503), (500, 503), (502, 503), (302, 503)):
        assert world.ask(str(status))[0] == told
    assert world.ask("204") == (204, b"")
    assert world.ask("long")[0] == 503
    assert world.ask("whole") == (200, bytes(MOST_BYTES))


def test_g2_another_secret_is_forbidden(world: World) -> None:
    other = World(world.nova, world.url, "another")
    assert other.ask("latest") == (403, b"Invalid proxy request signature.")


def test_g2_no_answer(world: World) -> None:
    assert world.ask("silent")[0] == 503
    assert World(world.nova, "http://127.0.0.1:1").ask("latest")[0] == 503


def test_threat_18_the_secret_is_in_no_log(world: World) -> None:
    assert SECRET not in repr(NovaSettings(world.url, SECRET))
