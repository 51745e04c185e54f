"""The OpenAPI document: it is whole, and what it says is held to. `World.call` compares every answer with it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import jsonschema_rs
import pytest
from pydantic import TypeAdapter

from controller.api import declared
from controller.api.http import Request
from tests.unit.api.conformity import Conformity
from tests.unit.api.world import World, conformity


@pytest.fixture(scope="module")
def document(shared_world: World) -> dict[str, Any]:
    told: dict[str, Any] = shared_world.call("GET", "/v1/openapi.json", token=None).json
    return told


def test_anybody_may_read_it_and_it_is_the_one_that_answers_are_compared_with(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    paths = conformity().document["paths"]
    assert {path: document["paths"][path] for path in paths} == paths
    assert document["components"] == conformity().document["components"]


def test_every_path_and_method_is_in_it(shared_world: World, document: dict[str, Any]) -> None:
    told = shared_world.ok("GET", "/v1")["paths"] | shared_world.ok("GET", "/v1", token="agent")["paths"]
    for role in ("admin", "agent"):
        for path, methods in shared_world.ok("GET", "/v1", token=role)["paths"].items():
            known = document["paths"][path.replace("...}", "}")]
            assert {method.lower() for method in methods} <= known.keys(), path
    assert len(told) > 60


def test_names_of_operations_are_all_different_and_say_who_may(document: dict[str, Any]) -> None:
    operations = [one for methods in document["paths"].values() for one in methods.values()]
    names = [one["operationId"] for one in operations]
    assert len(names) == len(set(names)) > 100
    create = document["paths"]["/v1/provider-rules"]["post"]
    assert create["description"].endswith("For: admin.")
    assert all("For: " in one["description"] or one.get("security") == [] for one in operations)


def test_all_that_it_refers_to_is_there(document: dict[str, Any]) -> None:
    named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert named == document["components"]["schemas"].keys()
    links = re.findall(r'"operationId": "(\w+)", "parameters"', json.dumps(document))
    names = {one["operationId"] for methods in document["paths"].values() for one in methods.values()}
    assert links and set(links) <= names
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.Draft202012Validator({**schema, "components": document["components"]})


def test_what_may_be_left_out_of_a_change_has_no_default(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert "default" not in schemas["NetworkUpdate"]["properties"]["mtu"]
    assert schemas["NetworkCreate"]["properties"]["mtu"]["default"] == 1500


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/networks"),
        ("DELETE", "/v1/networks/x"),
        ("GET", "/v1/health"),
        ("GET", "/metrics"),
        ("GET", "/v1"),
    ],
)
def test_a_query_field_that_it_does_not_have_is_refused(shared_world: World, method: str, path: str) -> None:
    assert shared_world.call(method, f"{path}?colour=red").refusal == (400, "unknown_field", "colour")


def test_a_handler_reads_no_body_that_is_not_declared(shared_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    request = Request(None, None, "", {}, {}, (), b"{}", None, "", {})  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="declares"):
        request.parse(TypeAdapter(dict[str, int]))


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (200, {"networks": [], "more": 1}, "more"),
        (200, {}, "networks"),
        (200, {"networks": [{"id": "x"}]}, "required"),
        (404, {"error": {}}, "not one of"),
        (400, {"error": {"code": "x"}}, "required"),
    ],
)
def test_an_answer_that_it_does_not_allow_is_found(status: int, body: dict[str, Any], why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        conformity().check("GET", "/v1/networks", status, "application/json", json.dumps(body).encode())


def test_an_answer_of_another_type_is_found() -> None:
    with pytest.raises(AssertionError, match="text/html"):
        conformity().check("GET", "/v1/networks", 200, "text/html", b"")


def test_a_path_that_it_does_not_have_has_no_answer_but_a_refusal() -> None:
    checker = Conformity(conformity().document)
    with pytest.raises(AssertionError, match="no such operation"):
        checker.check("GET", "/v1/nothing", 200, "application/json", b"{}")


class Page(HTMLParser):
    """The tags of a page, and what it leads to."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.places: set[str] = set()
        self.leads: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = dict(attrs)
        if values.get("id"):
            self.places.add(str(values["id"]))
        self.leads |= {str(values[name]) for name in ("href", "src") if values.get(name)}


def test_the_page_has_all_of_it_and_nothing_from_elsewhere(shared_world: World, document: dict[str, Any]) -> None:
    reply = shared_world.call("GET", "/v1/docs", token=None)
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
    page = Page()
    page.feed(reply.data.decode())
    names = {one["operationId"] for methods in document["paths"].values() for one in methods.values()}
    assert names | document["components"]["schemas"].keys() <= page.places
    assert "script" not in page.tags
    assert {place for place in page.leads if not place.startswith("#")} == {"openapi.json", "/ui/api.html"}
    assert {place[1:] for place in page.leads if place.startswith("#")} <= page.places


def test_a_list_says_how_long_its_pages_are(document: dict[str, Any]) -> None:
    fields = {one["name"]: one["schema"] for one in document["paths"]["/v1/networks"]["get"]["parameters"]}
    assert fields["limit"] == {"type": "integer", "minimum": 1, "maximum": declared.MAX_PAGE}
    assert set(fields) == {"name", "project_id", "limit", "marker"}
