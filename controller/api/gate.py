"""The one place every request goes through: identify, find the route, permit, bound, call, answer, count, log.

`make_app` mounts the resources in Ryu's WSGI and puts the gate before it. Order of refusals: 400 (a path that is no
text), 401, 429, 404, 405, 403, 400 (the query), 411, 413, 415, 408, and then what the handler says. Nothing is parsed
before the caller is known."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import structlog
from ryu.app.wsgi import ControllerBase, WSGIApplication, route
from structlog.contextvars import bound_contextvars

from controller.api import (
    addresses,
    audit,
    bindings,
    captures,
    certificates,
    controllers,
    dns,
    dns_records,
    dns_zones,
    drops,
    errands,
    events,
    floating_ip_pools,
    floating_ips,
    health,
    index,
    leases,
    machine_metadata,
    metrics,
    network_data,
    networks,
    node_ports,
    nodes,
    page,
    plan,
    port_counters,
    port_metadata,
    ports,
    problems,
    project_networks,
    quarantine,
    quotas,
    revisions,
    security_group_rules,
    security_groups,
    stats,
    tokens,
    topology,
    trace,
)
from controller.api.admission import endpoint_of, permit
from controller.api.auth import Identity, Resource
from controller.api.certificates import certified
from controller.api.credentials import Credential
from controller.api.declared import read_query
from controller.api.errors import ApiError, from_exception
from controller.api.http import (
    Answer,
    Endpoint,
    Request,
    Route,
    Router,
    StartResponse,
    Stream,
    body_length,
    check_size,
    check_type,
    parse_query,
)
from controller.api.limits import Limiter
from controller.api.metrics import RequestMetrics
from controller.api.openapi import Document
from controller.api.services import Services
from controller.store.actors import Origin

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_READS = frozenset({"GET", "HEAD"})
_REFUSED = frozenset({401, 403, 429})
# asked by VMs, as often as they like, or by agents all the time
_QUESTIONS = frozenset({Resource.DNS.value, Resource.ERRAND.value})
_PENDING = "trunkline.pending"


class ResourceController(ControllerBase):  # type: ignore[misc]
    """Ryu's side of the gate: runs the handler the gate has chosen."""

    @route("resources", "/{path:.*}")  # type: ignore[untyped-decorator]
    def serve(self, request: Any, **_params: str) -> Answer | Stream:
        services, endpoint, admitted = request.environ[_PENDING]
        answer: Answer | Stream = endpoint.handler(services, admitted)
        return answer


class Gate:
    """A WSGI application. Whatever happens inside, the client gets JSON and never a traceback."""

    def __init__(
        self,
        services: Services,
        routes: Iterable[Route],
        inner: WSGIApplication,
        metrics: RequestMetrics,
        prepare: Callable[[], None],
    ) -> None:
        """`prepare` makes what is told of the routes, which takes long: call it before anybody waits."""
        self.prepare = prepare
        self._services = services
        self._router = Router(routes)
        self._inner = inner
        self._metrics = metrics
        self._limiter = Limiter(services.config.request_limits, time.monotonic)
        self._log = structlog.get_logger("controller.api")

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        began = time.monotonic()
        trace = _Trace(secrets.token_hex(8), environ.get("REQUEST_METHOD", ""), environ.get("REMOTE_ADDR", ""))

        def respond(status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> None:
            trace.status = int(status[:3])
            start_response(status, [*headers, ("X-Request-Id", trace.request_id)])

        with bound_contextvars(request_id=trace.request_id):  # also in what others log meanwhile, the store say
            try:
                services, endpoint, admitted = self._admit(environ, trace)
                trace.waits = endpoint.waits
                turn = nullcontext(nullcontext) if endpoint.waits else self._limiter.turn(trace.credential)
                with turn as aside:
                    environ[_PENDING] = services, endpoint, replace(admitted, aside=aside)
                    body: Iterable[bytes] = self._inner(environ, respond)
            except Exception as error:
                body = self._refusal(error, trace)(environ, respond)
            self._account(trace, time.monotonic() - began)
        return body

    def _admit(self, environ: Mapping[str, Any], trace: _Trace) -> tuple[Services, Endpoint, Request]:
        trace.path = path = _path(environ)
        found = self._router.find(path)
        identity = self._identify(environ, trace, needed=found is None or not found[0].public)
        if found is None:
            raise ApiError(404, "path_unknown", "there is nothing at this path")
        place, params = found
        trace.resource = place.resource.value
        endpoint = endpoint_of(place, trace.method)
        permit(place, endpoint, identity)
        request = Request(
            resource=place.resource,
            verb=endpoint.verb,
            path=path,
            params=params,
            query=read_query(endpoint.query, parse_query(environ.get("QUERY_STRING", ""))),
            bodies=endpoint.bodies,
            body=_body(environ, endpoint),
            identity=identity,
            request_id=trace.request_id,
            environ=environ,
        )
        return self._services, endpoint, request

    def _identify(self, environ: Mapping[str, Any], trace: _Trace, *, needed: bool) -> Identity | None:
        """Who asks. Raises ApiError 401 when that must be known and is not, 429 for too many tries or too many
        requests.
        """
        credential = self._credential(environ)
        if needed and (credential is None or credential.guessable):
            self._limiter.may_fail(trace.address)
        if credential is None:
            if not needed:
                return None
            self._limiter.failed(trace.address)
            raise ApiError(
                401,
                "unauthorized",
                "a valid token is needed: Authorization: Bearer TOKEN",
                headers=(("WWW-Authenticate", 'Bearer realm="trunkline"'),),
            )
        trace.credential = credential
        if needed:
            self._limiter.admit(credential)
        return replace(
            credential.identity,
            origin=Origin(credential.identity.origin.token, trace.address or None, trace.request_id),
        )

    def _credential(self, environ: Mapping[str, Any]) -> Credential | None:
        """By its token and its node's certificate."""
        authorization, node = environ.get("HTTP_AUTHORIZATION"), environ.get(certificates.NODE)
        credential = self._services.tokens.identify(authorization)
        known = None if credential is None else credential.identity
        identity = certified(known, node, has_token=authorization is not None)
        if identity is None:
            return None
        if credential is None:
            return Credential(f"node {node}", identity)
        return replace(credential, identity=identity)

    def _refusal(self, error: Exception, trace: _Trace) -> Answer:
        refusal = from_exception(error)
        if refusal is None:
            self._log.exception("api_handler_failed", **trace.fields())
            refusal = ApiError(
                500,
                "internal_error",
                "the controller could not handle this request; its log says why",
                details={"request_id": trace.request_id},
            )
        elif refusal.status == 503:
            self._log.warning("api_unavailable", code=refusal.code, reason=str(error), **trace.fields())
        return Answer.json(refusal.envelope(), refusal.status, refusal.headers)

    def _account(self, trace: _Trace, seconds: float) -> None:
        method = trace.method if trace.method in _METHODS else "other"  # labels must not grow with what clients invent
        self._metrics.answered(method, trace.resource, trace.status, None if trace.waits else seconds)
        quiet = (trace.method in _READS or trace.resource in _QUESTIONS) and trace.status not in _REFUSED
        level = self._log.debug if quiet else self._log.info
        level("api_request", status=trace.status, ms=round(seconds * 1000, 1), **trace.fields())


class _Trace:
    """What is known of a request so far, for its answer, its metric and its log line."""

    __slots__ = ("address", "credential", "method", "path", "request_id", "resource", "status", "waits")

    def __init__(self, request_id: str, method: str, address: str) -> None:
        self.request_id = request_id
        self.method = method
        self.address = address
        self.path = ""
        self.resource = "none"
        self.status = 500
        self.waits = False
        self.credential: Credential | None = None

    def fields(self) -> dict[str, Any]:
        identity = None if self.credential is None else self.credential.identity
        return {
            "request_id": self.request_id,
            "method": self.method[:16],
            "path": self.path[:512],
            "actor": None if identity is None else identity.name,
            "token": None if identity is None else identity.origin.token,
            "address": self.address,
        }


def _path(environ: Mapping[str, Any]) -> str:
    """The decoded path. WSGI (PEP 3333) hands bytes as latin-1."""
    try:
        path = str(environ.get("PATH_INFO", "")).encode("latin-1").decode("utf-8")
    except UnicodeError:
        path = "\0"
    if not path.isprintable():
        raise ApiError(400, "bad_path", "the path holds control characters or is not UTF-8")
    return path


def _body(environ: Mapping[str, Any], endpoint: Endpoint) -> bytes:
    """The request's body, bounded before it is read, and again before it is parsed."""
    given = environ.get("CONTENT_LENGTH")
    length = body_length(environ.get("HTTP_TRANSFER_ENCODING"), [given] if given else [])
    if not length:
        return b""
    check_type(environ.get("CONTENT_TYPE"), endpoint.bodies)
    try:
        body: bytes = environ["wsgi.input"].read(length)
    except TimeoutError:
        raise ApiError(
            408, "body_timeout", "the body did not come in time", headers=(("Connection", "close"),)
        ) from None
    if len(body) < length:
        raise ApiError(400, "body_cut", "the body is shorter than its Content-Length")
    check_size(body, many=endpoint.many)
    return body


def routes(ryu_stats: WSGIApplication) -> tuple[Route, ...]:
    """All that there is; what is under /stats asks `ryu_stats`."""
    resources = (
        *health.ROUTES,
        *networks.ROUTES,
        *project_networks.ROUTES,
        *addresses.ROUTES,
        *ports.ROUTES,
        *bindings.ROUTES,
        *port_counters.ROUTES,
        *trace.ROUTES,
        *captures.ROUTES,
        *network_data.ROUTES,
        *port_metadata.ROUTES,
        *nodes.ROUTES,
        *node_ports.ROUTES,
        *errands.ROUTES,
        *controllers.ROUTES,
        *machine_metadata.ROUTES,
        *dns.ROUTES,
        *floating_ip_pools.ROUTES,
        *floating_ips.ROUTES,
        *leases.ROUTES,
        *quotas.ROUTES,
        *security_groups.ROUTES,
        *security_group_rules.ROUTES,
        *dns_zones.ROUTES,
        *dns_records.ROUTES,
        *problems.ROUTES,
        *quarantine.ROUTES,
        *revisions.ROUTES,
        *tokens.ROUTES,
        *audit.ROUTES,
        *drops.ROUTES,
        *events.ROUTES,
        *topology.routes(),
        *metrics.ROUTES,
        *stats.routes(ryu_stats),
    )
    resources = (*resources, *plan.routes(resources))
    return (*index.routes(resources), *resources)


def make_app(services: Services) -> Gate:
    """The API as a WSGI application. `compat.already_handled` must have run before this module is imported."""
    ryu_stats = WSGIApplication()
    stats.connect(ryu_stats, services)
    services.registry.register(metrics.ModelCollector(services))
    ryu_wsgi = WSGIApplication()
    ryu_wsgi.register(ResourceController)
    known = routes(ryu_stats)
    document = Document(known)
    requests = RequestMetrics(services.registry)
    return Gate(services, (*known, *document.routes, *page.routes(page.PLACE)), ryu_wsgi, requests, document.prepare)
