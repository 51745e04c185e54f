"""200 VMs on one node that boot at once: each asks for metadata as cloud-init does, one request after the other and
each over a connection of its own, through flows, relay and controller.
"""

from __future__ import annotations

import resource
import selectors
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from etc.lab import netns
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from tests.bench.figures import Figure, percentile_ms
from tests.bench.ports import make_network

VMS = 200
REQUESTS = 20
METADATA = "169.254.169.254"
_PATHS = ("latest/meta-data/", "openstack/latest/meta_data.json", "openstack/latest/user_data")
_DEADLINE_S = 60.0
_BUSY = frozenset({429, 503})
_OTHER_FILES = 512


def run() -> Iterator[Figure]:
    with Lab("bench", nodes=1, open_groups=True) as lab:
        lab.wait_connected()
        network = make_network(lab, "metadata", 205)
        vms = [lab.create_vm(f"m{n}", lab.nodes[0], network, client=None) for n in range(VMS)]
        for vm in vms:
            vm.set_address(f"{vm.address}/16", None)
            netns.configure(vm.namespace, f"route replace {METADATA} dev eth0")
        wait_until(lambda: _served(vms[-1]), 30, "the last VM is served")
        load = _ask(vms, REQUESTS)
        print(f"   {len(load.took)} requests, by status {dict(load.statuses)}")
        yield Figure("metadata_200_s", load.seconds, "s")
        yield Figure("metadata_200_p99_ms", percentile_ms(load.took, 99), "ms")
        yield Figure("metadata_200_client_s", load.cpu_seconds, "s")
        yield Figure("metadata_200_failed", VMS * REQUESTS - load.answered, "")


def _served(vm: Vm) -> bool:
    return _ask([vm], 1).answered == 1


@dataclass
class _Load:
    """What came of it: `took` in seconds, for each request, `cpu_seconds` those of the clients; status 0: no answer."""

    took: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def answered(self) -> int:
        return sum(count for status, count in self.statuses.items() if status and status not in _BUSY)


@dataclass
class _Client:
    """A VM, with a connection for each request that it has still to make."""

    connections: list[socket.socket]
    began: float = 0.0
    answer: bytes = b""


def _ask(vms: Sequence[Vm], requests: int) -> _Load:
    """All VMs at once. They would ask from processors of their own, so it is done as cheaply as it goes here: one
    poller, and sockets that were made before.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, len(vms) * requests + _OTHER_FILES)), hard))
    load = _Load()
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        clients = []
        for vm in vms:
            with netns.inside(vm.namespace):
                clients.append(_Client([stack.enter_context(socket.socket()) for _ in range(requests)]))
        began, cpu = time.monotonic(), time.process_time()
        for client in clients:
            _begin(selector, client)
        while selector.get_map() and (left := began + _DEADLINE_S - time.monotonic()) > 0:
            for key, ready in selector.select(left):
                _go_on(selector, key, ready, load)
        load.seconds, load.cpu_seconds = time.monotonic() - began, time.process_time() - cpu
    return load


def _begin(selector: selectors.BaseSelector, client: _Client) -> None:
    """The client's next request, if there is one more."""
    if client.connections:
        connection = client.connections.pop()
        client.began, client.answer = time.monotonic(), b""
        connection.setblocking(False)
        connection.connect_ex((METADATA, 80))
        selector.register(connection, selectors.EVENT_WRITE, client)


def _go_on(selector: selectors.BaseSelector, key: selectors.SelectorKey, ready: int, load: _Load) -> None:
    connection, client = key.fileobj, key.data
    assert isinstance(connection, socket.socket)
    try:
        if ready & selectors.EVENT_WRITE:
            path = _PATHS[len(client.connections) % len(_PATHS)]
            connection.sendall(f"GET /{path} HTTP/1.1\r\nHost: {METADATA}\r\nConnection: close\r\n\r\n".encode())
            selector.modify(connection, selectors.EVENT_READ, client)
            return
        if more := connection.recv(65536):
            client.answer += more
            return
        status = int(client.answer.split(b" ", 2)[1])
    except (OSError, IndexError):
        status = 0
    selector.unregister(connection)
    connection.close()
    load.statuses[status] += 1
    load.took.append(time.monotonic() - client.began)
    _begin(selector, client)
