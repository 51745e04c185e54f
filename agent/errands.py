"""What controllers have this node do: the agent asks each of them for errands, and answers what came of it.

From a thread of its own for each controller, with connections of its own, so that no report waits for an errand. A
request of an operator may arrive at any controller: so each is asked all the time.

There are two kinds, and nothing that is sent along becomes part of a command, a path or a name as it is. A controller
that has been taken over gets flows onto a node, and by this nothing more than to see what VMs send and receive.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from agent import ofproto_trace
from agent.capture import BadCapture, Capture, Wanted, device_of
from agent.client import Client, ClientError, delay_after, in_thread
from agent.config import AgentConfig
from agent.ofproto_trace import BadPacket
from agent.state import OvsState
from agent.vswitchd import CommandFailed, directories

LOG = logging.getLogger(__name__)

OFPROTO_TRACE: Final = "ofproto_trace"
CAPTURE: Final = "capture"

_WAIT_S: Final = 20
_READ_TIMEOUT_S: Final = _WAIT_S + 10.0
_MAX_DELAY_S: Final = 5.0
_MOST: Final[Mapping[str, int]] = {OFPROTO_TRACE: 2, CAPTURE: 4}
"""At once, for all controllers together."""

_ID: Final = re.compile(r"[0-9a-f]{1,64}")
_MOST_TEXT: Final = 1000


class Refusal(Exception):
    """It is not done; the text says why."""


@dataclass(frozen=True, slots=True)
class Errand:
    id: str
    kind: str
    arguments: Mapping[str, object]

    @staticmethod
    def parse(given: object) -> Errand:
        """Raises ValueError for what is none."""
        if isinstance(given, Mapping):
            id_, kind, arguments = given.get("id"), given.get("kind"), given.get("arguments")
            if isinstance(id_, str) and _ID.fullmatch(id_) and isinstance(kind, str) and isinstance(arguments, Mapping):
                return Errand(id_, kind, arguments)
        raise ValueError("no errand")


class _Places:
    """How much goes on of each kind."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()

    def take(self, kind: str) -> bool:
        with self._lock:
            if self._taken[kind] >= _MOST[kind]:
                return False
            self._taken[kind] += 1
            return True

    def give_back(self, kind: str) -> None:
        with self._lock:
            self._taken[kind] -= 1


class Errands:
    """`submit` from any thread what Open vSwitch shows."""

    def __init__(self, config: AgentConfig) -> None:
        self._state: OvsState | None = None
        places = _Places()
        self._lines = [_Line(config, url, places, lambda: self._state) for url in config.api_urls]

    def submit(self, state: OvsState) -> None:
        self._state = state

    def start(self) -> None:
        for line in self._lines:
            line.start()

    def stop(self) -> None:
        """Ends the threads, and all that goes on; nothing is waited for longer than a second."""
        for line in self._lines:
            line.cancel()
        for line in self._lines:
            line.join(1.0)


class _Line:
    """To one controller."""

    def __init__(self, config: AgentConfig, url: str, places: _Places, state: Callable[[], OvsState | None]) -> None:
        self._node = config.node
        self._bridge = config.integration_bridge
        self._sockets = directories(config.ovsdb)
        self._path = f"/v1/nodes/{quote(config.node, safe='')}/errands"
        self._url = url
        self._polling = Client((url,), config.api_token, tls=config.tls, read_timeout=_READ_TIMEOUT_S)
        self._answering = Client((url,), config.api_token, tls=config.tls)
        self._places = places
        self._state = state
        self._complaint = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._serving: asyncio.Task[None] | None = None
        self._under_way: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="errands", daemon=True)
        # All that there is: the name, and what does it.
        self._kinds: Mapping[str, Callable[[Mapping[str, object]], Awaitable[dict[str, object]]]] = {
            OFPROTO_TRACE: self._trace,
            CAPTURE: self._capture,
        }

    def start(self) -> None:
        self._thread.start()

    def cancel(self) -> None:
        loop, serving = self._loop, self._serving
        if loop is not None and serving is not None:
            with suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(serving.cancel)

    def join(self, timeout: float) -> None:
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        with asyncio.Runner() as runner, suppress(asyncio.CancelledError):
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._serving = asyncio.get_running_loop(), asyncio.current_task()
        failures = 0
        while True:
            try:
                errands = await self._fetch()
            except Exception as error:  # a fault in here must not make the node deaf for good
                self._complain(error)
                await asyncio.sleep(delay_after(failures, _MAX_DELAY_S))
                failures += 1
                continue
            if failures:
                LOG.info("%s: asked for errands again", self._url)
            failures, self._complaint = 0, ""
            for errand in errands:
                self._spawn(self._do(errand))

    def _complain(self, error: Exception) -> None:
        """Once for as long as it stays."""
        if str(error) != self._complaint:
            self._complaint = str(error)
            LOG.info("no errands: %s", error, exc_info=not isinstance(error, ClientError | ValueError))

    async def _fetch(self) -> list[Errand]:
        """Raises ClientError and ValueError."""
        answer = await self._polling.ask("GET", f"{self._path}?wait={_WAIT_S}")
        if answer.status != 200:
            raise ClientError(f"{self._url}{self._path}: status {answer.status}", answer.status)
        content = json.loads(answer.body)
        found = content.get("errands") if isinstance(content, dict) else None
        if not isinstance(found, list):
            raise ValueError(f"{self._url}{self._path}: no list of errands")
        return [Errand.parse(one) for one in found]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _do(self, errand: Errand) -> None:
        answer: dict[str, object]
        try:
            do = self._kinds.get(errand.kind)
            if do is None:
                raise Refusal("the agent does no such thing")
            answer = {"result": await do(errand.arguments)}
        except (Refusal, BadPacket, BadCapture, CommandFailed) as error:
            answer = {"refusal": _clean(str(error))}
        except Exception as error:
            LOG.exception("errand %s", errand.kind)
            answer = {"refusal": _clean(f"{type(error).__name__}: the agent's log says more")}
        if "refusal" in answer:
            LOG.info("errand %s refused: %s", _clean(errand.kind)[:40], answer["refusal"])
        try:
            body = json.dumps(answer, separators=(",", ":")).encode()
            await self._answering.ask("POST", f"{self._path}/{errand.id}/answer", body, "application/json")
        except ClientError as error:
            LOG.info("answer to an errand lost: %s", error)

    async def _trace(self, arguments: Mapping[str, object]) -> dict[str, object]:
        """Raises Refusal, BadPacket, CommandFailed."""
        self._take(OFPROTO_TRACE)
        try:
            call = partial(ofproto_trace.trace, self._sockets, self._bridge, arguments)
            return await in_thread(call, "tracing")
        finally:
            self._places.give_back(OFPROTO_TRACE)

    async def _capture(self, arguments: Mapping[str, object]) -> dict[str, object]:
        """Begins it. Raises Refusal, BadCapture."""
        wanted = Wanted.parse(arguments)
        device = device_of(self._state(), self._bridge, wanted.iface_id)
        self._take(CAPTURE)
        try:
            capture = Capture(wanted, device)
        except BaseException:
            self._places.give_back(CAPTURE)
            raise
        self._spawn(self._run_capture(capture))
        return {"device": device}

    async def _run_capture(self, capture: Capture) -> None:
        try:
            await capture.run(self._answering, self._node)
        finally:
            self._places.give_back(CAPTURE)

    def _take(self, kind: str) -> None:
        if not self._places.take(kind):
            raise Refusal(f"{_MOST[kind]} of these go on already")


def _clean(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)[:_MOST_TEXT] or "no reason"
