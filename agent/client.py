"""The REST API of the controllers, as the agent speaks to it: the first that answers, over connections kept alive."""

from __future__ import annotations

import asyncio
import json
import random
import select
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

import h11

from agent.config import Tls
from agent.tls import ClientTls

_T = TypeVar("_T")

_CHUNK = 65536
_PORTS = {"http": 80, "https": 443}
_FIRST_DELAY_S = 0.2


def delay_after(failures: int, most: float) -> float:
    """Seconds until the next try, after so many in a row that failed before this one; never more than `most`. By
    chance, so that agents do not all come at once.
    """
    return random.uniform(0, min(most, _FIRST_DELAY_S * 2 ** min(failures, 16)))


class ClientError(Exception):
    """A request did not get through; `status` is the HTTP status, 0 when there was no answer, and `code` what the API
    says for programs. `slow`: it was taken, and the time for the answer is over.
    """

    @property
    def of_request(self) -> bool:
        """That one request is to blame, and not the controller."""
        return self.slow or self.status != 0

    def __init__(self, text: str, status: int = 0, *, slow: bool = False, code: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.slow = slow


@dataclass(frozen=True, slots=True)
class Answer:
    """`retry_after` in seconds, where the controller asks for it (RFC 9110, 10.2.3)."""

    status: int
    content_type: str
    body: bytes
    retry_after: int | None = None


class Client:
    """For any number of requests at once, all from one event loop. Times in seconds. `tls` is for https:; an empty
    `token` is not sent.
    """

    def __init__(
        self,
        urls: tuple[str, ...],
        token: str,
        *,
        tls: Tls | None = None,
        connect_timeout: float = 2.0,
        read_timeout: float = 10.0,
    ) -> None:
        self._urls = urls
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._authorization = [("Authorization", f"Bearer {token}")] if token else []
        self._tls = ClientTls(tls)
        self._index = 0
        self._idle: list[_Connection] = []

    async def put(self, path: str, body: Mapping[str, object]) -> dict[str, object]:
        """PUTs JSON; the JSON object that is the answer. Raises ClientError, for any other status than 200 too."""
        return await self.call("PUT", path, body)

    async def call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, object]:
        """Sends JSON, if any; the JSON object that is the answer. Raises ClientError, for any status but 2xx too."""
        encoded = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        answer = await self.ask(method, path, encoded, "application/json" if encoded else "")
        try:
            content = json.loads(answer.body)
        except ValueError:
            content = None
        if not 200 <= answer.status < 300 or not isinstance(content, dict):
            code, reason = _refusal(content)
            raise ClientError(f"{self.url}{path}: {answer.status} {reason}", answer.status, code=code)
        return content

    async def ask(
        self, method: str, path: str, body: bytes | None = None, content_type: str = "", most: int | None = None
    ) -> Answer:
        """The answer, whatever its status. `path` is sent as it is. Raises ClientError without one, and when it is
        longer than `most` bytes.
        """
        url = self.url
        parts = urlsplit(url)
        headers = [("Host", parts.netloc), *self._authorization]
        if content_type:
            headers.append(("Content-Type", content_type))
        if body is not None:
            headers.append(("Content-Length", str(len(body))))
        request = h11.Request(method=method, target=parts.path + path, headers=headers)
        connection: _Connection | None = self._kept() or await self._connect(parts)
        assert connection is not None
        try:
            async with asyncio.timeout(self._read_timeout):
                answer = await connection.exchange(request, body or b"", most)
            if url == self.url and connection.is_kept:
                self._idle.append(connection)
                connection = None
        except TimeoutError:
            raise ClientError(f"{url}: no answer within {self._read_timeout:g} s", slow=True) from None
        except (OSError, h11.ProtocolError) as error:
            raise ClientError(f"{url}: {error}") from error
        finally:
            if connection is not None:
                connection.close()
        return answer

    @property
    def url(self) -> str:
        """The controller that is asked now."""
        return self._urls[self._index]

    def next_url(self, failed: str | None = None) -> None:
        """Turns to the next controller, on new connections; not if `failed` is no longer the one that is asked."""
        if failed is None or failed == self.url:
            self.close()
            self._index = (self._index + 1) % len(self._urls)

    def close(self) -> None:
        """All connections that are not in use."""
        while self._idle:
            self._idle.pop().close()

    def _kept(self) -> _Connection | None:
        if self._tls.is_changed:
            self.close()
        while self._idle:
            connection = self._idle.pop()
            if connection.is_silent():
                return connection
            connection.close()
        return None

    async def _connect(self, url: SplitResult) -> _Connection:
        """Raises ClientError."""
        assert url.hostname is not None, "AgentConfig has no other"
        there = url.hostname, url.port or _PORTS[url.scheme]
        try:
            # a name may take long to be found
            connect = partial(socket.create_connection, there, self._connect_timeout)
            connected = await in_thread(connect, "connecting", socket.socket.close)
            connected.setblocking(False)
            tls, name = (self._tls.context(), url.hostname) if url.scheme == "https" else (None, None)
            async with asyncio.timeout(self._connect_timeout):
                return _Connection(*await asyncio.open_connection(sock=connected, ssl=tls, server_hostname=name))
        except OSError as error:
            raise ClientError(f"{url.geturl()}: {error or 'no connection in time'}") from error


class _Connection:
    """One request after the other, in HTTP/1.1 (RFC 9112)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._state = h11.Connection(h11.CLIENT)
        self._arrivals = select.poll()
        self._arrivals.register(writer.get_extra_info("socket"), select.POLLIN)

    async def exchange(self, request: h11.Request, body: bytes, most: int | None) -> Answer:
        """Raises ClientError for a body of more than `most` bytes, OSError and h11.ProtocolError."""
        events = (request, h11.Data(data=body), h11.EndOfMessage()) if body else (request, h11.EndOfMessage())
        self._writer.write(b"".join(self._state.send(event) or b"" for event in events))
        await self._writer.drain()
        response: h11.Response | None = None
        content = bytearray()
        while True:
            event = self._state.next_event()
            if event is h11.NEED_DATA:
                self._state.receive_data(await self._reader.read(_CHUNK))
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data) and response is not None:
                content += event.data
                if most is not None and len(content) > most:
                    raise ClientError(f"{request.target.decode()}: more than {most} bytes", response.status_code)
            elif isinstance(event, h11.EndOfMessage) and response is not None:
                return _answer(response, bytes(content))
            elif not isinstance(event, h11.InformationalResponse):
                raise ConnectionError(f"{event} is no answer")

    @property
    def is_kept(self) -> bool:
        """Whether there may be another request, after an answer."""
        if self._state.our_state is h11.DONE and self._state.their_state is h11.DONE:
            self._state.start_next_cycle()
        return self._state.our_state is h11.IDLE

    def is_silent(self) -> bool:
        """Between two requests a controller says nothing but that it closes the connection. It may have done so while
        no event loop ran.
        """
        return not self._reader.at_eof() and not self._writer.is_closing() and not self._arrivals.poll(0)

    def close(self) -> None:
        """At once."""
        self._writer.transport.abort()


def _answer(response: h11.Response, body: bytes) -> Answer:
    said = dict(response.headers)
    wait = said.get(b"retry-after", b"").decode("latin-1")
    retry_after = int(wait) if wait.isascii() and wait.isdigit() else None
    return Answer(response.status_code, said.get(b"content-type", b"").decode("latin-1"), body, retry_after)


def _refusal(content: object) -> tuple[str, str]:
    """For programs, and for people."""
    error = content.get("error") if isinstance(content, dict) else None
    if not isinstance(error, dict):
        return "", "without a reason"
    return str(error.get("code", "")), str(error.get("message", error))


async def in_thread(call: Callable[[], _T], name: str, drop: Callable[[_T], None] | None = None) -> _T:
    """What takes long and cannot be interrupted. In a thread that the process does not wait for when it ends, as it
    would for those of an executor. `drop`: what to do with a result that nobody waits for any more.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def succeeded(made: _T) -> None:
        if not done.done():
            done.set_result(made)
        elif drop is not None:
            drop(made)

    def failed(error: Exception) -> None:
        if not done.done():
            done.set_exception(error)

    def work() -> None:
        settle: Callable[[], None]
        try:
            settle = partial(succeeded, call())
        except Exception as error:
            settle = partial(failed, error)
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle)

    threading.Thread(target=work, name=name, daemon=True).start()
    return await done
