"""What an agent's configuration asks for or leaves out, and cannot be: named, with everything else going on."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from ipaddress import IPv4Address

import pytest

from controller.client import Object
from etc.lab import netns
from etc.lab.fabric import EXTERNAL_NETWORK, QUIET
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from flows.rules import Rule
from tests.netns.cloud import (
    drops,
    make_network,
    make_outside,
    make_vms,
    request,
    saw,
    wait_dropped,
    wait_outside,
    wait_reached,
    want,
)

pytestmark = pytest.mark.root

POOL = (EXTERNAL_NETWORK[64], EXTERNAL_NETWORK[79])
ELSEWHERE = "192.0.2.7"


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    pool = f"physnet-ext:{POOL[0]}-{POOL[1]}"
    lab = make_lab(
        nodes=2, physical_networks=("physnet1", "physnet2", "physnet-ext"), agent_options={"snat_address": pool}
    )
    make_outside(lab)
    return lab


@pytest.fixture(scope="module")
def vms(lab: Lab) -> dict[str, Vm]:
    network = make_network(lab, "blue", "10.1.0.0/24", segment=101)
    return make_vms(lab, want("v1", lab.nodes[0], network), want("v2", lab.nodes[1], network))


def restart(lab: Lab, node: Node, **options: object) -> None:
    node.stop_agent()
    node.start_agent(lab.control, options)


def source_of(lab: Lab, vm: Vm) -> IPv4Address | None:
    """The address that a VM's packets have outside."""
    with lab.outside_capture("icmp") as outside:
        assert not vm.ping(lab.fabric.far_host).lost
        (source,) = {frame.src for frame in saw(outside, request)}
    return source


def test_each_node_leaves_with_an_address_of_the_pool(lab: Lab, vms: dict[str, Vm]) -> None:
    wait_outside(lab, *vms.values())
    own = [source_of(lab, vm) for vm in vms.values()]
    assert set(own) == {POOL[0], POOL[0] + 1}
    restart(lab, lab.nodes[1])
    assert source_of(lab, vms["v2"]) == own[1]


def test_an_address_outside_the_network_is_named_and_nothing_else_stops(lab: Lab, vms: dict[str, Vm]) -> None:
    vm, node = vms["v1"], lab.nodes[0]
    assert node.agent
    good, line = (
        node.agent_options["snat_address"],
        f"no SNAT on network 'outside': snat_address {ELSEWHERE} is outside",
    )
    restart(lab, node, snat_address=f"physnet-ext:{ELSEWHERE}")
    wait_until(lambda: lab.client.get_node("n1")["problems"], 20, "no problem is named")
    (named,) = lab.client.get_node("n1")["problems"]
    assert named.startswith(line)
    wait_until(lambda: line in (node.directory / "agent.log").read_text(), 20, "the agent does not log it")
    lab.confirm(None)
    before = drops(node)
    wait_until(lambda: not vm.ping(lab.fabric.far_host, count=1, wait=0.3).answered, 20, "it still has SNAT")
    wait_dropped(node, before, Rule.DROP_NO_NAT, 1)
    assert not vm.ping(vms["v2"].address).lost
    restart(lab, node, snat_address=good)
    wait_reached(vm, lab.fabric.far_host)
    assert lab.client.get_node("n1")["problems"] == []
    source = source_of(lab, vm)
    assert source is not None and POOL[0] <= source <= POOL[1]


def plug(lab: Lab, node: Node, port: Object, namespace: str) -> subprocess.CompletedProcess[str]:
    command = [node.directory / "on", "trunkline", "plug", port["id"], "--namespace", namespace, "--wait"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_port_is_refused_where_its_physical_network_is_missing(lab: Lab, vms: dict[str, Vm]) -> None:
    node, namespace = lab.nodes[1], f"{lab.prefix}-v3"
    everything = [f"{name}:{nic}" for name, nic in node.nics.items()]
    network = make_network(lab, "second", "10.2.0.0/24", physical_network="physnet2")
    port = lab.client.create_port({"network_id": network["id"], "name": "v3"}).object
    assert port
    netns.create(namespace)
    netns.set_sysctl(namespace, QUIET)
    restart(lab, node, physical_network=[each for each in everything if not each.startswith("physnet2:")])
    wait_until(lambda: "physnet2" not in lab.client.get_node("n2")["physical_networks"], 20, "it is still registered")
    refused = plug(lab, node, port, namespace)
    why = "node n2 has no physical network 'physnet2'"
    assert (refused.returncode, refused.stderr) == (1, f"trunkline: plugged, but the port is refused: {why}\n")
    shown = lab.client.get_port(port["id"])
    assert (shown["status"], shown["binding_error"]) == ("unbound", why)
    assert not vms["v2"].ping(vms["v1"].address).lost
    restart(lab, node, physical_network=everything)
    wait_until(lambda: lab.client.get_port(port["id"])["status"] == "active", 20, "it is not taken")
    assert plug(lab, node, port, namespace).returncode == 0
    assert lab.client.get_port(port["id"])["binding_error"] is None
