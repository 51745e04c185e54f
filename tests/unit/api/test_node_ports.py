"""What a node's own token may ask of ports: what it needs to plug one in, of its own and of those that are nobody's."""

from __future__ import annotations

from typing import Any

import pytest

from controller.api.auth import PERMISSIONS, Resource, Role, Verb
from controller.api.certificates import NODE
from tests.unit.api.world import World

UNKNOWN = (404, "port_unknown")


@pytest.fixture
def ports(world: World) -> dict[str, dict[str, Any]]:
    """By what they are to node n1."""
    network = world.network(mtu=1400)
    for number in (1, 2):
        world.node(f"n{number}", number)
    made = {
        "free": world.port(network["id"], name="web"),
        "mine": world.port(network["id"], name="web", node="n1"),
        "bound": world.port(network["id"], name="web"),
        "other's": world.port(network["id"], name="web", node="n2"),
        "bound elsewhere": world.port(network["id"], name="web"),
    }
    for node, name in (("n1", "bound"), ("n2", "bound elsewhere")):
        shown = {"serial": 1, "uplinks": {}, "interfaces": [{"iface_id": made[name]["id"], "ofport": 100}]}
        world.ok("PUT", f"/v1/nodes/{node}/interfaces", shown, "agent")
    return made


def test_a_node_is_shown_its_ports_and_those_that_it_may_take(world: World, ports: dict[str, dict[str, Any]]) -> None:
    found = world.ok("GET", "/v1/nodes/n1/ports?name=web", token="agent-n1")["ports"]
    its = {"free", "mine", "bound"}
    assert [each["id"] for each in found] == [port["id"] for name, port in ports.items() if name in its]
    for name, port in ports.items():
        reply = world.call("GET", f"/v1/nodes/n1/ports/{port['id']}", token="agent-n1")
        if name in its:
            assert reply.json["port"] in found
        else:
            assert reply.refusal[:2] == UNKNOWN, name
    assert world.call("GET", "/v1/nodes/n1/ports/none-such", token="agent-n1").refusal[:2] == UNKNOWN
    told = found[1]
    assert (told["mtu"], told["mac"], told["node"]) == (1400, ports["mine"]["mac"], "n1")
    assert told["fixed_ips"] == ports["mine"]["fixed_ips"]
    assert not told.keys() & {"security_groups", "dhcp_options", "floating_ips", "address_pairs", "qos"}


def test_a_port_that_moves_is_of_both_nodes(world: World) -> None:
    moving = world.moving(world.network()["id"], "n1", "n2")
    for node, expected in (("n1", False), ("n2", True)):
        port = world.ok("GET", f"/v1/nodes/{node}/ports/{moving['id']}", token="agent")["port"]
        assert (port["binding"]["node"], port["expected"]) == ("n1", expected)
    world.node("n3", 3)
    assert world.call("GET", f"/v1/nodes/n3/ports/{moving['id']}", token="agent").refusal[:2] == UNKNOWN


def test_a_node_asks_for_itself_and_by_name_only(world: World, ports: dict[str, dict[str, Any]]) -> None:
    port_id = ports["other's"]["id"]
    for path in ("/v1/nodes/n2/ports?name=web", f"/v1/nodes/n2/ports/{port_id}"):
        assert world.call("GET", path, token="agent-n1").refusal[:2] == (403, "forbidden")
        for certified, status in (("n1", 403), ("n2", 200)):
            environ: dict[str, Any] = {NODE: certified}
            assert (world.call("GET", path, token=None, **environ).status, certified) == (status, certified)
    assert world.call("GET", "/v1/nodes/n1/ports", token="agent-n1").refusal[0] == 400, "there is no list"
    assert world.ok("GET", "/v1/nodes/n1/ports?name=we", token="agent-n1")["ports"] == [], "nor a pattern"
    for token in ("admin", "member-a", "reader"):
        assert world.call("GET", "/v1/nodes/n1/ports?name=web", token=token).refusal[0] == 403
    for path in ("/v1/ports", f"/v1/ports/{port_id}", "/v1/networks", f"/v1/ports/{port_id}/bindings"):
        assert world.call("GET", path, token="agent-n1").refusal[0] == 403, path


def test_an_agent_may_nothing_that_changes_what_users_have_made() -> None:
    """All that the role may: no write but its reports."""
    may = {key for key, roles in PERMISSIONS.items() if Role.AGENT in roles}
    assert {verb for _, verb in may} == {Verb.REPORT, Verb.SHOW, Verb.LIST}
    assert {resource for resource, verb in may if verb is Verb.LIST} == {Resource.NODE_PORT}
    assert {resource for resource, verb in may if verb is Verb.SHOW} == {
        Resource.INDEX,
        Resource.INTERFACES,
        Resource.MACHINE_METADATA,
        Resource.NODE_PORT,
    }
