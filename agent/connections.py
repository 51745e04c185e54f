"""How many connections ports have, beside how many they may have, as the datapath counts them.

A port's zones have room for its share of the node's SNAT ports, those of a port that uses none of them for more: the
controller says which (`Zones`). Beyond the limit of a zone nothing begins. The kernel's datapath drops that by itself,
where no flow counts it, so the agent looks which zones are full and reports them. It also looks at the table that all
zones share, which has no room for all that each of them may have.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.config import AgentConfig
from agent.state import OvsState
from agent.vswitchd import DATAPATHS, CommandFailed, command, control_socket, directories
from flows.pipeline import CtZone, nat_zone

LOG = logging.getLogger(__name__)

_LINE = re.compile(r"zone=(\d+),limit=(\d+),count=(\d+)")
_AT_ONCE = 1000  # zones in one question
_TIMEOUT_S = 2.0
_ROOM_AGAIN = 0.9  # of its limit: a zone that has just lost one connection is still full
_NEARLY_FULL = 0.9  # of the table for all zones: time to raise it before connections are lost
_ENOUGH_ROOM = 0.85  # of that table: below, the problem is over
_BLIND_S = 20.0  # a restart of ovs-vswitchd is no problem, a switch that cannot be asked for longer is
_KERNEL_TABLE = (
    Path("/proc/sys/net/netfilter/nf_conntrack_count"),
    Path("/proc/sys/net/netfilter/nf_conntrack_max"),
)
_USERSPACE_TABLE = ("dpctl/ct-get-nconns", "dpctl/ct-get-maxconns")
_SETTING = {"system": "net.netfilter.nf_conntrack_max", "netdev": "ovs-appctl dpctl/ct-set-maxconns"}


@dataclass(frozen=True, slots=True)
class Zones:
    """Of the ports of this node, as the controller says; `wide`: of those that use none of the SNAT ports."""

    ports: frozenset[int] = frozenset()
    wide: frozenset[int] = frozenset()

    def all(self) -> list[int]:
        return sorted({*self.ports, *map(nat_zone, self.ports), CtZone.SNAT.value})

    def with_more_room(self) -> frozenset[int]:
        return self.wide | frozenset(map(nat_zone, self.wide))


@dataclass(frozen=True, slots=True)
class FullZone:
    zone: int
    limit: int


class Connections:
    """`answered` from any thread, the rest from one. `wake`: what is to be done has changed. `full` and `problems`, a
    line each, are of the last look.
    """

    def __init__(
        self, config: AgentConfig, wake: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._directories = directories(config.ovsdb)
        self._bridge = config.integration_bridge
        self._type = config.datapath_type
        self._datapath = DATAPATHS.get(config.datapath_type, "")
        self._pause = config.heartbeat_interval
        self._wake = wake
        self._clock = clock
        self._zones: Zones | None = None
        self._due = 0.0
        self._complaint = ""
        self._blind_since: float | None = None
        self._nearly_full: tuple[str, ...] = ()
        self.full: tuple[FullZone, ...] = ()
        self.problems: tuple[str, ...] = ()

    @property
    def zones(self) -> Zones | None:
        """None until the controller has said it."""
        return self._zones

    def answered(self, zones: Zones) -> None:
        if zones != self._zones:
            self._zones = zones
            self._wake()

    def keep(self, state: OvsState) -> float:
        """Looks, if it is time to; seconds until then, 0 if it has found something new."""
        zones = self._zones
        if zones is None or self._bridge not in state.bridges:
            return self._pause
        left = self._due - self._clock()
        if left > 0:
            return left
        self._due = self._clock() + self._pause
        before = self.full, self.problems
        try:
            self._nearly_full = self._too_few(*self._table())
            counted = dict(self._counted(zones.all()))
        except CommandFailed as error:
            self.problems = (*self._nearly_full, *self._blind(error))
        else:
            self._complaint, self._blind_since = "", None
            self.full = full_zones(counted, frozenset(one.zone for one in self.full))
            self.problems = self._nearly_full
        return self._pause if before == (self.full, self.problems) else 0.0  # the next round reports it

    def _blind(self, error: CommandFailed) -> tuple[str, ...]:
        """The problem, once it has lasted. Which zones are full stays as last known."""
        if str(error) != self._complaint:
            self._complaint = str(error)
            LOG.warning("connections are not counted: %s", error)
        now = self._clock()
        if self._blind_since is None:
            self._blind_since = now
        if now - self._blind_since < _BLIND_S:
            return ()
        return (f"connections are not counted, so a port that has used up its share is not told: {error}",)

    def _too_few(self, used: int, most: int) -> tuple[str, ...]:
        """The problem, while the table for all zones is nearly full. `most` is 0 where the kernel sets no limit."""
        if not most or used < most * (_ENOUGH_ROOM if self._nearly_full else _NEARLY_FULL):
            return ()
        return (
            f"conntrack has room for {most} connections, and nearly all are used: when it is full, no port begins "
            f"new ones. Raise {_SETTING[self._type]}, or lower snat_share and conntrack_limit",
        )

    def _table(self) -> tuple[int, int]:
        """Return how many connections are tracked in all zones, and how many can be."""
        if self._type == "system":
            with suppress(OSError, ValueError):  # no module nf_conntrack yet, so none is tracked
                used, most = (int(path.read_text()) for path in _KERNEL_TABLE)
                return used, most
            return 0, 0
        path = self._socket()
        used, most = (int(command(path, each, self._datapath, timeout=_TIMEOUT_S)) for each in _USERSPACE_TABLE)
        return used, most

    def _socket(self) -> Path:
        path = control_socket(self._directories)
        if path is None:
            raise CommandFailed(f"ovs-vswitchd has no control socket in {self._directories[0]}")
        return path

    def _counted(self, zones: list[int]) -> Iterator[tuple[int, tuple[int, int]]]:
        path = self._socket()
        for start in range(0, len(zones), _AT_ONCE):
            asked = ",".join(map(str, zones[start : start + _AT_ONCE]))
            answer = command(path, "dpctl/ct-get-limits", self._datapath, f"zone={asked}", timeout=_TIMEOUT_S)
            for zone, limit, count in _LINE.findall(answer):
                yield int(zone), (int(limit), int(count))


def full_zones(counted: Mapping[int, tuple[int, int]], before: frozenset[int]) -> tuple[FullZone, ...]:
    """Of (limit, connections) by zone, those without room. `before`: which were full when last looked at."""
    return tuple(
        FullZone(zone, limit)
        for zone, (limit, count) in sorted(counted.items())
        if limit and (count >= limit or (zone in before and count >= limit * _ROOM_AGAIN))
    )
