"""VMs that draw out what they ask of the node's relay, or begin it and no more (threat 18): DNS over TCP and metadata.

Those of another project on the node are served meanwhile. The number is that of the project's list of threats. Half a
head of HTTP is in test_metadata_relay.py; deadlines are in tests/unit/agent/test_relay_http.py and test_relay_dns.py.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from controller.packet_in import frames as product
from etc.lab import netns
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from flows.protocols import DNS_PORT, HTTP_PORT, PROTO_TCP
from tests.netns import frames
from tests.netns.cloud import make_network, make_vms, want
from tests.netns.flooding import flooding
from tests.netns.frames import GATEWAY
from tests.netns.node_api import NodeApi
from tests.netns.test_metadata_relay import METADATA, QUESTION, curl, dns, gateway

pytestmark = pytest.mark.root

OF_ONE_PORT = 8
"""Connections that the relay keeps for a VM."""
MANY = 100
LARGE = 4 << 20
"""Bytes of an answer: more than the sockets of both ends hold."""
SYN = 0x02
SECONDS, RATE = 3.0, 3_000


@dataclass(frozen=True)
class Place:
    lab: Lab
    api: NodeApi
    greedy: Vm
    other: Vm
    """Of another project, on the same node."""

    def served(self, vm: Vm) -> bool:
        """True if a VM is answered by both services."""
        with suppress(OSError, struct.error):
            return curl(vm)[0] == 200 and dns(vm, gateway(vm), QUESTION)[0][:4] == b"\x12\x34\x81\x80"
        return False


@pytest.fixture(scope="module")
def place(make_lab: Callable[..., Lab]) -> Iterator[Place]:
    lab = make_lab(nodes=1, projects=("blue", "red"))
    api = NodeApi(lab)
    api.start()
    try:
        (node,) = lab.nodes
        node.stop_agent()
        node.start_agent(lab.control, {"api_url": api.url, "metadata_rate": 0, "heartbeat_interval": 1})
        blue = make_network(lab, "blue", "10.20.0.0/24", segment=120)
        red = make_network(lab, "red", "10.20.0.0/24", segment=121, project_id="red")
        vms = make_vms(lab, want("greedy", node, red), want("other", node, blue))
        made = Place(lab, api, vms["greedy"], vms["other"])
        for vm in vms.values():
            wait_until(lambda vm=vm: made.served(vm), 20, f"{vm.name} is not served", interval=0.1)
        yield made
    finally:
        api.stop()


def half_a_question(vm: Vm) -> socket.socket:
    return said(vm, gateway(vm), DNS_PORT, len(QUESTION).to_bytes(2) + QUESTION[:5])


def half_a_length(vm: Vm) -> socket.socket:
    return said(vm, gateway(vm), DNS_PORT, b"\0")


def half_a_body(vm: Vm) -> socket.socket:
    return said(vm, METADATA, HTTP_PORT, b"POST /password HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf")


def nothing(vm: Vm) -> socket.socket:
    return said(vm, METADATA, HTTP_PORT, b"")


def unread(vm: Vm) -> socket.socket:
    return said(vm, METADATA, HTTP_PORT, b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")


def said(vm: Vm, address: str, port: int, text: bytes) -> socket.socket:
    with netns.inside(vm.namespace):
        connection = socket.create_connection((address, port), 5)
    connection.sendall(text)
    return connection


SLOW = {each.__name__: each for each in (half_a_question, half_a_length, half_a_body, nothing, unread)}


@pytest.mark.parametrize("kind", SLOW)
def test_threat_18_slow_clients_starve_nobody(place: Place, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred connections of one VM: it keeps as many as are its share, and another project's VM is served."""
    answer = NodeApi.answer

    def large(self: NodeApi, asked: Any) -> tuple[int, str, bytes]:
        if asked.path == "large":
            return 200, "application/octet-stream", bytes(LARGE)
        return answer(self, asked)

    monkeypatch.setattr(NodeApi, "answer", large)
    with ExitStack() as stack:

        def had_its_share() -> bool:
            """True if it was not served while some of its connections were under way: the relay ends them in time."""
            stack.close()
            opened = []
            for _ in range(MANY):
                with suppress(ConnectionError):  # reset before it had said anything
                    opened.append(stack.enter_context(SLOW[kind](place.greedy)))
            wait_until(lambda: kept(opened) <= OF_ONE_PORT, 5, lambda: f"{kept(opened)} connections are kept")
            assert place.served(place.other)
            return not place.served(place.greedy) and kept(opened) >= 1

        for _ in range(5):
            wait_until(had_its_share, 30, "it is served although it has had its share", interval=0.1)
    wait_until(lambda: place.served(place.greedy), 10, "its own requests, once it has hung up", interval=0.1)


def kept(connections: list[socket.socket]) -> int:
    """How many have not been ended by the other side."""
    return sum(not is_reset(each) for each in connections)


def is_reset(connection: socket.socket) -> bool:
    connection.settimeout(0.01)
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def syn(vm: Vm, address: str, source: int, port: int) -> bytes:
    to = socket.inet_aton(address)
    head = struct.pack("!HHIIBBHHH", source, port, 1, 0, 5 << 4, SYN, 65535, 0, 0)
    total = product.checksum(vm.address.packed + to + struct.pack("!HH", PROTO_TCP, len(head)) + head)
    return frames.packet(vm, address, PROTO_TCP, head[:16] + total.to_bytes(2) + head[18:], eth_dst=GATEWAY)


@pytest.mark.parametrize("service", ["dns", "metadata"])
def test_threat_18_connections_that_are_only_begun_starve_nobody(place: Place, service: str) -> None:
    """More SYNs than the relay's sockets can wait for, none followed by anything."""
    vm = place.greedy
    address, port = (gateway(vm), DNS_PORT) if service == "dns" else (METADATA, HTTP_PORT)
    attack = [syn(vm, address, source, port) for source in range(20_000, 26_000)]
    # the VM's own kernel would answer what comes back, and so end it
    netns.configure(vm.namespace, f"route add blackhole {address}/32")
    try:
        with flooding(vm, attack, SECONDS, RATE) as flood:
            wait_until(lambda: half_open(vm) >= 100, SECONDS, "connections that are only begun")
            served = [place.served(place.other) for _ in range(10)]
    finally:
        netns.configure(vm.namespace, f"route delete blackhole {address}/32")
    assert flood.sent > 2_000 and all(served), served
    wait_until(lambda: place.served(vm), 10, "it is heard again", interval=0.1)


def half_open(vm: Vm) -> int:
    """Connections that wait for the end of their handshake at the relay of the VM's node."""
    return len(netns.execute(vm.node.service_namespace, "ss", "-Htn", "state", "syn-recv").splitlines())
