"""A whole laboratory that says nothing in plain text: agents, Open vSwitch, REST, the command, and what VMs ask for."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

import pytest

from controller.client import Client, ClientError, Tls
from controller.pki.directory import CA, CERTIFICATE, KEY
from controller.pki.identity import Kind
from etc.lab import netns
from etc.lab.control import ADDRESS, AGENT_TOKEN, API_PORT, OPENFLOW_PORT
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import CommandFailed, run, wait_until
from etc.lab.vm import Vm
from tests.netns.capturing import capturing, packet_sockets, wait_quiet
from tests.netns.cloud import make_network, make_vms, metric, unbroken, want

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2, projects=("blue",), tls=True, agent_options={"heartbeat_interval": 1})


@pytest.fixture(scope="module")
def vms(lab: Lab) -> dict[str, Vm]:
    network = make_network(lab, "blue", "10.20.0.0/24", segment=120)
    return make_vms(lab, *(want(f"vm{number}", node, network) for number, node in enumerate(lab.nodes, 1)))


def connections(lab: Lab, node: Node) -> float:
    return metric(lab, "trunkline_sessions_total", f'"{node.name}"')


def instance_id(vm: Vm) -> str:
    return vm.execute("curl", "-s", "-m", "5", "http://169.254.169.254/latest/meta-data/instance-id", check=False)


def test_machines_get_what_they_always_get(lab: Lab, vms: dict[str, Vm]) -> None:
    first, second = vms["vm1"], vms["vm2"]
    assert first.ping(second.address).answered
    for vm in vms.values():
        # by the relay of the node, whose requests to the controller are TLS
        wait_until(lambda vm=vm: instance_id(vm).startswith("i-"), 20, lambda vm=vm: instance_id(vm))


def test_the_command_speaks_it_too(lab: Lab, vms: dict[str, Vm]) -> None:
    said = json.loads(run([str(lab.directory / "trunkline"), "node", "list", "-o", "json"]))
    assert {node["name"]: node["state"] for node in said} == {"n1": "live", "n2": "live"}
    said = json.loads(lab.nodes[0].execute(str(lab.nodes[0].directory / "on"), "trunkline", "status", "-o", "json"))
    assert said["counts"]["ports"] == 2


def test_a_capture_and_a_client_that_goes(lab: Lab, vms: dict[str, Vm]) -> None:
    first, second = vms["vm1"], vms["vm2"]
    before = packet_sockets(lab, "n1")
    with capturing(lab, first, "--packets", "4", "--filter", "icmp") as running:
        assert first.ping(second.address, count=2).received == 2
        assert running.end()[0] == 0
    assert [frame.icmp_type for frame in running.frames()] == [8, 0, 8, 0]
    with capturing(lab, first, "--seconds", "300") as running:
        running.end(signal.SIGKILL)
        wait_quiet(lab, "n1", before)


@pytest.mark.parametrize("by", ["certificate", "token"])
def test_threat_25_a_node_plugs_its_own_ports_by_its_own_credentials(lab: Lab, vms: dict[str, Vm], by: str) -> None:
    """The first that plugs a port has it; the other is refused before anything is made. A certificate alone is as
    good as a token.
    """
    made = lab.client.create_port({"network_id": vms["vm1"].port["network_id"], "name": f"late-{by}"}).object
    assert made
    namespace = f"{lab.prefix}-late"
    first, second = lab.nodes
    own = {node.name: _own(lab, node, by) for node in lab.nodes}

    def command(node: Node, name: str, *options: str, check: bool = True) -> None:
        on = (str(node.directory / "on"), "env", *own[node.name])
        run([*on, "trunkline", name, f"late-{by}", "--namespace", namespace, *options], check=check)

    try:
        command(first, "plug", "--wait")
        netns.configure(namespace, f"address add {made['fixed_ips'][0]['address']}/24 dev eth0")
        assert "1 received" in netns.execute(namespace, "ping", "-c1", "-W5", str(vms["vm2"].address), check=False)
        assert lab.client.get_port(made["id"])["binding"]["node"] == "n1"
        with pytest.raises(CommandFailed, match=f"node n2 has no port 'late-{by}': .*another node's"):
            command(second, "plug")
        assert made["id"] not in second.ovs.vsctl("--columns=external_ids", "list", "Interface")
        command(first, "unplug", "--delete-namespace")
        wait_until(lambda: lab.client.get_port(made["id"])["status"] == "unbound", 10, "it is off the node")
    finally:
        if namespace in netns.names(lab.prefix):
            command(first, "unplug", "--delete-namespace", check=False)
        lab.client.delete_port(made["id"])


def _own(lab: Lab, node: Node, by: str) -> tuple[str, ...]:
    if by == "token":
        fields = {"name": f"plug-{node.name}", "role": "agent", "node": node.name}
        made = lab.client.create_token(fields).object
        assert made
        return (f"TRUNKLINE_TOKEN={made['secret']}",)
    place = lab.control.certificate(Kind.NODE, node.name)
    return "TRUNKLINE_TOKEN=", f"TRUNKLINE_CERTIFICATE={place}/{CERTIFICATE}", f"TRUNKLINE_KEY={place}/{KEY}"


def test_threat_23_nobody_is_heard_in_plain_text(lab: Lab, vms: dict[str, Vm]) -> None:
    plain = Client(f"http://{ADDRESS.ip}:{API_PORT}", AGENT_TOKEN)
    with netns.inside(lab.nodes[0].namespace):
        with pytest.raises(ClientError):
            plain.health()
        with socket.create_connection((str(ADDRESS.ip), OPENFLOW_PORT), timeout=10) as connection:
            connection.sendall(bytes.fromhex("0500000800000001"))
            with suppress(ConnectionError):
                while data := connection.recv(65536):
                    assert data[:1] == b"\x15", "an alert, and no hello"


def test_threat_25_a_node_listens_to_nobody(lab: Lab, vms: dict[str, Vm]) -> None:
    """What is in its database is said by who is root on it, by a socket in the file system."""
    for node in lab.nodes:
        assert node.execute("ss", "-Htln").strip() == ""
        assert node.ovs.vsctl("get-manager") == ""


def test_threat_25_a_node_cannot_take_anothers_port(lab: Lab, vms: dict[str, Vm]) -> None:
    """The thief has the port's id and MAC, and its node reports it as its own."""
    victim, partner, node = vms["vm1"], vms["vm2"], lab.nodes[1]
    with unbroken((partner, victim.address)):
        thief = lab.plug("thief", node, victim.port)
        try:
            thief.set_address(f"{victim.address}/24", None)
            log = node.directory / "agent.log"
            wait_until(lambda: "the port is bound to n1" in log.read_text(), 20, "its node has been refused")
            assert not thief.ping(partner.address, count=3, wait=0.5).answered
        finally:
            thief.delete()
            lab.vms.pop("thief")
    assert lab.client.get_port(victim.port["id"])["binding"]["node"] == "n1"
    # nor by calling itself another node: the name is in the certificate
    place = lab.control.certificate(Kind.NODE, "n2")
    assert place is not None
    as_n2 = Tls(str(place / CA), str(place / CERTIFICATE), str(place / KEY))
    with netns.inside(node.namespace):
        for token in ("", AGENT_TOKEN):
            with pytest.raises(ClientError, match="403"):
                Client(lab.control.url, token, tls=as_n2)._call("PUT", "nodes/n1/interfaces", {"serial": 9999})


def test_new_certificates_for_all_lose_no_packet_and_no_session(lab: Lab, vms: dict[str, Vm]) -> None:
    assert lab.control.pki
    before = {node.name: connections(lab, node) for node in lab.nodes}
    first, second = vms["vm1"], vms["vm2"]
    with unbroken((first, second.address), (second, first.address)):
        for entry in list(lab.control.pki.entries()):
            lab.control.pki.renew(entry.path.name, days=1)
        lab.client.update_port(first.port["id"], {"name": "renamed"})
        seen = lab.node("n1").ovs.appctl("bridge/reconnect", "br-int")
        assert seen == ""
        wait_until(lambda: connections(lab, lab.nodes[0]) == before["n1"] + 1, 20, "n1 comes with the new one")
        lab.wait_connected()
        assert instance_id(first).startswith("i-")
    assert connections(lab, lab.nodes[1]) == before["n2"]


def test_a_switch_that_was_killed_is_back_and_served(lab: Lab, vms: dict[str, Vm]) -> None:
    node, before = lab.nodes[0], connections(lab, lab.nodes[1])
    node.ovs.restart_switch(kill=True)
    lab.wait_connected()
    wait_until(lambda: vms["vm1"].ping(vms["vm2"].address, count=1).answered, 20, "vm1 is served again")
    assert connections(lab, lab.nodes[1]) == before


def test_a_revoked_node_is_out(lab: Lab, vms: dict[str, Vm]) -> None:
    assert lab.control.pki
    lab.control.pki.revoke("node-n2")
    place = lab.control.certificate(Kind.NODE, "n2")
    assert place is not None
    as_n2 = Tls(str(place / CA), str(place / CERTIFICATE), str(place / KEY))
    with netns.inside(lab.nodes[1].namespace), pytest.raises(ClientError):
        Client(lab.control.url, "", tls=as_n2).list_networks()
    wait_until(lambda: lab.client.get_node("n2")["state"] == "disconnected", 20, "its switch is out")
    wait_until(lambda: "report failed" in (lab.node("n2").directory / "agent.log").read_text(), 20, "its agent is out")
    assert vms["vm1"].ping(vms["vm2"].address).answered, "what is installed goes on"
