"""/v1/ports/{id}/counters"""

from __future__ import annotations

from dataclasses import asdict

from controller.api import answers, declared
from controller.api.auth import Resource, Verb
from controller.api.errors import ApiError
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.ports import owned
from controller.api.services import Services
from controller.session_questions import NoAnswer


def show_counters(services: Services, request: Request) -> Answer:
    port = owned(services, request.caller, request.params["id"]).port
    if port.binding is None:
        raise ApiError(409, "not_bound", "the port is on no node")
    try:
        counts = services.port_counters(port)
    except NoAnswer as error:
        raise ApiError(503, "node_silent", f"node {port.binding.node}: {error}") from error
    if counts is None:
        raise ApiError(409, "not_bound", "the port is on no node")
    muted = services.port_mutes(counts.node, port.key)
    return Answer.json({"counters": {"port_id": port.id, **asdict(counts), "muted": muted}})


ROUTES = (
    Route(
        "/v1/ports/{id}/counters",
        Resource.PORT,
        {"GET": Endpoint(Verb.SHOW, show_counters, declared.shown(counters=answers.Counters), refusals=(409,))},
    ),
)
