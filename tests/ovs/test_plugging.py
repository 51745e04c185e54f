"""plug and unplug, called in a node's network namespace as the command line does, with traffic through the switch."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agent.plugging import NoSwitch, PlugError, Plugged, PlugPort, interface_name, plug, unplug
from etc.lab import netns
from etc.lab.openvswitch import OpenVSwitch, datapath_type
from etc.lab.processes import wait_until

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

ONE = PlugPort("11111111-1111-4111-8111-111111111111", "fa:16:3e:00:00:01", 1400, vm_id="vm-one")
TWO = PlugPort("22222222-2222-4222-8222-222222222222", "fa:16:3e:00:00:02", 1400)
NAME = "tl11111111-11"


class Node:
    """A namespace with Open vSwitch, whose br-int floods, and two namespaces for VMs."""

    def __init__(self, prefix: str, directory: Path) -> None:
        self.namespace, self.vms = f"{prefix}n", (f"{prefix}a", f"{prefix}b")
        netns.create(self.namespace, *self.vms)
        self.ovs = OpenVSwitch(self.namespace, directory, datapath_type())
        self.ovs.start()
        self.ovs.vsctl("add-br", "br-int", "--", "set", "Bridge", "br-int", f"datapath_type={self.ovs.datapath}")

    def plug(self, port: PlugPort, namespace: str | None = None, **options: str) -> Plugged:
        with netns.inside(self.namespace):
            return plug(port, namespace=namespace, ovsdb=self.ovs.database, **options)  # type: ignore[arg-type]

    def unplug(self, port: PlugPort, namespace: str | None = None) -> bool:
        with netns.inside(self.namespace):
            return unplug(port.id, namespace=namespace, ovsdb=self.ovs.database)

    def devices(self, namespace: str) -> set[str]:
        return {link["ifname"] for link in netns.query(namespace, "link", "show")}

    def answers(self) -> bool:
        """Whether the second VM answers the first."""
        return "1 received" in netns.execute(self.vms[0], "ping", "-c1", "-W1", "192.0.2.2", check=False)

    def give_addresses(self) -> None:
        for number, vm in enumerate(self.vms, 1):
            netns.configure(vm, f"address replace 192.0.2.{number}/24 dev eth0")


@pytest.fixture(scope="module")
def the_node() -> Iterator[Node]:
    directory = Path(tempfile.mkdtemp(prefix="tl-plug-"))
    prefix = f"tlp{os.getpid()}"
    node = None
    try:
        node = Node(prefix, directory)
        yield node
    finally:
        if node is not None:
            node.ovs.stop()
        left = netns.names(prefix)
        netns.end_processes(left)
        netns.delete(*left)
        shutil.rmtree(directory)


@pytest.fixture
def node(the_node: Node) -> Iterator[Node]:
    yield the_node
    for port, vm in ((ONE, the_node.vms[0]), (TWO, the_node.vms[1])):
        with suppress(PlugError):
            the_node.unplug(port, vm)


def test_a_veth(node: Node) -> None:
    node.ovs.vsctl("set", "Bridge", "br-int", "external_ids:trunkline-node=n1")
    assert node.plug(ONE, node.vms[0]) == Plugged(NAME, True, "n1") and interface_name(ONE.id) == NAME
    (guest,) = netns.query(node.vms[0], "link", "show", "eth0")
    assert guest["address"] == ONE.mac and guest["mtu"] == 1400 and "UP" in guest["flags"]
    ids = node.ovs.vsctl("get", "Interface", NAME, "external_ids")
    for part in (f'iface-id="{ONE.id}"', f'attached-mac="{ONE.mac}"', "vm-id=vm-one", "trunkline=plug"):
        assert part in ids
    node.plug(TWO, node.vms[1])
    node.give_addresses()
    wait_until(node.answers, 20, "traffic")


def test_again_changes_nothing_and_away_is_away(node: Node) -> None:
    node.plug(ONE, node.vms[0])
    before = node.ovs.vsctl("get", "Open_vSwitch", ".", "next_cfg")
    assert not node.plug(ONE, node.vms[0]).changed
    assert node.ovs.vsctl("get", "Open_vSwitch", ".", "next_cfg") == before
    assert node.unplug(ONE, node.vms[0]) is True
    assert node.devices(node.vms[0]) == {"lo"} and NAME not in node.devices(node.namespace)
    assert NAME not in node.ovs.vsctl("list-ports", "br-int")
    assert node.unplug(ONE, node.vms[0]) is False


@pytest.mark.parametrize("damage", ["guest", "switch", "namespace", "restart", "mac"])
def test_again_repairs(node: Node, damage: str) -> None:
    node.plug(ONE, node.vms[0])
    node.plug(TWO, node.vms[1])
    if damage == "guest":
        netns.configure(node.vms[0], "link delete eth0")
    elif damage == "switch":
        node.ovs.vsctl("del-port", NAME)
    elif damage == "namespace":
        netns.delete(node.vms[0])
        wait_until(lambda: NAME not in node.devices(node.namespace), 20, "the end of the pair")
        netns.create(node.vms[0])
    elif damage == "restart":
        node.ovs.restart_switch(kill=True)
    else:
        netns.configure(node.vms[0], "link set eth0 address 02:00:00:00:00:99")
    node.plug(ONE, node.vms[0])
    node.give_addresses()
    wait_until(node.answers, 20, f"traffic after {damage}")
    assert netns.query(node.vms[0], "link", "show", "eth0")[0]["address"] == ONE.mac


def test_a_tap(node: Node) -> None:
    assert node.plug(ONE, kind="tap").changed
    assert not node.plug(ONE, kind="tap").changed
    (link,) = netns.query(node.namespace, "-details", "link", "show", NAME)
    assert link["linkinfo"]["info_data"]["type"] == "tap" and link["mtu"] == 1400
    assert node.unplug(ONE) and NAME not in node.devices(node.namespace)


def test_offloads_stay_only_where_the_switch_fills_in_checksums(node: Node) -> None:
    if node.ovs.datapath != "netdev":
        pytest.skip("only the userspace datapath")
    for tso, expected in (("false", "off"), ("true", "on")):
        node.ovs.vsctl("--no-wait", "set", "Open_vSwitch", ".", f"other_config:userspace-tso-enable={tso}")
        node.plug(ONE, node.vms[0])
        assert f"tx-checksumming: {expected}" in netns.execute(node.vms[0], "ethtool", "-k", "eth0")
        node.unplug(ONE, node.vms[0])


def test_what_open_vswitch_cannot_make_is_said_with_the_cure(node: Node) -> None:
    """Before anything is made, and also where the interface was in the database already."""
    node.ovs.vsctl("add-br", "br-odd", "--", "set", "Bridge", "br-odd", "datapath_type=odd")
    with pytest.raises(PlugError, match="cannot make bridge br-odd: it has no datapath_type odd, but netdev, system"):
        node.plug(ONE, node.vms[0], bridge="br-odd")
    node.ovs.vsctl("del-br", "br-odd")
    assert node.devices(node.vms[0]) == {"lo"} and NAME not in node.devices(node.namespace)

    node.plug(ONE, node.vms[0])
    node.ovs.vsctl("set", "Interface", NAME, "type=odd")
    with pytest.raises(PlugError, match=rf"interface {NAME} of port {ONE.id} cannot be used: .+ovs-vsctl del-port"):
        node.plug(ONE, node.vms[0])
    node.ovs.vsctl("set", "Interface", NAME, 'type=""')
    assert not node.plug(ONE, node.vms[0]).changed
    node.unplug(ONE, node.vms[0])


def test_what_is_in_the_way_is_named(node: Node) -> None:
    def complaint(port: PlugPort = ONE, namespace: str | None = node.vms[0], **options: str) -> str:
        with pytest.raises(PlugError) as caught:
            node.plug(port, namespace, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no network namespace none-such" in complaint(namespace="none-such")
    assert "no bridge br-none" in complaint(bridge="br-none")
    assert "needs the namespace" in complaint(namespace=None)
    assert "has no namespace" in complaint(kind="tap")
    assert "'x;y' is not valid" in complaint(PlugPort("x;y", ONE.mac))
    assert "MAC" in complaint(PlugPort(ONE.id, "fa:16:3e"))
    assert "MTU" in complaint(PlugPort(ONE.id, ONE.mac, 20))
    with pytest.raises(NoSwitch, match="Open vSwitch at unix:/none"):
        plug(ONE, namespace=node.vms[0], ovsdb="unix:/none")
    assert node.devices(node.vms[0]) == {"lo"} and NAME not in node.devices(node.namespace)

    netns.configure(node.namespace, f"link add {NAME} type veth peer name other0")
    assert f"this node has a device {NAME}" in complaint()
    node.ovs.vsctl("add-port", "br-int", NAME)
    assert f"has an interface {NAME} already" in complaint()
    with pytest.raises(PlugError, match="not of port"):
        node.unplug(ONE)
    node.ovs.vsctl(
        "del-port",
        NAME,
        "--",
        "add-br",
        "br-other",
        "--",
        "set",
        "Bridge",
        "br-other",
        f"datapath_type={node.ovs.datapath}",
        "--",
        "add-port",
        "br-other",
        NAME,
    )
    assert "in another bridge" in complaint()
    node.ovs.vsctl("del-br", "br-other")
    netns.configure(node.namespace, f"link delete {NAME}")

    netns.configure(node.vms[0], "link add eth0 type veth peer name eth1")
    assert f"namespace {node.vms[0]} has a device eth0" in complaint()
    assert NAME not in node.devices(node.namespace)
    netns.configure(node.vms[0], "link delete eth0")
