"""/v1/drops: what has been dropped, by which rule, and of whom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from controller.api import declared, operator_answers
from controller.api.auth import Identity, Resource, Verb
from controller.api.errors import ApiError, unknown_object
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.ports import owned
from controller.api.services import Services
from controller.api.views import Json
from controller.drops import Dropped
from controller.session_questions import NoAnswer
from flows.explain.naming import Names
from flows.model import Network, Port
from flows.snapshot import Snapshot


def list_drops(services: Services, request: Request) -> Answer:
    """Since the switches have started: what has dropped most first, and what is normal last. Of a port what rules have
    dropped that are about ports; without, a project is told of all its ports, and others also what is about no port.
    `silent`: nodes that did not answer.
    """
    port_id, node = request.query.get("port_id"), request.query.get("node")
    snapshot, caller = services.snapshot(), request.caller
    if port_id is not None:
        seats = owned(services, caller, port_id).port.seats
        found, silent = _of_port(services, port_id, [seat.node for seat in seats if node in (None, seat.node)])
    elif node is not None and node not in snapshot.nodes and caller.operates:
        raise unknown_object("node", node, "node")
    else:
        asked = [name for name in _nodes_of(caller, snapshot) if node in (None, name)]
        found, silent = services.drops.of_nodes(asked)
    names = Names(services.snapshot(), caller.project)
    found = [*found, *_uncounted(services, found, port_id, node)]
    views = [_view(one, names) for one in found if _sees(one, names)]
    views.sort(key=lambda view: (view["normal"], -view["packets"], view["node"], view["rule"]))
    return Answer.json({"drops": views, "silent": silent})


def _uncounted(
    services: Services, counted: Iterable[Dropped], port_id: str | None, node: str | None
) -> Iterator[Dropped]:
    """Of ports that have used up their connections: the kernel's conntrack drops what begins, and no flow counts it."""
    known = {(one.node, one.rule, one.key) for one in counted}
    snapshot = services.snapshot()
    for name in services.full_zones.nodes() if node is None else [node]:
        for one in services.full_zones.used_up(name, snapshot):
            port = one.port
            if port is None or port_id not in (None, port.id) or (name, one.rule, port.key) in known:
                continue
            yield Dropped(name, one.rule, port.key, 0, 0)


def _of_port(services: Services, port_id: str, nodes: Iterable[str]) -> tuple[list[Dropped], list[str]]:
    port = services.snapshot().ports.get(port_id)
    if port is None:  # made just now
        return [], []
    found: list[Dropped] = []
    for node in nodes:
        try:
            found += services.drops.of_port(node, port.key)
        except NoAnswer as error:
            raise ApiError(503, "node_silent", f"node {node}: {error}") from error
    return found, []


def _nodes_of(caller: Identity, snapshot: Snapshot) -> list[str]:
    """Those that may have something to say to the caller."""
    if caller.project is None:
        return sorted(snapshot.nodes)
    own = (port for port in snapshot.ports.values() if port.project_id == caller.project)
    return sorted({seat.node for port in own for seat in port.seats} & snapshot.nodes.keys())


def _sees(one: Dropped, names: Names) -> bool:
    if names.operator:
        return True
    port = names.find(one.rule.about, one.key)
    return isinstance(port, Port) and names.sees_port(port)


def _view(one: Dropped, names: Names) -> Json:
    found = names.find(one.rule.about, one.key)
    port = found if isinstance(found, Port) else None
    network = found if isinstance(found, Network) else None
    if port is not None:
        network = names.snapshot.networks.get(port.network_id)
    return {
        "rule": one.rule.name.lower(),
        "text": one.rule.doc,
        "normal": one.rule.normal,
        "port_id": None if port is None else port.id,
        "port_name": None if port is None else port.called,
        "network_id": None if network is None else network.id,
        "network_name": None if network is None else network.name,
        "node": one.node,
        "packets": one.packets,
        "bytes": one.bytes,
    }


ROUTES = (
    Route(
        "/v1/drops",
        Resource.DROP,
        {
            "GET": Endpoint(
                Verb.LIST,
                list_drops,
                declared.shown(drops=list[operator_answers.Drop], silent=list[str]),
                query=declared.texts("port_id", "node"),
                refusals=(404,),
            )
        },
    ),
)
