"""Whole DHCP exchanges, with every lease kept: as many as go, at a steady thousand a second, and of 200 VMs that boot
at once. dnsmasq takes turns with us: Debian's, a static hosts file of 1,000, its lease file on the same disk, and no
switch between it and the clients, which is to its advantage.

Few ports ask for all: each one more is polled by the one thread of the userspace datapath, asked or not.
"""

from __future__ import annotations

import shutil
import socket
import sqlite3
import statistics
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from ipaddress import IPv4Address
from pathlib import Path

from controller.client import Object
from etc.lab import netns
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import start, wait_until
from tests.bench.dhcp import UNLIMITED, open_meters
from tests.bench.exchange import Client, Load, all_at_once, all_interfaces, closed_loop, paced
from tests.bench.figures import Figure, percentile_ms
from tests.bench.ports import make_network

PORTS = 32
BOOTING = 200
HOSTS = 1000
WINDOW = 32
RUNS = 3
SECONDS = 4.0
STEADY_RATE = 1000.0
RENEWAL_RATE = 50.0
CHANGE_RATE = 5.0
AGAIN_S = 1.0
BOOT_DEADLINE_S = 20.0
_SERVER = IPv4Address("10.230.0.1")


def run() -> Iterator[Figure]:
    yield from _exchanges()
    yield from _boot()


def _exchanges() -> Iterator[Figure]:
    unlimited = {"packet_in": {"rate": UNLIMITED, "burst": UNLIMITED, "mute": 0}}
    with Lab("bench", nodes=1, control_options=unlimited) as lab:
        lab.wait_connected()
        ours = _plug_all(lab, make_network(lab, "leases", 204), PORTS)
        open_meters(lab.nodes[0])
        with dnsmasq(lab) as theirs, all_interfaces(_guests(lab)) as raw:
            closed_loop(raw, ours, WINDOW, 1.0)  # the switch has seen each port once
            closed_loop(raw, theirs, WINDOW, 1.0)
            rates: dict[str, list[float]] = {"ours": [], "dnsmasq": []}
            for _ in range(RUNS):
                for name, clients in (("ours", ours), ("dnsmasq", theirs)):
                    load = closed_loop(raw, clients, WINDOW, SECONDS)
                    rates[name].append(load.rate)
                    print(
                        f"   {name}: {load.rate:.0f} exchanges a second, p50 {percentile_ms(load.took, 50):.2f} "
                        f"p99 {percentile_ms(load.took, 99):.2f} ms, unanswered {load.lost}"
                    )
            steady = [paced(raw, ours, STEADY_RATE, SECONDS) for _ in range(RUNS)]
            _require_kept(lab, PORTS)
            changing = _while_ports_come(lab, raw, ours)
        yield Figure("dhcp_dora_per_s", statistics.median(rates["ours"]), "1/s")
        ratio = statistics.median(we / they for we, they in zip(rates["ours"], rates["dnsmasq"], strict=True))
        yield Figure("dhcp_dora_ratio_dnsmasq", ratio, "ratio")
        p99 = [percentile_ms(load.took, 99) for load in steady]
        print(f"   {STEADY_RATE:.0f} a second: p99 {p99}, unanswered {[load.lost for load in steady]}")
        yield Figure("dhcp_p99_ms_at_1000", statistics.median(p99), "ms")
        print(f"   while ports come: {len(changing.took)} exchanges, unanswered {changing.lost}")
        yield Figure("dhcp_change_max_ms", max(changing.took) * 1000, "ms")


def _while_ports_come(lab: Lab, raw: socket.socket, clients: Sequence[Client]) -> Load:
    """Each of the new ones changes the network that all are on."""
    network = lab.client.list_ports()[0]["network_id"]
    over = threading.Event()

    def add() -> None:
        while not over.wait(1 / CHANGE_RATE):
            lab.client.create_port({"network_id": network})

    with ThreadPoolExecutor(1) as pool:
        added = pool.submit(add)
        try:
            load = paced(raw, clients, RENEWAL_RATE, SECONDS)
        finally:
            over.set()
        added.result()
    assert not load.lost, f"{load.lost} exchanges failed while ports came"
    return load


def _boot() -> Iterator[Figure]:
    """The ports are there; interfaces are named as theirs, and all VMs ask, at the same moment."""
    with Lab("bench", nodes=3) as lab:
        lab.wait_connected()
        clients = _plug_all(lab, make_network(lab, "boot", 205), BOOTING, named=False)
        with all_interfaces(_guests(lab)) as raw:
            for node in lab.nodes:
                _name_all(node)
            load = all_at_once(raw, clients, AGAIN_S, BOOT_DEADLINE_S)
        assert not load.lost, f"{load.lost} of {BOOTING} VMs got no address"
        print(f"   {BOOTING} VMs: p50 {percentile_ms(load.took, 50):.0f} ms from the question that was answered")
        yield Figure("boot_200_s", load.seconds, "s")


def _guests(lab: Lab) -> str:
    """All guests are one namespace: each is an interface with a MAC of its own."""
    return f"{lab.prefix}-guests"


def _plug_all(lab: Lab, network: str, count: int, *, named: bool = True) -> list[Client]:
    ports, revision = lab.client.create_ports([{"network_id": network, "name": f"v{n}"} for n in range(count)])
    netns.create(_guests(lab))
    clients = []
    for index, node in enumerate(lab.nodes):
        clients += _plug(lab, node, ports[index :: len(lab.nodes)])
        if named:
            _name_all(node)
    lab.confirm(revision)
    if named:
        wait_until(
            lambda: all(port["status"] == "active" for port in lab.client.list_ports(network_id=network)),
            30,
            "a port is not active",
        )
    return clients


def _plug(lab: Lab, node: Node, ports: Sequence[Object]) -> list[Client]:
    guests, clients, cables, ends, bridged = _guests(lab), [], [], [], []
    for port in ports:
        near, far = f"v{port['key']}", f"g{port['key']}"
        cables.append(f"link add {near} type veth peer name {far} netns {guests}")
        cables.append(f"link set {near} up")
        ends.append(f"link set {far} address {port['mac']} up")
        bridged += ["--", "add-port", "br-int", near, "--", "set", "Interface", near]
        bridged += [f"external_ids:later={port['id']}"]
        clients.append(Client(bytes.fromhex(str(port["mac"]).replace(":", "")), far))
    netns.configure(node.namespace, *cables)
    netns.configure(guests, *ends)
    node.ovs.vsctl(*bridged[1:])
    return clients


def _name_all(node: Node) -> None:
    """Say in one transaction which interface is which port's."""
    found = node.ovs.vsctl("--bare", "--columns=name,external_ids", "find", "Interface", "external_ids:later!=none")
    lines = [line for line in found.splitlines() if line]
    arguments: list[str] = []
    for name, later in zip(lines[::2], lines[1::2], strict=True):
        arguments += ["--", "set", "Interface", name, f"external_ids:iface-id={later.removeprefix('later=')}"]
    node.ovs.vsctl("--no-wait", *arguments[1:])


@contextmanager
def dnsmasq(lab: Lab) -> Iterator[list[Client]]:
    """dnsmasq on the other end of one of the guests' interfaces, and the clients that it knows."""
    program = shutil.which("dnsmasq")
    if program is None:
        raise RuntimeError("dnsmasq is not installed: Debian's dnsmasq-base has it")
    namespace = f"{lab.prefix}-dnsmasq"
    netns.create(namespace)
    netns.veth(namespace, "eth0", _guests(lab), "dnsmasq")
    netns.configure(namespace, f"address add {_SERVER}/16 dev eth0")
    directory = lab.directory / "dnsmasq"
    directory.mkdir()
    clients = [Client(bytes.fromhex("fa163f") + n.to_bytes(3), "dnsmasq") for n in range(HOSTS)]
    hosts = "".join(f"{client.mac.hex(':')},host{n},{_SERVER + 1 + n}\n" for n, client in enumerate(clients))
    (directory / "hosts").write_text(hosts)
    line = [program, "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=eth0", "--no-ping"]
    line += [f"--dhcp-range={_SERVER},static,255.255.0.0,86400s", f"--dhcp-lease-max={HOSTS}", "--user=root"]
    line += [f"--dhcp-hostsfile={directory}/hosts", f"--dhcp-leasefile={directory}/leases", "--quiet-dhcp"]
    line += [f"--log-facility={directory}/said", f"--pid-file={directory}/pid"]
    process = start("dnsmasq", netns.command(namespace, line), directory / "out")
    try:
        process.wait_for(Path(directory, "pid").exists, 10, "it does not start")
        yield clients
    finally:
        process.stop()


def _require_kept(lab: Lab, count: int) -> None:
    """What was answered is in the database."""

    def kept() -> int:
        with closing(sqlite3.connect(f"file:{lab.control.directory}/trunkline.db?mode=ro", uri=True)) as database:
            found = database.execute("SELECT count(*) FROM leases WHERE state = 'bound'").fetchone()
            return int(found[0])

    wait_until(lambda: kept() >= count, 10, lambda: f"{kept()} of {count} leases were kept")
