"""One controller for many switches: 50 with 2,000 ports on networks that cost most, and 200 with a thousand flows each.

The switches are bridges of one Open vSwitch, each with an OpenFlow session of its own. Their VMs' interfaces exist only
in what nodes report: flows name port numbers, which need no port.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from controller.store import Store
from controller.store.specs import InterfaceReport, NetworkSpec, NodeSpec, PortSpec, ReportedInterface, SubnetSpec
from etc.lab import netns
from etc.lab.control import ADDRESS, OPENFLOW_PORT, Control
from etc.lab.openvswitch import OPENFLOW, OpenVSwitch
from etc.lab.processes import wait_until
from flows.model import GatewayMode, NetworkKind
from tests.bench.figures import Figure
from tests.bench.ports import rss_mb

NETWORKS = 20
FIRST_OFPORT = 100
UPLINK = 65001
DEADLINE = 300.0


@dataclass(frozen=True, slots=True)
class Scale:
    """`ports` are those of all nodes together."""

    name: str
    nodes: int
    ports: int
    gateway_mode: GatewayMode


# each node of a network costs all others nine flows with per_host, none with shared
MANY_FLOWS = Scale("scale50", 50, 2_000, GatewayMode.PER_HOST)
MANY_NODES = Scale("scale200", 200, 5_000, GatewayMode.SHARED)


def run() -> Iterator[Figure]:
    for scale in (MANY_FLOWS, MANY_NODES):
        yield from _at(scale)


def _at(scale: Scale) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        directory = Path(name)
        control = Control("bench", directory / "control")
        began = time.perf_counter()
        fill(f"sqlite:///{control.directory}/trunkline.db", scale)
        print(f"   {scale.nodes} nodes, {scale.ports} ports made in {time.perf_counter() - began:.0f} s")
        try:
            control.start_network()
            with bridges(control.namespace, directory / "ovs", scale.nodes):
                yield from _measure(control, scale)
        finally:
            control.stop()
            netns.delete(control.namespace)


def _measure(control: Control, scale: Scale) -> Iterator[Figure]:
    connected, live = _until_live(control, scale)
    yield Figure(f"{scale.name}_connect_s", connected, "s")
    yield Figure(f"{scale.name}_converge_s", live, "s")
    assert _flow_mods(control) > 0 and control.process
    flows = sum(node["flows"] for node in control.client().list_nodes())
    yield Figure(f"{scale.name}_flows", flows, "flows")
    yield Figure(f"{scale.name}_rss_mb", rss_mb(control.process.pid), "MB")
    control.kill()
    yield Figure(f"{scale.name}_restart_s", _until_live(control, scale)[1], "s")
    yield Figure(f"{scale.name}_restart_flow_mods", _flow_mods(control), "flow-mods")


def _until_live(control: Control, scale: Scale) -> tuple[float, float]:
    """Starts the controller; seconds from there until all nodes are connected, and are live and confirmed."""
    began = time.perf_counter()
    control.start()
    client = control.client()
    connected: list[float] = []

    def done() -> bool:
        nodes = client.list_nodes()
        if not connected and all(node["state"] != "disconnected" for node in nodes):
            connected.append(time.perf_counter() - began)
        return all(node["state"] == "live" and node["unconfirmed_since"] is None for node in nodes)

    wait_until(done, DEADLINE, "not all nodes are live", interval=0.2)
    took = time.perf_counter() - began
    assert len(client.list_nodes()) == scale.nodes
    return connected[0], took


def _flow_mods(control: Control) -> float:
    name = "of_flowmsgs_sent_total"
    _, text = control.request("GET", "/metrics")
    return sum(float(line.rsplit(" ", 1)[1]) for line in str(text).splitlines() if line.startswith(name))


def datapath_id(number: int) -> int:
    return 0x5CA1E000 + number


def fill(url: str, scale: Scale) -> None:
    """Each project has two networks, routed to each other, with ports on each node."""
    store = Store(url, vlan_range=(1, 4094))
    for number in range(scale.nodes):
        store.put_node(NodeSpec(_node(number), datapath_id(number), ("physnet1",)), "bench")
    networks = []
    for number in range(NETWORKS):
        spec = NetworkSpec(
            f"net{number}",
            NetworkKind.VLAN,
            "physnet1",
            (SubnetSpec(IPv4Network(f"10.{number}.0.0/16")),),
            project_id=f"p{number // 2}",
            gateway_mode=scale.gateway_mode,
        )
        networks.append(store.create_network(spec, "bench").value.id)
    specs = [PortSpec(networks[number % NETWORKS], id=str(uuid.uuid4())) for number in range(scale.ports)]
    ids = [str(spec.id) for spec in specs]
    for start in range(0, scale.ports, 500):
        store.create_ports(specs[start : start + 500], "bench")
    for number in range(scale.nodes):
        store.report_interfaces(
            _node(number), _report(ids[number * scale.ports // scale.nodes : (number + 1) * scale.ports // scale.nodes])
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
            arguments += ["--", "set", "controller", bridge, "max_backoff=1000", "inactivity_probe=10000"]
        ovs.vsctl(*arguments[1:])
        yield ovs
    finally:
        ovs.stop()
