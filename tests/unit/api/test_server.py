"""The real server on a loopback port, in a process of its own because it needs green threads."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.pki import Pki

ROOT = Path(__file__).parents[3]
SERVE = """
import socket
import sys
from controller import compat
compat.install()
import eventlet.tpool
from controller import logs
from controller.api import protocol
from controller.api.server import ApiServer
from controller.captures import Summary
from tests.unit.api.world import World

logs.configure(level="ERROR")
protocol.FIRST_WAIT = protocol.HEAD_TIME = protocol.BODY_TIME = protocol.ANSWER_TIME = 4.0
world = World(sys.argv[1])
held = world.services.captures


def capture_slowly(node, kind, arguments, timeout):
    capture = held.of_node(node, arguments["capture"])

    def send():
        for number in range(arguments["packets"]):
            capture.put(b"part %d." % number)
            eventlet.sleep(0.5)
        capture.end(Summary(0, 0, 0, "packets"))

    eventlet.spawn(send)
    return {}


world.services.errands.ask = capture_slowly
tls = None
if len(sys.argv) > 2:
    from pathlib import Path
    from controller.tls_context import ServerTls
    from controller.tls_settings import TlsSettings
    files = (Path(sys.argv[2], name) for name in ("certificate.pem", "key.pem", "ca.pem", "crl.pem"))
    tls = ServerTls(TlsSettings(*files, demand=sys.argv[3] == "demand"))
server = ApiServer(world.app, "127.0.0.1", 0, 20, tls)
server._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)  # full before long
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
    headers = {"Authorization": "Bearer admin-token", "Content-Type": "application/json"}
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


ADMIN = b"Host: x\r\nAuthorization: Bearer admin-token\r\n"


@pytest.mark.parametrize(
    "line",
    [
        b"Content-Length : 44",
        b"Transfer-Encoding\t: chunked",
        b"Transfer-Encoding : chunked",
        b" Transfer-Encoding: chunked",
        b"X: a\r\n b",
        b"X: a\rContent-Length: 44",
        b"X: a\0b",
        b"X\0: a",
        b"no colon",
        b": no name",
        b"Content-Length: 44\r\nContent-Length: 44",
        b"Content-Length: 44, 44",
        b"Content-Length: 0x2c",
        b"Content-Length: -44",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding: chunked\r\nTrailer: X",
    ],
    ids=repr,
)
def test_threat_32_no_request_hides_in_another(port: int, line: bytes) -> None:
    """What a proxy before us may read in another way is refused, and what follows it is not read as a request."""
    hidden = b"GET /v1/networks HTTP/1.1\r\n" + ADMIN + b"\r\n"
    answer = exchange(port, b"POST /v1/networks HTTP/1.1\r\n" + ADMIN + line + b"\r\n\r\n" + hidden)
    assert answer.split(b" ", 2)[1] in (b"400", b"411"), answer
    assert answer.count(b"HTTP/1.") == 1
    assert b"X-Request-Id: " in answer and b'{"error":' in answer


def test_a_head_that_is_cut_is_no_request(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"DELETE /v1/networks/x HTTP/1.1\r\n" + ADMIN)
        connection.shutdown(socket.SHUT_WR)
        assert b" 404 " not in connection.recv(65536)


@pytest.mark.parametrize(
    "head",
    [b"X: " + b"y" * 9000, b"".join(b"X%d: %s\r\n" % (n, b"y" * 4000) for n in range(20)), b"X: y\r\n" * 200],
    ids=["one long", "all long", "many"],
)
def test_headers_that_are_too_large(port: int, head: bytes) -> None:
    answer = exchange(port, b"GET /v1/networks HTTP/1.1\r\n" + ADMIN + head + b"\r\n\r\n")
    assert answer.split(b" ", 2)[1] == b"431" and b'{"error":' in answer and b"X-Request-Id: " in answer


def test_requests_that_come_at_once_are_answered_in_their_order(port: int) -> None:
    paths = [b"/v1/health", b"/v1/networks", b"/v1/nothing", b"/v1/health"]
    requests = [b"GET " + path + b" HTTP/1.1\r\n" + ADMIN + b"\r\n" for path in paths]
    last = b"GET /v1/networks/%00 HTTP/1.1\r\n" + ADMIN + b"Connection: close\r\n\r\n"
    answer = exchange(port, b"".join([*requests, last]))
    statuses = re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", answer)
    assert statuses == [b"200", b"200", b"404", b"200", b"400"]


def drip(port: int, first: bytes, then: bytes) -> bytes:
    """Sends a byte now and then, which never is the whole; what came before the server had enough."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=0.2) as connection:
        deadline = time.monotonic() + 60
        try:
            connection.sendall(first)
            while time.monotonic() < deadline:
                connection.sendall(then)
                try:
                    chunk = connection.recv(65536)
                except TimeoutError:
                    continue
                if not chunk:
                    return answer
                answer += chunk
        except (ConnectionResetError, BrokenPipeError):
            return answer
    raise AssertionError("it is still listened to")


def never_read(port: int) -> bytes:
    """Asks and asks, and reads no answer."""
    request = (b"GET /v1/networks HTTP/1.1\r\n" + ADMIN + b"\r\n") * 100
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(0.2)
        connection.connect(("127.0.0.1", port))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                connection.sendall(request)
            except TimeoutError:
                continue
            except (ConnectionResetError, BrokenPipeError):
                return b""
    raise AssertionError("it is still answered")


def test_who_draws_it_out_is_not_waited_for(port: int) -> None:
    """All at once, and others are answered meanwhile."""
    body = (
        b"POST /v1/networks HTTP/1.1\r\n" + ADMIN + b"Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
    )
    with ThreadPoolExecutor() as pool:
        slow = [
            pool.submit(drip, port, b"", b""),
            pool.submit(drip, port, b"GET /v1/", b"x"),
            pool.submit(drip, port, b"GET /v1/health HTTP/1.1\r\nX: ", b"x"),
            pool.submit(drip, port, b"GET /v1/health HTTP/1.1\r\n", b"X: y\r\n"),
            pool.submit(drip, port, body, b" "),
            pool.submit(never_read, port),
        ]
        while not all(one.done() for one in slow):
            test_the_server_still_answers(port)
    answers = [one.result() for one in slow]
    assert answers[:4] == [b""] * 4
    assert b" 408 " in answers[4] and b"body_timeout" in answers[4]


def test_one_client_cannot_have_all_connections(port: int) -> None:
    def connect(source: str) -> http.client.HTTPConnection:
        made = http.client.HTTPConnection("127.0.0.1", port, timeout=10, source_address=(source, 0))
        made.request("GET", "/v1/health")
        assert made.getresponse().read()
        return made

    kept: list[http.client.HTTPConnection] = []
    try:
        with pytest.raises((http.client.BadStatusLine, ConnectionError)):
            for _ in range(21):
                kept.append(connect("127.0.0.5"))
        assert len(kept) == 20
        connect("127.0.0.6").close()
        kept.pop().close()
        deadline = time.monotonic() + 30
        while len(kept) < 20:
            try:
                kept.append(connect("127.0.0.5"))
            except (http.client.BadStatusLine, ConnectionError):
                assert time.monotonic() < deadline
    finally:
        for one in kept:
            one.close()


def test_threat_32_nul_in_the_path(port: int) -> None:
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
    typed = {"Content-Type": "application/json"}
    connection.request(method, path, None if body is None else json.dumps(body), typed)
    reply = connection.getresponse()
    reply.read()
    return reply.status


def test_https_knows_nodes_by_their_certificates_until_they_are_revoked(tmp_path: Path) -> None:
    pki = Pki(tmp_path / "pki")
    place = pki.controller()
    body = {"datapath_id": "0000000000000001", "physical_networks": []}
    with serving(tmp_path, str(place), "ask") as port, ExitStack() as stack:
        for index in range(200):  # nobody waits for whoever does not shake hands
            source = f"127.0.0.{2 + index // 10}", 0  # one address may not have so many
            idle = stack.enter_context(socket.create_connection(("127.0.0.1", port), 10, source))
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


def test_an_answer_in_parts_has_time_for_each_and_ends_with_its_client(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def ask(method: str, path: str, body: object = None, token: str = "admin") -> http.client.HTTPResponse:
        headers = {"Authorization": f"Bearer {token}-token", "Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        return connection.getresponse()

    def made(path: str, body: object) -> str:
        answer = json.load(ask("POST", path, body))
        return str(next(iter(answer.values()))["id"])

    network = {"name": "c", "kind": "flat", "physical_network": "physnet7", "subnets": [{"cidr": "10.70.0.0/24"}]}
    port_id = made("/v1/ports", {"network_id": made("/v1/networks", network)})
    node = {"datapath_id": "0000000000000007", "physical_networks": ["physnet7"]}
    ask("PUT", "/v1/nodes/n7", node, "agent").read()
    shown = {"serial": 1, "uplinks": {}, "interfaces": [{"iface_id": port_id, "ofport": 7}]}
    ask("PUT", "/v1/nodes/n7/interfaces", shown, "agent").read()
    path = f"/v1/ports/{port_id}/captures"
    began = time.monotonic()
    answer = ask("POST", path, {"packets": 10})
    assert answer.read(7) == b"part 0." and time.monotonic() - began < 2, "at once"
    assert answer.read() == b"".join(b"part %d." % number for number in range(1, 10))
    assert time.monotonic() - began > 4, "longer than a whole answer may take to be read"
    # four are as many as a node may have: those whose clients go are over
    for _ in range(6):
        deadline = time.monotonic() + 20
        while (answer := ask("POST", path, {"packets": 1000})).status == 409 and time.monotonic() < deadline:
            answer.read()
            time.sleep(0.2)
        assert answer.status == 200
        answer.close()
        connection.close()
