"""What one port more costs, with few ports and with many, and what many at once cost.

The interfaces of the many are patch ports without a peer: to the control plane they are interfaces like any other, and
a thousand of them cost Open vSwitch nothing while it measures the one.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

from etc.lab import netns
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import wait_until
from tests.bench.figures import Figure, median_ms, spread

NODES = 3
SAMPLES = 40
BATCH = 200


def run() -> Iterator[Figure]:
    with Lab("bench", nodes=NODES, open_groups=True) as lab:
        lab.wait_connected()
        network = make_network(lab, "many", 200)
        yield from _one_more(lab, network, 100)
        yield from _one_more(lab, network, 1000)
        yield from _flows_per_port(lab)
    with Lab("bench", nodes=NODES, open_groups=True) as lab:
        lab.wait_connected()
        network = make_network(lab, "bulk", 201)
        yield from _bulk(lab, network)


def make_network(lab: Lab, name: str, vlan: int, **fields: object) -> str:
    written = lab.client.create_network(
        {
            "name": name,
            "project_id": "bench",
            "kind": "vlan",
            "segment": vlan,
            "physical_network": "physnet1",
            "subnets": [{"cidr": f"10.{vlan}.0.0/16"}],
            **fields,
        }
    )
    assert written.object
    lab.confirm(written.revision)
    return str(written.object["id"])


def make_interfaces(node: Node, ids: list[str]) -> None:
    """Interfaces for ports that do not exist yet."""
    for start in range(0, len(ids), BATCH):
        arguments: list[str] = []
        for id_ in ids[start : start + BATCH]:
            name = f"b{id_[:12]}"
            arguments += ["--", "add-port", "br-int", name, "--", "set", "Interface", name, "type=patch"]
            arguments += [f"options:peer=x{id_[:12]}", f"external_ids:iface-id={id_}"]
        node.ovs.vsctl(*arguments[1:])


def fill(lab: Lab, network: str, total: int, **fields: object) -> None:
    """As many ports on a network, those that it has included, spread over the nodes. `fields` are of the new ones."""
    have = len(lab.client.list_ports(network_id=network))
    ids = [str(uuid.uuid4()) for _ in range(total - have)]
    for index, node in enumerate(lab.nodes):
        make_interfaces(node, ids[index :: len(lab.nodes)])
    revision = None
    for start in range(0, len(ids), 500):
        ports = [{"id": id_, "network_id": network, **fields} for id_ in ids[start : start + 500]]
        _, revision = lab.client.create_ports(ports)
    lab.confirm(revision)
    wait_until(
        lambda: sum(port["binding"] is not None for port in lab.client.list_ports(network_id=network)) >= total,
        60,
        f"{total} ports are not bound",
    )


def _one_more(lab: Lab, network: str, ports: int) -> Iterator[Figure]:
    fill(lab, network, ports)
    ids = [str(uuid.uuid4()) for _ in range(SAMPLES)]
    for index, node in enumerate(lab.nodes):
        make_interfaces(node, ids[index :: len(lab.nodes)])
    settle(lab, network)
    client = lab.client
    took = []
    with netns.inside(lab.control.namespace):
        for id_ in ids:
            began = time.perf_counter()
            written = client.create_port({"id": id_, "network_id": network})
            client.wait_revision(written.revision or 0, 10)
            took.append(time.perf_counter() - began)
            assert written.object and written.object["binding"], "the interface was not reported: nothing was measured"
    print(f"   one port more with {ports}: {spread(took)}")
    yield Figure(f"port_ready_ms_{ports}", median_ms(took), "ms")


def settle(lab: Lab, network: str) -> None:
    """Wait until reported interfaces are known: a port made for a last one on each node is bound at birth."""
    for node in lab.nodes:
        id_ = str(uuid.uuid4())
        make_interfaces(node, [id_])

        def bound(id_: str = id_) -> bool:
            return lab.client.get_port(id_)["binding"] is not None

        lab.client.create_port({"id": id_, "network_id": network})
        wait_until(bound, 10, "an interface is not reported")


def _flows_per_port(lab: Lab) -> Iterator[Figure]:
    node = lab.nodes[0]
    local = sum(1 for port in lab.client.list_ports(node=node.name))
    yield Figure("flows_per_local_port", len(node.ovs.flows()) / local, "flows")


def _bulk(lab: Lab, network: str) -> Iterator[Figure]:
    total = 1000
    ids = [str(uuid.uuid4()) for _ in range(total)]
    for index, node in enumerate(lab.nodes):
        make_interfaces(node, ids[index :: len(lab.nodes)])
    settle(lab, network)
    client = lab.client
    with netns.inside(lab.control.namespace):
        began = time.perf_counter()
        for start in range(0, total, 250):
            ports, revision = client.create_ports(
                [{"id": id_, "network_id": network} for id_ in ids[start : start + 250]]
            )
            assert all(port["binding"] for port in ports)
        client.wait_revision(revision, 60)
        took = time.perf_counter() - began
    yield Figure("bulk_1000_s", took, "s")
    assert lab.control.process
    yield Figure("bulk_1000rss_mb", rss_mb(lab.control.process.pid), "MB")


def rss_mb(pid: int) -> float:
    """The resident memory of a process and its children (`ip netns exec` replaces itself)."""
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS")
