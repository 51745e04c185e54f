"""/v1/openapi.json: the API as an OpenAPI 3.1 document (spec.openapis.org/oas/v3.1.1), made of what routes declare.

What an endpoint declares is what the gate and the handlers check. What all endpoints of a kind have in common stands
here once: which statuses they refuse with, and what the variable parts of paths are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from http import HTTPStatus
from typing import Any, Final, Literal

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from controller.api import reference
from controller.api.answers import Error
from controller.api.auth import PERMISSIONS, Resource, Verb
from controller.api.declared import MAX_REVISION, Answers, Media, Shape
from controller.api.fields import NodeName, ProjectId
from controller.api.http import Answer, Bodies, Endpoint, Request, Route
from controller.api.services import Services
from controller.api.stats import NUMBER

Json = dict[str, Any]
_Mode = Literal["validation", "serialization"]
_Typed = tuple[int, _Mode, TypeAdapter[Any]]

VERSION: Final = "1"
_HTML: Final = "text/html; charset=utf-8"

ABOUT: Final = """\
Networks of a small or medium private cloud. Each request but those for this document carries a token:
`Authorization: Bearer TOKEN`.

Every refusal is one object, `Error`. Beside those that operations name, any request may be answered with 405 (the
method is none of the path's), 431 (its headers are too large), and with 500 if the controller has a bug, of which its
log tells. A `HEAD` is taken where a `GET` is. A write is answered with its `revision`, which
`GET /v1/revisions/{revision}?wait=10` waits for on the nodes.

A whole number is written without a point. Beside those of JSON Schema there are these formats. `printable`: without
control characters and line breaks; in bodies mostly without blanks at either end, too. `ipv4-cidr`, `ipv6-cidr`: a
range as its first address and the length of its prefix. `ipv4-range`: an address, two joined by a hyphen, or a range of
the first kind. `port-range`: a number up to 65535, or two joined by a hyphen. `base64`: RFC 4648, 4. `ssh-public-key`:
a line of authorized_keys without options. `moment`: RFC 3339, of which the end may be left out, and without an offset
in UTC.
"""

_STATUS: Final[Mapping[int, str]] = {
    304: "It is still what the caller has, as `If-None-Match` says.",
    400: "A field is wrong, unknown or missing.",
    401: "There is no token, or nobody knows it.",
    403: "It is not for the caller.",
    404: "There is no such object, or the caller may not know of it.",
    409: "It does not go together with what is there, or a quota is used up; or what is there cannot be used.",
    408: "The body did not come in time.",
    411: "The body has no Content-Length.",
    413: "The body is too large.",
    415: "The body's Content-Type is not application/json.",
    429: "The caller asks more than it may.",
    501: "OpenFlow 1.4 does not have it.",
    503: "The database does not answer, or the switch.",
    504: "Not all nodes have confirmed it yet; `details.missing` names the others.",
}

_TEXT: Final = {"type": "string", "minLength": 1, "pattern": "^[^/]+$", "format": "printable"}
_NUMBER: Final = {"type": "string", "pattern": f"^({NUMBER}|ALL)$"}
_PLACES: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "id": ("The object's id.", _TEXT),
    "forwarding": ("The port forwarding's id.", _TEXT),
    "errand": ("The errand's id.", _TEXT),
    "capture": ("The capture's id.", _TEXT),
    "address": ("An IPv4 address.", {"type": "string", "format": "ipv4"}),
    "name": ("The node's name.", TypeAdapter(NodeName).json_schema()),
    "node": ("The node's name.", TypeAdapter(NodeName).json_schema()),
    "project": ("The project.", TypeAdapter(ProjectId).json_schema()),
    "revision": ("A revision of the journal.", {"type": "integer", "minimum": 0, "maximum": MAX_REVISION}),
    "key": ("The port's key.", {"type": "integer", "minimum": 0, "maximum": 0xFFFFFFFF}),
    "port_key": ("The port's key.", {"type": "integer", "minimum": 0, "maximum": 9_999_999_999}),
    "path": ("The path that the machine has asked for, with its slashes.", {"type": "string", "format": "printable"}),
    "dpid": ("The switch's datapath_id.", {"type": "string", "pattern": f"^({NUMBER})$"}),
    "port": ("An OpenFlow port, or ALL.", _NUMBER),
    "queue_id": ("A queue, or ALL.", _NUMBER),
    "meter_id": ("A meter, or ALL.", _NUMBER),
    "group_id": ("A group, or ALL.", _NUMBER),
}
_ONE_OBJECT: Final[Mapping[Resource, str]] = {
    Resource.FLOATING_IP_POOL: "The pool's id or name.",
}


class Document:
    """The API as it is told. It is made when it is first asked for."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = (*routes, *self.routes)

    @property
    def routes(self) -> tuple[Route, ...]:
        """Those that tell of the others."""
        told = Media(("application/json",), "This document.", {"type": "object"})
        page = Media(("text/html",), "This document for people.", {"type": "string"})
        show = Endpoint(Verb.SHOW, self._show, told, name="show_openapi")
        show_page = Endpoint(Verb.SHOW, self._show_page, page, name="show_docs")
        return (
            Route("/v1/openapi.json", Resource.INDEX, {"GET": show}, public=True),
            Route("/v1/docs", Resource.INDEX, {"GET": show_page}, public=True),
        )

    def prepare(self) -> None:
        """Makes it now: it takes some tenths of a second, and nobody else is served meanwhile."""
        assert self._body and self._page

    @cached_property
    def json(self) -> Json:
        return _document(self._routes)

    @cached_property
    def _body(self) -> bytes:
        return json.dumps(self.json, separators=(",", ":")).encode()

    @cached_property
    def _page(self) -> bytes:
        return reference.page(self.json).encode()

    def _show(self, _services: Services, _request: Request) -> Answer:
        """This document."""
        return Answer(200, self._body)

    def _show_page(self, _services: Services, _request: Request) -> Answer:
        """This document as a page to read."""
        return Answer(200, self._page, _HTML, headers=(("Content-Security-Policy", reference.POLICY),))


class _Schemas(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        """No: it would be the field's name, in other letters."""
        return False


class _Types:
    """The JSON schemas of all types, those that have names as components."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self._adapters: dict[int, tuple[Any, TypeAdapter[Any]]] = {}
        inputs: dict[tuple[int, _Mode], _Typed] = {}
        for endpoint in endpoints:
            for adapter in _adapters(endpoint.bodies):
                inputs[id(adapter), "validation"] = (id(adapter), "validation", adapter)
            for query in endpoint.query.values():
                inputs[id(query.type), "validation"] = (id(query.type), "validation", query.type)
            for shape in _shapes(endpoint.answers):
                for type_ in shape.fields.values():
                    self._keep(type_, inputs)
        self._keep(Error, inputs)
        self._found, defined = TypeAdapter.json_schemas(
            list(inputs.values()), ref_template="#/components/schemas/{model}", schema_generator=_Schemas
        )
        self.defined: dict[str, Json] = defined.get("$defs", {})
        for shape in self.defined.values():
            _close(shape)

    def _keep(self, type_: Any, inputs: dict[tuple[int, _Mode], _Typed]) -> None:
        if id(type_) not in self._adapters:
            adapter = TypeAdapter(type_)
            self._adapters[id(type_)] = (type_, adapter)
            inputs[id(adapter), "serialization"] = (id(adapter), "serialization", adapter)

    def taken(self, adapter: TypeAdapter[Any]) -> Json:
        return dict(self._found[id(adapter), "validation"])

    def given(self, type_: Any) -> Json:
        return dict(self._found[id(self._adapters[id(type_)][1]), "serialization"])

    def shape(self, shape: Shape) -> Json:
        return {
            "type": "object",
            "properties": {name: self.given(type_) for name, type_ in shape.fields.items()},
            "required": list(shape.fields),
            "additionalProperties": False,
        }


def _close(schema: Any) -> None:
    """Says that there are no other fields than those that are named, or whose names are."""
    if isinstance(schema, dict):
        if {"properties", "patternProperties"} & schema.keys() and schema.get("type") == "object":
            schema.setdefault("additionalProperties", False)
        schema = schema.values()
    elif not isinstance(schema, list):
        return
    for inner in schema:
        _close(inner)


def _document(routes: Iterable[Route]) -> Json:
    known = tuple(routes)
    types = _Types(endpoint for route in known for endpoint in route.endpoints.values())
    paths = {
        re.sub(r"\.\.\.}$", "}", route.template): {
            method.lower(): _operation(route, method, endpoint, types, _links(route, endpoint, known))
            for method, endpoint in route.endpoints.items()
        }
        for route in known
    }
    _drop_unused(types.defined, paths)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Trunkline", "version": VERSION, "description": ABOUT, "license": {"name": "Apache-2.0"}},
        "security": [{"token": []}],
        "tags": [{"name": name} for name in dict.fromkeys(_tag(route) for route in known)],
        "paths": paths,
        "components": {
            "schemas": types.defined,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _drop_unused(defined: Json, paths: Json) -> None:
    """What only stands behind a type whose schema says something else."""
    while unused := defined.keys() - set(re.findall(r"#/components/schemas/(\w+)", json.dumps([paths, defined]))):
        for name in unused:
            del defined[name]


def _tag(route: Route) -> str:
    parts = route.parts
    return parts[1] if parts[0] == "v1" and len(parts) > 1 else parts[0]


def _operation(route: Route, method: str, endpoint: Endpoint, types: _Types, links: Json) -> Json:
    roles = sorted(PERMISSIONS.get((route.resource, endpoint.verb), ()))
    words = " ".join((endpoint.handler.__doc__ or "").split())
    operation: Json = {
        "operationId": endpoint.operation_id,
        "tags": [_tag(route)],
        "summary": endpoint.operation_id.replace("_", " ").capitalize(),
        "description": f"{words} For: {', '.join(roles)}.".strip() if not route.public else words,
        "parameters": [*_places(route), *_queries(endpoint, types)],
        "responses": {
            str(endpoint.status): {"description": "Done.", "content": _answer(endpoint.answers, types)} | links,
            **{str(status): _refusal(status, endpoint.answers, types) for status in refusals(route, method, endpoint)},
        },
    }
    body = _body(method, endpoint, types)
    return operation | ({"requestBody": body} if body else {}) | ({"security": []} if route.public else {})


def _links(route: Route, endpoint: Endpoint, known: Iterable[Route]) -> Json:
    """From what makes an object to what can be done with it, and what is beneath it."""
    if endpoint.verb is not Verb.CREATE or not _shapes(endpoint.answers):
        return {}
    kind = next(iter(_shapes(endpoint.answers)[0].fields))
    links: Json = {}
    for other in known:
        rest = other.parts[len(route.parts) :]
        if other.parts[: len(route.parts)] == route.parts and rest and rest[0].startswith("{"):
            if sum(part.startswith("{") for part in rest) > 1:
                continue
            above = {part[1:-1]: f"$request.path.{part[1:-1]}" for part in route.parts if part.startswith("{")}
            parameters = {**above, rest[0][1:-1]: f"$response.body#/{kind}/id"}
            for one in other.endpoints.values():
                links[one.operation_id] = {"operationId": one.operation_id, "parameters": parameters}
    return {"links": links} if links else {}


def refusals(route: Route, method: str, endpoint: Endpoint) -> list[int]:
    """The statuses of refusals, but for 405 and 500."""
    found = {400, 411, 413, 503, *endpoint.refusals}
    if not route.public:
        found |= {401, 403, 429}
    if "{" in route.template or endpoint.bodies:
        found.add(404)
    if "{" in route.template or method != "GET":
        found.add(409)  # what is read may be one that cannot be used
    if endpoint.bodies:
        found.add(408)
    if endpoint.bodies and not isinstance(endpoint.bodies, Media):
        found.add(415)
    if isinstance(endpoint.answers, Media):
        found.update(endpoint.answers.also)
    return sorted(found)


def _places(route: Route) -> Iterator[Json]:
    for part in route.parts:
        if part.startswith("{"):
            name = part[1:-1].removesuffix("...")
            about, schema = _PLACES[name]
            if name == "id":
                about = _ONE_OBJECT.get(route.resource, about)
            yield {"name": name, "in": "path", "required": True, "description": about, "schema": dict(schema)}


def _queries(endpoint: Endpoint, types: _Types) -> Iterator[Json]:
    for name, query in endpoint.query.items():
        about = {"description": query.about} if query.about else {}
        yield {"name": name, "in": "query", "required": query.required, "schema": types.taken(query.type)} | about


def _body(method: str, endpoint: Endpoint, types: _Types) -> Json:
    bodies = endpoint.bodies
    if isinstance(bodies, Media):
        content = {name: {"schema": dict(bodies.schema)} for name in bodies.types}
        return {"description": bodies.about, "required": True, "content": content}
    if not bodies:
        return {}
    schemas = [types.taken(adapter) for adapter in bodies]
    if method == "PATCH":
        for schema in schemas:
            # what is left out stays as it is
            for field in types.defined[schema["$ref"].rpartition("/")[2]]["properties"].values():
                field.pop("default", None)
    return {"required": not endpoint.optional, "content": {"application/json": {"schema": _one_of(schemas)}}}


def _answer(answers: Answers, types: _Types) -> Json:
    if isinstance(answers, Media):
        return {name: {"schema": dict(answers.schema)} for name in answers.types}
    return {"application/json": {"schema": _one_of([types.shape(shape) for shape in _shapes(answers)])}}


def _refusal(status: int, answers: Answers, types: _Types) -> Json:
    if status == HTTPStatus.NOT_MODIFIED:
        return {"description": _STATUS[status]}
    content: Json = {"application/json": {"schema": types.given(Error)}}
    if isinstance(answers, Media) and status in answers.also:
        content = {name: {"schema": {}} for name in answers.types}
    return {"description": _STATUS.get(status, HTTPStatus(status).phrase), "content": content}


def _one_of(schemas: list[Json]) -> Json:
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _shapes(answers: Answers) -> tuple[Shape, ...]:
    return () if isinstance(answers, Media) else answers if isinstance(answers, tuple) else (answers,)


def _adapters(bodies: Bodies) -> tuple[TypeAdapter[Any], ...]:
    return () if isinstance(bodies, Media) else bodies
