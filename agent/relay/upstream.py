"""What the relay asks the controllers, fairly for all ports, and quickly found out when none answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from time import monotonic
from typing import Protocol

from agent.client import Answer, ClientError

LOG = logging.getLogger(__name__)

REQUESTS = 16
"""At the controllers at once, of all ports."""

_OF_ONE_PORT = 2
_LONGEST_QUEUE_S = 5.0
_QUICKLY_S = 1.5  # who has failed in less may have another try
_AWAY_S = 1.0  # for so long nobody is asked after nobody has answered
_MOST_BYTES = 1 << 20
_UNAUTHORIZED = 401


class Away(Exception):
    """No controller answers, or none in time."""


class Asked(Protocol):
    """`agent.client.Client`."""

    @property
    def url(self) -> str: ...

    def ask(
        self, method: str, path: str, body: bytes | None = None, content_type: str = "", most: int | None = None
    ) -> Answer: ...

    def next_url(self, failed: str | None = None) -> None: ...

    def close(self) -> None: ...


class Upstream:
    """Use from the event loop that runs when it is first asked."""

    def __init__(self, client: Asked, node_path: str, clock: Callable[[], float] = monotonic) -> None:
        """`node_path` is that of the node in the API, quoted."""
        self._client = client
        self._node_path = node_path
        self._clock = clock
        self._threads = ThreadPoolExecutor(REQUESTS, "relay")
        self._slots = asyncio.Semaphore(REQUESTS)
        self._of_port: dict[int, tuple[asyncio.Semaphore, int]] = {}
        self._away_until = 0.0
        self._complaint = ""

    async def metadata(self, port_key: int, method: str, path: str, body: bytes | None, content_type: str) -> Answer:
        """`path` is quoted and has no leading slash. Raises Away."""
        where = f"{self._node_path}/metadata/{port_key}/{path}"
        return await self._ask(port_key, method, where, body, content_type, again=method == "GET")

    async def dns(self, port_key: int, message: bytes) -> Answer:
        """Raises Away."""
        where = f"{self._node_path}/dns/{port_key}"
        return await self._ask(port_key, "POST", where, message, "application/dns-message", again=True)

    def close(self) -> None:
        """What is under way is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    async def _ask(
        self, port_key: int, method: str, path: str, body: bytes | None, content_type: str, *, again: bool
    ) -> Answer:
        if self._clock() < self._away_until:
            raise Away
        try:
            async with asyncio.timeout(_LONGEST_QUEUE_S) as queued, self._slot(port_key):
                queued.reschedule(None)
                call = (method, path, body, content_type, again)
                answer = await asyncio.get_running_loop().run_in_executor(self._threads, self._call, *call)
        except TimeoutError:
            raise Away from None
        except ClientError as error:
            self._failed(str(error))
            raise Away from error
        if answer.status == _UNAUTHORIZED:  # the token of the agent, not of the VM
            self._failed("the controller does not know the agent's token")
            raise Away
        if self._complaint:
            LOG.info("requests of VMs are answered again")
            self._complaint = ""
        return answer

    def _call(self, method: str, path: str, body: bytes | None, content_type: str, again: bool) -> Answer:
        url, began = self._client.url, self._clock()
        try:
            return self._client.ask(method, path, body, content_type, _MOST_BYTES)
        except ClientError:
            # the connection was kept alive and the controller has just closed it, or it is another one's turn
            self._client.next_url(url)
            if not again or self._clock() - began > _QUICKLY_S:
                raise
            return self._client.ask(method, path, body, content_type, _MOST_BYTES)

    def _failed(self, complaint: str) -> None:
        self._away_until = self._clock() + _AWAY_S
        if complaint != self._complaint:
            self._complaint = complaint
            LOG.warning("requests of VMs are not answered: %s", complaint)

    @asynccontextmanager
    async def _slot(self, port_key: int) -> AsyncIterator[None]:
        """One of the port's own first: so that it never stands in the common queue more than those few times."""
        of_port, users = self._of_port.get(port_key) or (asyncio.Semaphore(_OF_ONE_PORT), 0)
        self._of_port[port_key] = (of_port, users + 1)
        try:
            async with of_port, self._slots:
                yield
        finally:
            _, users = self._of_port[port_key]
            if users == 1:
                del self._of_port[port_key]
            else:
                self._of_port[port_key] = (of_port, users - 1)
