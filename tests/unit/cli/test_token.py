"""`trunkline token` and `trunkline audit`: what is asked, and what is printed."""

from __future__ import annotations

import hashlib
import re
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.unit.cli.stub import Request, Stub, refusal

TOKEN_ID = "cccccccc-bbbb-4ccc-8ddd-eeeeeeeeeeee"
TOKEN = {
    "id": TOKEN_ID, "name": "ci", "role": "member", "project_id": "green", "node": None,
    "scopes": ["ports:write"], "state": "active", "expires_at": None, "last_used_at": None,
}  # fmt: skip
OLD = TOKEN | {"id": "dddddddd-bbbb-4ccc-8ddd-eeeeeeeeeeee", "state": "revoked"}


def test_create(stub: Stub, run: Any) -> None:
    stub.on("POST /v1/tokens", (201, {"token": TOKEN | {"secret": "tl_abc"}, "revision": 5}))
    ran = run(
        "token", "create", "ci", "--role", "member", "--project", "green", "--scope", "ports:write,networks:read",
        "--scope", "dns:read", "--expires", "2h",
    )  # fmt: skip
    assert "tl_abc" in ran.stdout
    body = stub.last("POST").body
    left = (datetime.fromisoformat(body.pop("expires_at")) - datetime.now(UTC)).total_seconds()
    assert 7000 < left <= 7200
    assert body == {
        "name": "ci", "role": "member", "project_id": "green", "scopes": ["ports:write", "networks:read", "dns:read"],
    }  # fmt: skip
    run("token", "create", "look", "--role", "admin", "--read-only", "--expires", "2030-01-01")
    assert stub.last("POST").body == {
        "name": "look", "role": "admin", "scopes": ["all:read"], "expires_at": "2030-01-01",
    }  # fmt: skip


def test_list_shows_what_is_good(stub: Stub, run: Any) -> None:
    stub.on("GET /v1/tokens", (200, {"tokens": [OLD, TOKEN]}))
    assert len(run("token", "list").stdout.splitlines()) == 3
    assert len(run("token", "list", "--all", "--role", "member").stdout.splitlines()) == 4
    assert stub.requests[-1].query["role"] == "member"


def test_a_name_means_the_one_that_is_good(stub: Stub, run: Any) -> None:
    stub.on("GET /v1/tokens", (200, {"tokens": [OLD, TOKEN]}))
    stub.on(f"DELETE /v1/tokens/{TOKEN_ID}", (200, {"token": OLD, "revision": 6}))
    stub.on(f"POST /v1/tokens/{TOKEN_ID}/rotate", (200, {"token": TOKEN | {"secret": "tl_new"}, "revision": 7}))
    assert run("token", "revoke", "ci").exit_code == 0
    assert "tl_new" in run("token", "rotate", "ci", "--grace", "60").stdout
    assert stub.last("POST").body == {"grace": 60}


def test_hash(run: Any) -> None:
    token, digest = run("token", "hash").stdout.splitlines()
    assert re.fullmatch(r"tl_[A-Za-z0-9_-]{43}", token)
    assert digest == f"sha256={hashlib.sha256(token.encode()).hexdigest()}"


def test_audit(stub: Stub, run: Any) -> None:
    entry = {
        "revision": 9, "at": "2030-01-01T00:00:00Z", "kind": "port", "object": "p1", "action": "update",
        "actor": "member:green", "token": "ci", "address": "192.0.2.7", "request_id": "abc",
        "old": {"name": "old"}, "new": {"name": "new", "node": "n1"},
    }  # fmt: skip

    def answer(request: Request) -> tuple[int, Any]:
        return 200, {"audit": [entry], "marker": None if request.query.get("marker") else "9"}

    stub.on("GET /v1/audit", answer)
    ran = run("audit", "--kind", "port", "--object", "p1", "--actor", "member:green", "--since", "2029-01-01")
    assert len(stub.requests) == 2
    query = {name: value for name, value in stub.requests[-1].query.items() if name != "limit"}
    assert query == {"kind": "port", "object": "p1", "actor": "member:green", "since": "2029-01-01", "marker": "9"}
    assert 'name: "old" -> "new"' in ran.stdout and 'node: "n1"' in ran.stdout
    assert "update port p1" in ran.stdout and "192.0.2.7" in ran.stdout


def test_what_was_too_much_is_asked_again(stub: Stub, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[int] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    stub.response_headers["Retry-After"] = "2"
    answers = [(429, refusal("too_many_requests", "wait")), (200, {"tokens": []})]
    stub.on("GET /v1/tokens", lambda _request: answers.pop(0))
    assert run("token", "list").exit_code == 0
    assert waited == [2] and len(stub.requests) == 2
    stub.response_headers["Retry-After"] = "600"
    stub.on("GET /v1/tokens", (429, refusal("too_many_requests", "wait")))
    ran = run("token", "list")
    assert ran.exit_code == 1 and "wait" in ran.stderr and waited == [2]
