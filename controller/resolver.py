"""Sends what had to wait for a next hop's MAC, once the MAC is known or may be."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import structlog

from controller.green import Signal
from controller.packet_in import frames
from controller.packet_in.outputs import Output, Resubmit
from controller.packet_in.unresolved import Hop, Unresolved
from controller.session_counters import Counters
from flows.model import Neighbour
from flows.pipeline import Table
from flows.snapshot import Snapshot

_SHORTEST_WAIT: Final = 0.005
"""Seconds: what falls due a little later goes with it."""


class Resolver:
    """`send` must not wait."""

    def __init__(
        self,
        unresolved: Unresolved,
        snapshot: Callable[[], Snapshot],
        send: Callable[[str, Output | Resubmit], bool],
    ) -> None:
        self._unresolved = unresolved
        self._snapshot = snapshot
        self._send = send
        self._kept = Signal()

    def packet_kept(self) -> None:
        """There is something to look after. Never waits."""
        self._kept.send()

    def heard(self, node: str, neighbour: Neighbour) -> None:
        """A router has answered: its packet need not wait until the switch has the flow. Never waits."""
        kept = self._unresolved.answered(Hop(node, neighbour.network_id, neighbour.address))
        snapshot = self._snapshot()
        network, known = snapshot.networks.get(neighbour.network_id), snapshot.nodes.get(node)
        uplink = None if network is None or known is None else known.uplink(network.physical_network)
        if kept is not None and network is not None and uplink is not None:
            frame = frames.readdressed(kept.frame, frames.mac_bytes(neighbour.mac), network.segment)
            self._send(node, Output(uplink, frame))

    def run(self, counters: Counters) -> None:
        """Has what is kept tried again, for ever. A failure costs what was due."""
        while True:
            due = self._unresolved.next_due()
            if due is None:
                self._kept.wait()
            else:
                self._kept.wait(max(due - time.monotonic(), _SHORTEST_WAIT))
                try:
                    self.retry(time.monotonic())
                except Exception:
                    counters.count("background_failures")
                    structlog.get_logger().exception("retry_failed")

    def retry(self, now: float) -> None:
        """Gives back to the switches what is due: by now they may know the neighbour."""
        for kept in self._unresolved.due(now):
            self._send(kept.hop.node, Resubmit(Table.EXTERNAL_NEXT_HOP, kept.network_key, kept.frame))
