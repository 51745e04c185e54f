"""Sessions against a real Open vSwitch: what is sent, what is not, and what garbage does."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from controller.packet_in import frames
from controller.pki.directory import CA, CERTIFICATE, KEY
from etc.lab import netns
from etc.lab.openvswitch import OpenVSwitch, datapath_type
from etc.lab.processes import wait_until

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

ROOT = Path(__file__).resolve().parents[2]
PORT = 6653
ZERO_HELLO = bytes.fromhex("04000010000000130001000000000010")
HELLO = struct.pack("!BBHIHHI", 5, 0, 16, 1, 1, 8, 1 << 5)


class Server:
    """A controller process that can be killed, and asked how it is."""

    def __init__(self, namespace: str | None, log: Path, port: int = PORT, tls: Path | None = None) -> None:
        """`tls`: the directory of its certificate."""
        command = [sys.executable, "-W", "ignore", "-m", "tests.ovs.session_server", str(port)]
        command += [] if tls is None else [str(tls)]
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command if namespace is None else netns.command(namespace, command),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, cwd=ROOT, text=True, bufsize=1,
            )  # fmt: skip

    def ask(self, **command: Any) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(command or {"state": True}) + "\n")
        line = self.process.stdout.readline()
        assert line, "the controller has died"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def flows(
        self, *keys: int, bad: tuple[int, ...] = (), meters: Sequence[tuple[int, int, int, int]] = ()
    ) -> dict[str, Any]:
        """`meters`: id, rate, burst, and the key of the flow that uses it."""
        return self.ask(flows=[[key, key not in bad] for key in keys], meters=meters)

    def live(self, node: str = "n1") -> dict[str, Any]:
        return wait_until(lambda: (answer := self.ask(node=node))["state"] == "live" and answer, 20, "session live")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


class Setup:
    """Lasts as long as its `with`. `tls`: directories with the certificates of the controller and of the node."""

    def __init__(self, namespace: str, directory: Path, tls: tuple[Path, Path] | None = None) -> None:
        self.tls = tls
        self.namespace = namespace
        self.directory = directory
        self.ovs = OpenVSwitch(namespace, directory / "ovs", datapath_type())
        self.servers: list[Server] = []

    def __enter__(self) -> Setup:
        with ExitStack() as failed:
            failed.callback(self.close)
            self._start()
            failed.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        netns.create(self.namespace)
        self.ovs.start()
        self.ovs.vsctl(
            "--", "add-br", "br-int",
            "--", "set", "Bridge", "br-int", f"datapath_type={self.ovs.datapath}", "fail_mode=secure",
            "protocols=OpenFlow14", "other_config:datapath-id=0000000000000077", "other_config:disable-in-band=true",
        )  # fmt: skip

    def serve(self) -> Server:
        controller, node = (None, None) if self.tls is None else self.tls
        server = Server(self.namespace, self.directory / "controller.log", tls=controller)
        self.servers.append(server)
        if len(self.servers) == 1:
            if node is not None:
                self.ovs.vsctl("set-ssl", *(str(node / name) for name in (KEY, CERTIFICATE, CA)))
            self.ovs.vsctl(
                "set-controller", "br-int", f"{'tcp' if self.tls is None else 'ssl'}:127.0.0.1:{PORT}",
                "--", "set", "Controller", "br-int", "max_backoff=1000", "inactivity_probe=5000",
            )  # fmt: skip
        server.live()
        return server

    def installed(self) -> set[int]:
        """The keys of the made-up flows that the switch holds."""
        return {int(key, 16) for key in re.findall(r"cookie=0x54[0-9a-f]{6}([0-9a-f]{8})", self.dump())}

    def meters(self) -> dict[int, tuple[int, int]]:
        """Rate and burst of the meters that the switch holds."""
        dumped = self.ovs.ofctl("dump-meters", "br-int")
        found = re.findall(r"meter=(\d+) kbps burst stats bands=\s+type=drop rate=(\d+) burst_size=(\d+)", dumped)
        return {int(id_): (int(rate), int(burst)) for id_, rate, burst in found}

    def dump(self) -> str:
        return self.ovs.ofctl("dump-flows", "br-int")

    def flow_mods_seen(self) -> int:
        """Flow-mods that Open vSwitch has logged when connections ended; those of live ones are not in it."""
        return sum(int(count) for count in re.findall(r"br-int<->tcp:.*: (\d+) flow_mods", self.ovs_log()))

    def ovs_log(self) -> str:
        return (self.directory / "ovs" / "ovs-vswitchd.log").read_text()

    def reconnect(self) -> None:
        """Makes Open vSwitch drop its connection and come again."""
        self.ovs.appctl("bridge/reconnect", "br-int")

    def close(self) -> None:
        for server in self.servers:
            with suppress(ProcessLookupError):
                server.kill()
        self.ovs.stop()
        netns.end_processes([self.namespace])
        netns.delete(self.namespace)
        shutil.rmtree(self.directory)

    def connect(self, data: bytes) -> socket.socket:
        with netns.inside(self.namespace):
            connection = socket.create_connection(("127.0.0.1", PORT), timeout=5)
        connection.sendall(data)
        return connection


@pytest.fixture
def setup(root: None) -> Iterator[Setup]:
    with Setup(f"tls{os.getpid()}", Path(tempfile.mkdtemp(prefix="tl-session-"))) as made:
        yield made


def test_from_first_connection_to_controller_crash(setup: Setup) -> None:
    server = setup.serve()
    first = server.flows(*range(1, 101))
    assert setup.installed() == set(range(1, 101)) and "table=250" in setup.dump()

    changed = server.flows(*range(2, 102))
    assert changed["flow_mods"] - first["flow_mods"] == 3  # one delete, one add, the stamp
    assert setup.installed() == set(range(2, 102))

    server.kill()
    # Open vSwitch counts them into its log a moment after it has noticed the end of the connection.
    wait_until(lambda: setup.flow_mods_seen() >= changed["flow_mods"], 20, "Open vSwitch logs the flow-mods it got")
    assert setup.flow_mods_seen() == changed["flow_mods"]
    assert setup.installed() == set(range(2, 102)), "flows must outlive the controller"


def test_threat_37_a_restart_of_the_controller_sends_no_flow_mod(setup: Setup) -> None:
    server = setup.serve()
    server.flows()  # the program a restarted server starts with, too
    server.kill()
    again = setup.serve()
    assert again.live()["flow_mods"] == 0 == again.live()["resyncs"]
    seen = setup.flow_mods_seen()
    setup.reconnect()
    wait_until(lambda: again.ask()["connections"] == 2, 20, "second connection")
    assert again.live()["flow_mods"] == 0
    assert setup.flow_mods_seen() == seen


def test_threat_36_a_restart_of_the_switch_is_a_resync(setup: Setup) -> None:
    server = setup.serve()
    server.flows(*range(1, 51))
    setup.ovs.restart_switch(kill=True)
    wait_until(lambda: server.ask()["resyncs"] == 2 and server.live(), 20, "resync")
    assert setup.installed() == set(range(1, 51))


def test_foreign_flows_survive_a_resync(setup: Setup) -> None:
    server = setup.serve()
    setup.ovs.ofctl("add-flow", "br-int", "cookie=0x4c00000000000000,table=30,priority=80,ip,actions=drop")
    server.flows(1, 2, 3)
    setup.ovs.ofctl("del-flows", "br-int", "table=250")
    setup.reconnect()
    wait_until(lambda: server.ask()["resyncs"] == 2, 20, "resync")
    server.live()
    assert "cookie=0x4c00000000000000" in setup.dump() and setup.installed() == {1, 2, 3}


def test_threat_24_one_bad_flow_among_many_is_quarantined_alone(setup: Setup) -> None:
    server = setup.serve()
    state = server.flows(*range(1, 201), bad=(77,))
    assert setup.installed() == set(range(1, 201)) - {77}
    assert state["quarantined_flows"] == 1
    assert state["quarantined"] == [{"table": 44, "priority": 200, "rule": "l2_local", "port_key": 77}]
    state = server.flows(*range(1, 202))  # 77 is good now
    assert setup.installed() == set(range(1, 202)) and state["quarantined_flows"] == 0
    server.kill()
    assert setup.serve().live()["state"] == "live"


def test_a_switch_that_refuses_a_flow_is_sent_nothing_by_a_controller_that_restarts(setup: Setup) -> None:
    server = setup.serve()
    before = server.flows(1, 2, 3, bad=(2,), meters=[(0xFFFF0001, 1, 1, 3)])  # no such number
    assert setup.installed() == {1} and before["quarantined_flows"] == 2
    setup.reconnect()
    wait_until(lambda: server.ask()["connections"] == 2, 20, "second connection")
    after = server.live()
    assert (after["flow_mods"], after["meter_mods"]) == (before["flow_mods"], before["meter_mods"])
    assert after["quarantined"] == before["quarantined"] and after["resyncs"] == 1
    # what is good by now is forgotten as refused, on the switch as well
    good = server.flows(1, 2, 3)
    assert setup.installed() == {1, 2, 3} and good["quarantined_flows"] == 0
    setup.reconnect()
    wait_until(lambda: server.ask()["connections"] == 3, 20, "third connection")
    assert server.live()["flow_mods"] == good["flow_mods"]


def test_ten_thousand_flows_in_one_bundle(setup: Setup) -> None:
    server = setup.serve()
    state = server.flows(*range(1, 10_001))
    print(f"10,000 flows in one bundle: {10_000 / state['seconds']:.0f} flows/s")
    assert state["confirmed"] == 2 and len(setup.installed()) == 10_000


def test_garbage_leaves_the_controller_responsive(setup: Setup) -> None:
    server = setup.serve()
    rng = random.Random(22)
    garbage = [
        ZERO_HELLO,
        bytes.fromhex("0400001000000013000100000000"),
        HELLO + bytes.fromhex("0506000700000001"),
        HELLO + struct.pack("!BBHI", 5, 19, 16, 1) + struct.pack("!HH4x", 13, 0),
        struct.pack("!BBHI", 99, 0, 8, 1),
        struct.pack("!BBHI", 5, 10, 65535, 1),
        *(bytes(rng.randrange(256) for _ in range(4096)) for _ in range(20)),
        *(HELLO + bytes(rng.randrange(256) for _ in range(64)) for _ in range(20)),
    ]
    open_ones = [setup.connect(data) for data in garbage]
    open_ones += [setup.connect(b"") for _ in range(200)]
    flood = setup.connect(HELLO)
    flood.setblocking(False)
    echo = struct.pack("!BBHI", 5, 2, 1008, 1) + bytes(1000)
    with suppress(OSError):
        while flood.send(echo * 60):
            pass  # never reads an answer
    started = time.monotonic()
    state = server.flows(*range(1, 51))
    assert time.monotonic() - started < 3 and state["state"] == "live" and state["connections"] == 1
    assert setup.installed() == set(range(1, 51))
    for connection in open_ones:
        connection.close()
    flood.close()


def test_meters_through_changes_restarts_and_a_refusal(setup: Setup) -> None:
    server = setup.serve()
    server.flows(1, 2, 3, meters=[(30_001, 10_000, 2000, 1), (60_001, 5000, 1000, 2)])
    assert setup.meters() == {30_001: (10_000, 2000), 60_001: (5000, 1000)} and setup.installed() == {1, 2, 3}
    # one changes, one goes while its flow stays, one comes
    before = server.ask()
    after = server.flows(1, 2, 3, meters=[(30_001, 20_000, 3000, 1), (30_003, 1, 1, 3)])
    assert setup.meters() == {30_001: (20_000, 3000), 30_003: (1, 1)} and setup.installed() == {1, 2, 3}
    assert after["meter_mods"] - before["meter_mods"] == 3

    setup.reconnect()
    wait_until(lambda: server.ask()["connections"] == 2, 20, "second connection")
    state = server.live()
    assert (state["flow_mods"], state["meter_mods"]) == (after["flow_mods"], after["meter_mods"])

    setup.ovs.restart_switch(kill=True)
    wait_until(lambda: server.ask()["resyncs"] == 2 and server.live(), 20, "resync")
    assert setup.meters() == {30_001: (20_000, 3000), 30_003: (1, 1)} and setup.installed() == {1, 2, 3}

    # another controller, that wants other meters: what the first one left goes, what is nobody's stays
    setup.ovs.ofctl("add-meter", "br-int", "meter=200000,kbps,burst,stats,band=type=drop,rate=7,burst_size=7")
    server.kill()
    again = setup.serve()
    assert setup.meters() == {200_000: (7, 7)} and setup.installed() == set()
    state = again.flows(1, 2, meters=[(30_001, 1, 1, 1), (0xFFFF0001, 1, 1, 2)])  # no such number
    assert setup.meters() == {30_001: (1, 1), 200_000: (7, 7)} and setup.installed() == {1}
    assert state["quarantined"] == [{"table": 44, "priority": 200, "rule": "l2_local", "port_key": 2}]
    assert again.live()["state"] == "live"


def datagram(source: str, destination: str) -> str:
    """A UDP frame in hexadecimal digits."""
    ends = IPv4Address(source).packed, IPv4Address(destination).packed
    packet = frames.ipv4(*ends, frames.PROTOCOL_UDP, frames.udp(*ends, 1000, 2000, b"hello"))
    return frames.ethernet(b"\x02" * 6, b"\x04" * 6, frames.ETHERTYPE_IPV4, packet).hex()


# what became of a connection, and which is forgotten: the zone, the ends of its first packet, its translation
CONNECTIONS = {
    "to the floating IP": (30010, "198.51.100.1", "203.0.113.50", "dst=10.0.0.5"),
    "from the floating IP": (30010, "10.0.0.5", "198.51.100.2", "src=203.0.113.50"),
    "to the second one": (30010, "198.51.100.1", "203.0.113.51", "dst=10.0.0.5"),
    "from the second one": (30010, "10.0.0.5", "198.51.100.3", "src=203.0.113.51"),
    "another port's": (30011, "198.51.100.1", "203.0.113.50", "dst=10.0.0.6"),
    "by the node": (65001, "10.0.0.5", "198.51.100.2", "src=203.0.113.11"),
    "another's by the node": (65001, "10.0.0.6", "198.51.100.2", "src=203.0.113.11"),
    "the port's own": (10, "10.0.0.5", "198.51.100.2", ""),
}
FORGET = [
    [30010, "original_destination", int(IPv4Address("203.0.113.50"))],
    [30010, "reply_destination", int(IPv4Address("203.0.113.50"))],
    [65001, "original_source", int(IPv4Address("10.0.0.5"))],
    [10, None, 0],
]
KEPT = {"to the second one", "from the second one", "another port's", "another's by the node"}


def test_just_what_is_to_be_forgotten_is_forgotten(setup: Setup) -> None:
    server = setup.serve()

    def track() -> None:
        for zone, source, destination, nat in CONNECTIONS.values():
            ct = f"ct(commit,zone={zone}{f',nat({nat})' if nat else ''})"
            packet = f"in_port=controller packet={datagram(source, destination)} actions={ct}"
            setup.ovs.ofctl("packet-out", "br-int", packet)

    def tracked() -> set[str]:
        lines = [
            line for line in setup.ovs.appctl("dpctl/dump-conntrack").splitlines() if "sport=1000,dport=2000" in line
        ]
        return {
            name
            for name, (zone, source, destination, nat) in CONNECTIONS.items()
            if any(
                f"orig=(src={source},dst={destination}," in line
                and f"zone={zone}" in line
                and (nat.partition("=")[2] in line)
                for line in lines
            )
        }

    track()
    wait_until(lambda: tracked() == set(CONNECTIONS), 20, "all are tracked")
    started = time.monotonic()
    assert server.ask(forget=FORGET)["state"] == "live"
    assert tracked() == KEPT and time.monotonic() - started < 2
    # while the switch is away: done when it is back
    track()
    wait_until(lambda: tracked() == set(CONNECTIONS), 20, "all are tracked again")
    setup.ovs.vsctl("del-controller", "br-int")
    wait_until(lambda: server.ask()["state"] == "disconnected", 20, "disconnected")
    server.ask(forget=FORGET)
    assert tracked() == set(CONNECTIONS)
    setup.ovs.vsctl("set-controller", "br-int", f"tcp:127.0.0.1:{PORT}")
    wait_until(lambda: tracked() == KEPT, 20, "forgotten")
    assert server.live()["state"] == "live"


def test_a_packet_goes_on_in_the_table_that_is_asked(setup: Setup) -> None:
    """As PUNT_UNRESOLVED's are sent again, and come back when the switch still knows no way."""
    server = setup.serve()
    match = "table=37,priority=9,ip,in_port=controller,metadata=9,nw_dst=203.0.113.77"
    setup.ovs.ofctl("add-flow", "br-int", f"cookie=0x4c00000000000001,{match},actions=drop")
    server.ask(send=[37, 9, datagram("203.0.113.11", "203.0.113.77")])
    wait_until(lambda: re.search("cookie=0x4c00000000000001.*n_packets=1,", setup.dump()), 20, "it passes the table")


def test_an_unknown_switch_is_parked(setup: Setup) -> None:
    server = setup.serve()
    setup.ovs.vsctl(
        "--", "add-br", "br-other",
        "--", "set", "Bridge", "br-other", f"datapath_type={setup.ovs.datapath}", "protocols=OpenFlow14",
        "fail_mode=secure", "other_config:datapath-id=00000000000000ff",
        "--", "set-controller", "br-other", f"tcp:127.0.0.1:{PORT}",
    )  # fmt: skip
    wait_until(lambda: server.ask()["parked"] == 1, 20, "parked")
    assert "actions" not in setup.ovs.ofctl("dump-flows", "br-other")
    assert server.live()["connections"] == 1
