"""Interfaces that say nothing of a port, as Incus and Proxmox make them: known by the name that the port has."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controller.client import Object
from etc.lab import netns
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from tests.docs_text import Part, blocks, commands
from tests.enclosure import enclosed
from tests.netns.cloud import make_network, make_vms, want
from tests.rootfs import make_rootfs

pytestmark = pytest.mark.root

RUNS = (Part("plugging.md", "Incus"), Part("plugging.md", "Proxmox VE"))
INCUS, PROXMOX = (part.text for part in RUNS)


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2, agent_options={"heartbeat_interval": 2})


@pytest.fixture(scope="module")
def network(lab: Lab) -> Object:
    return make_network(lab, "blue", "10.40.0.0/24", segment=140, gateway_mode="shared", gateway="10.40.0.1")


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
    first = make_port(lab, network, name="vm110", interface_name="tap110i0")
    second = make_port(lab, network, name="vm111", interface_name="veth111i0", node="n2")
    vms = [guests("tap110i0", one, first), guests("veth111i0", two, second)]
    for vm in vms:
        vm.node.ovs.vsctl("--timeout=20", "wait-until", "Interface", vm.name, "external_ids:trunkline-installed=true")
        vm.start_client()
        assert vm.wait_configured().address.ip == vm.address
    assert vms[0].ping(vms[1].address).lost == 0
    assert iface_id(one, "tap110i0") == first["id"]
    # the name alone decides: with another, the interface is nobody's
    lab.client.update_port(first["id"], {"interface_name": None})
    wait_until(lambda: not iface_id(one, "tap110i0"), 20, "it is still the port's")
    wait_until(lambda: lab.client.get_port(first["id"])["status"] == "unbound", 20, "the port is still bound")
    assert "trunkline" not in one.ovs.vsctl("get", "Interface", "tap110i0", "external_ids")
    lab.client.update_port(first["id"], {"interface_name": "tap110i0"})
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


# Before the daemon starts; no rules of AppArmor are loaded here.
SETUP = """
mkdir -p /var/lib/incus /var/lib/lxc /var/log/incus /var/cache/incus
export INCUS_SECURITY_APPARMOR=false
"""
IMAGE = {"architecture": "x86_64", "creation_date": 1764115199, "properties": {"description": "busybox"}}
INIT = "::respawn:/bin/sleep 100000\n"
LEASE = """#!/bin/sh
[ "$1" = bound ] || exit 0
ip address add $ip/$mask dev $interface
ip route add default via $router
"""


def test_a_container_of_incus(lab: Lab, network: Object, tmp_path: Path) -> None:
    """As docs/plugging.md has it, by Debian's Incus."""
    create, attach = commands(INCUS)
    image = tmp_path / "image"
    make_rootfs(image / "rootfs", "init", "ip", "ping", "sh", "sleep", "udhcpc")
    (image / "metadata.yaml").write_text(json.dumps(IMAGE))
    (image / "rootfs" / "etc" / "inittab").write_text(INIT)
    (image / "rootfs" / "lease").write_text(LEASE)
    (image / "rootfs" / "lease").chmod(0o755)
    node = lab.nodes[0]
    with enclosed(lab, node, SETUP, "/usr/libexec/incus/incusd") as machine:
        machine.run("incus admin waitready --timeout 30")
        machine.run(f"tar -C {image} -czf {image}.tar.gz . && incus image import --quiet {image}.tar.gz --alias box")
        machine.run("incus storage create --quiet here dir")
        machine.run("incus init --quiet box c1 --storage here --config security.privileged=true --no-profiles")
        machine.run(f"{create}\n{attach}")
        (port,) = lab.client.list_ports(name="c1")
        machine.run("incus start --quiet c1")
        node.ovs.vsctl("--timeout=20", "wait-until", "Interface", "veth-c1", "external_ids:trunkline-installed=true")
        machine.run("incus exec c1 -- udhcpc -i eth0 -n -q -s /lease")
        address = port["fixed_ips"][0]["address"]
        assert f"inet {address}/24" in machine.run("incus exec c1 -- ip address show eth0")
        vm = make_vms(lab, want("vm", lab.nodes[1], network))["vm"]
        assert " 0% packet loss" in machine.run(f"incus exec c1 -- ping -c 2 {vm.address}")
        assert lab.client.get_port(port["id"])["status"] == "active"
        machine.run("incus stop --force c1")
        wait_until(lambda: lab.client.get_port(port["id"])["status"] == "unbound", 20, "the port is still bound")
        assert "veth-c1" not in node.ovs.vsctl("list-ports", "br-int")


# Proxmox is not to be had here: what is set is what is shown, a line for each
QM = """#!/bin/sh -e
case $1 in
    set) echo "${3#--}: $4" >>"$0.$2" ;;
    config) cat "$0.$2" ;;
esac
"""


def test_the_hook_for_proxmox_makes_the_port(lab: Lab, network: Object, tmp_path: Path) -> None:
    """As docs/plugging.md has it, with a `qm` that only keeps what it is told."""
    (create, set_card), script = blocks(PROXMOX)
    (set_hook,) = re.findall(r"`(qm set [^`]+)`", PROXMOX)
    hook, qm = tmp_path / "hook", tmp_path / "qm"
    hook.write_text("\n".join(script) + "\n")
    qm.write_text(QM)
    for path in (hook, qm):
        path.chmod(0o755)
    node = lab.nodes[0]

    def run(line: str) -> None:
        path = f"PATH={tmp_path}:{os.environ['PATH']}"
        node.execute("env", path, str(node.directory / "on"), "bash", "-ec", line)

    def made() -> tuple[str, str, str, str]:
        (port,) = lab.client.list_ports(name="vm100")
        return port["id"], port["mac"], port["interface_name"], port["hostname"]

    for line in (create, set_card, set_hook, f"{hook} 100 pre-start"):
        run(line)
    by_hand = made()
    assert by_hand[1:] == ("bc:24:11:00:01:00", "tap100i0", ""), "the hook leaves it alone"
    lab.client.delete_port(by_hand[0])
    for phase in ("pre-start", "post-start"):
        run(f"{hook} 100 {phase}")
    assert made()[1:] == (*by_hand[1:3], "vm100")
