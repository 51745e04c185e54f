"""What the relay asks the controllers, fairly for all ports, and quickly found out when none answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Protocol

from agent.client import Answer, ClientError

LOG = logging.getLogger(__name__)

_OF_ONE_PORT = 2
_LONGEST_QUEUE_S = 5.0
_AWAY_S = 1.0  # for so long nobody is asked after nobody has answered
_MOST_BYTES = 1 << 20
_UNAUTHORIZED = 401


class Away(Exception):
    """No controller answers, or none in time."""


class Asked(Protocol):
    """`agent.client.Client`."""

    @property
    def url(self) -> str: ...

    async def ask(
        self, method: str, path: str, body: bytes | None = None, content_type: str = "", most: int | None = None
    ) -> Answer: ...

    def next_url(self, failed: str | None = None) -> None: ...

    def close(self) -> None: ...


class Upstream:
    """Use from the event loop that runs when it is first asked."""

    def __init__(
        self, client: Asked, node_path: str, requests: int = 16, clock: Callable[[], float] = monotonic
    ) -> None:
        """`node_path` is that of the node in the API, quoted; `requests` may be under way at once, of all ports."""
        self._client = client
        self._node_path = node_path
        self._clock = clock
        self._slots = asyncio.Semaphore(requests)
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
        self._client.close()

    async def _ask(
        self, port_key: int, method: str, path: str, body: bytes | None, content_type: str, *, again: bool
    ) -> Answer:
        if self._clock() < self._away_until:
            raise Away
        try:
            async with asyncio.timeout(_LONGEST_QUEUE_S) as queued, self._slot(port_key):
                queued.reschedule(None)
                answer = await self._call(method, path, body, content_type, again)
        except TimeoutError:
            raise Away from None
        except ClientError as error:
            # that one answer takes long, or is too long, says nothing of the others: a VM may be to blame for it
            self._failed(str(error), for_all=not error.of_request)
            raise Away from error
        if answer.status == _UNAUTHORIZED:  # the token of the agent, not of the VM
            self._failed("the controller does not know the agent's token")
            raise Away
        if self._complaint:
            LOG.info("requests of VMs are answered again")
            self._complaint = ""
        return answer

    async def _call(self, method: str, path: str, body: bytes | None, content_type: str, again: bool) -> Answer:
        url = self._client.url
        try:
            return await self._client.ask(method, path, body, content_type, _MOST_BYTES)
        except ClientError as error:
            if error.status:
                raise
            # the connection was kept alive and the controller has just closed it, or it is another one's turn
            self._client.next_url(url)
            if error.slow or not again:
                raise
            return await self._client.ask(method, path, body, content_type, _MOST_BYTES)

    def _failed(self, complaint: str, *, for_all: bool = True) -> None:
        if for_all:
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
