"""The watch over gateway nodes, with a real store; its switches are only when they were last heard."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network
from typing import Any

import eventlet
import pytest

from controller import gateway_watch
from controller.gateway_watch import GatewayWatch, host_answers
from controller.liveness import HUNG, SILENT
from controller.packet_in.outputs import Output
from controller.store import Store
from controller.store.specs import InterfaceReport, NetworkRecord, NetworkSpec, NodeSpec, PortSpec, SubnetSpec
from controller.store.specs import ReportedInterface as Shown
from flows.model import GatewayMode, NetworkChange, NetworkKind, NodeChange
from flows.pipeline import gateway_node_mac

NAMES = ("n1", "n2", "n3")


@dataclass
class Switch:
    node: str
    heard_at: float = 0.0
    address: Any = ("192.0.2.1", 5)
    answers: bool = True
    asked: int = 0

    @property
    def connection(self) -> Switch:
        return self

    def send(self, buf: bytes) -> bool:
        self.asked += 1
        return True


@dataclass
class World:
    store: Store
    now: float = 1000.0
    switches: dict[str, Switch] = field(default_factory=lambda: {name: Switch(name) for name in NAMES})
    sent: list[tuple[str, Output]] = field(default_factory=list)
    hosts: set[int] = field(default_factory=set)
    leads: bool = True
    elsewhere: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.watch = GatewayWatch(
            self.store,
            self.store.load_snapshot,
            lambda: self.switches.values(),
            lambda node, output: self.sent.append((node, output)) is None,
            lambda _host, port: port in self.hosts,
            leads=lambda: self.leads,
            elsewhere=lambda node: node in self.elsewhere,
        )

    def look(self, seconds: float) -> None:
        for _ in range(round(seconds / gateway_watch.PERIOD)):
            self.now += gateway_watch.PERIOD
            for switch in self.switches.values():
                if switch.answers:
                    switch.heard_at = self.now
            self.watch.look()
            eventlet.sleep(0)

    def network(self, mode: GatewayMode = GatewayMode.SINGLE) -> NetworkRecord:
        subnet = SubnetSpec(IPv4Network("10.0.0.0/24"))
        spec = NetworkSpec("net", NetworkKind.VLAN, "physnet1", (subnet,), "blue", gateway_mode=mode)
        made = self.store.create_network(spec, "tester").value
        (port,) = self.store.create_ports([PortSpec(made.id)], "tester").value
        self.store.report_interfaces("n1", InterfaceReport(1, {"physnet1": 1}, (Shown(port.port.id, 7),)))
        return made

    def node_of(self, network: NetworkRecord) -> str | None:
        found: str | None = self.store.get_network(network.id).gateway_node
        return found


@pytest.fixture
def world(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(Store(f"sqlite:///{tmp_path}/trunkline.db"))
    for number, name in enumerate(NAMES, 1):
        made.store.put_node(NodeSpec(name, number, ("physnet1",)), name)
    monkeypatch.setattr(time, "monotonic", lambda: made.now)
    yield made
    made.store.close()


def test_another_node_takes_over_from_a_silent_one(world: World) -> None:
    network = world.network()
    world.look(5)
    assert world.node_of(network) == "n1"
    world.switches["n1"].answers = False
    world.look(SILENT - gateway_watch.PERIOD)
    assert world.node_of(network) == "n1"
    world.look(gateway_watch.PERIOD)
    assert world.node_of(network) == "n2"
    world.switches["n1"].answers = True
    world.look(5)
    assert world.node_of(network) == "n2"


def test_of_several_controllers_the_leader_replaces(world: World) -> None:
    network = world.network()
    world.leads = False
    world.look(5)
    world.switches["n1"].answers = False
    world.look(SILENT + 5)
    assert world.node_of(network) == "n1" and world.switches["n2"].asked == 0
    world.leads = True  # it knows of nothing before
    world.look(SILENT - 1)
    assert world.node_of(network) == "n1"
    world.look(2)
    assert world.node_of(network) == "n2"


def test_a_node_that_answers_another_controller_is_not_lost(world: World) -> None:
    network = world.network()
    world.look(5)
    world.elsewhere.add("n1")
    world.switches["n1"].answers = False
    world.look(HUNG + 5)
    assert world.node_of(network) == "n1"
    world.elsewhere.clear()
    world.look(gateway_watch.PERIOD)
    assert world.node_of(network) == "n2"


def test_it_goes_through_the_networks_only_when_one_has_changed(world: World) -> None:
    """There are many, and it looks twice a second."""

    class Counted(dict[str, Any]):
        walks = 0

        def values(self) -> Any:
            self.walks += 1
            return super().values()

    network = world.network()
    snapshot = world.store.load_snapshot()
    counted = Counted(snapshot.networks)
    now = [replace(snapshot, networks=counted)]
    world.watch = GatewayWatch(
        world.store, lambda: now[0], lambda: world.switches.values(), lambda *_: True, lambda *_: True
    )
    world.look(5)
    now[0] = now[0].apply(snapshot.revision + 1, [NodeChange("n3", None)])
    assert now[0].networks is counted
    world.look(5)
    assert counted.walks == 1
    now[0] = now[0].apply(snapshot.revision + 2, [NetworkChange(network.id, None)])
    world.look(1)
    asked = world.switches["n1"].asked
    world.look(1)
    assert world.switches["n1"].asked == asked  # nobody is to be watched any more


def test_a_host_that_answers_gives_its_switch_more_time(world: World) -> None:
    network = world.network()
    world.look(5)
    world.switches["n1"].answers, world.switches["n1"].address = False, ("192.0.2.1", 7)
    world.hosts = {7}
    world.look(HUNG - gateway_watch.PERIOD)
    assert world.node_of(network) == "n1"
    world.look(gateway_watch.PERIOD)
    assert world.node_of(network) == "n2"


def test_without_such_networks_nobody_is_asked(world: World) -> None:
    world.network(GatewayMode.SHARED)
    world.look(5)
    assert {switch.asked for switch in world.switches.values()} == {0}


def test_what_cannot_be_replaced_is_not_tried_for_ever(world: World) -> None:
    network = world.network()
    world.store.update_network(network.id, {"gateway_node": "n1"}, "tester")
    world.look(5)
    tried: list[Any] = []
    replace = world.store.replace_gateway_nodes
    world.watch._store = type(
        "Store", (), {"replace_gateway_nodes": lambda _, lost: tried.append(lost) or replace(lost)}
    )()
    del world.switches["n1"]
    world.look(30)
    assert tried == [{"n1"}] and world.node_of(network) == "n1"
    world.store.update_network(network.id, {"gateway_node": None}, "tester")
    world.look(gateway_watch.PERIOD)
    assert world.node_of(network) == "n2"


def test_the_segment_is_told_where_its_gateway_is(world: World) -> None:
    world.network()
    world.watch.announce()
    assert [(node, output.ofport) for node, output in world.sent] == [("n1", 1), ("n1", 1)]
    mac = gateway_node_mac(1).to_bytes(6)
    assert all(output.frame[6:12] == mac for _, output in world.sent)


def test_a_refusal_is_an_answer_and_silence_is_none() -> None:
    server = eventlet.listen(("127.0.0.1", 0))
    port = server.getsockname()[1]
    assert host_answers("127.0.0.1", port)
    server.close()
    assert host_answers("127.0.0.1", port)
    assert not host_answers("192.0.2.254", 9)
