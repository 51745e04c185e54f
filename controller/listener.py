"""The listening socket of OpenFlow, in place of Ryu's StreamServer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import eventlet
import structlog
from eventlet.green import socket as green_socket
from ryu.lib import hub

_BACKLOG = 512
"""Switches that may wait to be accepted: all of them come at once when a controller starts."""

_AT_ONCE = 16
"""Connections that are accepted before other green threads get a turn: while some wait, accept never yields."""

_PAUSE = 0.1
"""Seconds until the next try when accept fails, for want of file descriptors most likely."""


class Listener:
    """Takes what Ryu's OpenFlowController gives StreamServer. TLS is that of `handle`, in the green thread of each
    connection, so that nobody's handshake keeps others from being accepted: Ryu's own TLS arguments are refused.
    """

    def __init__(self, listen_info: tuple[str, int], handle: Callable[[Any, Any], None], **tls: Any) -> None:
        if tls:
            raise ValueError(f"the options are those of [tls], and not Ryu's: {', '.join(tls)}")
        family = green_socket.AF_INET6 if ":" in listen_info[0] else green_socket.AF_INET
        try:
            self.server = eventlet.listen(listen_info, family=family, backlog=_BACKLOG, reuse_port=False)
        except OSError as error:
            structlog.get_logger().error("openflow_listen_failed", address=listen_info, error=str(error))
            raise
        self._handle = handle

    def serve_forever(self) -> None:
        accepted = 0
        while True:
            try:
                socket, address = self.server.accept()
            except OSError as error:
                structlog.get_logger().error("openflow_accept_failed", error=str(error))
                hub.sleep(_PAUSE)
            else:
                hub.spawn(self._handle, socket, address)
                accepted += 1
                if accepted % _AT_ONCE == 0:
                    hub.sleep(0)
