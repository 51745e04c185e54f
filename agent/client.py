"""The REST API of the controllers, as the agent speaks to it: the first that answers, over connections kept alive."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass

import urllib3


class ClientError(Exception):
    """A request did not get through; `status` is the HTTP status, 0 when there was no answer. `slow`: it was taken, and
    the time for the answer is over.
    """

    @property
    def of_request(self) -> bool:
        """That one request is to blame, and not the controller."""
        return self.slow or self.status != 0

    def __init__(self, text: str, status: int = 0, *, slow: bool = False) -> None:
        super().__init__(text)
        self.status = status
        self.slow = slow


@dataclass(frozen=True, slots=True)
class Answer:
    """`retry_after` in seconds, where the controller asks for it (RFC 9110, 10.2.3)."""

    status: int
    content_type: str
    body: bytes
    retry_after: int | None = None


class Client:
    """For as many threads as there are `connections`. Times in seconds."""

    def __init__(
        self,
        urls: tuple[str, ...],
        token: str,
        *,
        connections: int = 1,
        connect_timeout: float = 2.0,
        read_timeout: float = 10.0,
    ) -> None:
        self._urls = urls
        self._connections = connections
        self._timeout = urllib3.Timeout(connect=connect_timeout, read=read_timeout)
        self._authorization = {"Authorization": f"Bearer {token}"}
        self._turning = threading.Lock()
        self._index = 0
        self._pool = self._connect()

    def put(self, path: str, body: Mapping[str, object]) -> dict[str, object]:
        """PUTs JSON; the JSON object that is the answer. Raises ClientError, for any other status than 200 too."""
        encoded = json.dumps(body, separators=(",", ":")).encode()
        answer = self.ask("PUT", path, encoded, "application/json")
        try:
            content = json.loads(answer.body)
        except ValueError:
            content = None
        if answer.status != 200 or not isinstance(content, dict):
            raise ClientError(f"{self.url}{path}: {answer.status} {_reason(content)}", answer.status)
        return content

    def ask(
        self, method: str, path: str, body: bytes | None = None, content_type: str = "", most: int | None = None
    ) -> Answer:
        """The answer, whatever its status. `path` is sent as it is. Raises ClientError without one, and when it is
        longer than `most` bytes.
        """
        url, pool = self.url, self._pool
        headers = {**self._authorization, **({"Content-Type": content_type} if content_type else {})}
        try:
            prefix = urllib3.util.parse_url(url).path or ""
            answer = pool.request(
                method, prefix + path, headers=headers, body=body, redirect=False, preload_content=most is None
            )
            content = answer.data if most is None else answer.read(most + 1)
            if most is not None:
                if len(content) > most:
                    answer.close()
                    raise ClientError(f"{url}{path}: more than {most} bytes", answer.status)
                answer.release_conn()
        except urllib3.exceptions.HTTPError as error:
            slow = isinstance(error, urllib3.exceptions.ReadTimeoutError)
            raise ClientError(f"{url}: {error}", slow=slow) from error
        said = answer.headers
        wait = said.get("Retry-After", "")
        retry_after = int(wait) if wait.isascii() and wait.isdigit() else None
        return Answer(answer.status, said.get("Content-Type", ""), content, retry_after)

    @property
    def url(self) -> str:
        """The controller that is asked now."""
        return self._urls[self._index]

    def next_url(self, failed: str | None = None) -> None:
        """Turns to the next controller, on new connections; not if `failed` is no longer the one that is asked."""
        with self._turning:
            if failed is not None and failed != self.url:
                return
            self.close()
            self._index = (self._index + 1) % len(self._urls)
            self._pool = self._connect()

    def close(self) -> None:
        self._pool.close()

    def _connect(self) -> urllib3.HTTPConnectionPool:
        return urllib3.connection_from_url(
            self.url, maxsize=self._connections, block=True, retries=False, timeout=self._timeout
        )


def _reason(content: object) -> str:
    error = content.get("error") if isinstance(content, dict) else None
    return str(error.get("message", error)) if isinstance(error, dict) else "without a reason"
