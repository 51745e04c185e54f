"""200 VMs on one node that boot at once: each asks for metadata as cloud-init does, one request after the other and
each over a connection of its own, through flows, relay and controller.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Iterator

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
_DEADLINE_S = 30.0
_BUSY = frozenset({429, 503})


def run() -> Iterator[Figure]:
    with Lab("bench", nodes=1, open_groups=True) as lab:
        lab.wait_connected()
        network = make_network(lab, "metadata", 205)
        vms = [lab.create_vm(f"m{n}", lab.nodes[0], network, client=None) for n in range(VMS)]
        for vm in vms:
            vm.set_address(f"{vm.address}/16", None)
            netns.configure(vm.namespace, f"route replace {METADATA} dev eth0")
        wait_until(lambda: _answers(vms[-1]), 30, "the last VM is served")
        took: list[float] = []
        statuses: Counter[int] = Counter()
        began = time.monotonic()
        asyncio.run(_all_at_once(vms, took, statuses))
        print(f"   {len(took)} requests, by status {dict(statuses)}")
        yield Figure("metadata_200_s", time.monotonic() - began, "s")
        yield Figure("metadata_200_p99_ms", percentile_ms(took, 99), "ms")
        failed = sum(statuses[status] for status in (0, *_BUSY))
        yield Figure("metadata_200_failed", failed, "")


def _answers(vm: Vm) -> bool:
    return asyncio.run(_request(vm, _PATHS[0])) not in (0, *_BUSY)


async def _all_at_once(vms: list[Vm], took: list[float], statuses: Counter[int]) -> None:
    async def boot(vm: Vm) -> None:
        for n in range(REQUESTS):
            began = time.monotonic()
            statuses[await _request(vm, _PATHS[n % len(_PATHS)])] += 1
            took.append(time.monotonic() - began)

    await asyncio.gather(*map(boot, vms))


async def _request(vm: Vm, path: str) -> int:
    """The status, 0 without an answer."""
    loop = asyncio.get_running_loop()
    with netns.inside(vm.namespace):
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    connection.setblocking(False)
    try:
        async with asyncio.timeout(_DEADLINE_S):
            await loop.sock_connect(connection, (METADATA, 80))
            head = f"GET /{path} HTTP/1.1\r\nHost: {METADATA}\r\nConnection: close\r\n\r\n"
            await loop.sock_sendall(connection, head.encode())
            answer = b""
            while more := await loop.sock_recv(connection, 65536):
                answer += more
            return int(answer.split(b" ", 2)[1])
    except (OSError, TimeoutError, IndexError):
        return 0
    finally:
        connection.close()
