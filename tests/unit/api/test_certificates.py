"""What a client's certificate lets its owner do, with a token and without."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api.auth import Identity, Role
from controller.api.certificates import NODE, certified
from tests.unit.api.world import Reply, World

SPEC = {"datapath_id": "0000020000000001", "physical_networks": ["physnet1"]}


def node_spec(number: int) -> dict[str, Any]:
    return {**SPEC, "datapath_id": f"{number:016x}"}


def by_certificate(world: World, node: str, method: str, path: str, body: Any, token: str | None = None) -> Reply:
    return world.call(method, path, body, token, **{NODE: node})


def shown(*port_ids: str, serial: int = 1) -> dict[str, Any]:
    interfaces = [
        {"iface_id": port_id, "name": f"vm{index}", "ofport": 100 + index, "mac": "fa:16:3e:00:00:01"}
        for index, port_id in enumerate(port_ids)
    ]
    return {"serial": serial, "uplinks": {"physnet1": 65001}, "interfaces": interfaces}


AGENT, ADMIN = Identity(Role.AGENT), Identity(Role.ADMIN)


@pytest.mark.parametrize(
    ("identity", "node", "has_token", "result"),
    [
        (None, None, False, None),
        (AGENT, None, True, AGENT),
        (None, "n1", False, Identity(Role.AGENT, "n1")),
        (None, "n1", True, None),  # a wrong token is a wrong token
        (AGENT, "n1", True, Identity(Role.AGENT, "n1")),
        (Identity(Role.AGENT, "n1"), "n1", True, Identity(Role.AGENT, "n1")),
        (Identity(Role.AGENT, "n2"), "n1", True, None),
        (ADMIN, "n1", True, ADMIN),  # an administrator on a node
        (Identity(Role.MEMBER, "a"), "n1", True, Identity(Role.MEMBER, "a")),
    ],
)
def test_certificate_and_token(
    identity: Identity | None, node: str | None, has_token: bool, result: Identity | None
) -> None:
    assert certified(identity, node, has_token=has_token) == result


def test_a_nodes_certificate_is_its_agents_token(world: World) -> None:
    assert by_certificate(world, "n1", "PUT", "/v1/nodes/n1", node_spec(1)).status == 200
    assert by_certificate(world, "n1", "GET", "/v1/ports", None).refusal[:2] == (403, "forbidden")
    assert by_certificate(world, "n1", "GET", "/v1/nodes", None, "reader").status == 200


def test_threat_25_a_node_speaks_for_itself_alone(world: World) -> None:
    """Also one that has stolen a token which is any agent's."""
    for token in (None, "agent"):
        assert by_certificate(world, "n2", "PUT", "/v1/nodes/n2", node_spec(2), token).status == 200
        for path, body in (("/v1/nodes/n1", node_spec(1)), ("/v1/nodes/n1/interfaces", shown())):
            assert by_certificate(world, "n2", "PUT", path, body, token).refusal[:2] == (403, "forbidden")
    assert by_certificate(world, "n2", "PUT", "/v1/nodes/n1", node_spec(1), "agent-n1").status == 401
    assert [node["name"] for node in world.ok("GET", "/v1/nodes")["nodes"]] == ["n2"]


def test_threat_23_a_node_cannot_register_anothers_datapath_id(world: World) -> None:
    assert by_certificate(world, "n1", "PUT", "/v1/nodes/n1", node_spec(1)).status == 200
    stolen = by_certificate(world, "n2", "PUT", "/v1/nodes/n2", node_spec(1))
    assert stolen.refusal == (409, "datapath_id_in_use", "datapath_id")


def test_threat_23_a_datapath_id_that_was_taken_before_its_node_came(world: World) -> None:
    """Who did it is named, and keeps it no longer than an operator wants."""
    assert by_certificate(world, "n2", "PUT", "/v1/nodes/n2", node_spec(1)).status == 200
    refused = by_certificate(world, "n1", "PUT", "/v1/nodes/n1", node_spec(1))
    assert refused.refusal == (409, "datapath_id_in_use", "datapath_id")
    assert refused.json["error"]["message"].startswith("node n2 has datapath id")
    world.ok("DELETE", "/v1/nodes/n2")
    assert by_certificate(world, "n1", "PUT", "/v1/nodes/n1", node_spec(1)).status == 200
    assert by_certificate(world, "n2", "PUT", "/v1/nodes/n2", node_spec(1)).status == 409


def test_threat_25_a_port_is_taken_only_where_it_is_scheduled(world: World) -> None:
    """A thief that sets the iface-id of another's port, or reports it, gets nothing: neither before nor after."""
    for number, node in enumerate(("n1", "n2"), 1):
        assert by_certificate(world, node, "PUT", f"/v1/nodes/{node}", node_spec(number)).status == 200
    network = world.network()
    scheduled = world.ok("POST", "/v1/ports", {"network_id": network["id"], "node": "n1"})["port"]["id"]
    anywhere = world.ok("POST", "/v1/ports", {"network_id": network["id"]})["port"]["id"]

    def report(node: str, *ports: str, serial: int = 1) -> dict[str, str]:
        reply = by_certificate(world, node, "PUT", f"/v1/nodes/{node}/interfaces", shown(*ports, serial=serial))
        assert reply.status == 200
        return dict(reply.json["ports"])

    assert report("n2", scheduled)[scheduled] == "refused: the port is scheduled on n1"
    assert report("n1", scheduled, anywhere) == {scheduled: "bound", anywhere: "bound"}
    assert report("n2", scheduled, anywhere, serial=2) == {
        scheduled: "refused: the port is scheduled on n1",
        anywhere: "refused: the port is bound to n1",
    }
    bound = {port["id"]: port["binding"]["node"] for port in world.ok("GET", "/v1/ports")["ports"]}
    assert bound == {scheduled: "n1", anywhere: "n1"}
