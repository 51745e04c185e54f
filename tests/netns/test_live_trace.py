"""What the switches on a packet's way say of it: as the flows that they should have, unless they have others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from controller.client import Object
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import run, wait_until
from etc.lab.vm import Vm
from flows.rules import Rule
from tests.netns.cloud import (
    delete_flow,
    make_network,
    make_outside,
    make_vms,
    program,
    wait_outside,
    wait_reached,
    want,
)
from tests.netns.floating import give, make_pool

pytestmark = pytest.mark.root

Seen = TypeVar("Seen")


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2)


@pytest.fixture(scope="module")
def vms(lab: Lab) -> dict[str, Vm]:
    make_pool(lab, make_outside(lab))
    blue = make_network(lab, "blue", "10.1.0.0/24", segment=101)
    green = make_network(lab, "green", "10.2.0.0/24", segment=102)
    places = {"a": ("n1", blue), "b": ("n2", blue), "c": ("n1", blue), "d": ("n2", green)}
    made = make_vms(lab, *(want(name, lab.node(node), network) for name, (node, network) in places.items()))
    wait_outside(lab, *made.values())
    return made


def live(lab: Lab, **question: Any) -> tuple[Object, list[Object]]:
    answer = lab.client.trace({"live": True, "reply": False, **question})
    assert answer["live"] is not None, answer["findings"]
    assert [hop["node"] for hop in answer["live"]] == [hop["node"] for hop in answer["hops"]]
    return answer, answer["live"]


def differing(answer: Object) -> list[str]:
    return [one["text"] for one in answer["findings"] if "decides otherwise" in one["text"]]


def test_nodes_that_have_learned_nothing_yet_decide_as_they_should(lab: Lab, vms: dict[str, Vm]) -> None:
    """An answer goes to all nodes, which a trace takes for one that goes where the question has come from."""
    answer, hops = live(lab, port="a", to="d", reply=True)
    assert [hop["agrees"] for hop in (*hops, *answer["reply"]["live"])] == [True] * 4, differing(answer)
    (sent,) = [step for step in answer["reply"]["hops"][0]["steps"] if step["rule"] == "learned_next_hop"]
    (met,) = [step for step in answer["reply"]["live"][0]["steps"] if step["table"] == sent["table"]]
    assert met["rule"] == "no_match"


@pytest.mark.parametrize(
    ("target", "question", "verdict", "nodes"),
    [
        ("b", {}, "delivered", "n1 n2 n2 n1"),
        ("c", {}, "delivered", "n1 n1"),
        ("d", {"protocol": "tcp", "destination_port": 80}, "delivered", "n1 n2 n2 n1"),
        ("gateway", {}, "answered", "n1"),
        ("far", {}, "left", "n1 n1"),
        ("far", {"protocol": "udp", "destination_port": 5000, "source_port": 4000}, "left", "n1 n1"),
        ("floating", {}, "delivered", "n1 n2 n2 n1"),
        ("floating", {"port": None, "from_address": "far", "protocol": "tcp"}, "delivered", "n2 n2"),
        ("b", {"from_address": "10.1.0.99"}, "dropped", "n1"),
        ("b", {"from_mac": "02:00:00:00:00:99"}, "dropped", "n1"),
    ],
)
def test_each_node_decides_as_it_should(
    lab: Lab,
    vms: dict[str, Vm],
    floating: str,
    target: str,
    question: dict[str, Any],
    verdict: str,
    nodes: str,
) -> None:
    a = vms["a"]
    configured = a.configured()
    assert configured is not None and configured.router is not None
    places = {"gateway": configured.router, "far": lab.fabric.far_host, "floating": floating}
    to = str(places[target] if target in places else vms[target].address)
    wait_reached(a, to)  # what is learned on the way has been
    asked = {
        name: str(places.get(value, value)) if name == "from_address" else value for name, value in question.items()
    }
    answer, found = live(lab, **{"port": "a", "to": to, "reply": True, **asked})
    back = answer["reply"]["live"] if answer["reply"] else []
    assert answer["verdict"] == verdict, answer["findings"]
    assert [(hop["node"], hop["agrees"], hop["text"].split(":")[0]) for hop in (*found, *back)] == [
        (node, True, "decides the same") for node in nodes.split()
    ], answer
    for hop, computed in zip((*found, *back), (*answer["hops"], *(answer["reply"] or {}).get("hops", ())), strict=True):
        assert hop["actions"] and hop["alike"] == len(hop["steps"])
        rules = [step["rule"] for step in hop["steps"] if step["rule"] not in ("no_match", "learned")]
        assert [step["rule"] for step in computed["steps"] if step["rule"] in rules] == rules
    if verdict == "dropped":
        assert found[0]["actions"] == ["drop"] and found[0]["text"] == "decides the same: dropped (drop_spoofed)"


@pytest.fixture(scope="module")
def floating(lab: Lab, vms: dict[str, Vm]) -> str:
    return str(give(lab, vms["b"])["address"])


def without(node: Node, rule: Rule, text: str, look: Callable[[], Seen]) -> Seen:
    """What is seen while somebody has deleted a flow of a switch; again if it has been put right meanwhile."""
    for _ in range(3):
        line = delete_flow(node, rule, text)
        try:
            seen = look()
            if line not in program(node):
                return seen
        finally:
            node.ovs.ofctl("add-flow", "br-int", line)
    raise AssertionError("it has been put right each time")


def test_a_flow_that_the_second_node_has_lost(lab: Lab, vms: dict[str, Vm]) -> None:
    a, b = vms["a"], vms["b"]
    wait_reached(a, b.address)
    command = [str(lab.directory / "trunkline"), "trace", "a", "--to", "b", "--live"]
    (answer, (first, second)), said = without(
        lab.node("n2"),
        Rule.L2_LOCAL,
        f"dl_dst={b.port['mac']}",
        lambda: (live(lab, port="a", to="b"), run(command, check=False)),
    )
    assert answer["verdict"] == "delivered" and first["agrees"] is True and second["agrees"] is False
    text = "in table 44 (l2_forward) it meets drop_unknown_unicast, and should meet l2_local (port b)"
    text += ": l2_local is missing there"
    assert second["text"] == f"decides otherwise: {text}"
    assert differing(answer) == [f"the switch of n2 decides otherwise: {text}"]
    before, _, behind = said.partition("\nn2, from physnet1")
    assert "Open vSwitch decides the same: out by physnet1" in before, said
    assert f"Open vSwitch decides otherwise: {text}" in behind, said
    wait_until(lambda: live(lab, port="a", to="b")[1][1]["agrees"], 20, "it decides as it should")


def test_a_rule_that_the_second_node_has_lost(lab: Lab, vms: dict[str, Vm]) -> None:
    """It is about how the connection has begun, which Open vSwitch's own trace does not know by itself."""
    wait_reached(vms["a"], vms["d"].address)
    answer, (first, second) = without(
        lab.node("n2"),
        Rule.INGRESS_RULE,
        "ip,reg10=",
        lambda: live(lab, port="a", to="d", protocol="tcp", destination_port=80),
    )
    assert answer["verdict"] == "delivered" and first["agrees"] is True and second["agrees"] is False
    assert "in table 58 (rules) it meets no flow, and should meet ingress_rule" in second["text"], second
    assert second["text"].endswith("ingress_rule is missing there; in the end drop_ingress (port d) drops it"), second
    assert second["actions"][-1] == "drop" and second["steps"][-1]["rule"] == "drop_ingress"
    assert live(lab, port="a", to="d")[1][1]["agrees"] is True


def test_a_flow_of_somebody_else_is_seen(lab: Lab, vms: dict[str, Vm]) -> None:
    a, b, n1 = vms["a"], vms["b"], lab.node("n1")
    match = f"table=4,priority=60000,icmp,nw_src={a.address},nw_dst={b.address}"
    n1.ovs.ofctl("add-flow", "br-int", f"cookie=0x77,{match},actions=drop")
    try:
        answer, (first, second) = live(lab, port="a", to="b")
        assert answer["verdict"] == "delivered" and first["agrees"] is False
        assert first["steps"][-1]["rule"] == "not_ours" and first["actions"] == ["drop"] and first["alike"] == 1
        (finding,) = differing(answer)
        assert "in table 4 (port_security) it meets not_ours, and should meet allow_ip" in finding, finding
        assert second["agrees"] is True, "of a packet that would come there"
    finally:
        n1.ovs.ofctl("del-flows", "br-int", "cookie=0x77/-1")
    wait_until(lambda: live(lab, port="a", to="b")[1][0]["agrees"], 20, "it decides as it should")


def test_a_node_without_an_agent_is_asked_in_vain(lab: Lab, vms: dict[str, Vm]) -> None:
    n2 = lab.node("n2")
    assert n2.agent
    n2.agent.kill()
    try:
        answer, hops = live(lab, port="a", to="b", reply=True)
        assert answer["verdict"] == "delivered"
        assert [hop["agrees"] for hop in (*hops, *answer["reply"]["live"])] == [True, None, None, True], answer
        assert hops[1]["text"].startswith("was asked in vain: ") and not hops[1]["steps"]
        assert sum("the switch of n2 was asked in vain" in one["text"] for one in answer["findings"]) == 1
    finally:
        n2.start_agent(lab.control)
        lab.wait_connected()
    wait_until(lambda: live(lab, port="a", to="b")[1][1]["agrees"], 20, "the agent is asked")
