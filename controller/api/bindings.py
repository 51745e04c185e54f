"""/v1/ports/ID/bindings: the nodes of a port while its VM moves. Members have no say in where a VM is."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from controller.api import answers, declared, ports
from controller.api.auth import Resource, Verb
from controller.api.fields import NodeName, RequestModel
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.services import Services
from controller.store.specs import PortRecord, Written
from flows.model import Binding, MigrationPhase

ACTIVE = "active"
_WRITTEN = declared.written(binding=answers.Binding)


class BindingCreate(RequestModel):
    node: NodeName


BINDING_CREATE = TypeAdapter(BindingCreate)


def list_bindings(services: Services, request: Request) -> Answer:
    record = ports.owned(services, request.caller, request.params["id"])
    return Answer.json({"bindings": view(record)})


def create_binding(services: Services, request: Request) -> Answer:
    node = request.parse(BINDING_CREATE).node
    ports.owned(services, request.caller, request.params["id"])
    written = services.store.prepare_binding(request.params["id"], node, request.caller.actor)
    return _written(written, node, 201)


def activate_binding(services: Services, request: Request) -> Answer:
    node = request.params["node"]
    ports.owned(services, request.caller, request.params["id"])
    written = services.store.activate_binding(request.params["id"], node, request.caller.actor)
    return _written(written, node)


def delete_binding(services: Services, request: Request) -> Answer:
    """Answers with what is left."""
    ports.owned(services, request.caller, request.params["id"])
    written = services.store.withdraw_binding(request.params["id"], request.params["node"], request.caller.actor)
    left = written.value.port.binding
    return _written(written, "" if left is None else left.node)


def view(record: PortRecord) -> list[dict[str, Any]]:
    """The node that serves the port first. `ofport` is None until the node has shown the interface."""
    port = record.port
    shown = [] if port.binding is None else [_binding(port.binding, ACTIVE)]
    if port.migration is not None:
        shown.append(_binding(port.migration.other, port.migration.phase.value))
    elif record.expected_on is not None:
        shown.append({"node": record.expected_on, "status": MigrationPhase.PREPARED.value, "ofport": None})
    return shown


def _binding(binding: Binding, status: str) -> dict[str, Any]:
    return {"node": binding.node, "status": status, "ofport": binding.ofport}


def _written(written: Written[PortRecord], node: str, status: int = 200) -> Answer:
    found = next((one for one in view(written.value) if one["node"] == node), None)
    return Answer.json({"binding": found, "revision": written.revision}, status)


ROUTES = (
    Route(
        "/v1/ports/{id}/bindings",
        Resource.PORT_BINDING,
        {
            "GET": Endpoint(Verb.LIST, list_bindings, declared.shown(bindings=list[answers.Binding])),
            "POST": Endpoint(Verb.CREATE, create_binding, _WRITTEN, status=201, bodies=(BINDING_CREATE,)),
        },
    ),
    Route(
        "/v1/ports/{id}/bindings/{node}",
        Resource.PORT_BINDING,
        {"DELETE": Endpoint(Verb.DELETE, delete_binding, declared.written(binding=answers.Binding | None))},
    ),
    Route(
        "/v1/ports/{id}/bindings/{node}/activate",
        Resource.PORT_BINDING,
        {"PUT": Endpoint(Verb.UPDATE, activate_binding, _WRITTEN)},
    ),
)
