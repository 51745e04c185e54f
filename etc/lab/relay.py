"""A way from this machine's loopback into a namespace, for a browser: the laboratory's network leads nowhere else."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType

from etc.lab import netns

LOOPBACK = "127.0.0.1"
CONNECT_S = 5.0
_CHUNK = 65536


class Relay:
    """Within a `with`, connections to `port` of the loopback end at `target` in a namespace. Wanted is `port`, but any
    free one is taken when somebody has that.
    """

    def __init__(self, namespace: str, target: tuple[str, int], port: int) -> None:
        self._namespace = namespace
        self._target = target
        self._listener = _listen(port)
        self._open: set[socket.socket] = set()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> Relay:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)  # wakes who waits for it
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError):
            # a socket stays in the namespace it was made in
            with netns.inside(self._namespace):
                far = socket.create_connection(self._target, CONNECT_S)
            far.settimeout(None)
            pair = {near, far}
            with far:
                self._open |= pair
                back = threading.Thread(target=_copy, args=(far, near), daemon=True)
                back.start()
                _copy(near, far)
                back.join()
            self._open -= pair


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((LOOPBACK, port))
    except OSError:
        return socket.create_server((LOOPBACK, 0))


def _copy(source: socket.socket, sink: socket.socket) -> None:
    """Until the source says no more, which is passed on."""
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
