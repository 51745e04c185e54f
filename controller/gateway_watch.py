"""Has another node take over when one is lost that is the way out of a network (gateway mode `single`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, Protocol

import eventlet
import structlog

from controller import receive
from controller.liveness import Liveness
from controller.packet_in import neighbours
from controller.packet_in.outputs import Output
from controller.store.specs import Written
from flows.model import Network
from flows.pipeline import gateway_node_mac
from flows.snapshot import Snapshot

PERIOD: Final = 0.5
"""Seconds between two looks. Each asks every switch for an echo."""

ANNOUNCE_PERIOD: Final = 60.0
"""Seconds between announcements: well before switches forget where a MAC is that only takes."""

_HOST_TIMEOUT: Final = 1.0
_ECHO: Final = receive.HEADER.pack(receive.VERSION, receive.ECHO_REQUEST, receive.HEADER_SIZE, 0)


class Store(Protocol):
    def replace_gateway_nodes(self, lost: Collection[str]) -> Written[list[tuple[str, str]]]: ...


class Connection(Protocol):
    heard_at: float
    address: Any

    def send(self, buf: bytes) -> bool: ...


class Session(Protocol):
    @property
    def node(self) -> str | None: ...

    @property
    def connection(self) -> Connection: ...


def host_answers(host: str, port: int) -> bool:
    """Whether the machine is there, whatever runs on it: also a refusal is an answer."""
    try:
        with eventlet.Timeout(_HOST_TIMEOUT):
            eventlet.connect((host, port)).close()
    except ConnectionRefusedError:
        return True
    except (OSError, eventlet.Timeout):
        return False
    return True


class GatewayWatch:
    """`sessions` are the connected switches; `send` must not wait, and says False when it could not. Of several
    controllers the one that `leads` replaces nodes, and none that is connected `elsewhere`, to another one.
    """

    def __init__(
        self,
        store: Store,
        snapshot: Callable[[], Snapshot],
        sessions: Callable[[], Iterable[Session]],
        send: Callable[[str, Output], bool],
        answers: Callable[[str, int], bool] = host_answers,
        leads: Callable[[], bool] = lambda: True,
        elsewhere: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._store = store
        self._snapshot = snapshot
        self._sessions = sessions
        self._send = send
        self._answers = answers
        self._leads = leads
        self._elsewhere = elsewhere
        self._liveness: Liveness | None = None
        self._asking: set[str] = set()
        self._in_vain: tuple[frozenset[str], int] | None = None
        self._held = False
        # looked up once for each change of a network, not at each look
        self._networks: Mapping[str, Network] = {}
        self._single: tuple[Network, ...] = ()
        self._log = structlog.get_logger()

    def look(self) -> None:
        """Asks all switches for a sign of life, and replaces those that have given none for too long."""
        snapshot, now = self._snapshot(), time.monotonic()
        if not self._leads() or not self._single_of(snapshot):
            self._liveness = None
            return
        if self._liveness is None:
            self._liveness = Liveness(now)
        connected = {one.node: one.connection for one in self._sessions() if one.node in snapshot.nodes}
        heard = {name: connected[name].heard_at if name in connected else None for name in snapshot.nodes}
        verdict = self._liveness.judge(heard, now)
        for connection in connected.values():
            connection.send(_ECHO)
        for name in verdict.suspects - self._asking:
            self._asking.add(name)
            eventlet.spawn_n(self._ask_host, name, connected[name].address, self._liveness)
        if verdict.held and not self._held:
            self._log.warning("gateway_nodes_kept", why="more nodes are lost than left")
        self._held = verdict.held
        self._replace(snapshot, frozenset(name for name in verdict.lost if not self._elsewhere(name)))

    def _single_of(self, snapshot: Snapshot) -> tuple[Network, ...]:
        if snapshot.networks is not self._networks:
            self._networks = snapshot.networks
            self._single = tuple(network for network in snapshot.networks.values() if network.single)
        return self._single

    def _replace(self, snapshot: Snapshot, lost: frozenset[str]) -> None:
        if not any(network.gateway_node in lost for network in self._single_of(snapshot)):
            return
        if self._in_vain == (lost, snapshot.revision):
            return  # pinned, or there is no other
        taken = self._store.replace_gateway_nodes(lost).value
        for network, name in taken:
            self._log.warning("gateway_node_replaced", network=network, node=name, lost=sorted(lost))
        self._in_vain = None if taken else (lost, snapshot.revision)

    def _ask_host(self, node: str, address: tuple[Any, ...], liveness: Liveness) -> None:
        try:
            if self._answers(str(address[0]), int(address[1])):
                liveness.host_answered(node, time.monotonic())
        finally:
            self._asking.discard(node)

    def announce(self) -> None:
        """Tells each segment where its gateway is: else switches flood what only goes out."""
        snapshot = self._snapshot()
        for network in self._single_of(snapshot):
            node = snapshot.nodes.get(network.gateway_node or "")
            uplink = None if node is None else node.uplink(network.physical_network)
            if node is None or uplink is None:
                continue
            for subnet in network.subnets:
                if subnet.gateway is not None:
                    mac = gateway_node_mac(node.key)
                    for frame in neighbours.announcement(mac, subnet.gateway, network.segment):
                        self._send(node.name, Output(uplink, frame))
