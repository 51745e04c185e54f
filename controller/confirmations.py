"""Which revisions the nodes have confirmed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from controller.claims import Claim
from controller.green import Signal
from flows.model import Change, FloatingIp, FloatingIpChange, Port, PortChange
from flows.snapshot import Snapshot


@dataclass(slots=True)
class _Waiting:
    """`oldest` to `newest` are the revisions that a switch has not confirmed. `since`: when `oldest` came to wait, 0.0
    where that is of no interest.
    """

    oldest: int
    newest: int
    since: float


class Confirmations:
    """`snapshot` is the one in force; `holds` says whether a node's switch answers for an address on the wire."""

    def __init__(self, snapshot: Callable[[], Snapshot], holds: Callable[[str, Claim], bool]) -> None:
        self._snapshot = snapshot
        self._holds = holds
        self._nodes: dict[str, _Waiting | None] = {}
        self._last_change: dict[tuple[type, str], int] = {}
        self._took: Callable[[float], None] = lambda seconds: None
        self._progressed: Callable[[str], None] = lambda node: None
        self._changed = Signal()

    def time_by(self, took: Callable[[float], None]) -> None:
        """Who hears, without waiting, how many seconds a change has waited for one node to confirm it."""
        self._took = took

    def tell_progress(self, progressed: Callable[[str], None]) -> None:
        """Who hears, without waiting, that a node has confirmed something, to whichever controller."""
        self._progressed = progressed

    # what the keeper says

    def begin(self, node: str, revision: int) -> None:
        """Nothing is known of the node yet."""
        self._nodes[node] = _Waiting(1, revision, 0.0)

    def drop(self, node: str) -> None:
        self._nodes.pop(node, None)

    def pending(self, node: str, oldest: int, newest: int) -> None:
        """The node is to confirm these revisions, too."""
        waiting = self._nodes[node]
        if waiting is None:
            self._nodes[node] = _Waiting(oldest, newest, time.monotonic())
        else:
            waiting.newest = newest

    def followed(self, changes: Iterable[Change], revision: int) -> None:
        """These are the last changes of these objects."""
        for change in changes:
            if change.new is None:
                self._last_change.pop((type(change), change.id), None)
            else:
                self._last_change[type(change), change.id] = revision

    def in_force(self) -> None:
        """There is another snapshot."""
        self._changed.send()

    def progress(self, node: str, revision: int) -> None:
        """The node has confirmed all up to this revision."""
        waiting = self._nodes.get(node)
        if waiting is None:
            return
        if revision < waiting.newest:
            waiting.oldest = max(waiting.oldest, revision + 1)
        else:
            self._nodes[node] = None
            if waiting.since:
                self._took(time.monotonic() - waiting.since)
        self._progressed(node)
        self._changed.send()

    # what others ask

    def oldest(self, node: str) -> int | None:
        """The first revision that the node has not confirmed."""
        waiting = self._nodes.get(node)
        return None if waiting is None else waiting.oldest

    def unconfirmed(self) -> Mapping[str, int]:
        """Node -> first revision that it has not confirmed."""
        return {name: waiting.oldest for name, waiting in self._nodes.items() if waiting is not None}

    def missing(self, revision: int) -> list[str]:
        """The nodes that have an unconfirmed change of this revision or an older one; all, if we are not there yet."""
        snapshot = self._snapshot()
        if revision > snapshot.revision:
            return sorted(snapshot.nodes)
        return sorted(name for name, oldest in self.unconfirmed().items() if oldest <= revision)

    def wait(self, revision: int, timeout_s: float) -> list[str]:
        """`missing`, as soon as it is empty or after `timeout_s` seconds."""
        deadline = time.monotonic() + timeout_s
        while True:
            missing = self.missing(revision)
            left = deadline - time.monotonic()
            if left <= 0 or (not missing and revision <= self._snapshot().revision):
                return missing
            self._changed.wait(left)

    def wait_node(self, node: str, revision: int, timeout_s: float) -> bool:
        """Whether one node has confirmed a revision: as soon as it has, or after `timeout_s` seconds."""
        deadline = time.monotonic() + timeout_s
        while True:
            if revision <= self._snapshot().revision and self._confirmed(node, revision):
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._changed.wait(left)

    def port_active(self, port: Port) -> bool:
        """True when the port's node has confirmed the last change of the port."""
        last = self._last_change.get((PortChange, port.id), 1)
        return port.binding is not None and self._confirmed(port.binding.node, last)

    def floating_ip_active(self, floating_ip: FloatingIp) -> bool:
        """True when its node has confirmed the last change of the floating IP, and that it answers for it."""
        snapshot = self._snapshot()
        node = snapshot.floating_ip_node(floating_ip)
        network = snapshot.networks.get(floating_ip.network_id)
        if node is None or network is None:
            return False
        last = self._last_change.get((FloatingIpChange, floating_ip.id), 1)
        return self._confirmed(node, last) and self._holds(node, Claim(network.key, int(floating_ip.address)))

    def _confirmed(self, node: str, revision: int) -> bool:
        """False of a node that is not known."""
        waiting = self._nodes.get(node)
        return node in self._nodes if waiting is None else waiting.oldest > revision
