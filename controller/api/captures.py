"""/v1/ports/{id}/captures: what passes a port, as it passes, from its node. The agent sends it here in parts.

The answer is a pcap file (libpcap's format with microseconds, draft-ietf-opsawg-pcap) that grows. How it was is told
afterwards by the id that `X-Capture-Id` has named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Annotated, Any, Final

import structlog
from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from controller import captures
from controller.api import declared
from controller.api.auth import Resource, Verb
from controller.api.errands import refusal, speaking
from controller.api.errors import ApiError
from controller.api.fields import AnyAddress, RequestModel
from controller.api.http import Answer, Endpoint, Request, Route, Stream
from controller.api.peer import Peer, peer_of
from controller.api.ports import owned
from controller.api.services import Services
from controller.errands import ErrandError, Kind

PCAP: Final = "application/vnd.tcpdump.pcap"
BINARY: Final = "application/octet-stream"
CAPTURE_ID: Final = "X-Capture-Id"

MOST_SECONDS: Final = 600
MOST_PACKETS: Final = 100_000
MOST_BYTES: Final = 64 << 20
"""Of a whole capture. The agent does not do more, whoever asks."""

MOST_PART: Final = 32 << 10
"""Bytes of one part."""

_START_TIME: Final = 5.0
_TICK: Final = 1.0


class CaptureFilter(RequestModel):
    """What all packets must be: of this IP protocol, from or to this address, from or to this port of TCP or UDP."""

    protocol: Annotated[int, Field(ge=0, le=255)] | None = None
    address: AnyAddress | None = None
    port: Annotated[int, Field(ge=0, le=65535)] | None = None


class CaptureCreate(RequestModel):
    """It ends after `seconds`, or with so many `packets`, of each of which `snaplen` bytes are kept."""

    seconds: Annotated[int, Field(ge=1, le=MOST_SECONDS)] = 30
    packets: Annotated[int, Field(ge=1, le=MOST_PACKETS)] = 1000
    snaplen: Annotated[int, Field(ge=14, le=65535)] = 128
    filter: CaptureFilter = CaptureFilter()


class CaptureEnd(RequestModel):
    packets: Annotated[int, Field(ge=0, le=1 << 40)]
    bytes: Annotated[int, Field(ge=0, le=1 << 50)]
    dropped: Annotated[int, Field(ge=0, le=1 << 40)]
    reason: Annotated[str, Field(pattern=r"^[a-z_]{1,40}$")]


class CaptureSummary(TypedDict):
    """`packets` and `bytes`: what was sent; `dropped`: packets that there was no room for; `reason`: why it ended."""

    id: str
    port_id: str
    packets: int
    bytes: int
    dropped: int
    reason: str


CAPTURE_CREATE = TypeAdapter(CaptureCreate)
CAPTURE_END = TypeAdapter(CaptureEnd)


def create_capture(services: Services, request: Request) -> Stream:
    """What passes a port from now on, as a pcap file that grows. Nothing of it is answered before it is in the audit
    trail.
    """
    port = owned(services, request.caller, request.params["id"]).port
    wanted = request.parse(CAPTURE_CREATE)
    if port.binding is None:
        raise ApiError(409, "not_bound", "the port is on no node")
    node = port.binding.node
    try:
        capture = services.captures.open(port.id, node, request.caller.project)
    except captures.Busy as error:
        raise ApiError(409, "too_many_captures", str(error)) from None
    bounds = _arguments(wanted)
    try:
        arguments = {"capture": capture.id, "iface_id": port.id, "bytes": MOST_BYTES, **bounds}
        services.errands.ask(node, Kind.CAPTURE, arguments, _START_TIME)
        told = {"capture": capture.id, "node": node, **bounds}
        services.store.note_capture(port.id, told, request.caller.actor)
    except BaseException as error:
        services.captures.forget(capture)
        if isinstance(error, ErrandError):
            raise refusal(error) from error
        raise
    origin = request.caller.origin
    log = structlog.get_logger("controller.api").bind(
        capture=capture.id,
        port=port.id,
        node=node,
        actor=request.caller.name,
        token=origin.token,
        address=origin.address,
        request_id=request.request_id,
    )
    log.info("capture_begins", **bounds)
    body = _Body(services.captures, capture, peer_of(request.environ), log)
    return Stream(200, PCAP, ((CAPTURE_ID, capture.id),), body)


def _arguments(wanted: CaptureCreate) -> dict[str, Any]:
    """In JSON values."""
    only = {
        "protocol": wanted.filter.protocol,
        "address": None if wanted.filter.address is None else str(wanted.filter.address),
        "port": wanted.filter.port,
    }
    filter_ = {name: value for name, value in only.items() if value is not None}
    return {"seconds": wanted.seconds, "packets": wanted.packets, "snaplen": wanted.snaplen, "filter": filter_}


class _Body:
    """The parts as they come. The server closes it, whether or not it has begun."""

    def __init__(self, held: captures.Captures, capture: captures.Capture, peer: Peer, log: Any) -> None:
        self._held = held
        self._capture = capture
        self._peer = peer
        self._log = log
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        while True:
            part = self._capture.take(_TICK)
            if part is not None:
                self._peer.more_time()
                return part
            if self._capture.over or self._peer.is_gone():
                self.close()
                raise StopIteration

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._log.info("capture_ends", **asdict(self._held.close(self._capture)))


def show_capture(services: Services, request: Request) -> Answer:
    """How a capture was that is over."""
    port = owned(services, request.caller, request.params["id"]).port
    capture_id = request.params["capture"]
    try:
        summary = services.captures.summary(port.id, capture_id)
    except captures.Unknown:
        raise ApiError(404, "capture_unknown", "no such capture of this port is over") from None
    return Answer.json({"capture": {"id": capture_id, "port_id": port.id, **asdict(summary)}})


def put_part(services: Services, request: Request) -> Answer:
    """The next part of a capture, of 32 KiB at most; an empty one says that the agent is still there."""
    capture = _of_node(services, request)
    if len(request.body) > MOST_PART:
        raise ApiError(413, "body_too_large", f"a part may have {MOST_PART} bytes")
    wanted, taken = capture.put(request.body)
    return Answer.json({"wanted": wanted, "taken": taken})


def end_capture(services: Services, request: Request) -> Answer:
    """All parts of a capture have been sent."""
    capture = _of_node(services, request)
    body = request.parse(CAPTURE_END)
    capture.end(captures.Summary(body.packets, body.bytes, body.dropped, body.reason))
    return Answer.json({"taken": True})


def _of_node(services: Services, request: Request) -> captures.Capture:
    try:
        return services.captures.of_node(speaking(services, request), request.params["capture"])
    except captures.Unknown:
        raise ApiError(404, "capture_unknown", "the node has no such capture") from None


_BYTES: Final[Mapping[str, Any]] = {"type": "string", "format": "binary"}
_PART = declared.Media((BINARY,), "Part of a pcap file.", _BYTES)

ROUTES = (
    Route(
        "/v1/ports/{id}/captures",
        Resource.CAPTURE,
        {
            "POST": Endpoint(
                Verb.CREATE,
                create_capture,
                declared.Media((PCAP,), "A pcap file.", _BYTES),
                bodies=(CAPTURE_CREATE,),
                waits=True,
            )
        },
    ),
    Route(
        "/v1/ports/{id}/captures/{capture}",
        Resource.CAPTURE,
        {"GET": Endpoint(Verb.SHOW, show_capture, declared.shown(capture=CaptureSummary))},
    ),
    Route(
        "/v1/nodes/{node}/captures/{capture}/parts",
        Resource.ERRAND,
        {
            "POST": Endpoint(
                Verb.REPORT,
                put_part,
                declared.shown(wanted=bool, taken=bool),
                bodies=_PART,
                many=True,
                waits=True,
            )
        },
    ),
    Route(
        "/v1/nodes/{node}/captures/{capture}/end",
        Resource.ERRAND,
        {"POST": Endpoint(Verb.REPORT, end_capture, declared.shown(taken=bool), bodies=(CAPTURE_END,))},
    ),
)
