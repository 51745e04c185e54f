"""The real server on a loopback port, in a process of its own because it needs green threads."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.pki import Pki

ROOT = Path(__file__).parents[3]
SERVE = """
import sys
from controller import compat
compat.install()
import eventlet.tpool
from controller import logs
from controller.api.server import ApiServer
from tests.unit.api.world import World

logs.configure(level="ERROR")
world = World(sys.argv[1])
tls = None
if len(sys.argv) > 2:
    from pathlib import Path
    from controller.tls_context import ServerTls
    from controller.tls_settings import TlsSettings
    files = (Path(sys.argv[2], name) for name in ("certificate.pem", "key.pem", "ca.pem", "crl.pem"))
    tls = ServerTls(TlsSettings(*files, demand=sys.argv[3] == "demand"))
server = ApiServer(world.app, "127.0.0.1", 0, tls)
server.start()
print(server.port, flush=True)
eventlet.tpool.execute(sys.stdin.read)  # until the test closes it
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with serving(tmp_path_factory.mktemp("server")) as found:
        yield found


@contextmanager
def serving(directory: Path, *tls: str) -> Iterator[int]:
    """The port of a server. `tls`: the directory of its certificate, and whether it demands one of clients."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SERVE, f"sqlite:///{directory}/trunkline.db", *tls],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.kill()
        process.wait(10)
        process.stdout.close()


def exchange(port: int, request: bytes) -> bytes:
    """Everything the server answers until it closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def test_requests_share_a_connection(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"Authorization": "Bearer admin-token"}
    for number in range(5):
        body = {
            "name": f"n{number}",
            "kind": "vlan",
            "physical_network": "physnet1",
            "subnets": [{"cidr": f"10.{number}.0.0/24"}],
        }
        connection.request("POST", "/v1/networks", json.dumps(body), headers)
        first_socket = connection.sock
        reply = connection.getresponse()
        assert reply.status == 201
        assert len(reply.headers.get_all("X-Request-Id", [])) == 1
        reply.read()
        assert connection.sock is first_socket
    connection.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"Content-Length: 99999999\r\n", b"413"),
        (b"Content-Length: 99999999999999999999\r\n", b"413"),
        (b"Transfer-Encoding: chunked\r\n", b"411"),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"411"),
        (b"Content-Length: 2\r\nContent-Length: 3\r\n", b"400"),
        (b"Content-Length: +2\r\n", b"400"),
    ],
)
def test_bodies_are_refused_by_their_headers(port: int, headers: bytes, status: bytes) -> None:
    head = b"POST /v1/networks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin-token\r\n" + headers + b"\r\n"
    answer = exchange(port, head + b"0\r\n\r\nGET /v1/networks HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.split(b" ", 2)[1] == status
    assert b'{"error":' in answer.replace(b": ", b":")
    assert answer.count(b"HTTP/1.") == 1  # what follows such a body is not taken for a request


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /" + b"x" * 10000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 100000 + b"\r\n\r\n",
        b"GARBAGE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
def test_garbage_gets_a_refusal_without_a_traceback(port: int, request_: bytes) -> None:
    answer = exchange(port, request_)
    assert b"Traceback" not in answer and b" 200 " not in answer


def test_nul_in_the_path(port: int) -> None:
    answer = exchange(
        port, b"GET /v1/networks/%00 HTTP/1.1\r\nAuthorization: Bearer admin-token\r\nConnection: close\r\n\r\n"
    )
    assert b" 400 " in answer and b"bad_path" in answer


def test_the_server_still_answers(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/v1/health")
    assert json.loads(connection.getresponse().read()) == {"status": "ok"}
    connection.close()


# HTTPS


def opened(port: int, ca: Path, place: Path | None = None) -> http.client.HTTPSConnection:
    context = ssl.create_default_context(cafile=ca)
    if place is not None:
        context.load_cert_chain(place / "certificate.pem", place / "key.pem")
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)


def answer(connection: http.client.HTTPSConnection, method: str, path: str, body: object = None) -> int:
    connection.request(method, path, None if body is None else json.dumps(body))
    reply = connection.getresponse()
    reply.read()
    return reply.status


def test_https_knows_nodes_by_their_certificates_until_they_are_revoked(tmp_path: Path) -> None:
    pki = Pki(tmp_path / "pki")
    place = pki.controller()
    body = {"datapath_id": "0000000000000001", "physical_networks": []}
    with serving(tmp_path, str(place), "ask") as port, ExitStack() as stack:
        for index in range(200):  # nobody waits for whoever does not shake hands
            idle = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            idle.sendall((b"", b"\x16\x03", b"GET / HTTP/1.1\r\n\r\n")[index % 3])
        anybody, node = opened(port, place / "ca.pem"), opened(port, place / "ca.pem", pki.node("n1"))
        assert answer(anybody, "GET", "/v1/health") == 200
        assert answer(anybody, "PUT", "/v1/nodes/n1", body) == 401
        assert answer(node, "PUT", "/v1/nodes/n1", body) == 200
        assert answer(node, "PUT", "/v1/nodes/n2", body) == 403
        pki.directory.revoke("node-n1")
        with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
            answer(node, "PUT", "/v1/nodes/n1", body)
        node.close()
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
            answer(node, "PUT", "/v1/nodes/n1", body)
        with pytest.raises(ssl.SSLCertVerificationError):
            opened(port, Pki(tmp_path / "other").controller() / "ca.pem").request("GET", "/v1/health")


def test_https_may_demand_a_certificate_of_everybody(tmp_path: Path) -> None:
    pki = Pki(tmp_path / "pki")
    place = pki.controller()
    with serving(tmp_path, str(place), "demand") as port:
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
            answer(opened(port, place / "ca.pem"), "GET", "/v1/health")
        client = opened(port, place / "ca.pem", pki.client("op"))
        assert answer(client, "GET", "/v1/health") == 200
        assert answer(client, "GET", "/v1/networks") == 401, "what its owner may do is said by a token"
