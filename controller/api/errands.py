"""/v1/nodes/NODE/errands: what the agent of a node is to do, for which it asks, and what it answers.

Each agent gets its own node's, and is asked nothing else: see `controller.errands`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field, JsonValue, TypeAdapter, WithJsonSchema, model_validator
from typing_extensions import TypedDict

from controller.api import declared
from controller.api.auth import Resource, Verb
from controller.api.errors import ApiError, forbidden
from controller.api.fields import RequestModel
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.peer import peer_of
from controller.api.revisions import WAIT
from controller.api.services import Services
from controller.errands import ErrandError, Kind, NotAsking, Refused, TimedOut, TooMany, Unknown

MOST_TEXT: Final = 1000


class Errand(TypedDict):
    """`kind` says what is to be done with `arguments`, `timeout` in how many seconds it is to be answered."""

    id: str
    kind: Annotated[str, WithJsonSchema({"type": "string", "enum": [*Kind]})]
    arguments: dict[str, Any]
    timeout: float


class ErrandAnswer(RequestModel):
    """What came of an errand, or why nothing did."""

    result: dict[str, JsonValue] | None = None
    refusal: Annotated[str, Field(min_length=1, max_length=MOST_TEXT)] | None = None

    @model_validator(mode="after")
    def _one(self) -> ErrandAnswer:
        if (self.result is None) == (self.refusal is None):
            raise ValueError("a result or a refusal, cannot be given together with the other")
        return self


ERRAND_ANSWER = TypeAdapter(ErrandAnswer)

_CODES: Final[dict[type[ErrandError], tuple[int, str]]] = {
    NotAsking: (503, "node_not_asking"),
    TimedOut: (503, "node_silent"),
    TooMany: (503, "node_busy"),
    Refused: (409, "errand_refused"),
}


def refusal(error: ErrandError) -> ApiError:
    """How a request is refused that needed an errand."""
    status, code = _CODES[type(error)]
    text = "".join(char if char.isprintable() else " " for char in str(error))
    return ApiError(status, code, text[:MOST_TEXT])


def fetch_errands(services: Services, request: Request) -> Answer:
    """Waits for an errand; the list is empty when there is none in time."""
    node = speaking(services, request)
    looks = request.environ.get("REQUEST_METHOD") == "HEAD"  # and takes nothing
    wait = 0.0 if looks else request.query.get("wait", 0.0)
    found = [] if looks else services.errands.fetch(node, wait, peer_of(request.environ).is_gone)
    errands = [
        {"id": one.id, "kind": one.kind.value, "arguments": dict(one.arguments), "timeout": one.timeout}
        for one in found
    ]
    return Answer.json({"errands": errands})


def answer_errand(services: Services, request: Request) -> Answer:
    """Says what came of an errand."""
    node = speaking(services, request)
    body = request.parse(ERRAND_ANSWER)
    try:
        services.errands.answer(node, request.params["errand"], body.result, body.refusal)
    except Unknown:
        raise ApiError(404, "errand_unknown", "nobody waits for the answer to this errand") from None
    return Answer.json({"taken": True})


def speaking(services: Services, request: Request) -> str:
    """The node of the path. Raises ApiError 403 when the agent is another one's, 404 when it has not registered."""
    node = request.params["node"]
    if not request.caller.speaks_for(node):
        raise forbidden("the token is that of another node's agent")
    if node not in services.snapshot().nodes:
        raise ApiError(404, "node_unknown", "the node has not registered")
    return node


_SECONDS = declared.Query(WAIT, "Seconds to wait for an errand; the controller may wait for less.")

ROUTES = (
    Route(
        "/v1/nodes/{node}/errands",
        Resource.ERRAND,
        {
            "GET": Endpoint(
                Verb.REPORT,
                fetch_errands,
                declared.shown(errands=list[Errand]),
                query={"wait": _SECONDS},
                waits=True,
            )
        },
    ),
    Route(
        "/v1/nodes/{node}/errands/{errand}/answer",
        Resource.ERRAND,
        {"POST": Endpoint(Verb.REPORT, answer_errand, declared.shown(taken=bool), bodies=(ERRAND_ANSWER,), many=True)},
    ),
)
