"""When a port begins to send what is not its own: told by the counters that the look at all flows brings anyway."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from flows.rules import Rule

WATCHED: Final = frozenset({Rule.DROP_SPOOFED, Rule.DROP_ND_SPOOFED})
"""Of what others drop every guest sends a bit all day long, and who wants to know asks (`/v1/drops`)."""

QUIET: Final = 600.0
"""Seconds without any more of it, after which it begins anew."""

MOST_AT_ONCE: Final = 20
"""Ports of one node that are told of by name: a whole network that is wired wrongly must not push all else out."""

Dropping = tuple[Rule, int]
"""A rule, and the key of the port that it is about."""


class DropWatch:
    """`tell(node, rule, key, packets)` and `tell_more(node, ports)`, for those that are not told by name."""

    def __init__(
        self,
        tell: Callable[[str, Rule, int, int], None],
        tell_more: Callable[[str, int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tell = tell
        self._tell_more = tell_more
        self._clock = clock
        self._counts: dict[str, Mapping[Dropping, int]] = {}
        self._grew: dict[str, dict[Dropping, float]] = {}  # when it was last seen to

    def counted(self, node: str, packets: Mapping[Dropping, int]) -> None:
        """What `WATCHED` rules have dropped on a node so far. Never waits. The first time nothing is told: that may be
        long ago. Nor of what a switch has counted that began anew.
        """
        now, before = self._clock(), self._counts.get(node)
        self._counts[node] = packets
        if before is None:
            return
        grew = {what: at for what, at in self._grew.get(node, {}).items() if now - at < QUIET}
        more = {what: count - before.get(what, 0) for what, count in packets.items() if count > before.get(what, 0)}
        begun = [what for what in more if what not in grew]
        self._grew[node] = grew | dict.fromkeys(more, now)
        for rule, key in begun[:MOST_AT_ONCE]:
            self._tell(node, rule, key, more[rule, key])
        if len(begun) > MOST_AT_ONCE:
            self._tell_more(node, len(begun) - MOST_AT_ONCE)
