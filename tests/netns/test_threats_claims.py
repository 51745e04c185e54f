"""Two nodes that both say to have the interface of one port (threat 40), at once and in turn.

One of them serves it, the other's passes nothing and is named in `problems` of its node; those of others notice
nothing. The number is that of the project's list of threats. What a rogue node may claim is in test_tls.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass

import pytest

from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import CommandFailed, wait_until
from etc.lab.vm import Vm
from flows.rules import Rule
from tests.netns import cloud, frames
from tests.netns.cloud import make_network, make_vms, metric, want
from tests.netns.frames import Tap, udp

pytestmark = pytest.mark.root

RATE = 25
"""Pings a second of those that are to notice nothing."""
TURNS = 8
MOST_MESSAGES = 200
"""OpenFlow messages of one turn: the flows of the port, there and here, and of its network on either node."""


@dataclass(frozen=True)
class Place:
    """`twins` have the same port, on one node each; `victims` are of another project, on the same nodes."""

    lab: Lab
    twins: tuple[Vm, Vm]
    victims: tuple[Vm, Vm]

    @property
    def port_id(self) -> str:
        return str(self.twins[0].port["id"])

    def bound(self) -> str | None:
        binding = self.lab.client.get_port(self.port_id)["binding"]
        return None if binding is None else str(binding["node"])

    def serving(self) -> list[str]:
        """The nodes that let the port's frames in."""
        served = Rule.CLASSIFY_PORT, int(self.twins[0].port["key"])
        return [node.name for node in self.lab.nodes if served in frames.packets(node)]

    def problems(self, node: Node) -> list[str]:
        return [line for line in self.lab.client.get_node(node.name)["problems"] if self.port_id in line]

    def wait_at(self, node: Node) -> None:
        """Wait until a node, and it alone, serves the port."""
        wait_until(
            lambda: self.bound() == node.name and self.serving() == [node.name],
            20,
            lambda: f"bound to {self.bound()}, served by {self.serving()}, not {node.name}",
            interval=0.05,
        )


@pytest.fixture(scope="module")
def place(make_lab: Callable[..., Lab]) -> Iterator[Place]:
    lab = make_lab(nodes=2, projects=("blue", "red"))
    blue = make_network(lab, "blue", "10.20.0.0/24", segment=120)
    red = make_network(lab, "red", "10.21.0.0/24", segment=121, project_id="red")
    first, second = lab.nodes
    vms = make_vms(lab, want("v1", first, red), want("v2", second, red), want("peer", first, blue))
    port = lab.client.create_port({"network_id": blue["id"], "name": "twin", "project_id": "blue"}).object
    assert port
    twins = lab.plug("twin1", first, port), lab.plug("twin2", second, port)
    for twin in twins:
        twin.set_address(f"{twin.address}/24")
    yield Place(lab, twins, (vms["v1"], vms["v2"]))


@pytest.fixture
def unharmed(place: Place) -> Iterator[None]:
    """The others' pings, from node to node, are all answered."""
    one, other = place.victims
    stream = one.ping_stream(other.address, rate=RATE)
    try:
        yield
    finally:
        pinged = stream.stop()
    assert pinged.sent > 0 and pinged.lost == 0, pinged


def test_threat_40_of_two_claims_at_once_one_is_served(place: Place, unharmed: None) -> None:
    one, other = place.twins if place.bound() == "n1" else place.twins[::-1]
    place.wait_at(one.node)
    (problem,) = wait_until(lambda: place.problems(other.node), 10, "a problem of the node that is refused")
    assert one.node.name in problem and not place.problems(one.node)
    cloud.wait_reached(one, place.lab.vms["peer"].address)
    before = frames.drops(other.node)[Rule.DROP_UNCLASSIFIED, 0]
    with closing(Tap(place.lab.vms["peer"].namespace)) as heard, closing(Tap(other.namespace)) as tap:
        tap.send(*[udp(other, place.lab.vms["peer"].address, payload=b"from the other")] * 3)
        wait_until(lambda: frames.drops(other.node)[Rule.DROP_UNCLASSIFIED, 0] - before >= 3, 10, "it is dropped")
        assert one.ping(place.lab.vms["peer"].address, count=2).lost == 0
        assert not [frame for frame in heard.frames() if b"from the other" in frame]
    sent = metric(place.lab, "of_flowmsgs_sent_total")
    stream = one.ping_stream(place.lab.vms["peer"].address, rate=RATE)
    for _ in range(TURNS):
        other.unplug()
        wait_until(lambda: not place.problems(other.node), 10, "the problem ends")
        other.plug()
        wait_until(lambda: place.problems(other.node), 10, "it is there again")
    pinged = stream.stop()
    assert pinged.sent > 0 and pinged.lost == 0, "whoever has it notices nothing"
    assert place.bound() == one.node.name and metric(place.lab, "of_flowmsgs_sent_total") == sent


def test_threat_40_a_port_that_goes_to_and_fro_costs_what_a_move_costs(place: Place, unharmed: None) -> None:
    """The nodes show it in turn, each while the other still does: each turn is one move, and no more."""
    place.wait_at(place.lab.node(str(place.bound())))
    sent = []
    for _ in range(TURNS):
        before = metric(place.lab, "of_flowmsgs_sent_total")
        here, there = place.twins if place.bound() == "n1" else place.twins[::-1]
        here.unplug()
        place.wait_at(there.node)
        here.plug()
        wait_until(lambda here=here: place.problems(here.node), 10, "a problem of the node that comes second")
        sent.append(metric(place.lab, "of_flowmsgs_sent_total") - before)
    assert max(sent) <= MOST_MESSAGES, sent


def test_threat_40_a_port_that_flaps_settles(place: Place, unharmed: None) -> None:
    """Both interfaces go and come as fast as they can, and afterwards one of them is served."""

    def flap(twin: Vm) -> None:
        for _ in range(TURNS):
            with suppress(CommandFailed):  # the other end may not be gone yet
                twin.unplug()
            twin.plug()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(flap, place.twins))
    wait_until(lambda: place.bound() is not None, 20, "it is bound")
    node = place.lab.node(str(wait_until(lambda: len(place.serving()) == 1 and place.bound(), 20, "one serves it")))
    place.wait_at(node)
    twin = next(each for each in place.twins if each.node is node)
    twin.set_address(f"{twin.address}/24")
    cloud.wait_reached(twin, place.lab.vms["peer"].address)
