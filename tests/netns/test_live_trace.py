"""What Open vSwitch itself says of a packet: the same as the flows that it should have, unless it has others."""

from __future__ import annotations

from typing import Any

import pytest

from controller.client import Object
from etc.lab.lab import Lab
from etc.lab.processes import run, wait_until
from etc.lab.vm import Vm
from tests.netns.cloud import make_network, make_outside, make_vms, wait_outside, wait_reached, want

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def vms(lab: Lab) -> dict[str, Vm]:
    make_outside(lab)
    blue = make_network(lab, "blue", "10.1.0.0/24", segment=101)
    green = make_network(lab, "green", "10.2.0.0/24", segment=102)
    places = {"a": ("n1", blue), "b": ("n2", blue), "c": ("n1", blue), "d": ("n2", green)}
    made = make_vms(lab, *(want(name, lab.node(node), network) for name, (node, network) in places.items()))
    wait_outside(lab, *made.values())
    return made


def live(lab: Lab, **question: Any) -> tuple[Object, Object]:
    answer = lab.client.trace({"live": True, "reply": False, **question})
    assert answer["live"] is not None, answer["findings"]
    return answer, answer["live"]


@pytest.mark.parametrize(
    ("target", "question", "verdict"),
    [
        ("b", {}, "delivered"),
        ("c", {}, "delivered"),  # what it may receive is by how the connection has begun
        ("d", {"protocol": "tcp", "destination_port": 80}, "delivered"),
        ("gateway", {}, "answered"),
        ("far", {}, "left"),
        ("far", {"protocol": "udp", "destination_port": 5000, "source_port": 4000}, "left"),
        ("b", {"from_address": "10.1.0.99"}, "dropped"),
        ("b", {"from_mac": "02:00:00:00:00:99"}, "dropped"),
    ],
)
def test_it_decides_as_it_should(
    lab: Lab, vms: dict[str, Vm], target: str, question: dict[str, Any], verdict: str
) -> None:
    a = vms["a"]
    configured = a.configured()
    assert configured is not None and configured.router is not None
    places = {"gateway": configured.router, "far": lab.fabric.far_host}
    to = str(places[target] if target in places else vms[target].address)
    wait_reached(a, to)  # what is learned on the way has been
    answer, found = live(lab, port="a", to=to, **question)
    agrees = None if target == "c" else True
    assert (answer["verdict"], found["agrees"]) == (verdict, agrees), (answer["findings"], found["output"])
    assert found["node"] == "n1" and found["steps"][0]["rule"] == "classify_port"
    assert found["steps"][0]["text"] == "it comes from port a"
    assert found["actions"] and all(step["rule"] != "not_ours" for step in found["steps"]), found
    if verdict == "dropped":
        assert found["actions"] == ["drop"] and found["steps"][-1]["rule"] == "drop_spoofed"


def test_a_flow_of_somebody_else_is_seen(lab: Lab, vms: dict[str, Vm]) -> None:
    a, b, n1 = vms["a"], vms["b"], lab.node("n1")
    wait_reached(a, b.address)
    match = f"table=4,priority=60000,icmp,nw_src={a.address},nw_dst={b.address}"
    n1.ovs.ofctl("add-flow", "br-int", f"cookie=0x77,{match},actions=drop")
    try:
        answer, found = live(lab, port="a", to="b")
        assert answer["verdict"] == "delivered" and not found["agrees"]
        assert found["steps"][-1]["rule"] == "not_ours" and found["actions"] == ["drop"]
        (finding,) = [one["text"] for one in answer["findings"] if "decides otherwise" in one["text"]]
        assert "table 4 (port_security)" in finding and "not_ours" in finding and "allow_ip" in finding
        command = [str(lab.directory / "trunkline"), "trace", "a", "--to", "b", "--live"]
        said = run(command, check=False)
        assert "Open vSwitch on n1 decides otherwise" in said and "a flow that is none of ours" in said, said
    finally:
        n1.ovs.ofctl("del-flows", "br-int", "cookie=0x77/-1")
    wait_until(lambda: live(lab, port="a", to="b")[1]["agrees"], 20, "it decides as it should")


def test_a_node_without_an_agent_is_asked_in_vain(lab: Lab, vms: dict[str, Vm]) -> None:
    n1 = lab.node("n1")
    assert n1.agent
    n1.agent.kill()
    try:
        answer = lab.client.trace({"port": "a", "to": "b", "live": True})
        assert answer["verdict"] == "delivered" and answer["live"] is None
        assert any("asked in vain" in one["text"] for one in answer["findings"])
    finally:
        n1.start_agent(lab.control)
        lab.wait_connected()
    wait_until(lambda: lab.client.trace({"port": "a", "to": "b", "live": True})["live"], 20, "the agent is asked")
