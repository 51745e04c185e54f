"""Hostile peers of the control channel, plain and by TLS, from the address of a node: its session goes on, and one that
begins meanwhile gets in; what the controller keeps of such peers is bounded.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from controller.newcomers import SHARE
from etc.lab.processes import wait_until
from tests.fuzz.test_openflow import rss_mb
from tests.hostile_peers import DEAF, RATE, attack
from tests.ovs.test_session import PORT, Server, Setup
from tests.pki import Pki

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

LONG = 120.0
"""Seconds that an attack may last: it is ended when the test is."""

PATIENCE = 60.0
MOST_GROWTH_MB = 24


class World:
    def __init__(self, setup: Setup, place: Path | None) -> None:
        """`place`: a node's certificate, for the attackers."""
        self.setup = setup
        self.place = place
        self.server: Server = setup.serve()

    def attack(self, kind: str, rate: float = RATE) -> AbstractContextManager[None]:
        return attack(kind, "127.0.0.1", PORT, LONG, rate=rate, place=self.place, namespace=self.setup.namespace)

    def counted(self, event: str) -> int:
        return int(self.server.ask()["events"].get(event, 0))

    def wait_counted(self, event: str, at_least: int) -> None:
        wait_until(lambda: self.counted(event) >= at_least, PATIENCE, event)


@pytest.fixture(params=["plain", "tls"])
def world(root: None, request: pytest.FixtureRequest) -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="tl-peers-") as place:
        directory = Path(place)
        tls, node = None, None
        if request.param == "tls":
            pki = Pki(directory / "pki")
            tls, node = (pki.controller(), pki.node("n1")), pki.node("n2")
        with Setup(f"tlp{os.getpid()}", directory / "setup", tls) as made:
            yield World(made, node)


@pytest.mark.alone
@pytest.mark.parametrize(
    ("kind", "rate", "event"),
    [("silent", RATE, "openflow_handshakes_displaced"), ("hello", 2 * SHARE, "openflow_handshakes_refused")],
)
def test_threat_22_many_connections_from_the_address_of_a_node(
    world: World, kind: str, rate: float, event: str
) -> None:
    """The node shares what its address may begin with the attackers: here about one of its tries in two gets in."""
    before = world.server.flows(1, 2)
    with world.attack(kind, rate):
        world.wait_counted(event, 200)
        assert world.server.flows(1, 2, 3)["connections"] == before["connections"], "the session that was there ended"
        assert world.setup.installed() == {1, 2, 3}
        world.setup.reconnect()
        wait_until(lambda: world.server.ask()["connections"] > before["connections"], PATIENCE, "the node gets in")
        wait_until(lambda: world.server.ask()["state"] == "live", PATIENCE, "and its session is live")
        world.server.flows(4)
        assert world.setup.installed() == {4}


def test_threat_22_peers_that_never_read_cost_no_memory(world: World) -> None:
    before = world.server.flows(1, 2)
    memory, most = rss_mb(world.server.process.pid), 0.0

    def all_ended() -> bool:
        nonlocal most
        most = max(most, rss_mb(world.server.process.pid))
        return world.counted("openflow_unread_answers") >= 2 * DEAF

    with world.attack("deaf"):
        wait_until(all_ended, PATIENCE, "deaf peers are closed")
        assert world.server.flows(1, 2, 3)["connections"] == before["connections"], "the session that was there ended"
        assert world.setup.installed() == {1, 2, 3}
    assert most - memory < MOST_GROWTH_MB
