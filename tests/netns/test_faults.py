"""What breaks on a node is put right when it is back, and the other nodes do not notice."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from controller.client import Object
from etc.lab import netns
from etc.lab.control import ADDRESS, AGENT_TOKEN, OPENFLOW_PORT
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import run, wait_until
from etc.lab.vm import Vm
from tests.netns.cloud import (
    installed,
    make_network,
    make_outside,
    make_vms,
    metric,
    program,
    reset_address,
    status,
    unbroken,
    wait_outside,
    wait_reached,
    want,
)

pytestmark = pytest.mark.root

SILENCE = 30
"""Seconds: three echo requests without an answer, 5 s apart, end a session."""

STRANGER = "00000000000000fe"
NEW_DATAPATH_ID = "0000020000000afe"


@pytest.fixture(scope="module")
def network(lab: Lab) -> Object:
    make_outside(lab)
    return make_network(lab, "net", "10.1.0.0/24", segment=101)


@pytest.fixture(scope="module")
def vms(lab: Lab, network: Object) -> dict[str, Vm]:
    """v1 on n1, and so on; `more` is a second one on n2."""
    places = {"v1": lab.nodes[0], "v2": lab.nodes[1], "v3": lab.nodes[2], "more": lab.nodes[1]}
    vms = make_vms(lab, *(want(name, node, network) for name, node in places.items()))
    wait_outside(lab, *vms.values())
    return vms


def new_vm_works(lab: Lab, node: Node, network: Object, other: Vm) -> None:
    """The whole way from the API to the first ping."""
    vm = make_vms(lab, want("late", node, network))["late"]
    assert not vm.ping(other.address).lost
    lab.delete_vm(vm)


def everything_works(lab: Lab, vms: dict[str, Vm], name: str) -> None:
    """Switched to and from each other node, the gateway, and out."""
    for other in {"v1", "v2", "v3"} - {name}:
        wait_reached(vms[name], vms[other].address)
        wait_reached(vms[other], vms[name].address)
    wait_reached(vms[name], lab.fabric.far_host)
    router = vms[name].configured().router  # type: ignore[union-attr]
    assert not vms[name].ping(router).lost


def test_threat_36_a_switch_that_crashes_is_served_again(lab: Lab, vms: dict[str, Vm], network: Object) -> None:
    node = vms["v1"].node
    with unbroken((vms["v2"], vms["v3"].address), (vms["v3"], lab.fabric.far_host)):
        sessions = metric(lab, "trunkline_sessions_total", '"n1"')
        node.ovs.restart_switch(kill=True)
        wait_until(lambda: metric(lab, "trunkline_sessions_total", '"n1"') > sessions, 20, "it has connected again")
        everything_works(lab, vms, "v1")
    new_vm_works(lab, node, network, vms["v2"])


def test_a_database_of_open_vswitch_that_crashes_costs_no_packet(lab: Lab, vms: dict[str, Vm], network: Object) -> None:
    node = vms["v1"].node
    with unbroken((vms["v1"], vms["v2"].address), (vms["v1"], lab.fabric.far_host)):
        before = program(node)
        node.ovs.restart_database(kill=True)
        new_vm_works(lab, node, network, vms["v2"])
        assert program(node) == before


def test_an_agent_that_crashes_costs_no_packet(lab: Lab, vms: dict[str, Vm], network: Object) -> None:
    node = vms["v1"].node
    assert node.agent
    with unbroken((vms["v1"], vms["v2"].address), (vms["v1"], lab.fabric.far_host)):
        before, sent = program(node), metric(lab, "of_flowmsgs_sent_total", '"n1"')
        node.agent.kill()
        # a VM that is plugged while the agent is away waits for it
        late = lab.create_vm("waits", node, network["id"], project_id="blue")
        assert (program(node), metric(lab, "of_flowmsgs_sent_total", '"n1"')) == (before, sent)
        node.start_agent(lab.control)
        late.wait_configured()
        assert not late.ping(vms["v2"].address).lost
        lab.delete_vm(late)
        wait_until(lambda: program(node) == before, 20, "nothing else has changed")


def test_what_open_vswitch_cannot_open_is_a_problem_of_its_node_alone(lab: Lab, vms: dict[str, Vm]) -> None:
    """It is in `trunkline status` while it lasts, also after a restart of the controller; nobody's flows change."""
    node = vms["v1"].node
    trunkline = str(lab.directory / "trunkline")

    def shown() -> dict[str, list[str]]:
        return {
            each["name"]: each["problems"] for each in json.loads(run([trunkline, "status", "-o", "json"]))["nodes"]
        }

    with unbroken((vms["v1"], vms["v2"].address)):
        before, sent = program(node), metric(lab, "of_flowmsgs_sent_total", '"n1"')
        none = ("--", "set", "Interface", "none-such", "external_ids:iface-id=p9")
        node.ovs.vsctl("--no-wait", "add-port", "br-int", "none-such", *none)
        line = wait_until(lambda: next(iter(shown()["n1"]), None), 20, lambda: str(shown()))
        assert str(line).startswith("interface none-such of port p9 cannot be used: ")
        assert "No such device" in str(line) and "ovs-vsctl del-port none-such" in str(line)
        assert shown() == {"n1": [line], "n2": [], "n3": []}
        assert (program(node), metric(lab, "of_flowmsgs_sent_total", '"n1"')) == (before, sent)
        lab.control.restart()
        lab.wait_connected()
        assert shown()["n1"] == [line]
        node.ovs.vsctl("del-port", "none-such")
        wait_until(lambda: shown()["n1"] == [], 20, lambda: str(shown()))
        assert program(node) == before


@contextmanager
def vanished(lab: Lab, node: Node) -> Iterator[None]:
    """Power and cables gone at once; back in the end."""
    cables = [node.cable(name) for name in node.nics]
    set_management(lab, node, "down")
    for cable in cables:
        lab.fabric.set_cable(cable, up=False)
    for process in (node.agent, node.ovs.switch, node.ovs.server):
        assert process
        process.kill()
    try:
        yield
    finally:
        (node.ovs.directory / "db.sock").unlink(missing_ok=True)
        set_management(lab, node, "up")
        for cable in cables:
            lab.fabric.set_cable(cable, up=True)
        node.ovs.start()
        node.start_agent(lab.control)


def set_management(lab: Lab, node: Node, state: str) -> None:
    netns.configure(lab.control.namespace, f"link set {node.name}-mgmt {state}")


def test_a_node_that_vanishes_is_named_and_comes_back(lab: Lab, vms: dict[str, Vm], network: Object) -> None:
    client, gone = lab.client, vms["v3"]
    before = client.get_port(gone.port["id"])
    with unbroken((vms["v1"], vms["v2"].address), (vms["v2"], lab.fabric.far_host)), vanished(lab, gone.node):
        # concerns all nodes, each of which has ports of the network
        revision = client.update_network(network["id"], {"arp_responder": True}).revision
        code, answer = lab.control.request("GET", f"/v1/revisions/{revision}?wait=2")
        assert (code, answer["error"]["code"]) == (504, "revision_unconfirmed")
        assert answer["error"]["details"]["missing"] == ["n3"]
        now = client.get_port(gone.port["id"])
        assert (now["fixed_ips"], now["binding"]) == (before["fixed_ips"], before["binding"])
        fields = {"network_id": network["id"], "project_id": "blue", "fixed_ips": [{"address": str(gone.address)}]}
        code, answer = lab.control.request("POST", "/v1/ports", fields)
        assert (code, answer["error"]["code"]) == (409, "address_in_use"), answer
        # the others are served
        new_vm_works(lab, vms["v1"].node, network, vms["v2"])
        wait_until(lambda: client.get_node("n3")["state"] == "disconnected", SILENCE, "it is known to be away")
    code, answer = lab.control.request("GET", f"/v1/revisions/{revision}?wait=30")
    assert (code, answer) == (200, {"revision": revision, "confirmed": True, "missing": []})
    everything_works(lab, vms, "v3")
    assert client.get_port(gone.port["id"])["fixed_ips"] == before["fixed_ips"]
    lab.confirm(client.update_network(network["id"], {"arp_responder": False}).revision)


@pytest.fixture
def stranger(lab: Lab) -> Iterator[Node]:
    """A bridge br-x on n1 that calls the controller, and that nobody has registered."""
    node = lab.nodes[0]
    node.ovs.vsctl(
        "add-br",
        "br-x",
        "--",
        "set",
        "Bridge",
        "br-x",
        f"datapath_type={lab.datapath}",
        "fail_mode=secure",
        "protocols=OpenFlow14",
        f"other_config:datapath-id={STRANGER}",
        "other_config:disable-in-band=true",
        "--",
        "set-controller",
        "br-x",
        f"tcp:{ADDRESS.ip}:{OPENFLOW_PORT}",
    )
    yield node
    node.ovs.vsctl("del-br", "br-x")


def test_an_unknown_switch_is_named_gets_nothing_and_is_adopted(lab: Lab, vms: dict[str, Vm], stranger: Node) -> None:
    assert lab.control.process
    log = lab.control.process.log
    wait_until(lambda: metric(lab, "trunkline_parked_connections") == 1, 20, "it is parked")
    assert any("datapath_unknown" in line and STRANGER in line for line in log.read_text().splitlines())
    lab.confirm(lab.client.update_port(vms["v1"].port["id"], {"name": "other"}).revision)
    assert stranger.ovs.flows("br-x") == []
    body = {"datapath_id": STRANGER, "physical_networks": []}
    code, _ = lab.control.request("PUT", "/v1/nodes/n9", body, token=AGENT_TOKEN)
    assert code == 200
    wait_until(lambda: lab.client.get_node("n9")["state"] == "live", 20, "it is adopted")
    assert len(stranger.ovs.flows("br-x")) == lab.client.get_node("n9")["flows"] + 1  # and the stamp
    assert metric(lab, "trunkline_parked_connections") == 0
    lab.client.delete_node("n9")
    wait_until(lambda: metric(lab, "trunkline_parked_connections") == 1, 20, "it is a stranger again")


def test_threat_40_a_node_that_was_installed_anew_takes_its_place(lab: Lab, vms: dict[str, Vm]) -> None:
    """A new database of Open vSwitch and a new datapath_id under the old name."""
    node, old = vms["v2"].node, lab.client.get_node("n2")
    assert node.agent
    with unbroken((vms["v1"], vms["v3"].address), (vms["v3"], lab.fabric.far_host)):
        node.agent.kill()
        node.ovs.stop()
        (node.ovs.directory / "conf.db").unlink()
        node.ovs.start()
        node.start_agent(lab.control, {"datapath_id": NEW_DATAPATH_ID})
        wait_until(lambda: lab.client.get_node("n2")["datapath_id"] == NEW_DATAPATH_ID, 20, "it has registered")
        lab.wait_connected()
        for vm in (vms["v2"], vms["more"]):
            vm.plug()
        everything_works(lab, vms, "v2")
    new = lab.client.get_node("n2")
    assert {name: new[name] for name in ("key", "gateways", "external_addresses")} == {
        name: old[name] for name in ("key", "gateways", "external_addresses")
    }
    assert metric(lab, "trunkline_parked_connections") == 0


def test_threat_34_a_port_deleted_and_made_again_at_once_works(lab: Lab, vms: dict[str, Vm], network: Object) -> None:
    vm = vms["v1"]
    with unbroken((vms["more"], vms["v3"].address)):
        for _ in range(5):
            lab.client.delete_port(vm.port["id"])
            written = lab.client.create_port(
                {
                    "id": vm.port["id"],
                    "network_id": network["id"],
                    "project_id": "blue",
                    "mac": vm.mac,
                    "fixed_ips": [{"address": str(vm.address)}],
                    "name": "again",
                }
            )
        lab.confirm(written.revision)
        assert written.object and written.object["binding"]["node"] == "n1"
        assert written.object["key"] != vm.port["key"]
        vm.port = written.object
        everything_works(lab, vms, "v1")


def test_threat_40_an_interface_that_gets_another_number_works(lab: Lab, vms: dict[str, Vm]) -> None:
    vm = vms["v1"]
    configured, binding = vm.configured(), lab.client.get_port(vm.port["id"])["binding"]
    assert configured

    def is_at(ofport: int) -> bool:
        now = lab.client.get_port(vm.port["id"])["binding"]
        return now is not None and now["ofport"] == ofport and status(lab, vm) == "active"

    with unbroken((vms["more"], vms["v3"].address)):
        vm.node.ovs.vsctl("set", "Interface", vm.device, "ofport_request=777")
        wait_until(lambda: is_at(777), 20, "it has another number")
        everything_works(lab, vms, "v1")
        vm.unplug()
        wait_until(lambda: status(lab, vm) == "unbound", 20, "it is unplugged")
        wait_until(
            lambda: not any("in_port=777" in flow.match for flow in installed(vm.node)), 20, "its flows are gone"
        )
        vm.plug()
        reset_address(vm, configured.address, configured.router)
        wait_until(lambda: is_at(vm.node.ovs.ofport(vm.device)), 20, "it is plugged again")
        everything_works(lab, vms, "v1")
    assert binding["ofport"] != 777


def test_many_faults_at_once(lab: Lab, vms: dict[str, Vm], network: Object) -> None:
    """Controller, a switch, another's database and an agent, in no order."""
    falls = [
        lambda: lab.control.restart(kill=True),
        lambda: lab.nodes[0].ovs.restart_switch(kill=True),
        lambda: lab.nodes[1].ovs.restart_database(kill=True),
        lambda: lab.nodes[2].restart_agent(lab.control, kill=True),
    ]
    with unbroken((vms["v2"], vms["v3"].address), (vms["v3"], lab.fabric.far_host)):
        threads = [threading.Thread(target=fall) for fall in falls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        lab.wait_connected()
        everything_works(lab, vms, "v1")
    for node in lab.nodes:
        new_vm_works(lab, node, network, vms["more"])
