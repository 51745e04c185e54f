"""/v1/nodes/NAME/ports: what a node needs to plug a port in, told to the node itself and of no other's ports.

One that is bound and scheduled nowhere is any node's that knows its name: the first that shows its interface has it.
There is no list of these: a node cannot ask which there are.
"""

from __future__ import annotations

from pydantic import TypeAdapter

from controller.api import answers, declared, nodes, ports, views
from controller.api.auth import Resource, Verb
from controller.api.errors import ApiError
from controller.api.fields import Name
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.services import Services
from controller.store.specs import NotFound, PortRecord

_NAME: TypeAdapter[str] = TypeAdapter(Name)


def list_node_ports(services: Services, request: Request) -> Answer:
    node = nodes.reporting(request)
    found = services.store.list_ports(name=request.query["name"])
    return Answer.json({"ports": [_view(services, record, node) for record in found if _may_have(record, node)]})


def show_node_port(services: Services, request: Request) -> Answer:
    node, port_id = nodes.reporting(request), request.params["id"]
    try:
        record = services.store.get_port(port_id)
    except NotFound:
        record = None
    if record is None or not _may_have(record, node):
        message = f"node {node} has no port {port_id}: there is none, or it is another node's"
        raise ApiError(404, "port_unknown", message)
    return Answer.json({"port": _view(services, record, node)})


def _may_have(record: PortRecord, node: str) -> bool:
    """True if the port is on the node, is to be there, or may be on any."""
    port = record.port
    if _is_expected(record, node) or port.node == node:
        return True
    if port.binding is not None:
        return port.binding.node == node
    return port.node is None and record.expected_on is None


def _is_expected(record: PortRecord, node: str) -> bool:
    """True if the port is about to move to the node, or has just moved away from it."""
    migration = record.port.migration
    return record.expected_on == node or (migration is not None and migration.other.node == node)


def _view(services: Services, record: PortRecord, node: str) -> views.Json:
    whole = ports.view(services, record)
    known = {name: whole[name] for name in answers.NodePort.__annotations__ if name in whole}
    network = services.store.get_network(record.port.network_id)
    return {**known, "mtu": network.spec.mtu, "expected": _is_expected(record, node)}


ROUTES = (
    Route(
        "/v1/nodes/{name}/ports",
        Resource.NODE_PORT,
        {
            "GET": Endpoint(
                Verb.LIST,
                list_node_ports,
                declared.shown(ports=list[answers.NodePort]),
                query={"name": declared.Query(_NAME, "Of the port, all of it.", required=True)},
            )
        },
    ),
    Route(
        "/v1/nodes/{name}/ports/{id}",
        Resource.NODE_PORT,
        {"GET": Endpoint(Verb.SHOW, show_node_port, declared.shown(port=answers.NodePort))},
    ),
)
