"""/v1/trace: what becomes of a packet, in words. Nothing is sent."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Final

from pydantic import Field, TypeAdapter

from controller.api import declared, live_trace
from controller.api.auth import Resource, Verb
from controller.api.errors import ApiError, forbidden, invalid, unknown_object
from controller.api.fields import AnyUnicastAddress, Mac, Name, RequestModel
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.policy_fields import Protocol
from controller.api.services import Services
from controller.api.trace_answers import Arrives, LiveHop, TraceFinding, TraceHop, TraceReply, Verdict, shown
from controller.api.trace_answers import Packet as PacketInWords
from controller.green import Turns
from controller.store.engine import UNAVAILABLE
from controller.store.specs import NotFound
from controller.tracing import LONGEST_TURN, Ambiguous, Known, Unaddressed, Unknown, find_port, find_target, flows_of
from flows.explain import request as making
from flows.explain.explain import Explainer
from flows.explain.naming import Names
from flows.explain.target import Target
from flows.model import Port
from flows.protocols import PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP

_LEAST_FRAME, _MOST_FRAME = 60, 65535  # bytes, with 14 of Ethernet
_WITH_PORTS: Final = frozenset({PROTO_TCP, PROTO_UDP})
_WITH_TYPES: Final = frozenset({None, PROTO_ICMP, PROTO_ICMPV6})
_VERSIONS: Final = {PROTO_ICMP: 4, PROTO_ICMPV6: 6}
OfPort = Annotated[int, Field(ge=0, le=0xFFFF)]
OfByte = Annotated[int, Field(ge=0, le=0xFF)]


class TraceIn(RequestModel):
    """`port` sends, or without one `from_address`, which is outside. With both, the port sends from that address.

    `to`: an address, a port (id or name), or a name that the VM of the port would be told. Without `protocol` it is an
    echo request. `size`: bytes of the frame. `reply`: whether an answer would get back.
    `live`: also what the switches on the way say themselves.
    """

    port: Name | None = None
    from_address: AnyUnicastAddress | None = None
    from_mac: Mac | None = None
    to: Name
    protocol: Protocol | None = None
    source_port: OfPort | None = None
    destination_port: OfPort | None = None
    icmp_type: OfByte | None = None
    icmp_code: OfByte | None = None
    size: Annotated[int, Field(ge=_LEAST_FRAME, le=_MOST_FRAME)] = 98
    ttl: Annotated[int, Field(ge=1, le=255)] = 64
    reply: bool = True
    live: bool = False


TRACE: TypeAdapter[TraceIn] = TypeAdapter(TraceIn)


def trace(services: Services, request: Request) -> Answer:
    body = request.parse(TRACE)
    _check(body)
    if body.live and not request.caller.operates:
        raise forbidden("what the switch itself says is for operators", "live")
    snapshot, programs = (services.snapshot(), {}) if services.programs is None else services.programs()
    names = Names(snapshot, request.caller.project)
    wanted = _wanted(names, body)
    names = names.towards(wanted.target.floating_ip, wanted.port)
    known = _known(services, names)
    turn = Turns(LONGEST_TURN)
    explainer = Explainer(snapshot, names, known, flows_of(snapshot, programs), turn)
    found = explainer.explain(wanted, reply=body.reply)
    if not body.live:
        return Answer.json(shown(found))
    live = live_trace.ask(services, names, found, turn, request.aside)
    found = replace(found, findings=(*found.findings, *live.findings))
    return Answer.json(shown(found, live.hops, live.reply))


def _check(body: TraceIn) -> None:
    """Raises ApiError 400 for what does not fit together."""
    if body.port is None and body.from_address is None:
        raise ApiError(400, "missing_field", "port: is needed, or from_address for a packet from outside", "port")
    for field, value in (("source_port", body.source_port), ("destination_port", body.destination_port)):
        if value is not None and body.protocol not in _WITH_PORTS:
            raise invalid(field, "only tcp and udp have ports")
    for field, value in (("icmp_type", body.icmp_type), ("icmp_code", body.icmp_code)):
        if value is not None and body.protocol not in _WITH_TYPES:
            raise invalid(field, "only icmp and icmpv6 have types")


def _wanted(names: Names, body: TraceIn) -> making.Request:
    sender = None if body.port is None else _sender(names, body.port)
    version = _VERSIONS.get(body.protocol or 0)
    if body.from_address is not None:
        version = body.from_address.version
    try:
        target = find_target(names, sender, body.to, version, body.protocol or 0, body.destination_port or 0)
    except Unknown:
        raise ApiError(
            404, "target_unknown", f"{body.to} is no address, no port, and no name that the cloud knows", "to"
        ) from None
    except Unaddressed as error:
        raise ApiError(409, "no_address", str(error), "to") from None
    except Ambiguous as error:
        raise ApiError(409, "ambiguous", str(error), "to") from None
    if sender is None and not _owns(names, target):
        # from any address that it says it would learn of others what they let in, and what there is
        raise forbidden("from the outside a project can only ask for what is its own", "to")
    needed = _VERSIONS.get(body.protocol or 0, target.address.version)
    if needed != target.address.version:
        raise invalid("protocol", f"{target.address} is an IPv{target.address.version} address")
    if body.from_address is not None and body.from_address.version != target.address.version:
        raise invalid("from_address", f"{target.address} is an IPv{target.address.version} address, and this is not")
    return making.Request(
        sender,
        target,
        body.from_address,
        body.from_mac,
        body.protocol,
        body.source_port,
        body.destination_port,
        body.icmp_type,
        body.icmp_code,
        body.size,
        body.ttl,
    )


def _owns(names: Names, target: Target) -> bool:
    if target.floating_ip is not None:
        return names.sees_floating_ip(target.floating_ip)
    return names.operator if target.port is None else names.sees_port(target.port)


def _sender(names: Names, called: str) -> Port:
    try:
        return find_port(names, called)
    except Unknown:
        raise unknown_object("port", called, "port") from None
    except Ambiguous as error:
        raise ApiError(409, "ambiguous", str(error), "port") from None


def _known(services: Services, names: Names) -> Known:
    # what is known without a database is told all the same
    def leased(port: Port) -> bool | None:
        try:
            services.settle_leases()
            return bool(services.store.list_leases(port_id=port.id, limit=1))
        except UNAVAILABLE:
            return None

    def binding_error(port: Port) -> str | None:
        try:
            return services.store.get_port(port.id).binding_error
        except (NotFound, *UNAVAILABLE):
            return None

    return Known(
        names.snapshot,
        services.node_state,
        services.port_mutes,
        leased,
        binding_error,
        services.floating_ip_active,
    )


_ANSWER = declared.shown(
    arrives=Arrives,
    verdict=Verdict,
    summary=str,
    packet=PacketInWords,
    findings=list[TraceFinding],
    hops=list[TraceHop],
    reply=TraceReply | None,
    live=list[LiveHop] | None,
)
_TRACE = Endpoint(Verb.SHOW, trace, _ANSWER, bodies=(TRACE,), refusals=(404, 409))
ROUTES = (Route("/v1/trace", Resource.TRACE, {"POST": _TRACE}),)
