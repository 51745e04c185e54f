"""The values between the gate and the handlers: a request, an answer, a route."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import pydantic_core
from pydantic import TypeAdapter, ValidationError

from controller.api.auth import Identity, Resource, Verb
from controller.api.declared import MAX_PAGE, Answers, Media, Query
from controller.api.errors import ApiError, from_validation
from controller.api.limits import Aside
from controller.api.services import Services
from controller.store.sqlite import Unreadable

M = TypeVar("M")

MAX_BODY = 1 << 20
MAX_SMALL_BODY = 1 << 17
MAX_PARTS = 40_960
MAX_SMALL_PARTS = 1 << 12
"""Brackets and commas: 1000 ports or 4096 entries of an address plan with all of their fields, or what is said of one
object.
"""
MAX_QUERY_FIELDS = 16

JSON_TYPE = "application/json"
JSON = f"{JSON_TYPE}; charset=utf-8"

StartResponse = Callable[..., Any]
Headers = list[tuple[str, str]]

# answers hold other people's addresses: no cache, and no browser that guesses a type
NO_STORE = "no-store"
_NO_GUESS = ("X-Content-Type-Options", "nosniff")


def _damaged(value: object) -> str:
    """What a damaged row holds in place of text or JSON: it is shown, and the other objects of a list with it."""
    if isinstance(value, bytes | Unreadable):
        return f"unreadable: {value!r}"
    raise TypeError(f"{type(value).__name__} is no JSON")


@dataclass(frozen=True, slots=True)
class Answer:
    """Also a WSGI application, so that Ryu's WSGI can return it as it is. `etag`: what this very body is known by; who
    shows that it has it is answered with 304.
    """

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    etag: str = ""
    cache: str = NO_STORE

    @staticmethod
    def json(value: Mapping[str, Any], status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
        return Answer(status, json.dumps(value, separators=(",", ":"), default=_damaged).encode(), headers=headers)

    def __call__(self, environ: Mapping[str, Any], start_response: StartResponse) -> list[bytes]:
        known = bool(self.etag) and _names(environ.get("HTTP_IF_NONE_MATCH"), self.etag)
        status = HTTPStatus.NOT_MODIFIED if known else HTTPStatus(self.status)
        headers: Headers = [
            ("Content-Type", self.content_type),
            *([] if known else [("Content-Length", str(len(self.body)))]),
            ("Cache-Control", self.cache),
            _NO_GUESS,
            *([("ETag", f'"{self.etag}"')] if self.etag else []),
            *self.headers,
        ]
        start_response(f"{status.value} {status.phrase}", headers)
        return [] if known or environ.get("REQUEST_METHOD") == "HEAD" else [self.body]


def _names(if_none_match: str | None, etag: str) -> bool:
    """Whether a header If-None-Match (RFC 9110, 13.1.2) names an entity tag, as weakly as it likes."""
    named = [one.strip().removeprefix("W/") for one in (if_none_match or "").split(",")]
    return f'"{etag}"' in named or named == ["*"]


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer whose parts are sent as they come, of unknown length. `body` is closed in the end if it has `close`."""

    status: int
    content_type: str
    headers: tuple[tuple[str, str], ...]
    body: Iterable[bytes]

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        environ["eventlet.minimum_write_chunk_size"] = 1  # each part at once, however small
        start_response(
            f"{self.status} {HTTPStatus(self.status).phrase}",
            [("Content-Type", self.content_type), ("Cache-Control", NO_STORE), _NO_GUESS, *self.headers],
        )
        return self.body


@dataclass(frozen=True, slots=True)
class Request:
    """A request that passed the gate. `params` are the variable parts of its path, `query` the fields that were sent,
    as its endpoint declares them, and `bodies` what it declares its body to be. What is public has no `identity`.
    `aside`: for a handler that waits for long, but not all the time; others of its token are worked on meanwhile.
    """

    resource: Resource
    verb: Verb
    path: str
    params: Mapping[str, str]
    query: Mapping[str, Any]
    bodies: Bodies
    body: bytes
    identity: Identity | None
    request_id: str
    environ: Mapping[str, Any] = field(repr=False)
    aside: Aside = field(default=nullcontext, repr=False)

    @property
    def caller(self) -> Identity:
        assert self.identity is not None, "only routes that need no token have no identity"
        return self.identity

    def document(self) -> dict[str, Any]:
        """The body as a JSON object. Raises ApiError 400."""
        try:
            document = pydantic_core.from_json(self.body, allow_inf_nan=False)
        except ValueError as error:
            raise ApiError(400, "bad_json", f"the body is no JSON: {error}") from None
        if not isinstance(document, dict):
            raise ApiError(400, "bad_json", "the body must be a JSON object")
        return document

    def parse(self, adapter: TypeAdapter[M], immutable: Collection[str] = ()) -> M:
        """The body as a model. Raises ApiError 400 that names the field. `immutable`: see errors.from_validation."""
        assert isinstance(self.bodies, tuple) and adapter in self.bodies, "the endpoint declares what its body may be"
        self.document()
        _refuse_twice(self.body)
        try:
            return adapter.validate_json(self.body)
        except ValidationError as error:
            raise from_validation(error, immutable, adapter) from None

    def page(self) -> dict[str, Any]:
        """The query as the store's lists take it.

        There always is a limit: a list is made in one go, and no DHCP request is answered meanwhile.
        """
        return {"limit": MAX_PAGE, **self.query}


def _refuse_twice(body: bytes) -> None:
    """Raises ApiError 400 for a key that an object has twice: readers of JSON differ in which one they take (RFC 8259).

    `body` has been read before, so that it is sound and not nested too deeply.
    """
    doubled: list[tuple[dict[str, Any], list[tuple[str, Any]]]] = []

    def member(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            doubled[:] = [(found, pairs)]
        return found

    # numbers stay text: they are not looked at, and a long one takes long to convert
    document = json.loads(body, object_pairs_hook=member, parse_int=str, parse_float=str)
    for place, pairs in doubled:  # the last one: no other can have hidden it, for it would hold it and end after it
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        path = ".".join((*(_place_of(place, document) or ()), name))[:200]
        raise ApiError(400, "duplicate_field", f"{path}: is given twice", path)


def _place_of(wanted: dict[str, Any], within: Any) -> tuple[str, ...] | None:
    """The keys and indices that lead to this very object."""
    if within is wanted:
        return ()
    items = within.items() if isinstance(within, dict) else enumerate(within) if isinstance(within, list) else ()
    for key, item in items:
        rest = _place_of(wanted, item)
        if rest is not None:
            return (str(key), *rest)
    return None


def body_length(transfer_encoding: str | None, content_lengths: Collection[str]) -> int:
    """The length of a request's body in bytes, from its headers. Raises ApiError 411, 400 or 413.

    A body in chunks brings trailers, which proxies and servers do not read alike; two lengths are read as unlike.
    """
    if transfer_encoding is not None:
        raise ApiError(411, "length_required", "a body needs a Content-Length")
    text = next(iter(content_lengths), "0").strip()
    if len(content_lengths) > 1 or not (text.isascii() and text.isdigit()):
        raise ApiError(400, "bad_length", "Content-Length must be one number")
    if len(text) > 12 or int(text) > MAX_BODY:
        raise ApiError(413, "body_too_large", f"a body may have {MAX_BODY} bytes")
    return int(text)


def check_type(content_type: str | None, bodies: Bodies) -> None:
    """Raises ApiError 415 for a body that is not said to be JSON where only JSON is taken.

    A browser sends a form or plain text to any address without asking it first, but not this type.
    """
    if not bodies or isinstance(bodies, Media):
        return
    if (content_type or "").partition(";")[0].strip().lower() != JSON_TYPE:
        message = f"a body must be {JSON_TYPE}, as its header Content-Type must say"
        raise ApiError(415, "unsupported_media_type", message, headers=(("Accept", JSON_TYPE),))


def check_size(body: bytes, *, many: bool) -> None:
    """Raises ApiError 413 for a body that says more than any call needs, before it is read.

    A megabyte of empty lists takes seconds to make and to throw away, and nobody else is served meanwhile.
    """
    size, parts = (MAX_BODY, MAX_PARTS) if many else (MAX_SMALL_BODY, MAX_SMALL_PARTS)
    if len(body) > size:
        raise ApiError(413, "body_too_large", f"a body may have {size} bytes here")
    if sum(map(body.count, (b"[", b"{", b","))) > parts:
        raise ApiError(413, "body_too_large", f"a body may have {parts} brackets and commas here")


def parse_query(text: str) -> dict[str, str]:
    """A query string, each field once. Raises ApiError 400."""
    if not text:
        return {}
    try:
        pairs = parse_qsl(
            text, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=MAX_QUERY_FIELDS
        )
    except ValueError:
        raise ApiError(400, "bad_query", f"the query must be NAME=VALUE fields, {MAX_QUERY_FIELDS} at most") from None
    query = dict(pairs)
    if len(query) != len(pairs):
        raise ApiError(400, "bad_query", "a query field is given twice")
    if not all(value.isprintable() and len(value) <= 255 for value in query.values()):
        raise ApiError(400, "bad_query", "a query field holds control characters or more than 255 characters")
    return query


Handler = Callable[[Services, Request], Answer | Stream]
Bodies = tuple[TypeAdapter[Any], ...] | Media


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What is here declared is what is checked, and what the OpenAPI document tells.

    `answers` with `status`; `bodies`: what the body may be; `optional`: there may be none; `many`: it may be about many
    objects; `query`: the fields that there may be; `refusals`: statuses beside those that any endpoint of its kind
    refuses with (see `openapi`); `name`: where it is not that of the handler. `waits`: for something else than the
    database, for long.
    """

    verb: Verb
    handler: Handler
    answers: Answers
    status: int = 200
    bodies: Bodies = ()
    query: Mapping[str, Query] = field(default_factory=dict)
    many: bool = False
    waits: bool = False
    refusals: tuple[int, ...] = ()
    optional: bool = False
    name: str = ""

    @property
    def operation_id(self) -> str:
        return self.name or self.handler.__name__


@dataclass(frozen=True, slots=True)
class Route:
    """`template` is a path whose parts in braces are variable; `endpoints` are by HTTP method. A last part `{NAME...}`
    is the rest of the path as it is, at least one part, which may be empty.
    """

    template: str
    resource: Resource
    endpoints: Mapping[str, Endpoint]
    public: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.template.split("/")[1:])

    @property
    def is_open(self) -> bool:
        return self.template.endswith("...}")

    @property
    def allow(self) -> str:
        methods = [*self.endpoints, "HEAD"] if "GET" in self.endpoints else [*self.endpoints]
        return ", ".join(sorted(methods))


class Router:
    """Finds the route of a path."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._by_length: dict[int, list[tuple[tuple[str, ...], Route]]] = {}
        self._open: list[tuple[tuple[str, ...], Route]] = []
        for route in routes:
            known = self._open if route.is_open else self._by_length.setdefault(len(route.parts), [])
            known.append((route.parts, route))

    def find(self, path: str) -> tuple[Route, dict[str, str]] | None:
        """The route and its variable parts. A path is taken as it is: no trailing slash, no dots, no empty part."""
        offered = path.split("/")[1:]
        for parts, route in self._by_length.get(len(offered), ()):
            params = _match(parts, offered)
            if params is not None:
                return route, params
        for parts, route in self._open:
            head = len(parts) - 1
            if len(offered) > head:
                params = _match(parts[:-1], offered[:head])
                if params is not None:
                    return route, {**params, parts[-1][1:-4]: "/".join(offered[head:])}
        return None


def _match(parts: tuple[str, ...], offered: list[str]) -> dict[str, str] | None:
    params: dict[str, str] = {}
    for part, text in zip(parts, offered, strict=True):
        if part.startswith("{"):
            if not text:
                return None
            params[part[1:-1]] = text
        elif part != text:
            return None
    return params
