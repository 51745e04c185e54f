"""The relay's sockets and connections, in a thread and an event loop of their own."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote

from agent.client import Client
from agent.config import AgentConfig
from agent.relay.dns import Dns
from agent.relay.http import Http
from agent.relay.limits import Admission, Rate
from agent.relay.stream import Stream
from agent.relay.upstream import Asked, Upstream
from flows.pipeline import carried_port
from flows.protocols import DNS_PORT, HTTP_PORT

LOG = logging.getLogger(__name__)

BACKLOG = 1024

_OF_ONE_PORT = 8  # connections
_IN_ALL = 2048
_OTHER_FILES = 256  # what the rest of the agent may have open
_AT_ONCE = 64  # taken before others of the loop have their turn
_LONGEST_S = 300.0  # of a connection, whatever goes over it
_PAUSE_S = 0.1  # without a free file descriptor
_STOP_S = 2.0
_CONNECT_S = 1.0
# questions of one VM, a second and at once
_DNS_RATE, _DNS_BURST = 50.0, 200.0
# connections of one VM, the same way: a request may have one of its own
_CONNECTION_RATE, _CONNECTION_BURST = 100.0, 400.0
_RESET = struct.pack("ii", 1, 0)  # struct linger (socket(7)): close() is a reset


class Service(IntEnum):
    """By TCP port."""

    METADATA = HTTP_PORT
    DNS = DNS_PORT


@dataclass(frozen=True, slots=True)
class _Asking:
    """How many requests there may be at the controllers at once, and the seconds in which one is to be answered."""

    requests: int
    read_s: float


# the controller itself waits for other name servers, each question for up to 15 s
_ASKED = {Service.METADATA: _Asking(16, 5.0), Service.DNS: _Asking(64, 17.0)}

Serve = Callable[[Stream, int], Awaitable[None]]


def _room() -> int:
    """How many connections there can be, each of which is a file that is open (getrlimit(2))."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _IN_ALL + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return _IN_ALL if soft == resource.RLIM_INFINITY else max(1, min(_IN_ALL, soft - _OTHER_FILES))


def _without_mapping(address: str) -> IPv4Address | IPv6Address:
    """A socket for both families shows an address of IPv4 within ::ffff:0:0/96 (RFC 4291, 2.5.5.2)."""
    if ":" not in address:
        return IPv4Address(address)
    shown = IPv6Address(address)
    return shown.ipv4_mapped or shown


class Relay:
    """`start`, `listen` and `stop` from one thread."""

    def __init__(self, config: AgentConfig, client: Asked | None = None) -> None:
        """`client` is for both services, in place of one for each."""
        self._clients = {
            service: client
            or Client(
                config.api_urls,
                config.api_token,
                tls=config.tls,
                connect_timeout=_CONNECT_S,
                read_timeout=asked.read_s,
            )
            for service, asked in _ASKED.items()
        }
        self._node_path = f"/v1/nodes/{quote(config.node, safe='')}"
        self._metadata_rate = Rate(config.metadata_rate, config.metadata_burst)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        # The rest belongs to the thread.
        self._admission = Admission(_OF_ONE_PORT, _room())
        self._arrivals = Rate(_CONNECTION_RATE, _CONNECTION_BURST)
        self._listening: dict[Service, socket.socket] = {}
        self._connections: set[asyncio.Task[None]] = set()
        self._services: dict[Service, Serve] = {}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends all connections."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_STOP_S)

    def listen(self, sockets: Mapping[Service, socket.socket]) -> None:
        """Takes over sockets that listen, in place of those before; connections that are open stay."""
        for each in sockets.values():
            each.setblocking(False)
            # inherited by every connection: an answer must not wait for the VM's delayed ACK
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop.call_soon_threadsafe(self._listen, dict(sockets))

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        # one each: names that take long to be found keep nobody from metadata
        upstreams = {
            service: Upstream(client, self._node_path, _ASKED[service].requests)
            for service, client in self._clients.items()
        }
        self._services = {
            Service.METADATA: Http(upstreams[Service.METADATA], self._metadata_rate).serve,
            Service.DNS: Dns(upstreams[Service.DNS], Rate(_DNS_RATE, _DNS_BURST)).serve,
        }
        try:
            self._loop.run_forever()
        finally:
            self._listen({})
            for task in self._connections:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*self._connections, return_exceptions=True))
            for upstream in upstreams.values():
                upstream.close()
            self._loop.run_until_complete(asyncio.sleep(0))  # what was closed now ends
            self._loop.close()

    def _listen(self, sockets: dict[Service, socket.socket]) -> None:
        for old in self._listening.values():
            self._loop.remove_reader(old)
            old.close()
        self._listening = sockets
        for service in sockets:
            self._resume(service)

    def _resume(self, service: Service) -> None:
        listening = self._listening.get(service)
        if listening is not None:
            self._loop.add_reader(listening, self._accept, service, listening)

    def _accept(self, service: Service, listening: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                accepted, (address, *_rest) = listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                LOG.warning("a connection is not taken: %s", error)
                self._loop.remove_reader(listening)
                self._loop.call_later(_PAUSE_S, self._resume, service)
                return
            port_key = carried_port(_without_mapping(address))
            if port_key is None or not self._admitted(port_key):
                # at once and without a word: this is all that a flood costs
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                accepted.close()
                continue
            task = self._loop.create_task(self._serve(service, accepted, port_key))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    def _admitted(self, port_key: int) -> bool:
        return self._arrivals.take(port_key, 0.0) is not None and self._admission.enter(port_key)

    async def _serve(self, service: Service, accepted: socket.socket, port_key: int) -> None:
        accepted.setblocking(False)
        stream = Stream(accepted)
        try:
            async with asyncio.timeout(_LONGEST_S):
                await self._services[service](stream, port_key)
        except (TimeoutError, OSError):
            LOG.debug("port %s: %s ended", port_key, service.name)
        except Exception:  # of one connection: the others go on
            LOG.exception("port %s: %s failed", port_key, service.name)
        finally:
            self._admission.leave(port_key)
            stream.close()
