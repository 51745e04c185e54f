from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from controller import logs
from controller.api.http import MAX_BODY, MAX_PARTS, MAX_SMALL_BODY, MAX_SMALL_PARTS, Request
from controller.store import failures
from tests.unit.api.world import World, conformity


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/v1/networks", "GET, HEAD, POST"),
        ("DELETE", "/v1/networks", "GET, HEAD, POST"),
        ("POST", "/v1/networks/x", "DELETE, GET, HEAD, PATCH"),
        ("POST", "/v1/nodes", "GET, HEAD"),
        ("POST", "/v1/nodes/n1", "DELETE, GET, HEAD, PUT"),
        ("GET", "/v1/nodes/n1/interfaces", "PUT"),
        ("POST", "/v1/health", "GET, HEAD"),
        ("POST", "/metrics", "GET, HEAD"),
        ("POST", "/stats/flow/1", "GET, HEAD"),
        ("OPTIONS", "/v1/ports", "GET, HEAD, POST"),
        ("TRACE", "/v1/ports", "GET, HEAD, POST"),
        ("", "/v1/ports", "GET, HEAD, POST"),
        ("get", "/v1/ports", "GET, HEAD, POST"),
    ],
)
def test_wrong_method(shared_world: World, method: str, path: str, allow: str) -> None:
    reply = shared_world.call(method, path)
    assert reply.refusal == (405, "method_not_allowed", None)
    assert reply.headers["Allow"] == allow


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/v1/",
        "/v1/network",
        "/v1/networks/",
        "/v1/networks/x/y",
        "//v1/networks",
        "/v1//networks",
        "/V1/networks",
        "/stats/flowentry/add",
        "/stats/flowentry/clear/1",
        "/stats/experimenter/1",
    ],
)
def test_unknown_path(shared_world: World, path: str) -> None:
    assert shared_world.call("POST", path, PATH_INFO=path).refusal == (404, "path_unknown", None)


@pytest.mark.parametrize("path", ["/v1/networks/\0", "/v1/networks/a\nb", "/v1/\x7f", "/v1/networks/\xff\xfe"])
def test_path_that_is_no_text(shared_world: World, path: str) -> None:
    assert shared_world.call("GET", "/", PATH_INFO=path).refusal == (400, "bad_path", None)


@pytest.mark.parametrize("path", ["/v1/networks/../ports", "/v1/networks/%2e%2e", "/v1/nodes/' OR 1=1", "/v1/ports/é"])
def test_strange_ids_are_only_unknown(shared_world: World, path: str) -> None:
    assert shared_world.call("GET", "/", PATH_INFO=path.encode().decode("latin-1")).status == 404


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"{",
        b"{'name': 1}",
        b'{"name": NaN}',
        b'{"name": Infinity}',
        b'{"name": "\xff"}',
        b'{"name": "a\nb"}',
        b'{"name": "\\ud800"}',
        b"\x00",
        b"\xef\xbb\xbf{}",
        b'{"a": 1} {"b": 2}',
        b"[" * 4_000,
        b'{"a":' * 4_000,
        b"[]",
        b"null",
        b"7",
        b'"text"',
    ],
)
def test_broken_json(shared_world: World, raw: bytes) -> None:
    for path in ("/v1/networks", "/v1/ports"):
        assert shared_world.call("POST", path, raw=raw).refusal == (400, "bad_json", None)


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b'{"name": "a", "name": "a"}', "name"),
        (b'{"name": 1, "x": 2, "\\u006eame": 3}', "name"),
        (b'{"subnets": [{}, {"cidr": 1, "cidr": 2}]}', "subnets.1.cidr"),
        (b'{"a": {"b": 1, "b": 2}, "a": {}}', "a"),
        (b'{"a": {}, "c": {"d": 1, "d": 2}}', "c.d"),
        (b'{"%s": 1, "%s": 2}' % (b"x" * 300, b"x" * 300), "x" * 200),
        (b'{"": 1, "": %s}' % (b"1" * 4_000), ""),
    ],
)
def test_a_field_that_is_given_twice(shared_world: World, raw: bytes, field: str) -> None:
    """Whoever looks at it on the way, a proxy or a log, may have taken the other one."""
    for path in ("/v1/networks", "/v1/ports"):
        assert shared_world.call("POST", path, raw=raw).refusal == (400, "duplicate_field", field)
    assert shared_world.call("PUT", "/v1/nodes/n1", raw=raw, token="agent").refusal[1:] == ("duplicate_field", field)


def test_body_that_is_too_large(shared_world: World) -> None:
    reply = shared_world.call("POST", "/v1/networks", raw=b" " * (MAX_BODY + 1))
    assert reply.refusal == (413, "body_too_large", None)
    assert shared_world.call("POST", "/v1/ports", raw=b" " * MAX_BODY).refusal[:2] == (400, "bad_json")
    assert shared_world.call("POST", "/v1/networks", raw=b" " * (MAX_SMALL_BODY + 1)).refusal == reply.refusal
    assert shared_world.call("POST", "/v1/networks", raw=b" " * MAX_SMALL_BODY).refusal[:2] == (400, "bad_json")
    # refused by what the header says, without reading
    unread: dict[str, Any] = {"wsgi.input": None, "CONTENT_LENGTH": "9" * 30}
    assert shared_world.call("POST", "/v1/networks", **unread).status == 413


@pytest.mark.parametrize(
    "raw",
    [
        b'{"network_id":[' + b",".join([b"[]"] * 340_000) + b"]}",
        b'{"network_id":[' + b",".join([b'{"a":{}}'] * 110_000) + b"]}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"," * (MAX_PARTS + 1),
    ],
    ids=["lists", "objects", "deep lists", "deep objects", "commas"],
)
@pytest.mark.parametrize("path", ["/v1/ports", "/v1/security-group-rules", "/v1/floating-ips"])
def test_body_with_more_in_it_than_any_call_needs(
    shared_world: World, monkeypatch: pytest.MonkeyPatch, raw: bytes, path: str
) -> None:
    """It would take seconds to read, so nobody does."""

    def read(_request: Request) -> None:
        raise AssertionError("it is read")

    monkeypatch.setattr(Request, "document", read)
    monkeypatch.setattr(Request, "parse", read)
    assert shared_world.call("POST", path, raw=raw, token="member-a").refusal == (413, "body_too_large", None)


def test_how_much_may_be_in_a_body(shared_world: World) -> None:
    """What is said of one object is less than what is said of many."""
    for path, most in (("/v1/ports", MAX_PARTS), ("/v1/networks", MAX_SMALL_PARTS)):
        body = b'{"x":[' + b"1," * (most - 2) + b"1]}"
        assert shared_world.call("POST", path, raw=body).status == 400
        assert shared_world.call("POST", path, raw=b"," + body).refusal == (413, "body_too_large", None)


@pytest.mark.parametrize("token", ["Bearer \ud800", "Bearer \udcff", "\ud800", "Bearer member-\u20ac", "Bearer \0"])
def test_a_token_that_is_no_text(shared_world: World, token: str) -> None:
    """A server hands headers over as latin-1, so that nothing of this can come; if it does, it is nobody's."""
    assert shared_world.call("GET", "/v1/networks", token=token).refusal == (401, "unauthorized", None)


@pytest.mark.parametrize("length", ["-1", "x", "1.5", "\u0661", "1_0"])
def test_bad_length(shared_world: World, length: str) -> None:
    assert shared_world.call("POST", "/v1/networks", CONTENT_LENGTH=length).refusal == (400, "bad_length", None)


@pytest.mark.parametrize("given", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonp", ";"])
def test_body_that_is_not_said_to_be_json(shared_world: World, given: str) -> None:
    """Everywhere that takes JSON, before it is read."""
    document = conformity().document["paths"]
    taken = 0
    for path, methods in document.items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" not in content:
                assert "415" not in operation["responses"]
                continue
            taken += 1
            assert "415" in operation["responses"], path
            unread: dict[str, Any] = {"wsgi.input": None, "CONTENT_LENGTH": "2", "CONTENT_TYPE": given}
            role = "agent" if operation["description"].endswith("For: agent.") else "admin"
            place = re.sub(r"{\w+}", "1", path)
            refusal = shared_world.call(method.upper(), place, token=role, **unread)
            assert refusal.refusal == (415, "unsupported_media_type", None), place
    assert taken > 30


@pytest.mark.parametrize("given", ["application/json", "Application/JSON", "application/json; charset=utf-8"])
def test_body_that_is_said_to_be_json(shared_world: World, given: str) -> None:
    assert shared_world.call("POST", "/v1/networks", raw=b"{", CONTENT_TYPE=given).refusal == (400, "bad_json", None)


def test_no_body_needs_no_type(shared_world: World) -> None:
    assert shared_world.call("DELETE", "/v1/networks/1", CONTENT_TYPE="text/plain").status == 404


def test_body_that_is_cut(shared_world: World) -> None:
    assert shared_world.call("POST", "/v1/networks", raw=b"{}", CONTENT_LENGTH="3").refusal == (400, "body_cut", None)


def test_body_in_chunks_is_refused(shared_world: World) -> None:
    assert shared_world.call("POST", "/v1/networks", HTTP_TRANSFER_ENCODING="chunked").status == 411


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("colour=red", "unknown_field"),
        ("name", "bad_query"),
        ("name=a&name=b", "bad_query"),
        ("name=%00", "bad_query"),
        ("name=%ff", "bad_query"),
        ("name=" + "x" * 256, "bad_query"),
        ("&".join(f"f{number}=1" for number in range(17)), "bad_query"),
    ],
)
def test_bad_query(shared_world: World, query: str, code: str) -> None:
    reply = shared_world.call("GET", f"/v1/networks?{query}")
    assert (reply.status, reply.error["code"]) == (400, code)


def test_every_answer_has_its_own_request_id_and_is_not_kept(shared_world: World) -> None:
    replies = [
        shared_world.call("GET", "/v1/health"),
        shared_world.call("GET", "/x"),
        shared_world.call("GET", "/x", token=None),
    ]
    assert len({reply.headers["X-Request-Id"] for reply in replies}) == 3
    assert {reply.headers["Cache-Control"] for reply in replies} == {"no-store"}


def test_head_is_get_without_a_body(shared_world: World) -> None:
    got, head = shared_world.call("GET", "/v1/networks"), shared_world.call("HEAD", "/v1/networks")
    assert (head.status, head.data) == (200, b"")
    assert head.headers["Content-Length"] == got.headers["Content-Length"]


def test_threat_32_a_bug_is_answered_without_a_traceback(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    logs.configure("console", "INFO", stream)

    def broken(network_id: str) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(world.store, "get_network", broken)
    reply = world.call("GET", "/v1/networks/x")
    assert reply.refusal == (500, "internal_error", None)
    assert b"secret" not in reply.data and b"Traceback" not in reply.data
    request_id = reply.headers["X-Request-Id"]
    assert reply.error["details"] == {"request_id": request_id}
    logged = stream.getvalue()
    assert request_id in logged and "secret detail" in logged


def test_database_that_is_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(**_filters: Any) -> None:
        raise OperationalError("SELECT secret", {"password": "secret"}, Exception("connection refused"))

    monkeypatch.setattr(world.store, "list_ports", away)
    reply = world.call("GET", "/v1/ports")
    assert reply.refusal == (503, "database_unavailable", None)
    assert b"secret" not in reply.data


@pytest.mark.parametrize("code", ["database_unavailable", "database_read_only", "database_full", "outcome_unknown"])
def test_database_that_cannot_write_says_why(world: World, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    def refuse(*_: Any, **_more: Any) -> None:
        raise failures.refusal(code)

    monkeypatch.setattr(world.store, "list_ports", refuse)
    reply = world.call("GET", "/v1/ports")
    assert reply.refusal == (503, code, None)
    assert reply.headers["Retry-After"] == "1"


def test_threat_30_a_path_cannot_forge_a_log_line(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.call("POST", "/", PATH_INFO="/x\nforged line")
    logged = capsys.readouterr().out
    assert "api_request" in logged and "forged" not in logged


def test_error_is_one_envelope(shared_world: World) -> None:
    reply = shared_world.call("GET", "/v1/networks/x")
    assert reply.headers["Content-Type"].startswith("application/json")
    assert json.loads(reply.data) == {
        "error": {"code": "network_unknown", "message": "there is no network x", "field": None, "details": {}}
    }


def test_the_index_tells_what_the_caller_may_use(shared_world: World) -> None:
    told = shared_world.ok("GET", "/v1")["paths"]
    assert told["/v1/networks"] == ["GET", "POST"]
    assert told["/v1/networks/{id}"] == ["GET", "PATCH", "DELETE"]
    told = shared_world.ok("GET", "/v1", token="reader")["paths"]
    assert told["/v1/networks"] == ["GET"] and told["/v1/nodes"] == ["GET"]
    told = shared_world.ok("GET", "/v1", token="agent")["paths"]
    assert "/v1/networks" not in told and told["/v1/health"] == ["GET"]
