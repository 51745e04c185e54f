"""Names of VMs, asked by dnsperf through real Open vSwitch: as many as go, and at a steady 500 a second. dnsmasq, in a
VM on the same switch with the same names in a hosts file, takes turns with us.

What bounds a port, in the switch and in the controller, is opened: to be measured is what the controller can do.
"""

from __future__ import annotations

import re
import shutil
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from etc.lab import netns
from etc.lab.lab import Lab
from etc.lab.processes import start
from etc.lab.vm import Vm
from tests.bench.dhcp import UNLIMITED, open_meters
from tests.bench.figures import Figure, percentile_ms
from tests.bench.ports import make_network

NAMES = 100
DOMAIN = "bench.example"
WINDOW = 100
RUNS = 3
SECONDS = 4
STEADY_RATE = 500

_RTT = re.compile(r"^> \w+ \S+ \w+ ([\d.]+)$", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    rate: float
    lost: int
    latencies: list[float]


def run() -> Iterator[Figure]:
    for program in ("dnsperf", "dnsmasq"):
        if shutil.which(program) is None:
            raise RuntimeError(f"{program} is not installed: Debian's dnsperf and dnsmasq-base have them")
    unlimited = {"packet_in": {"rate": UNLIMITED, "burst": UNLIMITED, "mute": 0}}
    unlimited["dns"] = {"rate": UNLIMITED, "burst": UNLIMITED}
    with Lab("bench", nodes=1, control_options=unlimited, open_groups=True) as lab:
        lab.wait_connected()
        network = make_network(lab, "dns", 204, dns_domain=DOMAIN)
        ports, revision = lab.client.create_ports([{"network_id": network, "hostname": f"h{n}"} for n in range(NAMES)])
        lab.confirm(revision)
        client, other = (lab.create_vm(name, lab.nodes[0], network) for name in ("asks", "dnsmasq"))
        configured = [vm.wait_configured() for vm in (client, other)]
        for vm in (client, other):
            vm.stop_client()
        netns.configure(client.namespace, f"address replace {configured[0].address} dev eth0")
        netns.configure(other.namespace, f"address replace {configured[1].address} dev eth0")
        open_meters(lab.nodes[0])
        questions = lab.directory / "questions"
        questions.write_text("".join(f"h{n}.{DOMAIN} A\n" for n in range(NAMES)))
        hosts = lab.directory / "hosts"
        hosts.write_text("".join(f"{port['fixed_ips'][0]['address']} {port['hostname']}.{DOMAIN}\n" for port in ports))
        ours = str(configured[0].dns_servers[0])
        with dnsmasq(other, hosts) as theirs:
            yield from _measure(client, questions, {"ours": ours, "dnsmasq": theirs})


def _measure(client: Vm, questions: Path, servers: dict[str, str]) -> Iterator[Figure]:
    for server in servers.values():
        ask(client, server, questions, seconds=1)
    rates: dict[str, list[float]] = {name: [] for name in servers}
    steady: dict[str, list[float]] = {name: [] for name in servers}
    for _ in range(RUNS):
        for name, server in servers.items():
            most = ask(client, server, questions, seconds=SECONDS)
            rates[name].append(most.rate)
            calm = ask(client, server, questions, seconds=SECONDS, rate=STEADY_RATE)
            steady[name].append(percentile_ms(calm.latencies, 50))
            print(
                f"   {name}: {most.rate:.0f} a second, lost {most.lost}; at {STEADY_RATE} a second p50 "
                f"{steady[name][-1]:.2f} p99 {percentile_ms(calm.latencies, 99):.2f} ms, lost {calm.lost}"
            )
    yield Figure("dns_qps", statistics.median(rates["ours"]), "1/s")
    yield Figure("dns_p50_ms", statistics.median(steady["ours"]), "ms")
    ratio = statistics.median(we / they for we, they in zip(rates["ours"], rates["dnsmasq"], strict=True))
    yield Figure("dns_ratio_dnsmasq", ratio, "ratio")


def ask(vm: Vm, server: str, questions: Path, *, seconds: float, rate: int | None = None) -> Run:
    """With a rate also how long each answer took."""
    options = ["-q", str(WINDOW), "-t", "1"] if rate is None else ["-Q", str(rate), "-v"]
    command = ["dnsperf", "-s", server, "-d", str(questions), "-l", str(seconds), *options]
    said = vm.execute(*command, deadline=seconds + 20)
    completed, lost = (int(re.findall(rf"Queries {what}:\s+(\d+)", said)[0]) for what in ("completed", "lost"))
    assert completed, said
    (per_second,) = re.findall(r"Queries per second:\s+([\d.]+)", said)
    codes = re.findall(r"Response codes:\s+(.*)", said)
    assert codes and codes[0].startswith("NOERROR") and "," not in codes[0], said
    return Run(float(per_second), lost, [float(took) for took in _RTT.findall(said)])


@contextmanager
def dnsmasq(vm: Vm, hosts: Path) -> Iterator[str]:
    """In a VM, with these names; its address."""
    address = str(vm.address)
    command = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root"]
    pid = vm.directory / "dnsmasq.pid"
    command += [f"--addn-hosts={hosts}", f"--listen-address={address}", "--bind-interfaces", f"--pid-file={pid}"]
    process = start("dnsmasq", netns.command(vm.namespace, command), vm.directory / "dnsmasq.log")
    try:
        process.wait_for(pid.exists, 10, "it does not start")
        yield address
    finally:
        process.stop()
