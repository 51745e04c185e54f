"""Which ports go on using up what they may have the controller handed. The switch's meters hide how much more it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from flows.pipeline import PORT_PACKET_INS
from flows.rules import Rule

HOT: Final = PORT_PACKET_INS[0] * 4 // 5
"""Packet_ins of a port in one second that are taken for a flood which the meter has cut."""

PATIENCE: Final = 5
"""Seconds in a row that must be hot."""

_SHARE: Final = 5
"""A rule has part in a flood if one of so many packets is its."""

_LONGEST: Final = 16
"""How many times longer than the first a mute may get."""

_FORGOTTEN: Final = 600.0
"""Seconds after the end of a mute until the next one is a first one again."""

_CAPACITY: Final = 65536


class Mute(NamedTuple):
    rule: Rule
    port_key: int
    seconds: int


@dataclass(slots=True)
class _Second:
    """What came of a port in one second, and how many hot ones were before it in a row."""

    number: int
    hot_before: int = 0
    counts: dict[Rule, int] = field(default_factory=dict)


class Floods:
    """For one node. `seconds` is how long a first mute lasts; 0: there are none. Keys must come from the snapshot."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self._ports: dict[int, _Second] = {}
        self._past: dict[tuple[int, Rule], tuple[int, float]] = {}  # length, end

    def saw(self, rule: Rule, port_key: int, now: float) -> tuple[Mute, ...]:
        """Counts a packet_in. Returns what is to be muted. `now`: seconds of a clock that only goes forward."""
        second = self._ports.get(port_key)
        number = int(now)
        if second is None or number != second.number:
            hot = 0
            if second is not None and number == second.number + 1 and sum(second.counts.values()) >= HOT:
                hot = second.hot_before + 1
            if hot >= PATIENCE and second is not None and self._seconds:
                del self._ports[port_key]
                return tuple(self._mute(port_key, second, now))
            if second is None and len(self._ports) >= _CAPACITY:
                del self._ports[next(iter(self._ports))]
            second = self._ports[port_key] = _Second(number, hot)
        second.counts[rule] = second.counts.get(rule, 0) + 1
        return ()

    def _mute(self, port_key: int, second: _Second, now: float) -> Iterator[Mute]:
        everything = sum(second.counts.values())
        for rule, count in second.counts.items():
            if count * _SHARE < everything:
                continue
            length, end = self._past.pop((port_key, rule), (0, 0.0))
            again = length and now < end + _FORGOTTEN
            length = min(2 * length, _LONGEST * self._seconds) if again else self._seconds
            if len(self._past) >= _CAPACITY:
                del self._past[next(iter(self._past))]
            self._past[port_key, rule] = length, now + length
            yield Mute(rule, port_key, length)
