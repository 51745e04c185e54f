"""/v1/nodes/NODE/dns/KEY: what a VM asks by TCP, which ends on its node. The agent hands it on, as the VM's port.

Body and answer are DNS messages without the length that TCP puts before them (RFC 1035, 4.2.2).
"""

from __future__ import annotations

from typing import Final

from controller.api import declared
from controller.api.auth import Resource, Verb
from controller.api.errors import ApiError, forbidden
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.services import Services
from controller.dns.message import MAX_MESSAGE
from controller.dns.tcp import TooMany
from flows.model import Port

DNS_MESSAGE: Final = "application/dns-message"  # RFC 8484, 6
_MOST_KEY: Final = 0xFFFFFFFF


def answer_question(services: Services, request: Request) -> Answer:
    node = request.params["node"]
    if not request.caller.speaks_for(node):
        raise forbidden("the token is that of another node's agent")
    port = port_on(services, node, request.params["key"])
    try:
        sound = services.dns is not None and len(request.body) <= MAX_MESSAGE
        reply = services.dns.ask(request.body, port) if sound and services.dns is not None else None
    except TooMany:
        raise ApiError(429, "too_many_questions", "the port asks more than it may") from None
    if reply is None:
        raise ApiError(400, "bad_message", "no DNS message that could be answered")
    return Answer(200, reply, DNS_MESSAGE)


def port_on(services: Services, node: str, key: str) -> Port:
    """The port that an agent speaks for. Raises ApiError 404 when it is not on the agent's node."""
    snapshot = services.snapshot()
    port_id = snapshot.ports_by_key.get(declared.bounded_int("key", key, 0, _MOST_KEY))
    port = None if port_id is None else snapshot.ports[port_id]
    if port is None or port.seat(node) is None:
        raise ApiError(404, "port_unknown", "no port with this key is on the node")
    return port


_MESSAGE = declared.Media((DNS_MESSAGE,), "A DNS message.", {"type": "string", "format": "binary"})
_QUESTION = Endpoint(Verb.REPORT, answer_question, _MESSAGE, bodies=_MESSAGE, refusals=(429,))
ROUTES = (Route("/v1/nodes/{node}/dns/{key}", Resource.DNS, {"POST": _QUESTION}),)
