"""/v1/plan: what requests would change of the flows of nodes, without doing any of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal
from urllib.parse import unquote_to_bytes

import eventlet
from pydantic import Field, StringConstraints, TypeAdapter

from controller.api import declared, operator_answers
from controller.api.admission import endpoint_of, permit
from controller.api.auth import Resource, Verb
from controller.api.declared import read_query
from controller.api.errors import ApiError, from_exception, invalid
from controller.api.fields import RequestModel
from controller.api.http import JSON, Answer, Endpoint, Request, Route, Router, check_size, parse_query
from controller.api.services import Services
from controller.api.views import Json
from controller.green import Turns
from controller.plan_words import Words
from controller.planning import NodePlan, Plan
from controller.store import Store
from controller.store.specs import Unavailable
from flows.ir import Flow
from flows.spelling import meter_text

MOST: Final = 1000
"""Requests that are planned in one go."""

LONGEST: Final = 2.0
"""Seconds after which no further request is begun: who wants to write waits meanwhile."""

MOST_LINES: Final = 5000
"""Lines about flows in one answer."""

# what can be planned: its handlers write by the store that they are given, and nowhere else
PLANNED: Final = frozenset(
    {
        Resource.NETWORK,
        Resource.NETWORK_PROJECT,
        Resource.PROJECT,
        Resource.ADDRESS,
        Resource.ADDRESS_HOLD,
        Resource.ADDRESS_PLAN,
        Resource.PORT,
        Resource.PORT_BINDING,
        Resource.PORT_METADATA,
        Resource.NODE,
        Resource.FLOATING_IP_POOL,
        Resource.FLOATING_IP,
        Resource.PORT_FORWARDING,
        Resource.QUOTA,
        Resource.SECURITY_GROUP,
        Resource.SECURITY_GROUP_RULE,
        Resource.DEFAULT_RULE,
        Resource.PROVIDER_RULE,
        Resource.DNS_ZONE,
        Resource.DNS_RECORD,
    }
)

_PATH = r"^/v1/[!-~]*$"


class PlannedRequest(RequestModel):
    """`path` as in a request, with its query if it has one."""

    method: Literal["POST", "PUT", "PATCH", "DELETE"]
    path: Annotated[str, StringConstraints(max_length=2048, pattern=_PATH)]
    body: dict[str, Any] | None = None


class PlanCreate(RequestModel):
    """`limit`: how many flows of each kind to tell of each node, beside how many there are. `go_on`: also after a
    request that is refused. In a body, `@N` as the value of a field that ends in `_id` is the id of what the Nth
    request, counted from 0, has made.
    """

    requests: list[PlannedRequest] = Field(min_length=1, max_length=MOST)
    limit: int = Field(default=100, ge=0, le=1000)
    go_on: bool = False


PLAN = TypeAdapter(PlanCreate)


@dataclass(frozen=True, slots=True)
class _Inner:
    """A request of a plan that is understood so far."""

    place: Route
    params: dict[str, str]
    method: str
    path: str
    query: str
    body: dict[str, Any] | None


def routes(others: Iterable[Route]) -> tuple[Route, ...]:
    """The route that plans requests to `others`."""
    router = Router(others)

    def create_plan(services: Services, request: Request) -> Answer:
        """Does the requests one after the other, up to the first that is refused or all, and undoes all of it:
        `answers` is what they were answered, `nodes` which flows these nodes would get and lose. Identifiers and MACs
        that are chosen by chance are others when it is done.
        """
        body = request.parse(PLAN)
        inner = [_understood(router, one, index) for index, one in enumerate(body.requests)]
        if services.planner is None:
            raise ApiError(503, "not_planned", "this controller plans nothing")
        # what clients have been told of their leases decides how long addresses are kept
        services.settle_leases()
        plan = services.planner.plan(lambda store: _rehearse(services, request, inner, store, body.go_on))
        return Answer.json(_view(plan, body.limit))

    return (
        Route(
            "/v1/plan",
            Resource.PLAN,
            {
                "POST": Endpoint(
                    Verb.CREATE,
                    create_plan,
                    declared.shown(
                        answers=list[operator_answers.PlannedAnswer],
                        nodes=list[operator_answers.NodePlan],
                        revision=declared.Revision,
                    ),
                    bodies=(PLAN,),
                    many=True,
                )
            },
        ),
    )


def _understood(router: Router, one: PlannedRequest, index: int) -> _Inner:
    path, _, query = one.path.partition("?")
    where = f"requests.{index}.path"
    try:
        path = unquote_to_bytes(path).decode()
    except UnicodeError:
        path = "\0"
    if not path.isprintable():
        raise invalid(where, "holds control characters or is not UTF-8")
    found = router.find(path)
    if found is None:
        raise ApiError(404, "path_unknown", f"{where}: there is nothing at this path", where)
    if found[0].resource not in PLANNED:
        raise ApiError(400, "not_planned", f"{where}: what changes there is no flow of a node", where)
    return _Inner(*found, one.method, path, query, one.body)


def _rehearse(services: Services, outer: Request, requests: Sequence[_Inner], store: Store, go_on: bool) -> list[Json]:
    """The answers, up to the first refusal or all. Everything that others do not see either is by the store alone."""
    rehearsing = replace(services, store=store, settle_leases=lambda: None)
    began = time.monotonic()
    answers: list[Json] = []
    made: dict[str, str] = {}
    for index, one in enumerate(requests):
        if answers and time.monotonic() - began > LONGEST:
            raise ApiError(503, "plan_too_long", "these are too many changes to be planned in one go")
        try:
            answer = _done(rehearsing, outer, replace(one, body=_filled(one.body, made)))
        except Exception as error:
            refusal = from_exception(error)
            if refusal is None or refusal.status == 503 or isinstance(error, Unavailable):
                raise
            answers.append({"status": refusal.status, "body": refusal.envelope()})
            if not go_on:
                break
        else:
            told = json.loads(answer.body) if answer.content_type == JSON else None
            answers.append({"status": answer.status, "body": told})
            made |= {f"@{index}": it["id"] for it in (told or {}).values() if isinstance(it, dict) and "id" in it}
        eventlet.sleep(0)  # others get their turn, but for writing
    return answers


def _filled(value: Any, made: Mapping[str, str], field: str = "") -> Any:
    """With ids for what refers to objects that were made before; what refers to nothing stays, and is refused."""
    match value:
        case dict():
            return {name: _filled(item, made, name) for name, item in value.items()}
        case list():
            return [_filled(item, made) for item in value]
        case str() if field.endswith("_id"):
            return made.get(value, value)
    return value


def _done(services: Services, outer: Request, one: _Inner) -> Answer:
    endpoint = endpoint_of(one.place, one.method)
    permit(one.place, endpoint, outer.identity)
    body = b"" if one.body is None else json.dumps(one.body).encode()
    check_size(body, many=endpoint.many)
    request = replace(
        outer,
        resource=one.place.resource,
        verb=endpoint.verb,
        path=one.path,
        params=one.params,
        query=read_query(endpoint.query, parse_query(one.query)),
        bodies=endpoint.bodies,
        body=body,
    )
    answer = endpoint.handler(services, request)
    assert isinstance(answer, Answer), "what is planned is answered whole"
    return answer


def _view(plan: Plan[list[Json]], limit: int) -> Json:
    told = _Lines(Words(plan.before, plan.after), limit)
    return {
        "answers": plan.value,
        "nodes": [told.of_node(node) for node in plan.nodes],
        "revision": plan.revision,
    }


class _Lines:
    """At most `limit` of each list, and MOST_LINES of all."""

    def __init__(self, words: Words, limit: int) -> None:
        self._words = words
        self._limit = limit
        self._left = MOST_LINES
        self._turns = Turns()

    def of_node(self, node: NodePlan) -> Json:
        meters = [f"+ {meter_text(meter)}" for meter in node.meters]
        meters += [f"- meter={id_}" for id_ in node.gone_meters]
        return {
            "node": node.node,
            "adds": len(node.adds),
            "deletes": len(node.deletes),
            "changes": len(node.changes),
            "add": [self._say(flow) for flow in self._some(node.adds)],
            "delete": [self._say(flow) for flow in self._some(node.deletes)],
            "change": [{"before": self._say(was), "after": self._say(flow)} for was, flow in self._some(node.changes)],
            "meters": self._some(meters),
            "problems": self._some(node.problems),
        }

    def _say(self, flow: Flow) -> str:
        self._turns()
        return self._words.of(flow)

    def _some(self, items: Sequence[Any]) -> Sequence[Any]:
        chosen = items[: min(self._limit, self._left)]
        self._left -= len(chosen)
        return chosen
