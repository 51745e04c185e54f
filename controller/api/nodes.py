"""/v1/nodes, read by operators and written by the agents."""

from __future__ import annotations

from pydantic import TypeAdapter, ValidationError

from controller.api import answers, declared, views
from controller.api.auth import Resource, Verb
from controller.api.errors import forbidden, from_validation, invalid
from controller.api.fields import NodeName
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.node_models import INTERFACES_PUT, NODE_PUT
from controller.api.revisions import WAIT
from controller.api.services import Services
from controller.full_zones import words
from controller.store.specs import Conflict, NodeRecord, NotFound, Written
from flows import shares

_NAME: TypeAdapter[str] = TypeAdapter(NodeName)
_WRITTEN = declared.written(node=answers.Node)

AGENT_SILENT = "its agent does not ask for anything to do any more: no metadata, and nothing is plugged in or captured"


def list_nodes(services: Services, request: Request) -> Answer:
    filters = request.page()
    name = filters.pop("name", None)
    if name is None:
        records = services.store.list_nodes(**filters)
    else:
        records = _named(services, name) if "marker" not in filters else []
    return Answer.json({"nodes": [_view(services, record) for record in records]})


def _named(services: Services, name: str) -> list[NodeRecord]:
    try:
        return [services.store.get_node(name)]
    except NotFound:
        return []


def show_node(services: Services, request: Request) -> Answer:
    return Answer.json({"node": _view(services, services.store.get_node(request.params["name"]))})


def delete_node(services: Services, request: Request) -> Answer:
    """A node that is gone can be deleted with all that was on it, one that serves VMs cannot.

    Its agent would register it again at once, with other gateway addresses than its VMs were given.
    """
    name = request.params["name"]
    ports = services.snapshot().ports_by_node.get(name, ())
    if ports and services.node_state(name).get("state") != "disconnected":
        raise Conflict("node_in_use", f"node {name} is connected and has bound ports: {len(ports)}", ports=len(ports))
    answer = _written(services, services.store.delete_node(name, request.caller.actor))
    services.errands.forget(name)
    services.full_zones.forget(name)
    return answer


def put_node(services: Services, request: Request) -> Answer:
    name = reporting(request)
    spec = request.parse(NODE_PUT).spec(name)
    return _written(services, services.store.put_node(spec, request.caller.actor))


def put_interfaces(services: Services, request: Request) -> Answer:
    name = reporting(request)
    body = request.parse(INTERFACES_PUT)
    written = services.store.report_interfaces(name, body.spec(), request.caller.actor)
    ports = {**body.refusals(), **written.value}
    claims = services.store.interface_claims(name, body.unclaimed) if body.unclaimed else {}
    services.full_zones.reported(name, {one.zone: one.limit for one in body.full_zones})
    zones = shares.zones(services.snapshot(), name)
    return Answer.json(
        {
            "serial": body.serial,
            "revision": written.revision,
            "ports": ports,
            "claims": claims,
            "problems": services.store.node_problems(name),
            "zones": sorted(zones),
            "wide_zones": sorted(zone for zone, wide in zones.items() if wide),
        }
    )


def show_node_revision(services: Services, request: Request) -> Answer:
    """For the agent: whether what it was told with a revision is in its switch. Of other nodes it hears nothing."""
    name = reporting(request)
    revision = declared.bounded_int("revision", request.params["revision"], 0, declared.MAX_REVISION)
    services.store.get_node(name)
    confirmed = services.confirmations.wait_node(name, revision, request.query.get("wait", 0.0))
    return Answer.json({"revision": revision, "confirmed": confirmed})


def reporting(request: Request) -> str:
    """The node of the path. Raises ApiError 403 when the caller speaks for another one."""
    name = request.params["name"]
    if not request.caller.speaks_for(name):
        raise forbidden("the token is that of another node's agent")
    try:
        return _NAME.validate_python(name)
    except ValidationError as error:
        raise invalid("name", from_validation(error).message) from None


def _view(services: Services, record: NodeRecord) -> views.Json:
    return views.node(record, services.node_state(record.node.name), problems(services, record))


def problems(services: Services, record: NodeRecord) -> list[str]:
    """What the node is meant to have and do, and cannot, one line each."""
    silent = [AGENT_SILENT] if services.errands.silent(record.node.name) else []
    full = map(words, services.full_zones.used_up(record.node.name, services.snapshot()))
    return [*record.spec.problems, *record.problems, *silent, *full]


def _written(services: Services, written: Written[NodeRecord]) -> Answer:
    return Answer.json({"node": _view(services, written.value), "revision": written.revision})


ROUTES = (
    Route(
        "/v1/nodes",
        Resource.NODE,
        {"GET": Endpoint(Verb.LIST, list_nodes, declared.shown(nodes=list[answers.Node]), query=declared.page("name"))},
    ),
    Route(
        "/v1/nodes/{name}",
        Resource.NODE,
        {
            "GET": Endpoint(Verb.SHOW, show_node, declared.shown(node=answers.Node)),
            "PUT": Endpoint(Verb.REPORT, put_node, _WRITTEN, bodies=(NODE_PUT,)),
            "DELETE": Endpoint(Verb.DELETE, delete_node, _WRITTEN),
        },
    ),
    Route(
        "/v1/nodes/{name}/interfaces",
        Resource.INTERFACES,
        {
            "PUT": Endpoint(
                Verb.REPORT,
                put_interfaces,
                declared.written(
                    serial=declared.Revision,
                    ports=dict[str, str],
                    claims=dict[str, str],
                    problems=list[str],
                    zones=list[int],
                    wide_zones=list[int],
                ),
                bodies=(INTERFACES_PUT,),
                many=True,
            )
        },
    ),
    Route(
        "/v1/nodes/{name}/revisions/{revision}",
        Resource.INTERFACES,
        {
            "GET": Endpoint(
                Verb.SHOW,
                show_node_revision,
                declared.written(confirmed=bool),
                query={"wait": declared.Query(WAIT, "Seconds to wait for it.")},
                waits=True,
            )
        },
    ),
)
