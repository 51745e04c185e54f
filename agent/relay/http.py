"""Metadata over HTTP/1.1 (RFC 9112), by h11: of a VM's request go on the method, the path and the body, nothing else.

The path becomes part of a URL that is asked with the agent's own token, so it is taken apart and put together again.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote, unquote_to_bytes

import h11

from agent.client import Answer
from agent.relay.limits import Rate
from agent.relay.stream import Stream
from agent.relay.upstream import Away, Upstream

_MOST_HEAD = 16384
_MOST_BODY = 65536
_MOST_PATH = 2048
_MOST_PIECES = 256  # of a body: each chunk costs as much, however small it is
_REQUEST_S = 15.0  # from the end of the last answer to the end of the next request
_WRITE_S = 30.0
_LONGEST_WAIT_S = 2.0  # a VM that asks too fast is slowed down first
_RETRY_S = 1
_NOT_ALLOWED, _TOO_LARGE = 405, 413
_WITHOUT_BODY = frozenset({204, 304})  # RFC 9110, 15
_MOST_CONTENT_TYPE = 256
_FIRST_FINAL = 200

_SEGMENT = re.compile(rb"[\x21-\x7e\x80-\xff ]*")
_METHODS = {"GET": "GET", "HEAD": "GET", "POST": "POST"}
_PLAIN = "text/plain; charset=utf-8"
_REASONS = {
    400: "the request is not valid",
    404: "no such path",
    405: "only GET, HEAD and POST are known here",
    413: "the body is too large",
    429: "too many requests",
    431: "the head is too large",
    503: "no controller answers, try again",
}
_KNOWN = frozenset(map(int, HTTPStatus))
_LATER = frozenset({429, 503})


class Refused(Exception):
    """With the status that says why."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    target: bytes
    body: bytes
    content_type: str


def upstream_path(target: bytes) -> str:
    """The path of a request, quoted anew, without its leading slash and its query. Raises Refused."""
    if target[:7].lower() == b"http://":  # RFC 9112, 3.2.2: a server takes the absolute form, too
        target = b"/" + target[7:].partition(b"/")[2]
    path = target.partition(b"?")[0].partition(b"#")[0]
    if not path.startswith(b"/") or len(path) > _MOST_PATH:
        raise Refused(400)
    segments = [unquote_to_bytes(segment) for segment in path.split(b"/")]
    last = segments.pop()
    kept = [segment for segment in segments if segment]  # some clients send //latest
    for segment in (*kept, last):
        if segment in (b".", b"..") or b"/" in segment or b"\\" in segment or not _SEGMENT.fullmatch(segment):
            raise Refused(400)
    return "/".join(quote(segment, safe="") for segment in (*kept, last))


class Http:
    """Serves connections of VMs."""

    def __init__(self, upstream: Upstream, rate: Rate) -> None:
        self._upstream = upstream
        self._rate = rate

    async def serve(self, stream: Stream, port_key: int) -> None:
        """Until the VM has no more to ask, or is too slow."""
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST_HEAD)
        while True:
            with_body = True
            try:
                async with asyncio.timeout(_REQUEST_S):
                    request = await _next(connection, stream)
                if request is None:
                    return
                with_body = request.method != "HEAD"
                answer = await self._answer(port_key, request)
            except h11.RemoteProtocolError as error:
                answer = await self._refused(port_key, error.error_status_hint)
            except Refused as error:
                answer = await self._refused(port_key, error.status)
            await stream.write(_encoded(connection, answer, with_body=with_body), _WRITE_S)
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                await stream.finish()
                return
            connection.start_next_cycle()

    async def _answer(self, port_key: int, request: Request) -> Answer:
        method = _METHODS.get(request.method)
        if method is None:
            raise Refused(_NOT_ALLOWED)
        path = upstream_path(request.target)
        if not await self._turn(port_key):
            return _refusal(429)
        body = request.body if method == "POST" else None
        try:
            content_type = request.content_type if body is not None else ""
            answer = await self._upstream.metadata(port_key, method, path, body, content_type)
            return answer if answer.status >= _FIRST_FINAL else _refusal(503)
        except Away:
            return _refusal(503)

    async def _turn(self, port_key: int) -> bool:
        """Whether a request may go on, when its turn has come. One that may not has waited, too: to be read costs more
        than to be sent.
        """
        wait = self._rate.take(port_key, _LONGEST_WAIT_S)
        await asyncio.sleep(_LONGEST_WAIT_S if wait is None else wait)
        return wait is not None

    async def _refused(self, port_key: int, status: int) -> Answer:
        """As slowly as anything else."""
        return _refusal(status if await self._turn(port_key) else 429)


async def _next(connection: h11.Connection, stream: Stream) -> Request | None:
    """The next request, whole; None at the end. Raises Refused, h11.RemoteProtocolError."""
    head: h11.Request | None = None
    body = bytearray()
    pieces = 0
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            if connection.they_are_waiting_for_100_continue:
                go_on = connection.send(h11.InformationalResponse(status_code=100, headers=[]))
                await stream.write(go_on or b"", _WRITE_S)
            connection.receive_data(await stream.read())
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            pieces += 1
            if len(body) > _MOST_BODY or pieces > _MOST_PIECES:
                raise Refused(_TOO_LARGE)
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            content_type = next((value for name, value in head.headers if name == b"content-type"), b"")
            text = content_type[:_MOST_CONTENT_TYPE].decode("latin-1")
            return Request(head.method.decode(), head.target, bytes(body), text)
        else:
            return None


def _encoded(connection: h11.Connection, answer: Answer, *, with_body: bool) -> bytes:
    """Nothing where the request was such that it cannot be answered."""
    if connection.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
        return b""
    headers = [("Content-Type", answer.content_type or _PLAIN), ("Content-Length", str(len(answer.body)))]
    if answer.retry_after is not None:
        headers.append(("Retry-After", str(answer.retry_after)))
    if answer.status == _NOT_ALLOWED:
        headers.append(("Allow", ", ".join(_METHODS)))
    if connection.their_state is not h11.DONE:  # what comes next is not understood
        headers.append(("Connection", "close"))
    reason = HTTPStatus(answer.status).phrase if answer.status in _KNOWN else ""
    events: list[h11.Event] = [h11.Response(status_code=answer.status, headers=headers, reason=reason)]
    if with_body and answer.status not in _WITHOUT_BODY:
        events.append(h11.Data(data=answer.body))
    return b"".join(connection.send(event) or b"" for event in (*events, h11.EndOfMessage()))


def _refusal(status: int) -> Answer:
    reason = _REASONS.get(status, _REASONS[400])
    return Answer(status, _PLAIN, f"{reason}\n".encode(), _RETRY_S if status in _LATER else None)
