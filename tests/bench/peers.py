"""What hostile peers of the control channel cost: memory and CPU of the controller, and the time that REST and DHCP
take meanwhile. Plain and by TLS, where the peers have a node's certificate; all from the address of a node. "quiet" is
the same without an attack.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from controller.pki.identity import Kind
from etc.lab.control import ADDRESS, OPENFLOW_PORT
from etc.lab.lab import Lab
from etc.lab.vm import INTERFACE, Vm
from tests.bench.exchange import Client, Load, all_interfaces, paced
from tests.bench.figures import Figure, percentile_ms, spread
from tests.bench.ports import make_network
from tests.fuzz.test_openflow import rss_mb
from tests.hostile_peers import attack

KINDS = ("silent", "hello", "deaf")
SECONDS = 10.0
DHCP_RATE = 2.0
LOOK_S = 0.05
_TICKS = 100  # a second, in /proc/PID/stat


@dataclass
class Seen:
    """Seconds; `growth_mb` is the most that the controller had above what it began with."""

    rest: list[float] = field(default_factory=list)
    dhcp: Load = field(default_factory=Load)
    growth_mb: float = 0.0
    cpu: float = 0.0


def run() -> Iterator[Figure]:
    for tls in (False, True):
        with Lab("bench", nodes=1, tls=tls, open_groups=True) as lab:
            lab.wait_connected()
            vm = lab.create_vm("d0", lab.nodes[0], make_network(lab, "peers", 217))
            vm.wait_configured()
            vm.stop_client()
            observe(lab, vm, 1.0)
            place = lab.control.certificate(Kind.NODE, "n1") if tls else None
            for kind in ("quiet", *KINDS):
                yield from _figures(lab, vm, kind, place)


def _figures(lab: Lab, vm: Vm, kind: str, place: Path | None) -> Iterator[Figure]:
    namespace = lab.nodes[0].namespace
    hostile = attack(kind, str(ADDRESS.ip), OPENFLOW_PORT, 10 * SECONDS, place=place, namespace=namespace)
    with hostile if kind in KINDS else nullcontext():
        seen = observe(lab, vm, SECONDS)
    name = f"peers_{kind}{'' if place is None else '_tls'}"
    print(f"   {name}: REST {spread(seen.rest)}; DHCP {spread(seen.dhcp.took)}, unanswered {seen.dhcp.lost}")
    yield Figure(f"{name}_rest_p99_ms", percentile_ms(seen.rest, 99), "ms")
    yield Figure(f"{name}_dhcp_p99_ms", percentile_ms(seen.dhcp.took, 99), "ms")
    yield Figure(f"{name}_growth_mb", seen.growth_mb, "MB")
    yield Figure(f"{name}_cpu", seen.cpu, "ratio")


def observe(lab: Lab, vm: Vm, seconds: float) -> Seen:
    process = lab.control.process
    assert process
    seen, over = Seen(), threading.Event()
    before, used, began = rss_mb(process.pid), _cpu_s(process.pid), time.monotonic()

    def ask() -> None:
        while not over.wait(LOOK_S):
            asked = time.perf_counter()
            assert lab.control.request("GET", "/v1/networks", timeout=30)[0] == 200
            seen.rest.append(time.perf_counter() - asked)
            seen.growth_mb = max(seen.growth_mb, rss_mb(process.pid) - before)

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        with all_interfaces(vm.namespace) as raw:
            client = Client(bytes.fromhex(vm.mac.replace(":", "")), INTERFACE)
            seen.dhcp = paced(raw, [client] * int(DHCP_RATE * seconds), DHCP_RATE, seconds)
    finally:
        over.set()
        asker.join()
    seen.cpu = (_cpu_s(process.pid) - used) / (time.monotonic() - began)
    return seen


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
