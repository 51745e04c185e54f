"""/v1/nodes/NODE/metadata/PORT-KEY/PATH: what the machine behind a port is told of itself, at the path it asks for.

The node's agent hands on what machines ask at 169.254.169.254. Who asks is the key of its port alone, by which the
agent knows it: no header and no address of the machine's is looked at.
"""

from __future__ import annotations

from controller.api import declared
from controller.api.auth import Resource, Role, Verb
from controller.api.errors import forbidden, unknown_object
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.services import Services

_MOST_DIGITS = 10


def show_to_machine(services: Services, request: Request) -> Answer:
    """What the machine is told at this path."""
    return _answer(services, request, "GET")


def hear_from_machine(services: Services, request: Request) -> Answer:
    """What the machine tells at this path: its password."""
    return _answer(services, request, "POST")


def _answer(services: Services, request: Request, method: str) -> Answer:
    node, key = request.params["node"], request.params["port_key"]
    if request.caller.role is Role.AGENT and not request.caller.speaks_for(node):
        raise forbidden("the token is that of another node's agent")
    reply = None
    if key.isascii() and key.isdigit() and len(key) <= _MOST_DIGITS:
        reply = services.metadata.answer(node, int(key), method, request.params["path"], request.body)
    if reply is None:
        raise unknown_object("port", key)
    return Answer(reply.status, reply.body, reply.content_type, reply.headers)


_TOLD = declared.Media(
    ("text/plain", "application/json", "application/octet-stream"),
    "What the machine is told.",
    also=(400, 404, 405, 409, 429, 503),
)
_PASSWORD = declared.Media(("text/plain",), "The password that the machine has set.", {"type": "string"})
ROUTES = (
    Route(
        "/v1/nodes/{node}/metadata/{port_key}/{path...}",
        Resource.MACHINE_METADATA,
        {
            "GET": Endpoint(Verb.SHOW, show_to_machine, _TOLD),
            "POST": Endpoint(Verb.REPORT, hear_from_machine, _TOLD, bodies=_PASSWORD),
        },
    ),
)
