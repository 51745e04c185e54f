"""A path beside a plain bridge of the same Open vSwitch: round trips, one TCP stream, the switch's CPU time.

Each sample is a pair: the plain bridge, then the path, one right after the other; figures are medians of the pairs'
ratios. Throughput gaps below 30 % are noise on a shared machine, so the switch's CPU time per gigabyte is given.
"""

from __future__ import annotations

import os
import socket
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from etc.lab import netns, probes
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import wait_until
from tests.bench.echo import Echo
from tests.bench.figures import Figure

PAIRS = 9
PINGS = 400
TCP_SECONDS = 2.0
UDP_PORT = 4000
UDP_RATE = 30_000
UDP_SECONDS = 2.0
PLAIN_BRIDGE = "br-plain"
PLAIN_CIDR = "192.0.2"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Way:
    """From a namespace to an address that another one has."""

    name: str
    client: str
    server: str
    address: object


def plain_bridge(lab: Lab, node: Node) -> Way:
    """Two machines on a bridge that only switches."""
    ends = [attach(lab, node, PLAIN_BRIDGE, f"plain{index}", f"{PLAIN_CIDR}.{index}/24") for index in (1, 2)]
    return Way("plain", ends[0], ends[1], f"{PLAIN_CIDR}.2")


def attach(lab: Lab, node: Node, bridge: str, name: str, address: str) -> str:
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


def wait_works(*ways: Way) -> None:
    for way in ways:
        wait_until(lambda way=way: _ping_p50(way, 1) is not None, 20, f"{way.name} does not work")  # type: ignore[misc]


def ping_ratios(plain: Way, way: Way) -> list[float]:
    pairs = [(_p50(plain), _p50(way)) for _ in range(PAIRS)]
    ratios = [there / base for base, there in pairs]
    base, there = (statistics.median(each) * 1000 for each in zip(*pairs, strict=True))
    print(f"   {way.name}: ping p50 {there:.3f} ms, plain {base:.3f} ms; ratios {_spread(ratios)}")
    return ratios


def tcp_ratios(node: Node, log: Path, plain: Way, way: Way) -> tuple[list[float], list[float]]:
    """Of the throughput, and of the switch's CPU seconds for each gigabyte."""
    assert node.ovs.switch
    pid = node.ovs.switch.pid
    pairs = [[_tcp(log, each, pid) for each in (plain, way)] for _ in range(PAIRS)]
    rates = [there / base for (base, _), (there, _) in pairs]
    costs = [there / base for (_, base), (_, there) in pairs]
    megabits = statistics.median(there for _, (there, _) in pairs)
    seconds = statistics.median(cost for _, (_, cost) in pairs)
    print(f"   {way.name}: {megabits:.0f} Mbit/s, {seconds:.2f} CPU s/GB; rate ratios {_spread(rates)}")
    print(f"   {way.name}: CPU ratios {_spread(costs)}")
    return rates, costs


def packet_ratios(node: Node, plain: Way, way: Way) -> list[float]:
    """Of the switch's CPU seconds for each of many small datagrams: what it does with a packet, apart from copying."""
    assert node.ovs.switch
    pid = node.ovs.switch.pid
    pairs = [(_datagrams(plain, pid), _datagrams(way, pid)) for _ in range(PAIRS)]
    ratios = [there / base for base, there in pairs]
    base, there = (statistics.median(each) * 1e6 for each in zip(*pairs, strict=True))
    print(f"   {way.name}: {there:.2f} CPU us a datagram, plain {base:.2f} us; ratios {_spread(ratios)}")
    return ratios


def ratio(name: str, values: Sequence[float]) -> Figure:
    return Figure(name, statistics.median(values), "ratio")


def compared(lab: Lab, plain: Way, ways: Sequence[Way]) -> Iterator[Figure]:
    """All figures of some paths on the laboratory's first node, named by the path."""
    wait_works(plain, *ways)
    for way in ways:
        yield ratio(f"ping_{way.name}_ratio", ping_ratios(plain, way))
    for way in ways:
        rates, costs = tcp_ratios(lab.nodes[0], lab.directory / "iperf3", plain, way)
        yield ratio(f"tcp_{way.name}_ratio", rates)
        yield ratio(f"cpu_{way.name}_ratio", costs)


def _p50(way: Way) -> float:
    median = _ping_p50(way, PINGS)
    assert median is not None, f"{way.name} lost too much"
    return median


def _ping_p50(way: Way, count: int) -> float | None:
    """Seconds there and back, the median of `count` echo requests one after the other; None when half were lost."""
    took = []
    with Echo(way.client, way.address) as echo:
        for number in range(count):
            began = time.perf_counter()
            echo.send(number)
            if echo.answered(0.5):
                took.append(time.perf_counter() - began)
    return statistics.median(took) if len(took) * 2 > count else None


def _tcp(log: Path, way: Way, pid: int) -> tuple[float, float]:
    """Megabits a second of one TCP stream, and the switch's CPU seconds for a gigabyte of it."""
    before = _cpu_seconds(pid)
    rate = probes.tcp_throughput(
        probes.into(way.server), probes.into(way.client), way.address, log, seconds=TCP_SECONDS
    )
    return rate, (_cpu_seconds(pid) - before) / (rate * TCP_SECONDS / 8000)


def _datagrams(way: Way, pid: int) -> float:
    """The switch's CPU seconds for one small datagram, at a rate that it keeps up with."""
    with netns.inside(way.server):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with netns.inside(way.client):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with receiver, sender:
        receiver.bind(("", UDP_PORT))
        receiver.setblocking(False)
        sender.connect((str(way.address), UDP_PORT))
        sent = received = 0
        before, began = _cpu_seconds(pid), time.monotonic()
        while (passed := time.monotonic() - began) < UDP_SECONDS:
            while sent < passed * UDP_RATE:
                sender.send(bytes(16))
                sent += 1
            received += _drain(receiver)
            time.sleep(0.0005)
        spent = _cpu_seconds(pid) - before
        received += _drain(receiver)
    assert received > 0.9 * sent, f"{way.name} lost {sent - received} of {sent} datagrams"
    return spent / sent


def _drain(receiver: socket.socket) -> int:
    count = 0
    with suppress(BlockingIOError):
        while True:
            receiver.recv(64)
            count += 1
    return count


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process with all its threads (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _spread(values: list[float]) -> str:
    return f"min {min(values):.2f} median {statistics.median(values):.2f} max {max(values):.2f}"
