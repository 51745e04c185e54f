"""/v1/nodes/NODE/metadata/PORT-KEY/PATH: what the machine behind a port is told of itself, at the path it asks for.

The node's agent hands on what machines ask at 169.254.169.254. Who asks is the key of its port alone, by which the
agent knows it: no header and no address of the machine's is looked at.
"""

from __future__ import annotations

from controller.api.auth import Resource, Role, Verb
from controller.api.errors import forbidden, unknown_object
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.services import Services

_MOST_DIGITS = 10


def answer(services: Services, request: Request) -> Answer:
    node, key = request.params["node"], request.params["port_key"]
    if request.caller.role is Role.AGENT and not request.caller.speaks_for(node):
        raise forbidden("the token is that of another node's agent")
    method = "GET" if request.verb is Verb.SHOW else "POST"
    reply = None
    if key.isascii() and key.isdigit() and len(key) <= _MOST_DIGITS:
        reply = services.metadata.answer(node, int(key), method, request.params["path"], request.body)
    if reply is None:
        raise unknown_object("port", key)
    return Answer(reply.status, reply.body, reply.content_type, reply.headers)


ROUTES = (
    Route(
        "/v1/nodes/{node}/metadata/{port_key}/{path...}",
        Resource.MACHINE_METADATA,
        {"GET": Endpoint(Verb.SHOW, answer), "POST": Endpoint(Verb.REPORT, answer)},
    ),
)
