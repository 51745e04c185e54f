"""Tells a network where an address is now: who remembers the old node's MAC would send there for long."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import eventlet
import structlog

from controller.claims import Claim
from controller.green import Signal
from controller.packet_in import nd, neighbours
from controller.packet_in.outputs import Output
from controller.session_counters import Counters
from flows.model import Family
from flows.pipeline import gateway_node_mac, node_mac
from flows.snapshot import Snapshot

TIMES: Final = (0.0, 0.5, 1.5)
"""Seconds after a claim is on the wire, or a port is served by its new node."""

BATCH: Final = 64
"""Announcements that go in one turn: a node that restarts may have thousands of addresses."""

PAUSE: Final = 0.02

_Job = tuple[float, int, str, Claim, float]  # when, which claiming it belongs to, node, claim, when that was


class Announcer:
    """`holds` tells whether a node still has a claim; `send` must not wait and says False when it could not."""

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        holds: Callable[[str, Claim], bool],
        send: Callable[[str, Output], bool],
    ) -> None:
        self._snapshot = snapshot
        self._holds = holds
        self._send = send
        self._jobs: list[_Job] = []
        self._current: dict[tuple[str, Claim], int] = {}
        self._count = 0
        self._more = Signal()

    def claimed(self, node: str, claims: Sequence[Claim]) -> None:
        """The node's switch has just been confirmed to answer for these addresses. Never waits."""
        now = time.monotonic()
        for claim in claims:
            self._count += 1
            self._current[node, claim] = self._count  # a second time makes the first one void
            heapq.heappush(self._jobs, (now, self._count, node, claim, now))
        self._more.send()

    def run(self, counters: Counters) -> None:
        """Announces for ever. A failure costs what was being announced."""
        while True:
            try:
                left = self.announce(time.monotonic())
            except Exception:
                counters.count("background_failures")
                structlog.get_logger().exception("announcement_failed")
                left = PAUSE
            if left is None:
                self._more.wait()
            elif left > 0:
                self._more.wait(left)
            else:
                eventlet.sleep(PAUSE)

    def announce(self, now: float) -> float | None:
        """Sends a batch of what is due. Seconds until the next one is; None when there is none."""
        for _ in range(BATCH):
            if not self._jobs or self._jobs[0][0] > now:
                break
            _, number, node, claim, began = heapq.heappop(self._jobs)
            if self._current.get((node, claim)) != number:
                continue
            later = [began + after for after in TIMES if began + after > now]
            if self._announce(node, claim) and later:
                heapq.heappush(self._jobs, (later[0], number, node, claim, began))
            else:
                del self._current[node, claim]
        return max(self._jobs[0][0] - now, 0.0) if self._jobs else None

    def _announce(self, name: str, claim: Claim) -> bool:
        """False when there is no more to say."""
        snapshot = self._snapshot()
        node = snapshot.nodes.get(name)
        network = snapshot.networks.get(snapshot.networks_by_key.get(claim.network_key, ""))
        if node is None or network is None or not self._holds(name, claim):
            return False
        uplink = node.uplink(network.physical_network)
        if uplink is None:
            return False
        mac = gateway_node_mac(node.key) if network.single else node_mac(node.key)
        forms: tuple[bytes, ...]
        if claim.family is Family.IPV6:
            forms = (nd.announcement(mac, IPv6Address(claim.address), network.segment),)
        else:
            forms = neighbours.announcement(mac, IPv4Address(claim.address), network.segment)
        return all([self._send(name, Output(uplink, frame)) for frame in forms])
