"""One call of the REST API: its address, its time, whom it is made of next, and what is made of an answer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import urllib3

from controller.client.errors import ApiError, Unreachable, refusal_of

T = TypeVar("T")
Object = dict[str, Any]

LONGEST_PATIENCE = 30.0
"""Seconds for which a call is made again while the server says that it has been asked too much."""

_NOT_CONNECTED = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Tls:
    """For https: PEM files. `ca`: whom to believe, "" for whom this machine believes. `certificate` and `key`: who we
    are, where the server wants to know; "" for nobody.
    """

    ca: str = ""
    certificate: str = ""
    key: str = ""


class Transport:
    """The servers of a `Client`, and how one of them is asked over HTTP."""

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        read_timeout: float = READ_TIMEOUT,
        tls: Tls | None = None,
        warn: Callable[[str], object] = lambda text: None,
    ) -> None:
        """`warn` is told what is no error, and should be known to who has written something."""
        self._warn = warn
        self.urls = tuple(one.strip().rstrip("/") for one in url.split(",") if one.strip())
        self._index = 0
        self._read_timeout = read_timeout
        given = {} if tls is None else {"ca_certs": tls.ca, "cert_file": tls.certificate, "key_file": tls.key}
        files = {name: path for name, path in given.items() if path}
        self._pool = urllib3.PoolManager(retries=False, **files)  # type: ignore[arg-type]  # which urllib3 gives no types
        self._headers = {"Accept": "application/json", "User-Agent": "trunkline"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    @property
    def url(self) -> str:
        """Of the server that is asked."""
        return self.urls[self._index % len(self.urls)]

    def _call(self, method: str, path: str, body: Object | None = None, *, read_timeout: float | None = None) -> Object:
        return self._anywhere(method, lambda url: self._ask(url, method, path, body, read_timeout))

    def _anywhere(self, method: str, ask: Callable[[str], T]) -> T:
        """The answer of the first server that gives one."""
        for left in range(len(self.urls) - 1, -1, -1):
            index = self._index
            try:
                return ask(self.url)
            except (ApiError, Unreachable) as error:
                if left == 0 or not _elsewhere(error, method):
                    raise
                if index == self._index:
                    self._index += 1
        raise AssertionError("unreachable")

    def _open(self, url: str, path: str, body: Object, read_timeout: float) -> urllib3.BaseHTTPResponse:
        """An answer that is read as it comes."""
        answer = self._request(url, "POST", path, body, read_timeout, whole=False)
        if answer.status == 200:
            return answer
        data = answer.read()
        answer.close()
        raise _refused(answer, data)

    def _ask(self, url: str, method: str, path: str, body: Object | None, read_timeout: float | None) -> Object:
        answer = self._request(url, method, path, body, read_timeout, whole=True)
        if answer.status == 204:
            return {}
        try:
            content = json.loads(answer.data)
        except ValueError:
            content = None
        if 200 <= answer.status < 300 and isinstance(content, dict):
            for text in content.get("warnings", ()):
                self._warn(str(text))
            return content
        raise _refused(answer, answer.data)

    def _request(
        self, url: str, method: str, path: str, body: Object | None, read_timeout: float | None, *, whole: bool
    ) -> urllib3.BaseHTTPResponse:
        headers = dict(self._headers)
        if body is not None:
            headers["Content-Type"] = "application/json"
        if not whole:
            headers["Accept"] = "*/*"
        deadline = time.monotonic() + LONGEST_PATIENCE
        while True:
            try:
                answer = self._pool.request(
                    method,
                    f"{url}/v1/{path}",
                    body=None if body is None else json.dumps(body).encode(),
                    headers=headers,
                    redirect=False,
                    preload_content=whole,
                    timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT, read=read_timeout or self._read_timeout),
                )
            except (urllib3.exceptions.HTTPError, ValueError, OSError) as error:  # OSError: a file that cannot be read
                raise Unreachable(f"{url}: {reason_of(error)}") from error
            wait = answer.headers.get("Retry-After", "")
            # nothing was done, so that it can be asked again
            if answer.status != 429 or not wait.isdigit() or time.monotonic() + int(wait) > deadline:
                return answer
            answer.close()
            time.sleep(max(1, int(wait)))


def _refused(answer: urllib3.BaseHTTPResponse, data: bytes) -> ApiError:
    try:
        content = json.loads(data)
    except ValueError:
        content = None
    return refusal_of(answer.status, content, answer.headers.get("X-Request-Id"), answer.reason or "")


def _elsewhere(error: ApiError | Unreachable, method: str) -> bool:
    """Another server may do it, and this one has done nothing."""
    if isinstance(error, ApiError):
        return error.code == "database_unavailable"
    return method == "GET" or isinstance(error.__cause__, _NOT_CONNECTED)


def reason_of(error: Exception) -> str:
    """The innermost reason, in the words of the operating system where it has any."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    match error:
        case urllib3.exceptions.ReadTimeoutError():
            return "no answer in time"
        case urllib3.exceptions.ConnectTimeoutError():
            return "no connection in time"
        case urllib3.exceptions.NameResolutionError():
            return "no such host"
    return str(error)
