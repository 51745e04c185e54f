from __future__ import annotations

import json
import re
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from controller.api.credentials import digest_of
from controller.store import tokens
from tests.unit.api.world import World, network_body


def make(world: World, name: str = "ci", **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = world.ok("POST", "/v1/tokens", {"name": name, "role": "admin", **fields})["token"]
    return made


def test_a_token_is_told_once_and_kept_as_a_hash(world: World, tmp_path: Path) -> None:
    made = make(world)
    secret = made.pop("secret")
    assert re.fullmatch(r"tl_[A-Za-z0-9_-]{43}", secret)
    assert world.ok("GET", f"/v1/tokens/{made['id']}")["token"] == made
    assert world.ok("GET", "/v1/tokens")["tokens"] == [made]
    told = json.dumps([world.ok("GET", "/v1/audit"), [entry.payload for entry in world.store.journal()]])
    assert secret not in told and digest_of(secret) not in told
    world.close()
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert digest_of(secret).encode() in written and secret.encode() not in written


def test_it_lets_in_at_once_and_only_whole(world: World) -> None:
    secret = make(world)["secret"]
    assert world.call("GET", "/v1/networks", token=secret).status == 200
    for wrong in (secret[:-1], secret + "A", secret.upper(), "tl_", f"Bearer {digest_of(secret)}"):
        assert world.call("GET", "/v1/networks", token=wrong).status == 401


def test_revoked_is_revoked_at_once(world: World) -> None:
    made = make(world)
    revoked = world.ok("DELETE", f"/v1/tokens/{made['id']}")["token"]
    assert revoked["state"] == "revoked" and revoked["revoked_at"]
    assert world.call("GET", "/v1/networks", token=made["secret"]).status == 401
    assert world.call("DELETE", f"/v1/tokens/{made['id']}").refusal[:2] == (409, "token_revoked")
    assert world.call("POST", f"/v1/tokens/{made['id']}/rotate").refusal[:2] == (409, "token_revoked")
    assert make(world)["name"] == made["name"]  # its name is free again


def test_rotated_with_and_without_grace(world: World) -> None:
    made = make(world, role="reader")
    second = world.ok("POST", f"/v1/tokens/{made['id']}/rotate", {"grace": 60})["token"]
    assert second["previous_until"]
    for secret in (made["secret"], second["secret"]):
        assert world.call("GET", "/v1/networks", token=secret).status == 200
    world.ahead = 61
    assert world.call("GET", "/v1/networks", token=made["secret"]).status == 401
    assert world.call("GET", "/v1/networks", token=second["secret"]).status == 200
    third = world.ok("POST", f"/v1/tokens/{made['id']}/rotate")["token"]
    statuses = [world.call("GET", "/v1/nodes", token=one["secret"]).status for one in (made, second, third)]
    assert statuses == [401, 401, 200]


def test_a_token_ends_when_it_was_to_end(world: World) -> None:
    made = make(world, expires_at="2100-01-01T00:00:00Z")
    assert world.call("GET", "/v1/networks", token=made["secret"]).status == 200
    world.ahead = datetime(2100, 1, 1, tzinfo=UTC).timestamp() - time.time()
    assert world.call("GET", "/v1/networks", token=made["secret"]).status == 401
    assert world.ok("GET", "/v1/tokens")["tokens"][0]["state"] == "expired"
    world.ahead = 0
    for over in ("2020-01-01T00:00Z", "2999-01-01T00:00Z", "9999-12-31T23:59:59-23:59"):
        body = {"name": "late", "role": "admin", "expires_at": over}
        assert world.call("POST", "/v1/tokens", body).refusal == (400, "invalid_field", "expires_at")


def test_others_learn_of_it_from_the_store(empty_database: Path, tmp_path: Path) -> None:
    """Two controllers on one database."""
    url = f"sqlite:///{shutil.copy(empty_database, tmp_path / 'trunkline.db')}"
    one, two = World(url), World(url)
    made = make(one)
    assert two.call("GET", "/v1/networks", token=made["secret"]).status == 401
    two.services.tokens.look()
    assert two.call("GET", "/v1/networks", token=made["secret"]).status == 200
    one.ok("DELETE", f"/v1/tokens/{made['id']}")
    two.services.tokens.look()
    assert two.call("GET", "/v1/networks", token=made["secret"]).status == 401
    one.close()
    two.close()


def test_tokens_are_known_while_the_database_is_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = make(world)["secret"]

    def away(*_: Any) -> None:
        raise OperationalError("SELECT", {}, Exception("connection refused"))

    for method in ("read", "write"):
        monkeypatch.setattr(world.store._database, method, away)
    world.services.tokens.look()
    world.services.tokens.write_uses()
    assert world.call("GET", "/v1", token=secret).status == 200
    assert world.call("GET", "/v1/ports", token=secret).refusal[:2] == (503, "database_unavailable")
    assert world.call("GET", "/v1", token="tl_wrong").status == 401
    monkeypatch.undo()
    world.services.tokens.write_uses()
    assert world.ok("GET", "/v1/tokens")["tokens"][0]["last_used_at"]


def test_that_it_is_used_is_not_written_for_each_request(world: World) -> None:
    made = make(world)
    before, commits = world.store.revision(), world.commits
    for _ in range(5):
        world.ok("GET", "/v1/networks", token=made["secret"])
    assert world.ok("GET", f"/v1/tokens/{made['id']}")["token"]["last_used_at"] is None
    world.services.tokens.write_uses()
    assert world.ok("GET", f"/v1/tokens/{made['id']}")["token"]["last_used_at"]
    assert (world.store.revision(), world.commits) == (before, commits)  # nobody has changed anything


@pytest.mark.parametrize(
    ("scopes", "allowed", "refused"),
    [
        (
            ["ports:write", "networks:read"],
            ["GET ports", "GET networks", "POST ports"],
            ["POST networks", "GET quotas/a"],
        ),
        (["all:read"], ["GET ports", "GET networks", "GET quotas/a"], ["POST ports", "POST networks"]),
        (["quotas:read"], ["GET quotas/a"], ["GET ports", "POST networks"]),
    ],
)
def test_a_token_narrowed_by_scopes(world: World, scopes: list[str], allowed: list[str], refused: list[str]) -> None:
    network = world.network(project_id="a")["id"]
    bodies = {"POST ports": {"network_id": network}, "POST networks": network_body(subnets=[{"cidr": "10.9.0.0/24"}])}
    for fields in ({"role": "admin"}, {"role": "member", "project_id": "a"}):
        secret = make(world, f"of {fields['role']}", scopes=scopes, **fields)["secret"]
        for line in allowed + refused:
            method, path = line.split()
            reply = world.call(method, f"/v1/{path}", bodies.get(line), secret)
            assert (reply.status in (200, 201)) == (line in allowed), (line, reply.data)
            assert line in allowed or reply.refusal[:2] == (403, "forbidden")
        assert world.call("GET", "/v1/revisions/1", token=secret).status == 200
        told = world.ok("GET", "/v1", token=secret)["paths"]
        assert ("POST" in told.get("/v1/ports", ())) == ("POST ports" in allowed)


def test_a_narrowed_token_makes_no_wider_one(world: World) -> None:
    for scopes in (["all:write"], ["ports:write"]):
        narrowed = make(world, f"narrowed to {scopes[0]}", scopes=scopes)
        for method, path in (
            ("POST", ""),
            ("GET", ""),
            ("POST", f"/{narrowed['id']}/rotate"),
            ("DELETE", f"/{narrowed['id']}"),
        ):
            body = {"name": "wide", "role": "admin"} if (method, path) == ("POST", "") else None
            assert world.call(method, f"/v1/tokens{path}", body, narrowed["secret"]).status == 403


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"role": "root"}, "role"),
        ({"role": "member"}, "project_id"),
        ({"role": "reader", "project_id": "a"}, "project_id"),
        ({"role": "admin", "node": "n1"}, "node"),
        ({"role": "admin", "scopes": ["ports:read", "port:read"]}, "scopes.1"),
        ({"role": "admin", "scopes": ["tokens:write"]}, "scopes.0"),
        ({"role": "admin", "scopes": ["all:read"] * 33}, "scopes"),
        ({"role": "admin", "digest": "0" * 64}, "digest"),
    ],
)
def test_what_no_token_is(shared_world: World, fields: dict[str, Any], field: str) -> None:
    reply = shared_world.call("POST", "/v1/tokens", {"name": "x", **fields})
    assert (reply.status, reply.error["field"]) == (400, field)


def test_two_of_one_name_are_refused(world: World) -> None:
    make(world)
    assert world.call("POST", "/v1/tokens", {"name": "ci", "role": "reader"}).refusal == (409, "token_exists", "name")


def test_an_agents_token_is_of_its_node(world: World) -> None:
    secret = make(world, "n1", role="agent", node="n1")["secret"]
    body = {"datapath_id": "0000000000000001", "physical_networks": []}
    assert world.call("PUT", "/v1/nodes/n1", body, secret).status == 200
    assert world.call("PUT", "/v1/nodes/n2", body, secret).status == 403


def test_what_has_ended_long_ago_is_forgotten(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few at a time: nobody else is served meanwhile."""
    monkeypatch.setattr(tokens, "FORGET_AT_ONCE", 2)
    kept, *revoked = (make(world, name) for name in ("kept", "one", "two", "three"))
    for each in revoked:
        world.ok("DELETE", f"/v1/tokens/{each['id']}")
    world.ahead = 100
    assert world.store.forget_tokens(1000) == 0
    assert [world.store.forget_tokens(50) for _ in range(3)] == [2, 1, 0]
    assert [one["id"] for one in world.ok("GET", "/v1/tokens")["tokens"]] == [kept["id"]]
    assert world.call("GET", "/v1/networks", token=kept["secret"]).status == 200
