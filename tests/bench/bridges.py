"""One controller for many switches: 50 that it compiles everything for, with 2,000 ports, and 200 with made up flows.

The switches are bridges of one Open vSwitch, each with an OpenFlow session of its own. Their VMs' interfaces exist only
in what nodes report: flows name port numbers, which need no port.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Network
from pathlib import Path

from controller.store import Store
from controller.store.specs import InterfaceReport, NetworkSpec, NodeSpec, PortSpec, ReportedInterface, SubnetSpec
from etc.lab import netns
from etc.lab.control import ADDRESS, OPENFLOW_PORT, Control
from etc.lab.openvswitch import OPENFLOW, OpenVSwitch
from etc.lab.processes import wait_until
from flows.model import NetworkKind
from tests.bench.figures import Figure
from tests.bench.ports import rss_mb

BRIDGES = 50
PORTS = 2_000
NETWORKS = 20
FIRST_OFPORT = 100
UPLINK = 65001
DEADLINE = 120.0


def run() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        directory = Path(name)
        control = Control("bench", directory / "control")
        began = time.perf_counter()
        fill(f"sqlite:///{control.directory}/trunkline.db")
        print(f"   {BRIDGES} nodes, {PORTS} ports made in {time.perf_counter() - began:.0f} s")
        try:
            control.start_network()
            with bridges(control.namespace, directory / "ovs", BRIDGES):
                yield from _measure(control)
        finally:
            control.stop()
            netns.delete(control.namespace)


def _measure(control: Control) -> Iterator[Figure]:
    yield Figure("scale50_converge_s", _until_live(control), "s")
    assert _flow_mods(control) > 0
    assert control.process
    yield Figure("scale50_rss_mb", rss_mb(control.process.pid), "MB")
    control.kill()
    yield Figure("scale50_restart_s", _until_live(control), "s")
    yield Figure("scale50_restart_flow_mods", _flow_mods(control), "flow-mods")


def _until_live(control: Control) -> float:
    """Starts the controller; seconds from there until all nodes are live and confirmed."""
    began = time.perf_counter()
    control.start()
    client = control.client()

    def done() -> bool:
        nodes = client.list_nodes()
        return all(node["state"] == "live" and node["unconfirmed_since"] is None for node in nodes)

    wait_until(done, DEADLINE, "not all nodes are live", interval=0.2)
    took = time.perf_counter() - began
    assert len(client.list_nodes()) == BRIDGES
    return took


def _flow_mods(control: Control) -> float:
    name = "of_flowmsgs_sent_total"
    _, text = control.request("GET", "/metrics")
    return sum(float(line.rsplit(" ", 1)[1]) for line in str(text).splitlines() if line.startswith(name))


def datapath_id(number: int) -> int:
    return 0x5CA1E000 + number


def fill(url: str) -> None:
    """Each project has two networks, routed to each other, with ports on each node."""
    store = Store(url, vlan_range=(1, 4094))
    for number in range(BRIDGES):
        store.put_node(NodeSpec(_node(number), datapath_id(number), ("physnet1",)), "bench")
    networks = []
    for number in range(NETWORKS):
        spec = NetworkSpec(
            f"net{number}",
            NetworkKind.VLAN,
            "physnet1",
            (SubnetSpec(IPv4Network(f"10.{number}.0.0/16")),),
            project_id=f"p{number // 2}",
        )
        networks.append(store.create_network(spec, "bench").value.id)
    specs = [PortSpec(networks[number % NETWORKS], id=str(uuid.uuid4())) for number in range(PORTS)]
    ids = [str(spec.id) for spec in specs]
    for start in range(0, PORTS, 500):
        store.create_ports(specs[start : start + 500], "bench")
    for number in range(BRIDGES):
        store.report_interfaces(
            _node(number), _report(ids[number * PORTS // BRIDGES : (number + 1) * PORTS // BRIDGES])
        )
    store.close()


def _node(number: int) -> str:
    return f"n{number:03}"


def _report(ids: Sequence[str]) -> InterfaceReport:
    interfaces = tuple(ReportedInterface(id_, FIRST_OFPORT + index) for index, id_ in enumerate(ids))
    return InterfaceReport(1, {"physnet1": UPLINK}, interfaces)


@contextmanager
def bridges(namespace: str, directory: Path, count: int) -> Iterator[OpenVSwitch]:
    """Bridges without interfaces that call the controller; there is no agent."""
    ovs = OpenVSwitch(namespace, directory, "netdev")
    try:
        ovs.start()
        arguments: list[str] = []
        for number in range(count):
            bridge = f"br{number:03}"
            arguments += ["--", "add-br", bridge, "--", "set", "Bridge", bridge, "datapath_type=netdev"]
            arguments += ["fail_mode=secure", f"protocols={OPENFLOW}"]
            arguments += [f"other-config:datapath-id={datapath_id(number):016x}"]
            arguments += ["--", "set-controller", bridge, f"tcp:{ADDRESS.ip}:{OPENFLOW_PORT}"]
            arguments += ["--", "set", "controller", bridge, "max_backoff=1000", "inactivity_probe=30000"]
        ovs.vsctl(*arguments[1:])
        yield ovs
    finally:
        ovs.stop()
