"""/v1: what there is, for who looks with nothing but an address and a token."""

from __future__ import annotations

from collections.abc import Iterable

from controller.api import declared
from controller.api.auth import Resource, Verb
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.services import Services


def routes(others: Iterable[Route]) -> tuple[Route, ...]:
    """The route that tells of `others`."""
    known = tuple(others)

    def show_index(_services: Services, request: Request) -> Answer:
        """Each path with the methods that the caller's role may use."""
        usable = {route.template: _methods(route, request) for route in known}
        return Answer.json({"paths": {path: methods for path, methods in usable.items() if methods}})

    return (
        Route(
            "/v1", Resource.INDEX, {"GET": Endpoint(Verb.SHOW, show_index, declared.shown(paths=dict[str, list[str]]))}
        ),
    )


def _methods(route: Route, request: Request) -> list[str]:
    may = request.caller.may
    return [
        method for method, endpoint in route.endpoints.items() if route.public or may(route.resource, endpoint.verb)
    ]
