"""The agent as a process against a real Open vSwitch in a network namespace, and an API that records what it says."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import pytest

from agent.host_flows import MARK, MARK_MASK
from etc.lab import netns
from etc.lab.openvswitch import datapath_type
from etc.lab.processes import CommandFailed, Process, stop_all, wait_until
from flows.rules import Rule, cookie
from tests.ovs.agent_node import Node, bare_node
from tests.ovs.fake_api import FakeApi

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

FLOW = "priority=7,in_port=77,actions=drop"


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with bare_node() as node:
        yield node


@pytest.fixture
def agent(node: Node) -> Iterator[Process]:
    agent = node.start_and_settle()
    yield agent
    stop_all(node.agents)
    node.agents.clear()
    for name in node.ovs.vsctl("list-ports", "br-int").split():
        if name.startswith("vm"):
            node.remove_interface(name)


def test_a_bare_node_is_set_up_and_reported(node: Node, agent: Process) -> None:
    get = node.ovs.vsctl
    assert get("get", "Bridge", "br-int", "fail_mode") == "secure"
    assert get("--bare", "--columns=prefixes", "list", "Flow_Table").count("ct_nw_dst ct_nw_src nw_src") == 3
    assert get("get", "Bridge", "br-int", "protocols") == "[OpenFlow14]"
    assert get("get", "Bridge", "br-int", "datapath_type") == node.ovs.datapath
    assert get("get", "Bridge", "br-int", "datapath_id") == '"0000020000000001"'
    assert get("get-controller", "br-int") == "tcp:127.0.0.1:6653"
    assert get("get", "Bridge", "br-physnet1", "fail_mode") == "standalone"
    assert set(get("list-ports", "br-physnet1").split()) == {"eth1", "int-physnet1"}
    assert get("get", "Interface", "uplink-physnet1", "error") == "[]"
    assert "UP" in netns.query(node.namespace, "link", "show", "eth1")[0]["flags"]
    (put,) = node.api.nodes()
    assert put.path == "/v1/nodes/n1" and put.authorization == "Bearer t0ken"
    assert put.body["datapath_id"] == "0000020000000001" and put.body["physical_networks"] == ["physnet1", "physnet2"]
    assert put.body["snat_addresses"] == {"physnet1": "203.0.113.11"} and put.body["versions"]["ovs"] == "3.5.0"
    assert len({request.client for request in node.api.requests}) == 1, "one connection, kept alive"


def test_a_second_run_changes_nothing(node: Node, agent: Process) -> None:
    before = node.database_size(), node.ovs.vsctl("get", "Open_vSwitch", ".", "cur_cfg")
    assert agent.stop() == 0
    node.start_and_settle(heartbeat=0.2)
    wait_until(lambda: len(node.api.reports()) > 3, 20, "heartbeats")
    assert (node.database_size(), node.ovs.vsctl("get", "Open_vSwitch", ".", "cur_cfg")) == before
    serials = [request.body["serial"] for request in node.api.reports()]
    assert serials == list(range(1, len(serials) + 1)) and len(node.api.nodes()) == 1


@pytest.mark.parametrize(
    ("damage", "query", "answer"),
    [
        (("del-port", "uplink-physnet1"), ("get", "Interface", "uplink-physnet1", "ofport"), "65001"),
        (("del-port", "int-physnet1"), ("port-to-br", "int-physnet1"), "br-physnet1"),
        (
            ("set", "Interface", "uplink-physnet2", "options:peer=x"),
            ("get", "Interface", "uplink-physnet2", "options"),
            "{peer=int-physnet2}",
        ),
        (("set-fail-mode", "br-int", "standalone"), ("get-fail-mode", "br-int"), "secure"),
        (("del-controller", "br-int"), ("get-controller", "br-int"), "tcp:127.0.0.1:6653"),
        (("del-br", "br-physnet2"), ("get-fail-mode", "br-physnet2"), "standalone"),
        (("del-br", "br-int"), ("get", "Interface", "uplink-physnet2", "ofport"), "65002"),
    ],
)
def test_damage_is_repaired_at_once(
    node: Node, agent: Process, damage: tuple[str, ...], query: tuple[str, ...], answer: str
) -> None:
    def repaired() -> bool:
        with suppress(CommandFailed):  # what is asked for may not be there yet
            return node.ovs.vsctl(*query) == answer
        return False

    node.ovs.vsctl(*damage)
    wait_until(repaired, 20, f"repair of {damage}")
    wait_until(lambda: node.uplinks() == {"physnet1": 65001, "physnet2": 65002}, 20, "a report of both uplinks")


def test_connections_are_limited(node: Node, agent: Process) -> None:
    """As long as the node has its database, and whatever others do to it; what they set of other zones stays."""
    get = node.ovs.vsctl
    datapath = node.ovs.datapath

    def limits() -> str:
        with suppress(CommandFailed):  # the datapath's record may not be there yet
            return " ".join(get("list-zone-limits", datapath).split())
        return ""

    wanted = "Default, Limit: 16384 Zone: 65001, Limit: 1048576"
    wait_until(lambda: limits() == wanted, 20, limits)
    for damage in (("default", "7"), ("65001", "7")):
        get("set-zone-limit", datapath, *damage)
        wait_until(lambda: limits() == wanted, 20, limits)
    get("set-zone-limit", datapath, "5", "9")
    get("del-zone-limit", datapath, "65001")
    wait_until(lambda: "Zone: 65001, Limit: 1048576" in limits() and "Zone: 5, Limit: 9" in limits(), 20, limits)
    get("del-zone-limit", datapath, "5")
    agent.stop()
    get("clear", "Open_vSwitch", ".", "datapaths")
    node.start_and_settle()
    wait_until(lambda: limits() == wanted, 20, limits)
    node.ovs.restart_switch(kill=True)
    shown = ["default", "limit=16384", "zone=65001,limit=1048576,count=0"]

    def in_switch() -> list[str]:
        with suppress(CommandFailed):  # it has no such command before it has a bridge
            return node.ovs.appctl("dpctl/ct-get-limits").split()
        return []

    wait_until(lambda: in_switch() == shown, 20, lambda: str(in_switch()))


def test_a_zone_that_is_no_ports_any_more_keeps_the_timeouts_that_another_has_set(node: Node) -> None:
    get, datapath = node.ovs.vsctl, node.ovs.datapath

    def limits() -> str:
        with suppress(CommandFailed):
            return get("list-zone-limits", datapath)
        return ""

    node.api.zones = (7, 8)
    try:
        node.start_and_settle(heartbeat=0.2)
        wait_until(lambda: "Zone: 7, Limit: 65536" in limits() and "Zone: 8, Limit: 65536" in limits(), 20, limits)
        get("add-zone-tp", datapath, "zone=7", "icmp_first=9")
        node.api.zones = ()
        wait_until(lambda: "Zone: 7" not in limits() and "Zone: 8" not in limits(), 20, limits)
        assert "Zone:7, Timeout Policies: icmp_first=9" in get("list-zone-tp", datapath)
        assert get("--columns=external_ids", "--format=csv", "find", "CT_Zone", "limit=[]") == "external_ids\n{}"
    finally:
        node.api.zones = None
        stop_all(node.agents)
        node.agents.clear()


def test_an_interface_is_reported_within_100_ms(node: Node, agent: Process) -> None:
    took = []
    for _ in range(5):
        _, iface_id = node.add_interface()
        done = time.monotonic()
        wait_until(partial(node.reports, iface_id), 20, "a report", interval=0.001)
        took.append(
            next(r.at for r in node.api.reports() if any(i["iface_id"] == iface_id for i in r.body["interfaces"]))
            - done
        )
    assert min(took) < 0.1, took


def test_interfaces_come_and_go(node: Node, agent: Process) -> None:
    name, iface_id = node.add_interface()
    node.api.wait_for({iface_id})
    interface = node.api.reports()[-1].body["interfaces"][0]
    assert interface == {
        "iface_id": iface_id,
        "name": name,
        "ofport": node.ovs.ofport(name),
        "mac": "fa:16:3e:00:00:01",
    }
    other, _ = node.add_interface(iface_id)
    wait_until(lambda: b"both claim" in agent.log.read_bytes(), 20, "a line about the duplicate")
    assert node.api.ofports() == {iface_id: min(node.ovs.ofport(name), node.ovs.ofport(other))}
    node.remove_interface(name)
    wait_until(lambda: node.api.ofports() == {iface_id: node.ovs.ofport(other)}, 20, "a report of the other one")
    node.remove_interface(other)
    node.api.wait_for(set())


def test_ovsdb_server_restarts(node: Node, agent: Process) -> None:
    _, iface_id = node.add_interface()
    node.api.wait_for({iface_id})
    node.api.forget()
    node.ovs.restart_database(kill=True)
    node.ovs.vsctl("--no-wait", "del-port", "uplink-physnet1")
    wait_until(
        lambda: node.ovs.vsctl("--no-wait", "--if-exists", "get", "Interface", "uplink-physnet1", "ofport") == "65001",
        20,
        "repair after the restart",
    )
    assert all(iface_id in {i["iface_id"] for i in r.body["interfaces"]} for r in node.api.reports())
    assert agent.alive()


def test_the_agent_starts_before_open_vswitch(node: Node, agent: Process) -> None:
    agent.stop()
    assert node.ovs.server
    node.ovs.server.stop()
    node.api.forget()
    agent = node.start_agent()
    wait_until(lambda: b"no connection to" in agent.log.read_bytes(), 20, "a line about it")
    node.ovs.start_database()
    wait_until(lambda: node.uplinks() == {"physnet1": 65001, "physnet2": 65002}, 20, "a report")


def test_ovs_vswitchd_restarts(node: Node, agent: Process) -> None:
    name, iface_id = node.add_interface()
    node.api.wait_for({iface_id})
    ofport = node.ovs.ofport(name)
    node.ovs.restart_switch(kill=True)
    late, late_id = node.add_interface()
    node.api.wait_for({iface_id, late_id})
    assert node.api.ofports()[iface_id] == ofport and node.uplinks() == {"physnet1": 65001, "physnet2": 65002}


@pytest.mark.skipif(datapath_type() != "netdev", reason="the kernel's datapath has no such limit")
def test_the_userspace_datapath_takes_small_fragments_and_many(node: Node, agent: Process) -> None:
    def status() -> str:
        try:
            return node.ovs.appctl("dpctl/ipf-get-status", "netdev@ovs-netdev")
        except CommandFailed as failed:  # a switch that has just started knows no commands yet
            return str(failed)

    def taken() -> bool:
        said = status()
        wanted = (r"min v4 frag size: 400\b", r"max num frags \(v4/v6\): 5000\b")
        return all(re.search(one, said, re.IGNORECASE) for one in wanted)

    wait_until(taken, 20, status)
    node.ovs.restart_switch(kill=True)
    wait_until(taken, 20, status)


def test_the_agent_is_killed_and_starts_again(node: Node, agent: Process) -> None:
    _, iface_id = node.add_interface()
    node.api.wait_for({iface_id})
    node.ovs.ofctl("add-flow", "br-int", FLOW)
    before = node.database_size()
    agent.kill()
    late_name, late_id = node.add_interface()
    grown = node.database_size()
    assert grown > before
    node.start_and_settle()
    node.api.wait_for({iface_id, late_id})
    wait_until(lambda: "trunkline-installed" in node.ovs.vsctl("list", "Interface", late_name), 20, "no mark")
    assert node.database_tail(grown).count("OVSDB JSON") == 1, "one transaction: the mark of what came meanwhile"
    assert any("in_port=77" in flow for flow in node.ovs.flows())
    node.ovs.ofctl("del-flows", "br-int")


def test_changing_controllers_keeps_the_flow_table(node: Node, agent: Process) -> None:
    node.ovs.ofctl("add-flow", "br-int", FLOW)
    one, two = ("tcp:127.0.0.2:6653",), ("tcp:127.0.0.3:6653", "tcp:127.0.0.4:6653")
    for controllers in (one, two, one):
        stop_all(node.agents)
        node.start_and_settle(controllers=controllers)
        wait_until(partial(node.has_controllers, controllers), 20, "new controllers")
        node.ovs.vsctl("init")  # returns when the switch has taken it over
        assert any("in_port=77" in flow for flow in node.ovs.flows()), controllers
    node.ovs.ofctl("del-flows", "br-int")


@pytest.mark.parametrize("status", [404, 409])
def test_a_controller_that_has_forgotten_the_node_is_told_again(node: Node, agent: Process, status: int) -> None:
    node.api.forget()
    node.api.refusals = [status]
    _, iface_id = node.add_interface()
    node.api.wait_for({iface_id})
    wait_until(lambda: len(node.api.nodes()) == 1, 20, "registration")
    serials = [report.body["serial"] for report in node.api.reports()]
    assert serials == sorted(set(serials)), "an old report must be known for one, whoever comes to it"


def test_a_failing_controller_and_one_that_is_away(node: Node, agent: Process) -> None:
    node.api.forget()
    node.api.refusals = [500, 503, 401]
    _, iface_id = node.add_interface()
    wait_until(lambda: not node.api.refusals and node.api.nodes() and iface_id in node.api.ofports(), 20, "a report")
    port = node.api.port
    node.api.stop()
    _, late = node.add_interface()
    wait_until(lambda: b"report failed" in agent.log.read_bytes(), 20, "a line about it")
    node.api = FakeApi(node.namespace, port)
    node.api.wait_for({iface_id, late}, deadline=20)
    assert agent.alive()


def test_signals(node: Node, agent: Process) -> None:
    node.api.forget()
    config = node.directory / "agent.conf"
    good = config.read_text()
    config.write_text(good + "colour = blue\n")
    agent.signal(signal.SIGHUP)
    wait_until(lambda: b"configuration not taken over" in agent.log.read_bytes(), 20, "a line about the bad file")
    config.write_text(good.replace("node = n1", "node = n2"))
    agent.signal(signal.SIGHUP)
    wait_until(lambda: any(r.path == "/v1/nodes/n2" for r in node.api.nodes()), 20, "a report as n2")
    flows, bridges = node.ovs.flows(), node.ovs.vsctl("list-br")
    assert agent.stop() == 0
    assert (node.ovs.flows(), node.ovs.vsctl("list-br")) == (flows, bridges)


def test_a_nic_with_an_address_is_left_until_it_has_none(node: Node, agent: Process) -> None:
    assert agent.stop() == 0
    node.ovs.vsctl("del-port", "eth1")
    netns.configure(node.namespace, "address add 192.0.2.77/24 dev eth1", "link set eth1 up")
    agent = node.start_and_settle(heartbeat=0.2)
    wait_until(lambda: b"eth1 holds addresses" in agent.log.read_bytes(), 20, "a line about it")
    assert "eth1" not in node.ovs.vsctl("list-ports", "br-physnet1").split()
    netns.configure(node.namespace, "address flush dev eth1")
    wait_until(lambda: "eth1" in node.ovs.vsctl("list-ports", "br-physnet1").split(), 20, "the NIC in its bridge")


def test_what_is_not_ours_stays(node: Node, agent: Process) -> None:
    node.ovs.vsctl("add-br", "br-other", "--", "set", "Bridge", "br-other", f"datapath_type={node.ovs.datapath}")
    node.ovs.vsctl("add-port", "br-int", "foreign", "--", "set", "Interface", "foreign", "type=internal")
    stop_all(node.agents)
    node.start_and_settle()
    assert node.ovs.vsctl("port-to-br", "foreign") == "br-int"
    assert "br-other" in node.ovs.vsctl("list-br").split()
    node.ovs.vsctl("del-port", "foreign", "--", "del-br", "br-other")


def test_flows_for_the_hosts_address_come_and_go_with_what_they_need(node: Node, agent: Process) -> None:
    """The controller's one flow that matters is put into br-int here."""
    ours, returns = f"cookie={MARK:#x}/{MARK_MASK:#x}", f"cookie={cookie(Rule.HOST_RETURN, 1):#x}"
    address = "192.0.2.77"
    from_br_int = f"{returns},table=3,ip,nw_dst={address},actions=in_port"

    def flows() -> list[str]:
        with suppress(CommandFailed):  # it is just starting
            return re.findall(rf".*nw_dst={address}.*", node.ovs.ofctl("dump-flows", "br-physnet1", "--no-stats", ours))
        return []

    def settled(number: int) -> None:
        wait_until(lambda: len(flows()) == number, 20, lambda: f"{number} flows: {flows()}")

    agent.stop()
    node.start_and_settle(snat_address="physnet1:host")
    said = node.agents[-1].log.read_text
    wait_until(lambda: "device br-physnet1 holds no IPv4 address" in said(), 20, "a line about it")
    netns.configure(node.namespace, f"address add {address}/24 dev br-physnet1", "link set br-physnet1 up")
    wait_until(lambda: node.api.nodes()[-1].body["snat_addresses"] == {"physnet1": f"host:{address}"}, 20, "a report")
    settled(4)
    node.ovs.ofctl("add-flow", "br-int", from_br_int)
    settled(9)
    node.ovs.restart_switch(kill=True)
    settled(4)
    stop_all(node.agents)
    node.start_and_settle()
    settled(0)
    assert node.ovs.flows("br-physnet1") == ["priority=0 actions=NORMAL"]
    node.ovs.ofctl("del-flows", "br-int")
    netns.configure(node.namespace, "address flush dev br-physnet1")


def test_open_vswitch_speaks_tls_with_the_nodes_certificate(node: Node, agent: Process) -> None:
    """From tcp: to ssl: in place, put right when somebody changes it, and left alone when it is somebody else's."""
    for name in ("certificate", "key", "ca"):
        (node.directory / f"{name}.pem").touch()
    files = [f"{name} = {node.directory}/{name}.pem" for name in ("certificate", "key", "ca")]
    ours = [f"{node.directory}/{name}.pem" for name in ("key", "certificate", "ca")]

    def held() -> list[str]:
        columns = ("private_key", "certificate", "ca_cert")
        return [node.ovs.vsctl("--bare", f"--columns={column}", "list", "SSL") for column in columns]

    row = node.ovs.vsctl("--bare", "--columns=_uuid", "list", "Controller")
    assert agent.stop() == 0
    node.start_agent(*files, controllers=("ssl:127.0.0.1:6653",))
    wait_until(lambda: held() == ours and node.has_controllers(("ssl:127.0.0.1:6653",)), 20, lambda: str(held()))
    assert node.ovs.vsctl("--bare", "--columns=_uuid", "list", "Controller") == row, "never without a controller"
    node.ovs.vsctl("set", "SSL", ".", "ca_cert=/elsewhere.pem")
    wait_until(lambda: held() == ours, 20, lambda: str(held()))
    node.ovs.vsctl("--", "del-ssl", "--", "set-ssl", "/their.key", "/their.pem", "/ca.pem")
    log = node.directory / "agent.log"
    wait_until(lambda: "for TLS is not ours and does not fit" in log.read_text(), 20, "a complaint")
    assert held() == ["/their.key", "/their.pem", "/ca.pem"]
    node.ovs.vsctl("del-ssl")
    wait_until(lambda: held() == ours, 20, lambda: str(held()))
    # who has no certificate takes nothing away and misses nothing
    stop_all(node.agents)
    node.start_and_settle()
    assert held() == ours
    node.ovs.vsctl("del-ssl")
    node.add_interface("port-x")
    wait_until(lambda: node.reports("port-x"), 20, "the agent has looked again")
    assert held() == ["", "", ""]
