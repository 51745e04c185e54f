"""Errands of an agent on a real Open vSwitch, for an API that hands out what no controller would."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from etc.lab.processes import stop_all, wait_until
from flows.protocols import CT_ESTABLISHED, CT_NEW, CT_TRACKED, ETH_IP, PROTO_UDP
from tests.ovs.agent_node import Node, bare_node

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

PACKET = {
    "eth_src": 0xFA163E000001,
    "eth_dst": 0xFA163E000002,
    "eth_type": ETH_IP,
    "ip_proto": PROTO_UDP,
    "ip_src": 0x0A000007,
    "ip_dst": 0x0A000008,
    "udp_dst": 53,
}


def packets(ofport: object, **fields: int) -> dict[str, object]:
    return {"packets": [{"in_port": ofport, "table": 0, "fields": PACKET | fields}]}


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with bare_node() as node:
        node.start_and_settle(heartbeat=0.2)
        yield node
        stop_all(node.agents)


def test_open_vswitch_is_asked_what_it_would_do(node: Node) -> None:
    name, _ = node.add_interface()
    ofport = int(node.ovs.vsctl("get", "Interface", name, "ofport"))
    flow = f"cookie=0x5400001234567890,priority=9,in_port={ofport},udp,nw_dst=10.0.0.8,tp_dst=53,actions=drop"
    node.ovs.ofctl("add-flow", "br-int", flow)
    (output,) = node.api.ask("ofproto_trace", packets(ofport))["result"]["outputs"]
    assert "cookie 0x5400001234567890" in output and "Datapath actions: drop" in output, output
    (other,) = node.api.ask("ofproto_trace", packets(ofport, udp_dst=54))["result"]["outputs"]
    assert "cookie 0x5400001234567890" not in other, other
    node.ovs.ofctl("add-flow", "br-int", "table=1,ct_state=+est+trk,udp,reg3=7,cookie=0x77,actions=drop")
    node.ovs.ofctl("add-flow", "br-int", "table=1,ct_state=+new+trk,udp,reg3=7,cookie=0x78,actions=drop")
    states = (CT_TRACKED | CT_ESTABLISHED, CT_TRACKED | CT_NEW)
    asked = [{"in_port": ofport, "table": 1, "fields": PACKET | {"reg3": 7, "ct_state": state}} for state in states]
    outputs = node.api.ask("ofproto_trace", {"packets": asked})["result"]["outputs"]
    assert [f"cookie {cookie}" in output for output, cookie in zip(outputs, ("0x77", "0x78"), strict=True)] == [
        True
    ] * 2
    node.ovs.ofctl("del-flows", "br-int", f"in_port={ofport}")
    node.remove_interface(name)


@pytest.mark.parametrize(
    ("kind", "arguments", "said"),
    [
        ("shell", {"command": "reboot"}, "no such thing"),
        ("ofproto_trace", packets("1 -generate"), "in_port"),
        ("ofproto_trace", packets(1) | {"bridge": "br-physnet1"}, "bridge"),
        ("capture", {"capture": "../..", "iface_id": "x"}, "capture"),
        (
            "capture",
            {"capture": "0" * 32, "iface_id": "nobody", "seconds": 1, "packets": 1, "snaplen": 64, "bytes": 100},
            "not in Open vSwitch",
        ),
    ],
)
def test_what_is_refused(node: Node, kind: str, arguments: dict[str, object], said: str) -> None:
    assert said in node.api.ask(kind, arguments)["refusal"]


def test_an_answer_that_is_none_stops_nothing(node: Node) -> None:
    node.api.errands.put({"id": "../x", "kind": "ofproto_trace", "arguments": {}})
    node.api.errands.put([1])  # type: ignore[arg-type]
    assert "no such thing" in node.api.ask("nothing", {})["refusal"]


def test_heartbeats_wait_for_no_errand(node: Node) -> None:
    """Open vSwitch hangs, and a trace with it: reports go on, and the errand has an end."""
    assert node.ovs.switch
    node.ovs.switch.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        node.api.forget()
        for _ in range(3):  # more than are done at once
            node.api.errands.put({"id": "00", "kind": "ofproto_trace", "arguments": packets(1)})
        wait_until(lambda: len(node.api.reports()) >= 8, 20, "heartbeats")
        assert time.monotonic() - began < 10
        said = [node.api.answers.get(timeout=20)[1] for _ in range(3)]
        assert sum(b"go on already" in one for one in said) == 1
        assert sum(b"timed out" in one for one in said) == 2, said
        assert time.monotonic() - began < 15
    finally:
        node.ovs.switch.signal(signal.SIGCONT)
    wait_until(lambda: "result" in node.api.ask("ofproto_trace", packets(1)), 20, "traces", interval=0.2)


def test_the_agent_ends_at_once_while_it_waits(node: Node) -> None:
    began = time.monotonic()
    assert node.agents[-1].stop() == 0
    assert time.monotonic() - began < 5
    node.agents.clear()
    node.start_and_settle(heartbeat=0.2)
