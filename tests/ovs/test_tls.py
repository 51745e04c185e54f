"""Open vSwitch over TLS: who gets in, who does not, who keeps whose datapath-id, and what new certificates disturb.

Its own TLS, on both sides: the switches are real, and have nothing but a datapath that exists only inside of them.
"""

from __future__ import annotations

import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from controller.pki.directory import CA, CERTIFICATE, KEY
from etc.lab.openvswitch import OPENFLOW
from etc.lab.processes import run, wait_until
from flows.packet import packet
from flows.protocols import ETH_ARP
from tests.ovs.real_switch import RealSwitch
from tests.ovs.test_session import HELLO, Server
from tests.pki import Pki

N1, N2 = 0x77, 0x78
PATIENCE = 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Switch(RealSwitch):
    """One with a certificate, which is told of a controller."""

    @staticmethod
    @contextmanager
    def with_certificate(place: Path, datapath_id: int, port: int, ca: Path | None = None) -> Iterator[Switch]:
        with tempfile.TemporaryDirectory(prefix="tl-tls-") as name:
            switch = Switch(Path(name))
            with switch._daemons():
                switch._ports([1, 2])
                switch.vsctl(
                    "--", "set-ssl", str(place / KEY), str(place / CERTIFICATE), str(ca or place / CA),
                    "--", "set", "Bridge", "br-int", f"other_config:datapath-id={datapath_id:016x}",
                    "other_config:disable-in-band=true",
                    "--", "set-controller", "br-int", f"ssl:127.0.0.1:{port}",
                    "--", "set", "Controller", "br-int", "max_backoff=1000",
                )  # fmt: skip
                yield switch

    def ofctl(self, command: str, *args: str) -> str:
        return run(["ovs-ofctl", "-O", OPENFLOW, command, f"unix:{self.directory}/br-int.mgmt", *args])

    def dump(self) -> str:
        return self.ofctl("dump-flows")

    def log(self) -> str:
        return (self.directory / "vswitchd.log").read_text()

    def reconnect(self) -> None:
        self.command("bridge/reconnect", "br-int")

    def signal(self, number: signal.Signals) -> None:
        assert self.process
        self.process.signal(number)


class World:
    """A controller, and the switches of the nodes n1 and n2."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.pki = Pki(directory / "pki")
        self.controller = self.pki.controller()
        self.port = free_port()
        self.directory = directory
        self.server = Server(None, directory / "controller.log", self.port, self.controller)
        stack.callback(self.server.kill)
        self.server.flows(1, 2)
        self.n1 = stack.enter_context(Switch.with_certificate(self.pki.node("n1"), N1, self.port))
        self.n2 = stack.enter_context(Switch.with_certificate(self.pki.node("n2"), N2, self.port))
        for node in ("n1", "n2"):
            self.server.live(node)

    def event(self, name: str) -> int:
        return int(self.server.ask()["events"].get(name, 0))

    def connections(self) -> tuple[int, int]:
        """Sessions begun so far, of n1 and n2."""
        return tuple(self.server.ask(node=node)["connections"] for node in ("n1", "n2"))  # type: ignore[return-value]

    @contextmanager
    def nothing_lost(self) -> Iterator[None]:
        """Both sessions are there before and after, and are the same."""
        before = self.connections()
        yield
        for node in ("n1", "n2"):
            self.server.live(node)
        assert self.connections() == before

    @contextmanager
    def one_more(self, event: str, at_least: int = 1) -> Iterator[None]:
        """Within, an event is counted so many times."""
        before = self.event(event)
        yield
        wait_until(lambda: self.event(event) >= before + at_least, PATIENCE, event)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path_factory.mktemp("tls"), stack)


def test_the_second_switch_connects_too(world: World) -> None:
    """Ryu's own listener takes its TLS context apart for the first connection."""
    peers = {world.server.live(node)["peer"] for node in ("n1", "n2")}
    assert len(peers) == 2 and all("cookie=0x54" in switch.dump() for switch in (world.n1, world.n2))


def test_ten_thousand_flows_by_tls(world: World) -> None:
    state = world.server.flows(*range(1, 10_001))
    print(f"10,000 flows in one bundle by TLS: {10_000 / state['seconds']:.0f} flows/s")
    assert world.n1.dump().count("cookie=0x54") == 10_000
    world.server.flows()


@pytest.mark.parametrize("who", ["of another authority", "expired", "revoked", "a client's"])
def test_threat_23_who_has_no_good_certificate_gets_nothing(world: World, tmp_path: Path, who: str) -> None:
    pki = world.pki
    make: dict[str, Callable[[], Path]] = {
        "of another authority": lambda: Pki(tmp_path / "other").node("n1"),
        "expired": lambda: pki.expired_node("late"),
        "revoked": lambda: pki.node("stolen"),
        "a client's": lambda: pki.client("op"),
    }
    place = make[who]()
    if who == "revoked":
        pki.directory.revoke("node-stolen")
    with world.nothing_lost(), Switch.with_certificate(place, N1, world.port, world.controller / CA) as thief:
        with world.one_more("openflow_tls_failures"):
            pass
        assert "cookie" not in thief.dump()


def test_threat_23_a_node_with_the_datapath_id_of_another_gets_nothing(world: World) -> None:
    world.server.flows(1, 2, 3)
    place = world.pki.directory.path / "node-n2"
    with world.nothing_lost(), Switch.with_certificate(place, N1, world.port) as thief:
        with world.one_more("refused_datapath_id_of_another_node", 2):
            pass
        assert "cookie" not in thief.dump()
    assert "node=n1" in (world.directory / "controller.log").read_text()


def test_threat_23_a_second_connection_is_refused_while_the_first_answers(world: World) -> None:
    """And gets in when it does not: as after a crash of which nothing was heard."""
    place = world.pki.directory.path / "node-n1"
    with Switch.with_certificate(place, N1, world.port) as twin:
        with world.nothing_lost(), world.one_more("refused_datapath_id_in_use", 2):
            pass
        assert "cookie" not in twin.dump()
        with world.one_more("sessions_replaced"):
            world.n1.signal(signal.SIGSTOP)
        try:
            world.server.live()
            wait_until(lambda: "cookie" in twin.dump(), PATIENCE, "the twin has the flows")
        finally:
            world.n1.signal(signal.SIGCONT)
        with world.nothing_lost(), world.one_more("refused_datapath_id_in_use", 2):
            pass  # the first one is the second one now
        before = world.connections()
    wait_until(lambda: world.connections() > before, PATIENCE, "n1 comes back")
    world.server.live()


def test_threat_22_half_open_handshakes_and_plain_clients_stop_nobody(world: World) -> None:
    with ExitStack() as stack, world.nothing_lost():
        for index in range(300):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", world.port), timeout=5))
            with suppress(OSError):  # the oldest make room
                connection.sendall((b"", b"\x16\x03\x01", HELLO, b"GET / HTTP/1.1\r\n\r\n")[index % 4])
        assert world.server.flows(1, 2)["state"] == "live"
    before = world.connections()
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(socket.create_connection(("127.0.0.1", world.port), timeout=5))
        world.n2.reconnect()
        wait_until(lambda: world.connections() == (before[0], before[1] + 1), PATIENCE, "n2 gets through")
        world.server.live("n2")


def test_a_node_cannot_pass_for_a_controller(world: World) -> None:
    """Open vSwitch looks at what a certificate may be used for."""
    port = free_port()
    impostor = Server(None, world.directory / "impostor.log", port, world.pki.directory.path / "node-n2")
    try:
        with Switch.with_certificate(world.pki.directory.path / "node-n1", N1, port) as switch:
            wait_until(lambda: "certificate verify failed" in switch.log(), PATIENCE, "Open vSwitch refuses")
            assert impostor.ask()["state"] == "disconnected"
    finally:
        impostor.kill()


def test_new_certificates_disturb_nobody(world: World) -> None:
    world.n1.ofctl("add-flow", "cookie=0x4c00000000000001,priority=9,in_port=1,actions=output:2")
    frame = packet(eth_src=2, eth_dst=4, eth_type=ETH_ARP, arp_op=1)
    received = 0

    def pass_some() -> None:
        nonlocal received
        received += len(world.n1.receive_many([frame] * 50, 1, 50))

    with world.nothing_lost():
        pass_some()
        for label in ("controller-ctl", "node-n1"):
            world.pki.directory.renew(label, days=30)
            pass_some()
        # somebody new sees the new ones
        before = world.connections()
    world.n1.reconnect()
    pass_some()
    wait_until(lambda: world.connections() == (before[0] + 1, before[1]), PATIENCE, "n1 with its new certificate")
    pass_some()
    world.server.live()
    assert received == 250
    world.pki.directory.revoke("node-n1")  # all that it ever had
    with world.one_more("openflow_tls_failures"):
        world.n1.reconnect()
    world.pki.node("n1", force=True)
    wait_until(lambda: world.connections() == (before[0] + 2, before[1]), PATIENCE, "n1 as another one")
