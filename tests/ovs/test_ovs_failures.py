"""What Open vSwitch could not make: the agent says so, with the cure, in its log and to the controller; and `plug`."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from agent import vswitchd
from agent.plugging import PlugError, PlugPort, plug, unplug
from agent.vswitchd import directories
from etc.lab import netns
from etc.lab.processes import Process, stop_all, wait_until
from tests.ovs.agent_node import Node, bare_node

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

PORT = PlugPort("11111111-1111-4111-8111-111111111111", "fa:16:3e:00:00:01")
UPLINKS = {"physnet1": 65001, "physnet2": 65002}


@pytest.fixture
def node() -> Iterator[Node]:
    with bare_node() as node:
        yield node
        stop_all(node.agents)


def problems(node: Node) -> list[str]:
    """As the node was last reported."""
    nodes = node.api.nodes()
    told: list[str] = nodes[-1].body.get("problems", []) if nodes else []
    return told


def wait_problem(node: Node, agent: Process, *words: str) -> str:
    """One that has all the words, in the last report and once in the log."""

    def told() -> str | None:
        return next((line for line in problems(node) if all(word in line for word in words)), None)

    line = str(wait_until(told, 20, lambda: f"{words} among {problems(node)}"))
    assert agent.log.read_text().count(f"WARNING agent.loop: {line}") == 1
    return line


def wait_gone(node: Node, agent: Process, line: str) -> None:
    wait_until(lambda: line not in problems(node), 20, lambda: str(problems(node)))
    assert f"no longer: {line}" in agent.log.read_text()


def test_a_node_whose_kernel_may_lack_the_module(node: Node) -> None:
    """Without the module all that fails is said; with it, the same node works and says nothing."""
    has_module = node.ovs.datapath == "system"
    print("the kernel has the module" if has_module else "the kernel lacks the module")
    agent = node.start_agent("datapath_type = system")
    if has_module:
        wait_until(lambda: node.uplinks() == UPLINKS, 20, "no uplinks")
        assert problems(node) == []
        return
    line = wait_problem(node, agent, "cannot make bridges br-int, br-physnet1, br-physnet2", "modprobe openvswitch")
    assert "linux-image-" in line and "datapath_type = netdev" in line
    netns.create(f"{node.namespace}vm")
    try:
        with netns.inside(node.namespace), pytest.raises(PlugError, match="cannot make bridge br-int: .*modprobe"):
            plug(PORT, namespace=f"{node.namespace}vm", ovsdb=node.ovs.database)
        assert not any(each["ifname"].startswith("tl1") for each in netns.query(node.namespace, "link", "show"))
        # such a kernel may lack what answers neighbour discovery as well, which is another cause
        failures = [each for each in problems(node) if "cannot be used" in each or "cannot make" in each]
        assert failures == [line], "one cause is one line"
        config = node.directory / "agent.conf"
        config.write_text(config.read_text().replace("datapath_type = system", "datapath_type = netdev"))
        agent.signal(signal.SIGHUP)
        wait_until(lambda: node.uplinks() == UPLINKS and problems(node) == [], 20, lambda: str(problems(node)))
        with netns.inside(node.namespace):
            assert plug(PORT, namespace=f"{node.namespace}vm", ovsdb=node.ovs.database).changed
            unplug(PORT.id, ovsdb=node.ovs.database)
    finally:
        netns.delete(f"{node.namespace}vm")


def test_a_type_that_cannot_be_is_seen_through_what_the_former_one_has_left(node: Node) -> None:
    """Open vSwitch keeps what it knew of the bridge: its datapath-id and its port numbers."""
    agent = node.start_and_settle()
    agent.stop()
    other = "system" if node.ovs.datapath == "netdev" else "netdev"
    print(f"from {node.ovs.datapath} to {other}")
    node.api.forget()
    agent = node.start_agent(f"datapath_type = {other}")
    if other == "netdev":
        wait_until(lambda: node.uplinks() == UPLINKS, 20, "no uplinks")
        assert problems(node) == []
        return
    assert node.ovs.vsctl("get", "Interface", "br-int", "ofport") == "65534"
    wait_problem(node, agent, "cannot make bridges br-int, br-physnet1, br-physnet2")


def test_a_device_in_the_way_of_the_bridges_own(node: Node) -> None:
    netns.configure(node.namespace, "link add br-int type veth peer name other0")
    agent = node.start_agent()
    line = wait_problem(node, agent, "bridge br-int has no device of its own", "ip link show br-int")
    netns.configure(node.namespace, "link delete br-int")
    wait_gone(node, agent, line)
    assert node.ovs.vsctl("get", "Interface", "br-int", "ofport") == "65534"


def test_a_nic_that_comes_late_and_a_vms_device_that_never_comes(node: Node) -> None:
    agent = node.start_agent("physical_network = physnet3:late0", heartbeat=60)
    line = wait_problem(node, agent, "device late0 of physical network physnet3", "No such device")
    node.ovs.vsctl(
        "--no-wait", "add-port", "br-int", "vm9", "--", "set", "Interface", "vm9", "external_ids:iface-id=p9"
    )
    other = wait_problem(node, agent, "interface vm9 of port p9", "ovs-vsctl del-port vm9")
    assert problems(node) == sorted((line, other))
    netns.configure(node.namespace, "link add late0 type veth peer name rack3")
    wait_gone(node, agent, line)
    node.ovs.vsctl("del-port", "vm9")
    wait_gone(node, agent, other)
    assert problems(node) == []


def test_what_works_is_never_said_to_fail(node: Node) -> None:
    """VMs that come and go, and restarts of Open vSwitch: each of them empties a column for a moment."""
    node.start_and_settle(heartbeat=0.2)
    for _ in range(3):
        name, iface_id = node.add_interface()
        node.api.wait_for({iface_id})
        node.remove_interface(name)
        node.api.wait_for(set())
    node.ovs.restart_database()
    wait_until(lambda: node.ovs.vsctl("get", "Bridge", "br-int", "datapath_id") != "[]", 20, "no datapath-id again")
    node.ovs.restart_switch(kill=True)
    name, iface_id = node.add_interface()
    node.api.wait_for({iface_id}, deadline=15)
    assert not any(put.body.get("problems") for put in node.api.nodes())


def test_a_switch_that_died_has_left_its_socket(node: Node) -> None:
    node.start_and_settle()
    places = directories(node.ovs.database)
    assert vswitchd.runs(places) and node.ovs.switch
    node.ovs.switch.kill()
    assert vswitchd.control_socket(places) is not None and not vswitchd.runs(places)


def test_a_database_that_is_away_is_told_and_comes_back(node: Node) -> None:
    agent = node.start_and_settle(heartbeat=0.2)
    wait_until(lambda: len(node.api.reports()) > 3, 20, "no heartbeats")
    assert node.ovs.server
    node.ovs.server.kill()
    line = wait_problem(node, agent, f"no connection to {node.ovs.database}", "systemctl status openvswitch-switch")
    assert node.uplinks() == UPLINKS, "what was last known stays reported"
    (node.ovs.directory / "db.sock").unlink()
    node.ovs.start_database()
    wait_gone(node, agent, line)


def test_an_agent_that_starts_again_does_not_take_a_problem_for_gone(node: Node) -> None:
    agent = node.start_agent("physical_network = physnet3:late0")
    line = wait_problem(node, agent, "device late0 of physical network physnet3")
    agent.kill()
    node.api.forget()
    node.start_agent("physical_network = physnet3:late0")
    wait_until(node.api.nodes, 20, "no report")
    assert node.api.nodes()[0].body["problems"] == [line]
