"""/v1/problems: what is not as it should be, in words, for people and for what watches over the cloud."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from itertools import chain, islice
from typing import Annotated, Final, TypeVar

from pydantic import Field, WithJsonSchema
from typing_extensions import TypedDict

from controller.api import declared, nodes, views
from controller.api.auth import Resource, Verb
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.services import Services
from controller.readiness import OK
from controller.store.engine import UNAVAILABLE

T = TypeVar("T")

_MOST: Final = 1000
"""Problems that are told of, and objects of a kind that are looked at."""


class Health(StrEnum):
    """The worst comes last. `CRITICAL`: the controller cannot do its work. `WARNING`: what is named cannot."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"


class CloudProblem(TypedDict):
    """`id`: of a node its name; null of kind `controller`, of which `name` is what was looked at."""

    severity: Annotated[str, WithJsonSchema({"type": "string", "enum": [Health.WARNING, Health.CRITICAL]})]
    kind: Annotated[str, WithJsonSchema({"type": "string", "enum": ["controller", "node", "network", "port"]})]
    id: str | None
    name: str
    text: str


def list_problems(services: Services, request: Request) -> Answer:
    """The worst first, 1000 at most; a project is told of its own ports, and of the controller. What the database knows
    is left out while it is away, which is a problem itself.
    """
    caller = request.caller
    of_cloud = _of_cloud(services) if caller.operates else ()
    told = list(islice(chain(_of_controller(services), of_cloud, _of_ports(services, caller.project)), _MOST))
    worst = list(Health)
    told.sort(key=lambda one: -worst.index(Health(one["severity"])))
    return Answer.json({"health": told[0]["severity"] if told else Health.OK, "problems": told})


def _of_controller(services: Services) -> Iterator[CloudProblem]:
    for name, said in services.ready().items():
        if said != OK:
            yield _problem("controller", None, name, f"{name}: {said}", Health.CRITICAL)


def _of_cloud(services: Services) -> Iterator[CloudProblem]:
    yield from _of_nodes(services)
    for record in _read(lambda: services.store.list_networks(doubtful=True, limit=_MOST)):
        for text in views.network_problems(record, services.node_state):
            yield _problem("network", record.id, record.spec.name, text)
    left_out = len(services.store.quarantine()) + sum(1 for _ in services.not_compiled())
    if left_out:
        text = f"{left_out} objects, or their flows on a node, are left out: `trunkline status` says which, and why"
        yield _problem("controller", None, "quarantine", text)


def _of_nodes(services: Services) -> Iterator[CloudProblem]:
    for name in sorted(services.snapshot().nodes):
        state = services.node_state(name)
        if state.get("state") == "disconnected":
            yield _problem("node", name, name, "its switch is not connected: VMs go on there, without new leases")
        elif state.get("state") != "live":
            yield _problem("node", name, name, f"its switch is being brought up to date ({state.get('state')})")
        refused = state.get("quarantined_flows", 0)
        if refused:
            yield _problem("node", name, name, f"its switch has refused {refused} flows")
    for record in _read(services.store.list_nodes):
        for text in nodes.problems(services, record):
            yield _problem("node", record.node.name, record.node.name, text)


def _of_ports(services: Services, project: str | None) -> Iterator[CloudProblem]:
    for record in _read(lambda: services.store.list_ports(project_id=project, refused=True, limit=_MOST)):
        yield _problem("port", record.port.id, record.port.called, record.binding_error or "")


def _read(ask: Callable[[], list[T]]) -> list[T]:
    """Nothing where the database is away."""
    try:
        return ask()
    except UNAVAILABLE:
        return []


def _problem(kind: str, id_: str | None, name: str, text: str, severity: Health = Health.WARNING) -> CloudProblem:
    return {"severity": severity, "kind": kind, "id": id_, "name": name, "text": text}


_TOLD = declared.shown(
    health=Annotated[str, WithJsonSchema({"type": "string", "enum": [*Health]}), Field(description="As the worst one")],
    problems=list[CloudProblem],
)
ROUTES = (Route("/v1/problems", Resource.PROBLEM, {"GET": Endpoint(Verb.LIST, list_problems, _TOLD)}),)
