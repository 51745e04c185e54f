"""/v1/controllers: who is alive, as this one knows."""

from __future__ import annotations

from controller.api import declared, operator_answers
from controller.api.auth import Resource, Verb
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.services import Services
from controller.api.views import time_of


def list_controllers(services: Services, _request: Request) -> Answer:
    found = [{**one, "started_at": time_of(one["started_at"])} for one in services.controllers()]
    return Answer.json({"controllers": found})


_LIST = Endpoint(Verb.LIST, list_controllers, declared.shown(controllers=list[operator_answers.Controller]))
ROUTES = (Route("/v1/controllers", Resource.CONTROLLER, {"GET": _LIST}),)
