"""/v1/topology: all that a picture of the cloud shows, from memory: no database is asked.

It is made at most once a second for all who see the same of the cloud, however many ask, and in parts, between which
others are served.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from threading import Semaphore
from typing import Annotated, Final

import eventlet
from pydantic import Field
from typing_extensions import TypedDict

from controller.api import declared
from controller.api.answers import Cidr, Ip, Ipv4, Kind, Mac, Mode, Project
from controller.api.auth import Identity, Resource, Verb
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.services import Services
from controller.api.views import Json, port_status
from flows.explain.naming import Names
from flows.model import FloatingIp, Network, Node, Port
from flows.snapshot import Snapshot

MOST_OFTEN: Final = 1.0
"""Seconds."""
MOST_VIEWS: Final = 64
AT_ONCE: Final = 200
"""Objects that are told of without a pause: a few milliseconds."""

PARTS: Final = (Resource.NODE, Resource.NETWORK, Resource.PORT, Resource.FLOATING_IP)


class TopologyNode(TypedDict):
    name: str
    state: Annotated[str, Field(description="What its session is in; `live` is well")]
    controller: str | None
    physical_networks: list[str]
    flows: int | None
    unconfirmed_since: Annotated[int | None, Field(description="The first revision that it has not confirmed")]
    quarantined_flows: int
    not_compiled: list[str]


class TopologyNetwork(TypedDict):
    """Members are told null for what is the operator's."""

    id: str
    name: str
    project_id: Project
    shared: bool
    external: bool
    kind: Kind
    segment: int | None
    physical_network: str | None
    gateway_mode: Mode
    subnets: list[Cidr]


class TopologyPort(TypedDict):
    """`node`: where it is, or is to be."""

    id: str
    name: str
    hostname: str
    project_id: Project
    device_id: str
    network_id: str
    mac: Mac
    addresses: list[Ip]
    node: str | None
    status: str


class TopologyFloatingIp(TypedDict):
    """`node`: which one answers for it. `port_ids`: several where it forwards ports."""

    id: str
    address: Ipv4
    network_id: str
    project_id: Project
    port_ids: list[str]
    fixed_ip: Ipv4 | None
    node: str | None


@dataclass(frozen=True, slots=True)
class View:
    """What a caller sees: of one project, None for all, and these kinds of objects."""

    project: str | None
    parts: frozenset[Resource]

    @staticmethod
    def of(caller: Identity) -> View:
        return View(caller.project, frozenset(part for part in PARTS if caller.may(part, Verb.LIST)))


@dataclass(slots=True)
class _Kept:
    """The last answer for a view; `turn`: whoever makes the next one has it."""

    answer: Answer | None = None
    made_at: float = 0.0
    turn: Semaphore = field(default_factory=Semaphore)


class Topologies:
    """`clock`: seconds that only go forward. `pause` lets others run."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, pause: Callable[[], object] = lambda: eventlet.sleep(0)
    ) -> None:
        self._clock = clock
        self._pause = pause
        self._kept: OrderedDict[View, _Kept] = OrderedDict()

    def show(self, services: Services, view: View) -> Answer:
        kept = self._kept.setdefault(view, _Kept())
        self._kept.move_to_end(view)
        if len(self._kept) > MOST_VIEWS:
            self._kept.popitem(last=False)
        with kept.turn:
            if kept.answer is None or self._clock() - kept.made_at >= MOST_OFTEN:
                kept.made_at = self._clock()
                kept.answer = self._make(services, view)
            return kept.answer

    def _make(self, services: Services, view: View) -> Answer:
        snapshot = services.snapshot()
        names = Names(snapshot, view.project)
        parts: list[bytes] = [b'{"revision":%d' % snapshot.revision]
        for name, resource, rows in (
            ("nodes", Resource.NODE, _nodes(services, snapshot)),
            ("networks", Resource.NETWORK, _networks(names)),
            ("ports", Resource.PORT, _ports(services, names)),
            ("floating_ips", Resource.FLOATING_IP, _floating_ips(names)),
        ):
            parts.append(f',"{name}":['.encode())
            parts += self._written(rows if resource in view.parts else ())
            parts.append(b"]")
        parts.append(b"}")
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        return Answer(200, b"".join(parts), etag=digest.hexdigest()[:32])

    def _written(self, rows: Iterable[Json]) -> Iterator[bytes]:
        """Rows in JSON, with commas between them."""
        group: list[Json] = []
        comma = b""
        for row in rows:
            group.append(row)
            if len(group) == AT_ONCE:
                yield comma + _inner(group)
                comma = b","
                group.clear()
                self._pause()
        if group:
            yield comma + _inner(group)


def _inner(rows: list[Json]) -> bytes:
    return json.dumps(rows, separators=(",", ":")).encode()[1:-1]


def _nodes(services: Services, snapshot: Snapshot) -> Iterator[Json]:
    for node in snapshot.nodes.values():
        yield _node(node, services.node_state(node.name))


def _node(node: Node, state: Json) -> Json:
    return {
        "name": node.name,
        "state": state.get("state", "disconnected"),
        "controller": state.get("controller"),
        "physical_networks": [uplink.physical_network for uplink in node.uplinks],
        "flows": state.get("flows"),
        "unconfirmed_since": state.get("unconfirmed_since"),
        "quarantined_flows": state.get("quarantined_flows", 0),
        "not_compiled": state.get("not_compiled", []),
    }


def _networks(names: Names) -> Iterator[Json]:
    for network in names.snapshot.networks.values():
        if names.sees_network(network):
            yield _network(network, whole=names.operator)


def _network(network: Network, *, whole: bool) -> Json:
    return {
        "id": network.id,
        "name": network.name,
        "project_id": network.project_id,
        "shared": network.shared,
        "external": network.external,
        "kind": network.kind.value,
        "segment": network.segment if whole else None,
        "physical_network": network.physical_network if whole else None,
        "gateway_mode": network.gateway_mode.value,
        "subnets": [*(str(one.cidr) for one in network.subnets), *(str(one.cidr) for one in network.ipv6_subnets)],
    }


def _ports(services: Services, names: Names) -> Iterator[Json]:
    for port in names.snapshot.ports.values():
        if names.sees_port(port):
            yield _port(port, services.port_active(port))


def _port(port: Port, active: bool) -> Json:
    return {
        "id": port.id,
        "name": port.name,
        "hostname": port.hostname,
        "project_id": port.project_id,
        "device_id": port.device_id,
        "network_id": port.network_id,
        "mac": port.mac,
        "addresses": [str(address) for address in port.assigned],
        "node": port.node if port.binding is None else port.binding.node,
        "status": port_status(port, active),
    }


def _floating_ips(names: Names) -> Iterator[Json]:
    for floating_ip in names.snapshot.floating_ips.values():
        if names.sees_floating_ip(floating_ip):
            yield _floating_ip(floating_ip, names.snapshot.floating_ip_node(floating_ip), names)


def _floating_ip(floating_ip: FloatingIp, node: str | None, names: Names) -> Json:
    return {
        "id": floating_ip.id,
        "address": str(floating_ip.address),
        "network_id": floating_ip.network_id,
        "project_id": floating_ip.project_id,
        "port_ids": _seen(floating_ip.port_ids, names),
        "fixed_ip": None if floating_ip.fixed_ip is None else str(floating_ip.fixed_ip),
        "node": node,
    }


def _seen(port_ids: Collection[str], names: Names) -> list[str]:
    """Those of the ports that the caller may know of."""
    known = (names.snapshot.ports.get(id_) for id_ in sorted(port_ids))
    return [port.id for port in known if port is not None and names.sees_port(port)]


def routes() -> tuple[Route, ...]:
    topologies = Topologies()

    def show_topology(services: Services, request: Request) -> Answer:
        """Nodes, networks, ports and floating IPs, as a picture shows them: of each kind what the caller may list. It
        may be a second old. `If-None-Match` is taken.
        """
        return topologies.show(services, View.of(request.caller))

    told = declared.shown(
        revision=declared.Revision,
        nodes=list[TopologyNode],
        networks=list[TopologyNetwork],
        ports=list[TopologyPort],
        floating_ips=list[TopologyFloatingIp],
    )
    show = Endpoint(Verb.SHOW, show_topology, told, refusals=(304,))
    return (Route("/v1/topology", Resource.TOPOLOGY, {"GET": show}),)
