"""What changes on real Open vSwitch: it ends what it is about, and nothing else notices."""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from socket import socket
from typing import Any, NamedTuple

import pytest
from sqlalchemy import create_engine

from controller.client import ApiError, Object
from controller.store.model import load_snapshot
from controller.store.quarantine import Quarantine
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.openvswitch import OpenVSwitch
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from flows.compile import compile_node
from flows.ir import Stamp, stamp_flows
from flows.pipeline import PORT_ZONES, Table
from tests.netns.cloud import (
    make_network,
    make_outside,
    make_vms,
    metric,
    program,
    tcp,
    unbroken,
    wait_outside,
    wait_revalidated,
    want,
)
from tests.netns.floating import DEADLINE, give, lead, make_pool, take
from tests.ovs.real_switch import RealSwitch

pytestmark = pytest.mark.root

EDITS = 1000
BYSTANDERS = 8
"""Ports that the edits are about."""
FLOATING_IPS = 12
FOREIGN_COOKIE = 0xF00D


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2, projects=("blue", "red"), control_options={"quota": {"floating_ips": 100}})


@pytest.fixture(scope="module")
def networks(lab: Lab) -> dict[str, Object]:
    """`same` has the range of `a`, `own` SNAT addresses for itself, and the edits are about `c` and `d`."""
    make_pool(lab, make_outside(lab))
    return {
        "a": make_network(lab, "a", "10.20.0.0/24", segment=120),
        "b": make_network(lab, "b", "10.21.0.0/24", segment=121),
        "same": make_network(lab, "same", "10.20.0.0/24", segment=122, project_id="red"),
        "own": make_network(lab, "own", "10.22.0.0/24", segment=123, own_snat_address=True),
        "c": make_network(lab, "c", "10.23.0.0/24", segment=124),
        "d": make_network(lab, "d", "10.24.0.0/24", segment=125, gateway_mode="shared"),
    }


@pytest.fixture(scope="module")
def vms(lab: Lab, networks: dict[str, Object]) -> dict[str, Vm]:
    """In the name are network and node."""
    places = [*product(("a", "b"), (1, 2)), ("same", 1), ("own", 1)]
    wanted = [want(f"{name}-{number}", lab.nodes[number - 1], networks[name]) for name, number in places]
    vms = make_vms(lab, *wanted)
    wait_outside(lab, *vms.values())
    return vms


# E13: what conntrack forgets


class Session(NamedTuple):
    """A TCP connection from a VM to the far host, and both its ends."""

    port: int
    client: socket
    served: socket
    seen: str

    def lives(self) -> bool:
        self.client.sendall(b"question")
        assert self.served.recv(100) == b"question"
        self.served.sendall(b"answer")
        return self.client.recv(100) == b"answer"

    def tracked(self, node: Node, *, translated: bool = False) -> list[str]:
        """What conntrack knows of it, in whatever zone, or in those that translate."""
        dump = node.ovs.appctl("dpctl/dump-conntrack")
        known = [line for line in dump.splitlines() if f"dport={self.port})" in line]
        return [line for line in known if not translated or _zone(line) not in PORT_ZONES]


def _zone(line: str) -> int:
    return int(re.search(r"zone=(\d+)", line)[1])  # type: ignore[index]


@contextmanager
def session(lab: Lab, vm: Vm, port: int) -> Iterator[Session]:
    with tcp(lab.fabric.far, port=port) as server, tcp(vm.namespace, vm.address) as client:
        server.listen(1)
        client.connect((str(lab.fabric.far_host), port))
        served, (seen, _) = server.accept()
        with served:
            served.settimeout(DEADLINE)
            found = Session(port, client, served, str(seen))
            assert found.lives() and found.tracked(vm.node)
            yield found


def end_by_deletion(lab: Lab, vm: Vm) -> None:
    lab.client.delete_port(vm.port["id"])


def end_by_going_elsewhere(lab: Lab, vm: Vm) -> None:
    vm.unplug()
    vm.node = lab.nodes[1]
    vm.plug()


def end_by_disassociation(lab: Lab, vm: Vm) -> None:
    (floating_ip,) = lab.client.list_floating_ips(port_id=vm.port["id"])
    lead(lab, floating_ip, None)


@pytest.mark.parametrize(
    ("network", "end"),
    [
        ("a", end_by_deletion),
        ("same", end_by_deletion),
        ("own", end_by_deletion),
        ("a", end_by_going_elsewhere),
        ("b", end_by_disassociation),
    ],
)
def test_e13_the_connections_of_what_goes_end_and_no_others(
    lab: Lab, vms: dict[str, Vm], networks: dict[str, Object], network: str, end: Callable[[Lab, Vm], None]
) -> None:
    """Else the outside would reach, by the old connection, whoever gets the address next."""
    node, stays = lab.nodes[0], vms[f"{network}-1"]
    goes = make_vms(lab, want("goes", node, networks[network]))["goes"]
    try:
        address = str(give(lab, goes)["address"]) if end is end_by_disassociation else None
        with session(lab, stays, 7004) as old, session(lab, goes, 7005) as gone, goes.capture("tcp") as heard:
            assert address in (None, gone.seen)
            end(lab, goes)
            # the VM itself knows nothing of its floating IP, nor does the zone of its security groups
            stays = end is end_by_disassociation
            wait_until(
                lambda: not gone.tracked(node, translated=stays), DEADLINE, lambda: f"still there: {gone.tracked(node)}"
            )
            wait_revalidated(node)  # what is cached would remember it again
            so_far = len(heard.seen())
            for _ in range(3):
                gone.served.send(b"still there?")
                assert old.lives()
            assert not heard.seen(lambda frame: frame.src == lab.fabric.far_host)[so_far:]
            assert not gone.tracked(node, translated=stays) and old.tracked(node)
    finally:
        lab.vms.pop("goes")
        goes.delete()


def test_a_network_that_gets_another_snat_address_ends_what_left_by_the_old(
    lab: Lab, vms: dict[str, Vm], networks: dict[str, Object]
) -> None:
    """Its own, and back. The old address may be somebody else's next."""
    node, id_ = lab.nodes[0], networks["b"]["id"]
    for own in (True, False):
        with session(lab, vms["a-1"], 7004) as other, session(lab, vms["b-1"], 7005) as ended:
            lab.confirm(lab.client.update_network(id_, {"own_snat_address": own}).revision)
            wait_until(
                lambda ended=ended: not ended.tracked(node, translated=True),  # type: ignore[misc]
                DEADLINE,
                lambda ended=ended: f"still there: {ended.tracked(node)}",  # type: ignore[misc]
            )
            assert other.lives() and other.tracked(node)
            wait_revalidated(node)
            with session(lab, vms["b-1"], 7006) as new:
                assert (new.seen == other.seen) == (not own) and new.seen != ended.seen


# E15: edits, and what they are not about


class Edits:
    """Changes to objects that nobody uses, each by chance, until they are all as in the beginning."""

    def __init__(self, lab: Lab, networks: dict[str, Object], seed: int) -> None:
        self._lab, self._client, self._random = lab, lab.client, random.Random(seed)
        self._networks = [networks["c"], networks["d"]]
        self._ports = [
            port for index, network in enumerate(self._networks) for port in self._make_ports(index, network)
        ]
        self._floating_ips = [take(lab) for _ in range(FLOATING_IPS)]
        self.revision = 0
        self.refused = 0
        self.kinds = (self._associate,) * 4 + (
            self._forward,
            self._routes,
            self._exempt,
            self._router,
            self._come_and_go,
        )

    def _make_ports(self, index: int, network: Object) -> list[Object]:
        """With interfaces that have nothing behind them: patch ports without a peer."""
        made = []
        for number in range(BYSTANDERS // 2):
            id_ = str(uuid.uuid4())
            name, node = f"p{id_[:12]}", self._lab.nodes[(number + index) % 2]
            patch = ["type=patch", f"options:peer=x{id_[:12]}", f"external_ids:iface-id={id_}"]
            node.ovs.vsctl("add-port", "br-int", name, "--", "set", "Interface", name, *patch)
            fields = {"id": id_, "network_id": network["id"], "project_id": "blue"}
            written = self._client.create_port(fields)
            assert written.object
            made.append(written.object)
        return made

    def wait_served(self) -> None:
        ids = [port["id"] for port in self._ports]
        wait_until(
            lambda: all(self._client.get_port(id_)["status"] == "active" for id_ in ids),
            DEADLINE,
            "they are not served",
        )

    def make(self, count: int) -> None:
        """One after the other, none waited for."""
        for _ in range(count):
            try:
                written = self._random.choice(self.kinds)()
            except ApiError as error:
                assert error.status == 409, error  # one that another stands in the way of
                self.refused += 1
            else:
                self.revision = written.revision or self.revision

    def _associate(self) -> Any:
        """To a port, from one to another, or from all."""
        port = self._random.choice([*self._ports, None])
        chosen = self._random.choice(self._floating_ips)["id"]
        return self._client.update_floating_ip(chosen, {"port_id": None if port is None else port["id"]})

    def _forward(self) -> Any:
        chosen = self._random.choice(self._floating_ips)["id"]
        there = self._client.list_port_forwardings(chosen)
        if there:
            return self._client.delete_port_forwarding(chosen, there[0]["id"])
        port = self._random.choice(self._ports)["id"]
        return self._client.create_port_forwarding(chosen, {"protocol": "tcp", "ports": "2200", "port_id": port})

    def _routes(self) -> Any:
        network = self._random.choice(self._networks)
        hops = [port["fixed_ips"][0]["address"] for port in self._ports if port["network_id"] == network["id"]]
        number = self._networks.index(network)
        wanted = [
            {"destination": f"10.{90 + number}.{third}.0/24", "next_hop": self._random.choice(hops)}
            for third in range(self._random.randrange(4))
        ]
        return self._client.update_network(network["id"], {"routes": wanted})

    def _exempt(self) -> Any:
        wanted = [f"192.0.2.{64 * part}/26" for part in range(self._random.randrange(4))]
        return self._client.update_network(self._random.choice(self._networks)["id"], {"snat_exempt": wanted})

    def _router(self) -> Any:
        wanted = self._random.choice(["project", "isolated"])
        return self._client.update_network(self._random.choice(self._networks)["id"], {"router": wanted})

    def _come_and_go(self) -> Any:
        place = {"kind": "vlan", "segment": 199, "physical_network": "physnet1", "project_id": "blue"}
        made = self._client.create_network({"name": "brief", "subnets": [{"cidr": "10.29.0.0/24"}], **place}).object
        assert made
        return self._client.delete_network(made["id"])

    def undo(self) -> None:
        """As it was before the first."""
        for floating_ip in self._floating_ips:
            self._client.delete_floating_ip(floating_ip["id"])
        for network in self._networks:
            fields: Object = {"routes": [], "snat_exempt": [], "router": "project"}
            self._lab.confirm(self._client.update_network(network["id"], fields).revision)


def compiled(lab: Lab, node: Node) -> list[str]:
    """What the compiler makes of the database now, as Open vSwitch shows it."""
    engine = create_engine(f"sqlite:///file:{lab.control.directory}/trunkline.db?mode=ro&uri=true")
    unusable = Quarantine()
    with engine.connect() as connection:
        wanted = compile_node(load_snapshot(connection, unusable), node.name)
    engine.dispose()
    assert not wanted.failures and not len(unusable)
    with RealSwitch.running((), [*wanted.flows(), *stamp_flows(Stamp(wanted.digest))]) as switch:
        return OpenVSwitch("", switch.directory, "dummy").flows()


def test_e15_a_thousand_edits_lose_no_packet_of_others(
    lab: Lab, vms: dict[str, Vm], networks: dict[str, Object]
) -> None:
    for node in lab.nodes:
        match = f"cookie={FOREIGN_COOKIE:#x},table={Table.OUTPUT.value},priority=7,reg7=0x7fffffff"
        node.ovs.ofctl("add-flow", "br-int", f"{match},actions=drop")
    address = give(lab, vms["b-1"])["address"]
    edits = Edits(lab, networks, seed=15)
    edits.wait_served()
    before = [program(node) for node in lab.nodes]
    # routed; by SNAT; by SNAT and a floating IP
    paths = ((vms["a-2"], vms["b-1"].address), (vms["b-2"], lab.fabric.far_host), (vms["a-1"], address))
    with unbroken(*paths):
        edits.make(EDITS)
        lab.confirm(edits.revision)
    assert edits.refused < EDITS / 3
    for node in lab.nodes:
        ours = [line for line in program(node) if f"cookie={FOREIGN_COOKIE:#x}," not in line]
        assert len(ours) == len(program(node)) - 1
        assert set(ours) ^ set(compiled(lab, node)) == set()
    edits.undo()
    assert [program(node) for node in lab.nodes] == before
    for node in lab.nodes:
        node.ovs.ofctl("del-flows", "br-int", f"cookie={FOREIGN_COOKIE:#x}/-1")


def test_e15_what_is_as_it_should_be_gets_no_flow(lab: Lab, vms: dict[str, Vm], networks: dict[str, Object]) -> None:
    """Nor does a change that makes none to a node."""
    before = [program(node) for node in lab.nodes]
    sent = metric(lab, "of_flowmsgs_sent_total")
    network = lab.client.get_network(networks["a"]["id"])
    same = {name: network[name] for name in ("routes", "snat_exempt", "name", "mtu")}
    lab.confirm(lab.client.update_network(network["id"], same).revision)
    lab.confirm(lab.client.update_port(vms["a-1"].port["id"], {"name": "another"}).revision)
    lab.confirm(take(lab)["revision"])  # leads nowhere
    assert metric(lab, "of_flowmsgs_sent_total") == sent
    lab.control.restart(kill=True)
    lab.wait_connected()
    assert metric(lab, "of_flowmsgs_sent_total") == 0
    assert [program(node) for node in lab.nodes] == before
