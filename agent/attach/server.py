"""The agent's socket for programs on its machine: one JSON object in, with the file of a network namespace, one out.

In threads of their own: a container waits for its port, and nothing else of the agent does.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import struct
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from agent.attach.specs import AttachError, Failure

LOG = logging.getLogger(__name__)

Handler = Callable[[Mapping[str, Any], str | None], dict[str, Any] | None]
"""A request, and the path of the namespace that came with it. Raises AttachError."""

_MOST_BYTES = 1 << 20
_AT_ONCE = 16
_BACKLOG = 128
_REQUEST_S = 10.0
_ROOT = 0
_CREDENTIALS = struct.Struct("iII")  # struct ucred (unix(7))


class PlugServer:
    """`handlers` by what a request calls its plugin; `users` may ask, by their numbers. Without a path it does
    nothing.
    """

    def __init__(self, path: str, handlers: Mapping[str, Handler], users: Collection[int] = (_ROOT,)) -> None:
        self._path = path
        self._users = users
        self._handlers = handlers
        self._room = threading.BoundedSemaphore(_AT_ONCE)
        self._listening: socket.socket | None = None

    def start(self) -> None:
        """Where it cannot listen, that is logged, and all else of the agent goes on."""
        if not self._path:
            return
        try:
            self._listening = _listen(self._path)
        except OSError as error:
            LOG.warning("no plugin can reach the agent: %s: %s", self._path, error)
            return
        threading.Thread(target=self._accept, args=(self._listening,), name="plug", daemon=True).start()

    def stop(self) -> None:
        """What is being done is not waited for: who has asked asks again."""
        if self._listening is not None:
            with suppress(OSError):
                os.unlink(self._path)
            with suppress(OSError):
                self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            self._room.acquire()
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), name="plug", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        files: list[int] = []
        try:
            connection.settimeout(_REQUEST_S)
            answer = self._answer(connection, files)
            connection.sendall(json.dumps(answer).encode())
        except OSError as error:
            LOG.debug("a plugin went away: %s", error)
        finally:
            for file in files:
                os.close(file)
            connection.close()
            self._room.release()

    def _answer(self, connection: socket.socket, files: list[int]) -> dict[str, Any]:
        try:
            request = _request(connection, files, self._users)
            handler = self._handlers.get(str(request.get("plugin")))
            if handler is None:
                raise AttachError(Failure.DECODING, "the request is of no known plugin")
            # by the number of the process: it is opened by commands that are started
            return {"result": handler(request, f"/proc/{os.getpid()}/fd/{files[0]}" if files else None)}
        except AttachError as error:
            LOG.warning("a plugin is refused: %s", error)
            return {"error": {"code": error.failure.value, "msg": str(error)}}
        except Exception:  # of one request: the others go on
            LOG.exception("a plugin's request failed")
            return {"error": {"code": Failure.HERE.value, "msg": "internal error: see the agent's log"}}


def _listen(path: str) -> socket.socket:
    """Raises OSError, also when somebody listens there already."""
    place = Path(path)
    place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            place.unlink(missing_ok=True)
        else:
            raise OSError("another agent listens there")
    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.bind(path)
        place.chmod(0o600)  # whoever was faster is asked who he is
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def _request(connection: socket.socket, files: list[int], users: Collection[int]) -> dict[str, Any]:
    """All that is sent; received files are appended to `files`. Raises AttachError, OSError."""
    given = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(given)
    if user not in users:
        raise AttachError(Failure.HERE, "only root may ask")
    text = bytearray()
    while True:
        try:
            chunk, came, _, _ = socket.recv_fds(connection, 65536, 1)
        except TimeoutError:
            raise AttachError(Failure.DECODING, "the request did not come in time") from None
        files += came
        if len(files) > 1:
            raise AttachError(Failure.DECODING, "a request comes with one file at most")
        if not chunk:
            break
        text += chunk
        if len(text) > _MOST_BYTES:
            raise AttachError(Failure.DECODING, f"a request may have {_MOST_BYTES} bytes")
    try:
        request = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AttachError(Failure.DECODING, f"the request is no JSON: {error}") from None
    if not isinstance(request, dict):
        raise AttachError(Failure.DECODING, "the request is no JSON object")
    return request
