"""What machines are given by the API, and what the agent is answered for them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from tests.unit.api.world import World

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDmv7nzVzvdf9sxNXnzFHgXlQtsnrbfMAPG4qTtBHRsj alice@desk"
SCRIPT = b"#!/bin/sh\n\xff\0"


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def bound(world: World, node: str = "n1", **fields: Any) -> dict[str, Any]:
    """A port of project a that is on a node."""
    port = world.port(world.network(project_id="a")["id"], **fields)
    plug(world, port, node)
    return port


def plug(world: World, port: dict[str, Any], node: str = "n1", serial: int = 1) -> None:
    world.node(node, int(node[1:]))
    shown = {"serial": serial, "uplinks": {}, "interfaces": [{"iface_id": port["id"], "ofport": 100}]}
    world.ok("PUT", f"/v1/nodes/{node}/interfaces", shown, "agent")


def give(world: World, port: dict[str, Any], token: str = "admin", **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = world.ok("PATCH", f"/v1/ports/{port['id']}/metadata", fields, token)["metadata"]
    return made


def ask(
    world: World, port: dict[str, Any], path: str, *, token: str = "agent-n1", node: str = "n1", **more: Any
) -> Any:
    method = "GET" if "raw" not in more else "POST"
    return world.call(method, f"/v1/nodes/{node}/metadata/{port['key']}/{path}", token=token, **more)


def test_what_is_given_is_shown_and_told(world: World) -> None:
    port = bound(world, hostname="web1", name="web", device_id="vm-1")
    fields = {
        "public_keys": {"alice": KEY},
        "user_data": coded(SCRIPT),
        "vendor_data": {"cloud-init": "#cloud-config"},
        "meta": {"role": "web"},
        "availability_zone": "az1",
        "instance_type": "m1.small",
    }
    shown = {"machine_id": "vm-1", "ports": [port["id"]], **fields, "password": None}
    assert give(world, port, **fields) == shown
    for token in ("admin", "reader", "member-a"):
        assert world.ok("GET", f"/v1/ports/{port['id']}/metadata", token=token) == {"metadata": shown}
    reply = ask(world, port, "latest/user-data")
    assert (reply.status, reply.data, reply.headers["Content-Type"]) == (200, SCRIPT, "application/octet-stream")
    assert ask(world, port, "latest/meta-data/public-keys/0/openssh-key").data.decode() == KEY
    assert ask(world, port, "openstack/latest/meta_data.json").json["hostname"] == "web1"
    assert ask(world, port, "").data.startswith(b"1.0\n")
    assert ask(world, port, "nothing").status == 404
    # what is left out stays
    assert give(world, port, meta={}, user_data=None) == shown | {"meta": {}, "user_data": None}


def test_what_is_of_others_is_not_there(world: World) -> None:
    port = bound(world)
    assert world.call("GET", f"/v1/ports/{port['id']}/metadata", token="member-b").status == 404
    assert world.call("PATCH", f"/v1/ports/{port['id']}/metadata", {"meta": {}}, "member-b").status == 404
    assert world.call("GET", "/v1/ports/no/metadata").status == 404


def test_vendor_data_is_the_operators(world: World) -> None:
    port = bound(world)
    refused = world.call("PATCH", f"/v1/ports/{port['id']}/metadata", {"vendor_data": {}}, "member-a")
    assert refused.refusal == (403, "forbidden", "vendor_data")
    give(world, port, vendor_data={"a": 1})
    assert give(world, port, "member-a", meta={"b": "c"})["vendor_data"] == {"a": 1}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"public_keys": {"a": "no key"}}, "public_keys.a"),
    ({"public_keys": {"a": KEY.replace("ssh-ed25519", "ssh-rsa")}}, "public_keys.a"),
    ({"public_keys": {"a": KEY + "\nssh-rsa"}}, "public_keys.a"),
    ({"public_keys": {"a": 'command="x" ' + KEY}}, "public_keys.a"),
    ({"public_keys": {"a/b": KEY}}, "public_keys.a/b"),
    ({"public_keys": {str(number): KEY for number in range(33)}}, "public_keys"),
    ({"user_data": "no base64!"}, "user_data"),
    ({"user_data": "\u00e9\u00e9\u00e9\u00e9"}, "user_data"),
    ({"user_data": coded(bytes((1 << 16) + 1))}, "user_data"),
    ({"vendor_data": {"a": "x" * (1 << 16)}}, "vendor_data"),
    ({"vendor_data": {"a": "\0"}}, "vendor_data"),
    ({"vendor_data": []}, "vendor_data"),
    ({"meta": {"a": 1}}, "meta.a"),
    ({"meta": {"": "x"}}, "meta."),
    ({"meta": {"a": "x" * 256}}, "meta.a"),
    ({"password": "x"}, "password"),
    ({"hostname": "x"}, "hostname"),
]


@pytest.mark.parametrize(("fields", "named"), WRONG, ids=lambda part: str(part)[:40])
def test_what_is_wrong_is_named(world: World, fields: dict[str, Any], named: str) -> None:
    port = world.port(world.network()["id"])
    reply = world.call("PATCH", f"/v1/ports/{port['id']}/metadata", fields)
    assert reply.status == 400
    assert reply.error["field"] in (named, named.rstrip("."))


def test_as_much_as_there_may_be(world: World) -> None:
    port = bound(world)
    data, vendor = bytes(range(256)) * 256, {"a": ["x"] * 12_000}
    give(world, port, user_data=coded(data), vendor_data=vendor)
    assert ask(world, port, "latest/user-data").data == data
    assert ask(world, port, "openstack/latest/vendor_data.json").json == vendor


def test_g4_who_asks_is_the_port_and_nothing_that_is_said(world: World) -> None:
    network = world.network(project_id="a")["id"]
    one, two = (world.port(network, hostname=name) for name in ("one", "two"))
    plug(world, one)
    plug(world, two, "n2")
    forged = {
        "HTTP_X_FORWARDED_FOR": two["fixed_ips"][0]["address"],
        "HTTP_X_INSTANCE_ID": two["id"],
        "HTTP_X_REAL_IP": two["fixed_ips"][0]["address"],
        "HTTP_FORWARDED": f"for={two['fixed_ips'][0]['address']}",
        "REMOTE_ADDR": two["fixed_ips"][0]["address"],
    }
    assert ask(world, one, "latest/meta-data/hostname", **forged).data == b"one"
    for key in ("0", "99", "-1", "x", "1e1", str(two["key"]), "1" * 30):
        reply = world.call("GET", f"/v1/nodes/n1/metadata/{key}/latest", token="agent-n1")
        assert reply.refusal == (404, "port_unknown", None)
    assert world.call("GET", f"/v1/nodes/n3/metadata/{one['key']}/latest").status == 404


def test_g4_two_projects_with_one_range(world: World) -> None:
    ports = []
    for number, project in enumerate(("a", "b"), 1):
        network = world.network(name=project, project_id=project)["id"]
        port = world.port(network, fixed_ips=[{"address": "10.0.0.9"}], hostname=f"vm-{project}", device_id="vm")
        plug(world, port, f"n{number}")
        give(world, port, user_data=coded(project.encode()))
        ports.append(port)
    for port, node, project in zip(ports, ("n1", "n2"), "ab", strict=True):
        assert ask(world, port, "latest/user-data", node=node, token="agent").data == project.encode()


def test_g5_a_new_machine_never_sees_what_the_old_one_had(world: World) -> None:
    network = world.network(project_id="a")["id"]
    fields = {"fixed_ips": [{"address": "10.0.0.9"}], "device_id": "vm-1"}
    old = world.port(network, **fields)
    plug(world, old)
    give(world, old, user_data=coded(b"old"), public_keys={"old": KEY})
    assert ask(world, old, "latest/user-data").data == b"old"
    ask(world, old, "openstack/latest/password", raw=b"old")
    world.ok("DELETE", f"/v1/ports/{old['id']}")
    assert ask(world, old, "latest/user-data").status == 404
    new = world.port(network, **fields)
    plug(world, new, serial=2)
    assert ask(world, new, "latest").data == b"meta-data/"
    assert b"public-keys" not in ask(world, new, "latest/meta-data").data
    assert ask(world, new, "openstack/latest/password").data == b""
    give(world, new, user_data=coded(b"new"))
    assert ask(world, new, "latest/user-data").data == b"new"


def test_g7_the_password(world: World) -> None:
    port = bound(world)
    path = "openstack/latest/password"
    assert ask(world, port, path, raw=b"x" * 1021).status == 400
    assert ask(world, port, path, raw=b"x" * ((1 << 17) + 1)).status == 413
    assert ask(world, port, path, raw=b"x" * 1020).status == 200
    assert ask(world, port, path, raw=b"y").status == 409
    assert ask(world, port, path).data == b"x" * 1020
    assert world.ok("GET", f"/v1/ports/{port['id']}/metadata")["metadata"]["password"] == "x" * 1020
    give(world, port, "member-a", password=None)
    assert ask(world, port, path, raw=b"y").status == 200


def test_who_may_ask(world: World) -> None:
    port = bound(world)
    for token, status in (("agent", 200), ("agent-n1", 200), ("admin", 200), ("reader", 403), ("member-a", 403)):
        assert ask(world, port, "latest", token=token).status == status
    assert ask(world, port, "latest", token="agent-n1", node="n2").refusal[:2] == (403, "forbidden")
    assert ask(world, port, "openstack/latest/password", token="admin", raw=b"x").status == 403


def test_without_a_database_what_was_asked_before_is_answered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    port = bound(world)
    give(world, port, user_data=coded(SCRIPT))
    assert ask(world, port, "latest/user-data").status == 200

    def away(*_: object) -> None:
        raise OperationalError("SELECT", {}, Exception("no connection"))

    monkeypatch.setattr(world.store._database, "read", away)
    assert ask(world, port, "latest/user-data").data == SCRIPT
    reply = world.call("GET", f"/v1/ports/{port['id']}/metadata")
    assert reply.refusal[:2] == (503, "database_unavailable")


def test_a_flood_is_told_to_wait_and_counted(world: World) -> None:
    port = bound(world)
    replies = [ask(world, port, "latest") for _ in range(202)]
    assert [reply.status for reply in replies] == [200] * 200 + [429] * 2
    assert replies[-1].headers["Retry-After"] == "1"
    told = world.call("GET", "/metrics").data.decode()
    assert 'trunkline_metadata_answers_total{status="429"} 2.0' in told
    world.now += 1
    assert ask(world, port, "latest").status == 200


def test_no_answer_is_kept_by_anybody(world: World) -> None:
    headers = ask(world, bound(world), "openstack/latest/meta_data.json").headers
    assert (headers["Cache-Control"], headers["Content-Type"]) == ("no-store", "application/json")


def test_head_is_get_without_a_body(world: World) -> None:
    port = bound(world)
    reply = world.call("HEAD", f"/v1/nodes/n1/metadata/{port['key']}/latest", token="agent")
    assert (reply.status, reply.data, int(reply.headers["Content-Length"])) == (200, b"", len("meta-data/"))


def test_what_it_says_is_the_machines_network(world: World) -> None:
    port = bound(world)
    told = ask(world, port, "openstack/latest/network_data.json").json
    assert told == world.ok("GET", f"/v1/ports/{port['id']}/network-data")["network_data"]
    assert json.dumps(told)
