"""Whatever comes in from the management network: REST answers within 3 s, and no node loses its session or a flow."""

from __future__ import annotations

import random
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from itertools import cycle
from pathlib import Path

import pytest

from etc.lab import netns
from etc.lab.control import ADDRESS, AGENT_TOKEN, OPENFLOW_PORT
from etc.lab.lab import Lab
from etc.lab.processes import wait_until

PATIENCE = 3.0
"""Seconds for an answer of REST."""

PEERS = [str(ADDRESS.network[number]) for number in range(128, 192)]
"""Addresses of the peers: of one alone the controller would begin a share of the handshakes."""

UNKNOWN_SWITCH = 0xDEAD_BEEF
VERSION = 5
HELLO = struct.pack("!BBHIHHI", VERSION, 0, 16, 1, 1, 8, 1 << VERSION)
TYPES = range(36)
_SESSIONS = re.compile(r'^trunkline_sessions_total\{node="n1"\} ([\d.]+)', re.MULTILINE)
_REFUSED = 'trunkline_events_total{event="openflow_handshakes_refused"}'


def message(kind: int, body: bytes = b"", *, length: int | None = None, version: int = VERSION, xid: int = 1) -> bytes:
    return struct.pack("!BBHI", version, kind, 8 + len(body) if length is None else length, xid) + body


def handshake(datapath_id: int) -> bytes:
    """All that a switch says until it is taken for one: hello, features, no ports."""
    features = message(6, struct.pack("!QIBB2xI4x", datapath_id, 256, 254, 0, 0x4F), xid=2)
    return HELLO + features + message(19, struct.pack("!HH4x", 13, 0), xid=3)


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Iterator[Lab]:
    lab = make_lab(nodes=1)
    fields = {"name": "net", "kind": "flat", "physical_network": "physnet1", "subnets": [{"cidr": "10.10.0.0/24"}]}
    network = lab.client.create_network(fields).object
    assert network
    vm = lab.create_vm("vm", lab.nodes[0], network["id"])
    vm.wait_configured()
    prefix = ADDRESS.network.prefixlen
    netns.configure(lab.nodes[0].namespace, *(f"address add {peer}/{prefix} dev mgmt0" for peer in PEERS))
    yield lab


@pytest.fixture
def connect(lab: Lab) -> Iterator[Callable[[bytes], socket.socket]]:
    """Opens a connection from the node's side of the management network, and says something; open to the test's end."""
    peers = cycle(PEERS)
    server = (str(ADDRESS.ip), OPENFLOW_PORT)
    with ExitStack() as stack:

        def call(data: bytes) -> socket.socket:
            with netns.inside(lab.nodes[0].namespace):
                connection = socket.create_connection(server, timeout=5, source_address=(next(peers), 0))
            stack.enter_context(connection)
            with suppress(ConnectionError):  # hung up on us before we were done
                connection.sendall(data)
            return connection

        yield call


@pytest.fixture(autouse=True)
def unimpressed(lab: Lab) -> Iterator[None]:
    """What must hold after every test here: REST is quick, the node still has the session that it had, and works."""
    before, flows = sessions(lab), lab.nodes[0].ovs.flows()
    yield
    began = time.monotonic()
    assert lab.control.request("GET", "/v1/health", timeout=PATIENCE)[0] == 200
    assert lab.control.request("GET", "/v1/nodes", timeout=PATIENCE)[0] == 200
    assert time.monotonic() - began < PATIENCE
    assert lab.client.get_node("n1")["state"] == "live"
    assert sessions(lab) == before
    assert _REFUSED not in lab.control.request("GET", "/metrics")[1], "what the peers said was not read"
    assert lab.nodes[0].ovs.flows() == flows
    prove_work(lab)


def sessions(lab: Lab) -> int:
    """How often the node has connected since the controller started."""
    found = _SESSIONS.search(lab.control.request("GET", "/metrics")[1])
    assert found
    return int(float(found[1]))


def prove_work(lab: Lab) -> None:
    """A change reaches the node, and packets reach the controller."""
    vm = lab.vms["vm"]
    port = lab.client.get_port(vm.port["id"])
    for options in ([{"code": 66, "value": "x"}], port["dhcp_options"]):
        lab.confirm(lab.client.update_port(port["id"], {"dhcp_options": options}).revision, 5)
    assert vm.ping(vm.wait_configured().router, count=1).answered
    vm.renew()
    assert vm.wait_configured().address.ip == vm.address


def bad_bodies(rng: random.Random) -> list[bytes]:
    """Bodies whose inner lengths are 0, too long or anything."""
    inner = [struct.pack("!HH", kind, length) for kind in (1, 13) for length in (0, 3, 0xFFFF)]
    noise = [rng.randbytes(rng.randrange(200)) for _ in range(4)]
    return [b"", inner[0], *(each + bytes(60) for each in inner), *noise]


@pytest.mark.parametrize("seed", range(4))
def test_threat_22_noise(connect: Callable[[bytes], socket.socket], seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(50):
        connect(rng.randbytes(rng.choice((1, 7, 8, 9, 100, 4096, 70_000))))


@pytest.mark.parametrize("length", range(8))
def test_threat_22_a_length_below_the_header(connect: Callable[[bytes], socket.socket], length: int) -> None:
    for kind in TYPES:
        for before in (b"", HELLO, handshake(UNKNOWN_SWITCH)):
            assert ended(connect(before + message(kind, bytes(16), length=length)))


def ended(connection: socket.socket) -> bool:
    """True once the controller has hung up. Raises TimeoutError."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


@pytest.mark.parametrize("state", ["before hello", "after hello", "after features"])
def test_threat_22_every_type_with_bad_bodies(connect: Callable[[bytes], socket.socket], state: str) -> None:
    before = {"before hello": b"", "after hello": HELLO, "after features": handshake(UNKNOWN_SWITCH)}[state]
    rng = random.Random(state)
    bodies = bad_bodies(rng)
    for kind in TYPES:
        for body in bodies:
            connect(before + message(kind, body)).close()


@pytest.mark.parametrize("element", ["0001000000000010", "0000000000000000", "00010004", "0001ffff00000010", "0001"])
def test_threat_22_elements_of_a_hello(connect: Callable[[bytes], socket.socket], element: str) -> None:
    for version in (1, 4, 5, 6, 0x99):
        connect(message(0, bytes.fromhex(element) * 3, version=version))


def test_threat_22_long_answers_of_an_unknown_switch(connect: Callable[[bytes], socket.socket]) -> None:
    """Entries of length 0 in every kind of multipart reply, and packet_ins that nobody asked for."""
    connection = connect(handshake(UNKNOWN_SWITCH))
    for kind in range(20):
        for xid in (1, 2, 3, 0x80000000, 0x80000001):
            connection.sendall(message(19, struct.pack("!HH4x", kind, 0) + bytes(400), xid=xid))
    connection.sendall(message(10, bytes(100)) * 2000)


def test_threat_22_half_open_connections(connect: Callable[[bytes], socket.socket]) -> None:
    """More than are kept: the oldest go, and those of the nodes are none of them."""
    connections = [connect(b"") for _ in range(300)]
    connections[0].settimeout(30)
    assert ended(connections[0])


def test_threat_22_many_unknown_switches(connect: Callable[[bytes], socket.socket]) -> None:
    connections = [connect(handshake(UNKNOWN_SWITCH + number)) for number in range(100)]
    connections[0].settimeout(30)
    assert ended(connections[0])


def test_threat_22_a_switch_that_does_not_read(connect: Callable[[bytes], socket.socket]) -> None:
    connection = connect(HELLO)
    connection.settimeout(0.5)  # when nothing more goes in, it is the controller that does not read us
    echo = message(2, bytes(8000)) * 100
    with suppress(TimeoutError, ConnectionError):
        for _ in range(1000):
            connection.sendall(echo)
        pytest.fail("800 MB of echo requests were taken, and no answer was read")


@pytest.mark.parametrize("size", [1, 7, 8, 15, 16, 31, 39])
def test_threat_22_messages_cut_short(connect: Callable[[bytes], socket.socket], size: int) -> None:
    """The rest never comes; and it comes, but the message says that it is shorter than its kind can be."""
    for before in (b"", HELLO, handshake(UNKNOWN_SWITCH)):
        for kind in TYPES:
            connect(before + message(kind, bytes(100))[:size]).close()
            if size >= 8:
                connect(before + message(kind, bytes(size - 8))).close()


@pytest.mark.parametrize("version", [0, 2, 4, 6, 7, 0x63, 0x99, 0xFF])
def test_threat_22_other_versions(connect: Callable[[bytes], socket.socket], version: int) -> None:
    for before in (b"", HELLO, handshake(UNKNOWN_SWITCH)):
        for kind in (0, 1, 2, 6, 10, 19):
            connect(before + message(kind, bytes(32), version=version)).close()


NONSENSE = (
    b"",
    bytes(8),
    struct.pack("!HH4x", 1, 0) + bytes(56),  # an entry of length 0
    struct.pack("!HH4x", 1, 0) + struct.pack("!H", 0xFFFF) + bytes(54),
    struct.pack("!HH4x", 10, 0) + bytes(16),
    struct.pack("!HH4x", 0xFFFF, 0xFFFF) + bytes(8),
)


def test_threat_22_a_switch_of_ours_that_answers_nonsense(lab: Lab, connect: Callable[[bytes], socket.socket]) -> None:
    """It has a node, and so a session: every question of that gets every kind of wrong answer, with the right xid."""
    node = {"datapath_id": f"{UNKNOWN_SWITCH:016x}", "physical_networks": []}
    assert lab.control.request("PUT", "/v1/nodes/hostile", node, token=AGENT_TOKEN)[0] == 200
    try:
        for kind in (19, 21, 25, 33, 1, 10):
            for body in NONSENSE:
                wait_until(lambda: _state(lab, "hostile") == "disconnected", 30, "the last connection has ended")
                connection = connect(handshake(UNKNOWN_SWITCH))
                xid = _first_question(connection)
                with suppress(ConnectionError):
                    connection.sendall(message(kind, body, xid=xid) * 3)
                connection.close()
    finally:
        lab.client.delete_node("hostile")


def _state(lab: Lab, node: str) -> str:
    return str(lab.client.get_node(node)["state"])


def _first_question(connection: socket.socket) -> int:
    """The xid of what a session says first."""
    heard = b""
    connection.settimeout(30)
    end = time.monotonic() + 60  # echo requests come all the time
    while True:
        assert time.monotonic() < end, "nothing is asked"
        more = connection.recv(65536)
        assert more, "it has hung up without a question"
        heard += more
        while len(heard) >= 8 and len(heard) >= (size := int.from_bytes(heard[2:4])):
            xid = int.from_bytes(heard[4:8])
            if xid >= 0x80000000:
                return xid
            heard = heard[size:]


MOST_GROWTH_MB = 64
ATTACK_S = 12.0


def test_threat_22_all_at_once(lab: Lab, connect: Callable[[bytes], socket.socket]) -> None:
    """Half-open connections, switches that say one byte at a time, floods of echo requests whose answers nobody reads:
    meanwhile REST answers, a VM renews its lease, and memory stays what it was.
    """
    process = lab.control.process
    assert process
    before = rss_mb(process.pid)
    half_open = [connect(b"") for _ in range(200)]
    slow = [connect(HELLO) for _ in range(20)]
    deaf = [connect(HELLO) for _ in range(10)]
    features = handshake(UNKNOWN_SWITCH)[len(HELLO) :]
    for connection in (*slow, *deaf):
        connection.setblocking(False)
    echoes = message(2, bytes(1000)) * 64
    end, turn, longest = time.monotonic() + ATTACK_S, 0, 0.0
    while time.monotonic() < end:
        for connection in slow:
            with suppress(OSError):
                connection.send(features[turn % len(features) :][:1])
        for connection in deaf:
            with suppress(OSError):
                connection.send(echoes)
        turn += 1
        began = time.monotonic()
        assert lab.control.request("GET", "/v1/nodes", timeout=PATIENCE)[0] == 200
        longest = max(longest, time.monotonic() - began)
        time.sleep(0.05)  # the attackers' rhythm
    assert longest < PATIENCE
    lab.vms["vm"].renew()
    assert all(ended(_patient(connection)) for connection in slow)  # who does not finish in time is not waited for
    assert len(half_open) == 200 and rss_mb(process.pid) - before < MOST_GROWTH_MB


def _patient(connection: socket.socket) -> socket.socket:
    connection.settimeout(30)
    return connection


def rss_mb(pid: int) -> float:
    """What the process has in memory."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB$", text, re.MULTILINE)
    assert found
    return int(found[1]) / 1024
