"""DNS over TCP (RFC 7766): each question goes on as it is; one that gets no answer is told so."""

from __future__ import annotations

import asyncio
import struct

from agent.relay.limits import Rate
from agent.relay.stream import Stream
from agent.relay.upstream import Away, Upstream

_LENGTH = struct.Struct(">H")
_HEADER = struct.Struct(">HHHHHH")  # RFC 1035, 4.1.1
_MOST_QUESTION = 4096  # bytes; what a question may hold of names and options is a few hundred
_QUESTION_S = 10.0  # from the end of the last answer to the end of the next question
_WRITE_S = 10.0
_LONGEST_WAIT_S = 2.0
_OK = 200
_RESPONSE, _KEPT_FLAGS, _SERVER_FAILURE = 0x8000, 0x7900, 2  # QR; opcode and RD; RCODE
_TYPE_AND_CLASS = 4
_MOST_LABEL = 63


def server_failure(question: bytes) -> bytes | None:
    """SERVFAIL for a message (RFC 1035, 4.1.1) with its first question; None when it is not a query."""
    if len(question) < _HEADER.size:
        return None
    number, flags, count, _, _, _ = _HEADER.unpack_from(question)
    if flags & _RESPONSE:
        return None
    end = _end_of_question(question) if count else None
    asked = b"" if end is None else question[_HEADER.size : end]
    head = _HEADER.pack(number, _RESPONSE | flags & _KEPT_FLAGS | _SERVER_FAILURE, 1 if asked else 0, 0, 0, 0)
    return head + asked


def _end_of_question(message: bytes) -> int | None:
    at = _HEADER.size
    while at < len(message) and message[at]:
        if message[at] > _MOST_LABEL:  # compressed: nobody does so in a question
            return None
        at += 1 + message[at]
    end = at + 1 + _TYPE_AND_CLASS
    return end if end <= len(message) else None


class Dns:
    """Serves connections of VMs, one question after the other."""

    def __init__(self, upstream: Upstream, rate: Rate) -> None:
        self._upstream = upstream
        self._rate = rate

    async def serve(self, stream: Stream, port_key: int) -> None:
        """Until the VM has no more to ask, is too slow, or sends what is no question."""
        while True:
            try:
                async with asyncio.timeout(_QUESTION_S):
                    (size,) = _LENGTH.unpack(await stream.read_exactly(_LENGTH.size))
                    if size > _MOST_QUESTION:
                        return
                    question = await stream.read_exactly(size)
            except asyncio.IncompleteReadError:
                return
            answer = await self._answer(port_key, question)
            if answer is None:
                return
            await stream.write(_LENGTH.pack(len(answer)) + answer, _WRITE_S)

    async def _answer(self, port_key: int, question: bytes) -> bytes | None:
        failure = server_failure(question)
        if failure is None:
            return None
        wait = self._rate.take(port_key, _LONGEST_WAIT_S)
        await asyncio.sleep(_LONGEST_WAIT_S if wait is None else wait)  # too many cost the VM more than the relay
        if wait is None:
            return failure
        try:
            answer = await self._upstream.dns(port_key, question)
        except Away:
            return failure
        fits = answer.status == _OK and _HEADER.size <= len(answer.body) <= 0xFFFF
        return answer.body if fits else failure
