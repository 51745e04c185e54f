"""Errands and captures by REST: who may, what is refused, and what streams through."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import eventlet
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from controller import captures, errands
from controller.api import captures as api
from controller.api import certificates
from controller.api.gate import make_app
from controller.api.nodes import AGENT_SILENT
from controller.errands import Errands, Kind
from controller.store.specs import Unavailable
from tests.unit.api.world import World

SOUND = {"seconds": 10, "packets": 5, "snaplen": 64, "filter": {"protocol": 6, "address": "10.0.0.7", "port": 80}}


@pytest.fixture
def asked(world: World) -> Iterator[World]:
    """A world with real errands."""
    world.services = replace(world.services, errands=Errands(), registry=CollectorRegistry())
    world.app = make_app(world.services)
    yield world


def bound_port(world: World, node: str = "n1", **fields: Any) -> dict[str, Any]:
    """A port of project a that is on a node."""
    port = world.port(world.network(project_id="a")["id"], **fields)
    world.node(node, int(node[1:]))
    shown = {"serial": 1, "uplinks": {}, "interfaces": [{"iface_id": port["id"], "ofport": 7}]}
    world.ok("PUT", f"/v1/nodes/{node}/interfaces", shown, "agent")
    return port


class Agent:
    """Of n1: fetches one errand, answers it, and sends a capture of these parts."""

    def __init__(self, world: World, *parts: bytes, refusal: str | None = None) -> None:
        self._world = world
        self._parts = parts
        self._refusal = refusal
        self.errand: dict[str, Any] = {}
        self.said: list[Any] = []
        self.thread = eventlet.spawn(self._run)
        eventlet.sleep(0)

    def _run(self) -> None:
        (self.errand,) = self._world.ok("GET", "/v1/nodes/n1/errands?wait=5", token="agent-n1")["errands"]
        answer = {"result": {"device": "vm1"}} if self._refusal is None else {"refusal": self._refusal}
        path = f"/v1/nodes/n1/errands/{self.errand['id']}/answer"
        assert self._world.ok("POST", path, answer, "agent-n1") == {"taken": True}
        if self._refusal is not None:
            return
        place = f"/v1/nodes/n1/captures/{self.errand['arguments']['capture']}"
        binary = {"CONTENT_TYPE": "application/octet-stream"}
        for part in self._parts:
            self.said.append(self._world.call("POST", f"{place}/parts", None, "agent-n1", part, **binary).json)
        end = {"packets": 2, "bytes": 40, "dropped": 1, "reason": "packets"}
        self.said.append(self._world.ok("POST", f"{place}/end", end, "agent-n1"))


def test_a_capture_streams_what_the_agent_sends(asked: World) -> None:
    port = bound_port(asked)
    agent = Agent(asked, b"head", b"", b"packet" * 3)
    with capture_logs() as logs:
        reply = asked.call("POST", f"/v1/ports/{port['id']}/captures", SOUND, "member-a", REMOTE_ADDR="192.0.2.7")
    assert (reply.status, reply.data) == (200, b"head" + b"packet" * 3), reply
    assert agent.errand["kind"] == Kind.CAPTURE and agent.errand["timeout"] > 0
    arguments = agent.errand["arguments"]
    assert arguments == SOUND | {
        "capture": reply.headers["X-Capture-Id"],
        "iface_id": port["id"],
        "bytes": api.MOST_BYTES,
    }
    assert agent.said == [{"wanted": True, "taken": True}] * 3 + [{"taken": True}]
    path = f"/v1/ports/{port['id']}/captures/{arguments['capture']}"
    told = asked.ok("GET", path, token="member-a")["capture"]
    assert told == {
        "id": arguments["capture"],
        "port_id": port["id"],
        "packets": 2,
        "bytes": 40,
        "dropped": 1,
        "reason": "packets",
    }
    assert asked.call("GET", path, token="member-b").status == 404
    begins, ends = (next(line for line in logs if line["event"] == f"capture_{what}") for what in ("begins", "ends"))
    assert (begins["actor"], begins["port"], begins["node"], begins["address"], begins["packets"]) == (
        "member:a",
        port["id"],
        "n1",
        "192.0.2.7",
        5,
    )
    assert (ends["actor"], ends["reason"], ends["packets"]) == ("member:a", "packets", 2)
    (noted,) = asked.ok("GET", f"/v1/audit?kind=capture&object={port['id']}")["audit"]
    assert noted["new"] == SOUND | {"capture": arguments["capture"], "node": "n1"}
    assert (noted["actor"], noted["address"], noted["action"]) == ("member:a", "192.0.2.7", "create")


def test_what_cannot_be_put_into_the_audit_trail_is_not_captured(asked: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise Unavailable("database_full", "no room")

    port = bound_port(asked)
    agent = Agent(asked, b"head", b"packet")
    monkeypatch.setattr(asked.store, "note_capture", full)
    reply = asked.call("POST", f"/v1/ports/{port['id']}/captures", SOUND, "member-a")
    assert reply.refusal == (503, "database_full", None) and b"packet" not in reply.data
    assert agent.errand["kind"] == Kind.CAPTURE and asked.services.captures._open == {}


def test_a_refusal_of_the_agent_is_the_answer(asked: World) -> None:
    port = bound_port(asked)
    Agent(asked, refusal="no such\ndevice")
    reply = asked.call("POST", f"/v1/ports/{port['id']}/captures", {})
    assert reply.status == 400 or reply.refusal == (409, "errand_refused", None)
    assert asked.services.captures._open == {}


def test_without_an_agent_there_is_none(asked: World) -> None:
    port = bound_port(asked)
    for _ in range(captures.MOST_OF_NODE + 1):  # those that never began take no place
        reply = asked.call("POST", f"/v1/ports/{port['id']}/captures", {})
        assert reply.refusal == (503, "node_not_asking", None)


def test_a_port_that_is_nowhere_has_none(world: World) -> None:
    port = world.port(world.network()["id"])
    assert world.call("POST", f"/v1/ports/{port['id']}/captures", {}).refusal == (409, "not_bound", None)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("seconds", value) for value in (0, 601, "7", 1.5, None, True)),
        *(("packets", value) for value in (0, 100_001, -1)),
        *(("snaplen", value) for value in (13, 65536)),
        ("filter", None),
        ("filter", "tcp port 80"),
        ("filter.protocol", 256),
        ("filter.port", 65536),
        ("filter.address", "10.0.0"),
        ("filter.address", "10.0.0.1; reboot"),
        ("filter.net", "10.0.0.0/8"),
        ("file", "/etc/passwd"),
    ],
)
def test_what_is_wrong_is_named(shared_world: World, shared_network: str, field: str, value: Any) -> None:
    port = shared_world.port(shared_network)
    outer, _, inner = field.partition(".")
    body = {**SOUND, outer: {**SOUND["filter"], inner: value} if inner else value}  # type: ignore[dict-item]
    reply = shared_world.call("POST", f"/v1/ports/{port['id']}/captures", body)
    assert (reply.status, reply.error["field"]) == (400, field), reply.data


def test_a_scope_of_its_own(asked: World) -> None:
    port = bound_port(asked)
    for scope, status in (("ports:write", 403), ("captures:read", 403), ("captures:write", 503), ("all:write", 503)):
        fields = {"name": f"t-{scope[0]}{status}", "role": "member", "project_id": "a", "scopes": [scope]}
        token = asked.ok("POST", "/v1/tokens", fields)["token"]["secret"]
        assert asked.call("POST", f"/v1/ports/{port['id']}/captures", {}, token).status == status, scope


def test_threat_27_a_node_gets_its_own_errands_alone(asked: World) -> None:
    bound_port(asked)
    asked.node("n2", 2)
    for method, path, body in (
        ("GET", "/v1/nodes/n2/errands?wait=5", None),
        ("POST", "/v1/nodes/n2/errands/00/answer", {"result": {}}),
        ("POST", "/v1/nodes/n2/captures/00/parts", None),
        ("POST", "/v1/nodes/n2/captures/00/end", {"packets": 1, "bytes": 1, "dropped": 0, "reason": "x"}),
    ):
        assert asked.call(method, path, body, "agent-n1").status == 403, path
        for other in ("admin", "reader", "member-a"):
            assert asked.call(method, path.replace("n2", "n1"), body, other).status == 403, (other, path)
        certified = asked.call(method, path, body, None, **{certificates.NODE: "n1"})
        assert certified.status == 403


def test_threat_27_a_node_cannot_answer_for_another(asked: World) -> None:
    port = bound_port(asked)
    asked.node("n2", 2)
    poll = eventlet.spawn(asked.ok, "GET", "/v1/nodes/n1/errands?wait=5", None, "agent-n1")
    eventlet.sleep(0)
    asker = eventlet.spawn(asked.call, "POST", f"/v1/ports/{port['id']}/captures", {})
    (errand,) = poll.wait()["errands"]
    capture = errand["arguments"]["capture"]
    forged = asked.call("POST", f"/v1/nodes/n2/errands/{errand['id']}/answer", {"result": {}}, "agent")
    assert forged.refusal == (404, "errand_unknown", None)
    assert asked.call("POST", f"/v1/nodes/n2/captures/{capture}/parts", None, "agent", b"x").status == 404
    asked.ok("POST", f"/v1/nodes/n1/errands/{errand['id']}/answer", {"refusal": "no"}, "agent-n1")
    assert asker.wait().refusal == (409, "errand_refused", None)


def test_a_node_that_nobody_knows_waits_for_nothing(world: World) -> None:
    assert world.call("GET", "/v1/nodes/n9/errands?wait=60", token="agent").refusal == (404, "node_unknown", None)


def test_a_look_takes_no_errand(asked: World) -> None:
    bound_port(asked)
    assert asked.call("HEAD", "/v1/nodes/n1/errands?wait=60", token="agent").status == 200
    assert not asked.services.errands.asking("n1")


@pytest.mark.parametrize("body", [{}, {"result": {}, "refusal": "no"}, {"refusal": ""}, {"result": []}, {"x": 1}])
def test_an_answer_is_one_of_two(world: World, body: Any) -> None:
    world.node()
    assert world.call("POST", "/v1/nodes/n1/errands/00/answer", body, "agent").status == 400


def test_a_part_is_bounded(asked: World) -> None:
    port = bound_port(asked)
    capture = asked.services.captures.open(port["id"], "n1")
    path = f"/v1/nodes/n1/captures/{capture.id}/parts"
    assert asked.call("POST", path, None, "agent", bytes(api.MOST_PART + 1)).status == 413
    commas = b"," * api.MOST_PART
    assert json.loads(asked.call("POST", path, None, "agent", commas).data) == {"wanted": True, "taken": True}
    asked.services.captures.close(capture)
    assert asked.call("POST", path, None, "agent", b"x").refusal == (404, "capture_unknown", None)


def test_a_node_whose_agent_is_missing_says_so(world: World) -> None:
    now = 100.0
    world.services = replace(
        world.services, errands=Errands(longest_poll=0.01, clock=lambda: now), registry=CollectorRegistry()
    )
    world.app = make_app(world.services)
    world.node("n1", 1)
    world.ok("GET", "/v1/nodes/n1/errands?wait=1", token="agent-n1")
    assert world.ok("GET", "/v1/nodes/n1")["node"]["problems"] == []
    now += errands.SILENCE
    assert world.ok("GET", "/v1/nodes/n1")["node"]["problems"] == [AGENT_SILENT]
    assert world.ok("GET", "/v1/nodes")["nodes"][0]["problems"] == [AGENT_SILENT]
    world.ok("GET", "/v1/nodes/n1/errands?wait=1", token="agent-n1")
    assert world.ok("GET", "/v1/nodes/n1")["node"]["problems"] == []
