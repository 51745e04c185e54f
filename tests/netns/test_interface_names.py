"""Interfaces that say nothing of a port, as Incus and Proxmox make them: known by the name that the port has."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path

import pytest

from controller.client import Object
from etc.lab import netns
from etc.lab.control import PROJECT_ROOT
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from tests.netns.cloud import make_network

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2, agent_options={"heartbeat_interval": 2})


@pytest.fixture(scope="module")
def network(lab: Lab) -> Object:
    return make_network(lab, "net", "10.40.0.0/24", segment=140, gateway_mode="shared", gateway="10.40.0.1")


@pytest.fixture
def guests(lab: Lab) -> Iterator[Callable[[str, Node, Object], Vm]]:
    """Makes what a hypervisor that has never heard of us makes: a device of that name, in the bridge."""
    made: list[tuple[Vm, str]] = []

    def make(device: str, node: Node, port: Object) -> Vm:
        vm = Vm(f"{lab.prefix}-{device}", device, node, port, lab.directory / "vm" / device)
        vm.directory.mkdir(parents=True, exist_ok=True)
        netns.create(vm.namespace)
        peer = f"name eth0 netns {vm.namespace} address {port['mac']}"
        netns.configure(node.namespace, f"link add {device} type veth peer {peer}", f"link set {device} up")
        if node.ovs.datapath == "netdev":
            netns.execute(vm.namespace, "ethtool", "-K", "eth0", "tx", "off")
        netns.configure(vm.namespace, "link set eth0 up")
        node.ovs.vsctl("add-port", "br-int", device)
        made.append((vm, device))
        return vm

    yield make
    for vm, device in made:
        vm.stop_client()
        vm.node.ovs.vsctl("--if-exists", "del-port", device)
        netns.delete(vm.namespace)


def iface_id(node: Node, device: str) -> str:
    return node.ovs.vsctl("--if-exists", "get", "Interface", device, "external_ids:iface-id").strip().strip('"')


def make_port(lab: Lab, network: Object, **fields: object) -> Object:
    port = lab.client.create_port({"network_id": network["id"], **fields}).object
    assert port
    return port


def test_a_machine_gets_its_address_by_the_name_of_its_tap(
    lab: Lab, network: Object, guests: Callable[[str, Node, Object], Vm]
) -> None:
    one, two = lab.nodes
    first = make_port(lab, network, name="vm100", interface_name="tap100i0")
    second = make_port(lab, network, name="vm101", interface_name="veth101i0", node="n2")
    vms = [guests("tap100i0", one, first), guests("veth101i0", two, second)]
    for vm in vms:
        vm.node.ovs.vsctl("--timeout=20", "wait-until", "Interface", vm.name, "external_ids:trunkline-installed=true")
        vm.start_client()
        assert vm.wait_configured().address.ip == vm.address
    assert vms[0].ping(vms[1].address).lost == 0
    assert iface_id(one, "tap100i0") == first["id"]
    # the name alone decides: with another, the interface is nobody's
    lab.client.update_port(first["id"], {"interface_name": None})
    wait_until(lambda: not iface_id(one, "tap100i0"), 20, "it is still the port's")
    wait_until(lambda: lab.client.get_port(first["id"])["status"] == "unbound", 20, "the port is still bound")
    assert "trunkline" not in one.ovs.vsctl("get", "Interface", "tap100i0", "external_ids")
    lab.client.update_port(first["id"], {"interface_name": "tap100i0"})
    wait_until(lambda: vms[0].ping(vms[1].address, count=1).answered, 20, "it is not served again")


def test_a_name_is_nothing_to_other_interfaces(
    lab: Lab, network: Object, guests: Callable[[str, Node, Object], Vm]
) -> None:
    """Neither one with the port's MAC address, nor one that says itself what it is, nor on another node."""
    one, two = lab.nodes
    port = make_port(lab, network, name="vm200", interface_name="tap200i0", node="n1")
    said = make_port(lab, network, name="vm201", interface_name="tap201i0")
    guests("tap200i1", one, port)
    guests("tap200i0", two, port)
    guests("tap201i0", one, said)
    one.ovs.vsctl("set", "Interface", "tap201i0", "external_ids:iface-id=of-somebody-else")
    guests("tap202i0", one, make_port(lab, network, name="vm202", interface_name="tap202i0"))
    wait_until(lambda: iface_id(one, "tap202i0"), 20, "the agent does not look at names")
    assert not iface_id(one, "tap200i1") and not iface_id(two, "tap200i0")
    assert iface_id(one, "tap201i0") == "of-somebody-else"
    assert lab.client.get_port(port["id"])["status"] == "unbound"


def test_the_hook_for_proxmox_makes_the_port(lab: Lab, network: Object, tmp_path: Path) -> None:
    """As docs/plugging.md has it, with what `qm config` prints."""
    page = (PROJECT_ROOT / "docs" / "plugging.md").read_text()
    lines = page[page.index("    #!/bin/sh -e") :].splitlines()
    script = [line.removeprefix("    ") for line in takewhile(lambda line: line.startswith("    "), lines)]
    hook, qm = tmp_path / "hook", tmp_path / "qm"
    hook.write_text("\n".join(script).replace("--network blue", f"--network {network['name']}") + "\n")
    qm.write_text("#!/bin/sh\necho 'name: x'\necho 'net0: virtio=BC:24:11:00:03:00,bridge=br-int,firewall=0'\n")
    for path in (hook, qm):
        path.chmod(0o755)
    node = lab.nodes[0]
    for phase in ("pre-start", "pre-start", "post-start"):
        path = f"PATH={tmp_path}:{os.environ['PATH']}"
        node.execute("env", path, str(node.directory / "on"), str(hook), "300", phase)
    (port,) = lab.client.list_ports(name="vm300")
    assert (port["mac"], port["interface_name"], port["hostname"]) == ("bc:24:11:00:03:00", "tap300i0", "vm300")
