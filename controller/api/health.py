"""/v1/health: the one answer that needs no token. It says that the process answers, and nothing about the cloud."""

from __future__ import annotations

from controller.api import declared
from controller.api.auth import Resource, Verb
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.services import Services


def show_health(_services: Services, _request: Request) -> Answer:
    return Answer.json({"status": "ok"})


ROUTES = (
    Route(
        "/v1/health",
        Resource.HEALTH,
        {"GET": Endpoint(Verb.SHOW, show_health, declared.shown(status=str))},
        public=True,
    ),
)
