"""/v1/events: what has just happened, and what happens while one waits."""

from __future__ import annotations

from typing import Annotated

from pydantic import PlainValidator, TypeAdapter, WithJsonSchema

from controller.api import declared, operator_answers
from controller.api.auth import Resource, Verb
from controller.api.errors import ApiError
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.services import Services
from controller.api.views import Json, time_of
from controller.events.ring import Event, Kind, TooManyWaiting

MAX_WAIT = 30.0


def list_events(services: Services, request: Request) -> Answer:
    """After one that is known already, the oldest first; without `after` the latest there are. `last` is the `after`
    of the next question. `missed`: more has happened since than is remembered, or another controller was asked before.
    """
    filters = dict(request.query)
    after, wait = filters.pop("after", None), filters.pop("wait", 0.0)
    limit = filters.pop("limit", declared.MAX_PAGE)
    caller = request.caller

    def wanted(event: Event) -> bool:
        return caller.owns(event.project_id) and all(value == _FIELDS[name](event) for name, value in filters.items())

    if after is None:
        page = services.events.latest(limit, wanted)
    else:
        try:
            page = services.events.wait(after, limit, wanted, wait, f"{caller.name} {caller.origin.token}")
        except TooManyWaiting as error:
            raise ApiError(429, "too_many_waiting", str(error), headers=(("Retry-After", "1"),)) from None
    return Answer.json({"events": [_view(event) for event in page.events], "last": page.last, "missed": page.missed})


_FIELDS = {
    "kind": lambda event: event.kind,
    "port_id": lambda event: event.port_id,
    "network_id": lambda event: event.network_id,
    "node": lambda event: event.node,
}


def _view(event: Event) -> Json:
    return {
        "id": event.id,
        "at": time_of(event.at),
        "kind": event.kind.value,
        "text": event.text,
        "port_id": event.port_id,
        "network_id": event.network_id,
        "node": event.node,
    }


def _after(text: object) -> int:
    return declared.bounded_int("after", str(text), 0, declared.MAX_REVISION)


_WAIT = declared.seconds(MAX_WAIT)
_AFTER: TypeAdapter[int] = TypeAdapter(
    Annotated[
        int,
        PlainValidator(_after),
        WithJsonSchema({"type": "integer", "minimum": 0, "maximum": declared.MAX_REVISION}),
    ]
)

ROUTES = (
    Route(
        "/v1/events",
        Resource.EVENT,
        {
            "GET": Endpoint(
                Verb.LIST,
                list_events,
                declared.shown(events=list[operator_answers.Event], last=int, missed=bool),
                query={
                    "after": declared.Query(_AFTER, "Only what comes after this one; 0: all that there is."),
                    "wait": declared.Query(_WAIT, "With `after`: seconds to wait until there is something."),
                    "kind": declared.Query(TypeAdapter(Kind)),
                    **declared.texts("port_id", "network_id", "node"),
                    "limit": declared.LIMIT,
                },
                waits=True,
            )
        },
    ),
)
