"""What routing, SNAT and a floating IP cost beside a plain bridge of the same Open vSwitch.

Each sample is a pair: the plain bridge, then the path, one right after the other; figures are medians of the pairs'
ratios. The neighbour that VMs reach through NAT is on the node's own external bridge, so that no other machine's work
is measured. Throughput gaps below 30 % are noise on a shared machine, so the switch's CPU time per gigabyte is given.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from etc.lab import netns, probes
from etc.lab.fabric import EXTERNAL_NETWORK
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import wait_until
from tests.bench.echo import Echo
from tests.bench.figures import Figure
from tests.bench.ports import make_network
from tests.netns.cloud import make_outside

PAIRS = 9
PINGS = 400
TCP_SECONDS = 2.0
PLAIN_BRIDGE = "br-plain"
PLAIN_CIDR = "192.0.2"
NEIGHBOUR = EXTERNAL_NETWORK[50]
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Way:
    """From a namespace to an address that another one has."""

    name: str
    client: str
    server: str
    address: object


def run() -> Iterator[Figure]:
    with Lab("bench", nodes=1, open_groups=True) as lab:
        lab.wait_connected()
        paths = _build(lab)
        plain = paths.pop(0)
        for path in [plain, *paths]:
            wait_until(lambda path=path: _ping_p50(path, 1) is not None, 20, f"{path.name} does not work")  # type: ignore[misc]
        switch = lab.nodes[0].ovs.switch
        assert switch
        for path in paths:
            ratios = [1 / _p50(plain) * _p50(path) for _ in range(PAIRS)]
            print(f"   {path.name}: ping ratios {_spread(ratios)}")
            yield Figure(f"ping_{path.name}_ratio", statistics.median(ratios), "ratio")
        for path in paths:
            pairs = [[_tcp(lab.directory / "iperf3", each, switch.pid) for each in (plain, path)] for _ in range(PAIRS)]
            rates = [there / base for (base, _), (there, _) in pairs]
            costs = [there / base for (_, base), (_, there) in pairs]
            megabits = statistics.median(there for _, (there, _) in pairs)
            seconds = statistics.median(cost for _, (_, cost) in pairs)
            print(f"   {path.name}: {megabits:.0f} Mbit/s, {seconds:.2f} CPU s/GB; rate ratios {_spread(rates)}")
            yield Figure(f"tcp_{path.name}_ratio", statistics.median(rates), "ratio")
            yield Figure(f"cpu_{path.name}_ratio", statistics.median(costs), "ratio")


def _build(lab: Lab) -> list[Way]:
    """The plain bridge first, then the paths to be compared with it; all on one node."""
    node = lab.nodes[0]
    plain = [_attach(lab, node, PLAIN_BRIDGE, f"plain{index}", f"{PLAIN_CIDR}.{index}/24") for index in (1, 2)]
    neighbour = _attach(lab, node, f"br-{lab.fabric.external}", "neighbour", f"{NEIGHBOUR}/24")
    external = make_outside(lab)
    ranges = [f"{EXTERNAL_NETWORK[200]}-{EXTERNAL_NETWORK[220]}"]
    lab.client.create_floating_ip_pool({"name": "public", "network_id": external["id"], "ranges": ranges})
    one, other = make_network(lab, "one", 210), make_network(lab, "other", 211)
    vms = {
        name: lab.create_vm(name, node, network, project_id="bench")
        for name, network in (("client", one), ("server", other), ("public", one))
    }
    for vm in vms.values():
        vm.wait_configured()
    floating = lab.client.create_floating_ip({"pool": "public", "project_id": "bench"}).object
    assert floating
    written = lab.client.update_floating_ip(floating["id"], {"port_id": vms["public"].port["id"]})
    lab.confirm(written.revision)
    client = vms["client"].namespace
    return [
        Way("plain", plain[0], plain[1], f"{PLAIN_CIDR}.2"),
        Way("routed", client, vms["server"].namespace, vms["server"].address),
        Way("snat", client, neighbour, NEIGHBOUR),
        Way("floating", vms["public"].namespace, neighbour, NEIGHBOUR),
    ]


def _attach(lab: Lab, node: Node, bridge: str, name: str, address: str) -> str:
    """A machine with a cable straight into a bridge; the bridge is made when it is missing."""
    namespace = f"{lab.prefix}-{name}"
    netns.create(namespace)
    netns.veth(node.namespace, name, namespace, "eth0")
    netns.configure(namespace, f"address add {address} dev eth0")
    node.ovs.vsctl(
        "--may-exist", "add-br", bridge, "--", "set", "Bridge", bridge, f"datapath_type={node.ovs.datapath}",
        "--", "add-port", bridge, name,
    )  # fmt: skip
    return namespace


def _p50(path: Way) -> float:
    median = _ping_p50(path, PINGS)
    assert median is not None, f"{path.name} lost too much"
    return median


def _ping_p50(path: Way, count: int) -> float | None:
    """Seconds there and back, the median of `count` echo requests one after the other; None when half were lost."""
    took = []
    with Echo(path.client, path.address) as echo:
        for number in range(count):
            began = time.perf_counter()
            echo.send(number)
            if echo.answered(0.5):
                took.append(time.perf_counter() - began)
    return statistics.median(took) if len(took) * 2 > count else None


def _tcp(log: Path, path: Way, pid: int) -> tuple[float, float]:
    """Megabits a second of one TCP stream, and the switch's CPU seconds for a gigabyte of it."""
    before = _cpu_seconds(pid)
    rate = probes.tcp_throughput(
        probes.into(path.server), probes.into(path.client), path.address, log, seconds=TCP_SECONDS
    )
    return rate, (_cpu_seconds(pid) - before) / (rate * TCP_SECONDS / 8000)


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process with all its threads (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _spread(values: list[float]) -> str:
    return f"min {min(values):.2f} median {statistics.median(values):.2f} max {max(values):.2f}"
