"""What switches have dropped, by rule and object: each drop is a flow whose cookie names both."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import eventlet

from controller.session_questions import NoAnswer
from controller.switch_answers import ANSWER_TIMEOUT, Answers, Ask, parsed
from flows import statistics
from flows.pipeline import Table, fragment_meter
from flows.rules import Rule, dropping

NODE_TIMEOUT: Final = 5.0
"""Seconds that a switch has to tell of all its flows."""

FRESH_PORT: Final = 1.0
"""Seconds for which what it says of one port is good. Open vSwitch itself brings it up to date about twice a second."""

FRESH_NODE: Final = 2.0
"""Seconds for which what a whole node says is good: it tells of all its flows."""

_NAMED: Final = ("port", "network")


@dataclass(frozen=True, slots=True)
class Dropped:
    """`key` is that of the port or network that the rule is about (`Rule.about`), 0 if it is about none."""

    node: str
    rule: Rule
    key: int
    packets: int
    bytes: int


Owners = Callable[[str], Mapping[int, int]]
"""The keys of a node's ports, by conntrack zone."""


class Drops:
    """`ask` asks a node's switch, and raises NoAnswer. `owners` names the ports that meters are of; without it, or
    without an answer about meters, what they drop is left out.
    """

    def __init__(self, ask: Ask, clock: Callable[[], float] = time.monotonic, owners: Owners | None = None) -> None:
        self._ask = ask
        self._owners = owners
        self._nodes: Answers[str, Sequence[Dropped]] = Answers(FRESH_NODE, clock)
        self._ports: Answers[tuple[str, int], Sequence[Dropped]] = Answers(FRESH_PORT, clock)
        self._meters: Answers[str, Sequence[Dropped]] = Answers(FRESH_PORT, clock)

    def of_port(self, node: str, key: int) -> Sequence[Dropped]:
        """What rules about the port with this key have dropped. Raises NoAnswer."""
        by_flows = [one for one in self.counted(node, key) if one.packets]
        return [*by_flows, *(one for one in self._metered(node) if one.key == key)]

    def counted(self, node: str, key: int) -> Sequence[Dropped]:
        """Of all flows about the port with this key, also of those that have dropped nothing. Raises NoAnswer."""

        def ask() -> Sequence[Dropped]:
            requests = [lambda xid: statistics.flows_request(key, xid)]
            found = self._counted(node, requests, ANSWER_TIMEOUT, least=0)
            return [one for one in found if one.key == key and one.rule.about == "port"]

        return self._ports.get((node, key), ask)

    def of_nodes(self, nodes: Collection[str]) -> tuple[list[Dropped], list[str]]:
        """What all rules of these nodes have dropped, and which of these have not answered."""
        found: list[Dropped] = []
        silent: list[str] = []
        for node, answer in zip(nodes, eventlet.GreenPool().imap(self._of_node, nodes), strict=True):
            if answer is None:
                silent.append(node)
            else:
                found += answer
        return found, silent

    def _of_node(self, node: str) -> Sequence[Dropped] | None:
        requests = (statistics.ours_request, statistics.muted_request)
        try:
            return self._nodes.get(node, lambda: self._all(node, requests))
        except NoAnswer:
            return None

    def _all(self, node: str, requests: Iterable[Callable[[int], bytes]]) -> Sequence[Dropped]:
        return [*self._counted(node, requests, NODE_TIMEOUT), *self._metered(node)]

    def _metered(self, node: str) -> Sequence[Dropped]:
        """What the meters of ports have dropped that are about fragments: no flow counts that."""
        owners = self._owners
        if owners is None:
            return ()

        def ask() -> Sequence[Dropped]:
            exceeded: dict[int, int] = {}
            for part in self._ask(node, statistics.meters_request, ANSWER_TIMEOUT):
                exceeded.update(parsed(statistics.parse_meters, part))
            counts = ((key, exceeded.get(fragment_meter(zone), 0)) for zone, key in owners(node).items())
            return [Dropped(node, Rule.DROP_FRAGMENTS, key, packets, 0) for key, packets in counts if packets]

        try:
            return self._meters.get(node, ask)
        except NoAnswer:
            return ()

    def _counted(
        self, node: str, requests: Iterable[Callable[[int], bytes]], timeout: float, least: int = 1
    ) -> list[Dropped]:
        """Of flows with that many packets."""
        sums: dict[tuple[Rule, int], tuple[int, int]] = {}
        for request in requests:
            for part in self._ask(node, request, timeout):
                for flow in parsed(statistics.parse_flows, part):
                    of = dropping(flow.cookie) if flow.packets >= least and flow.table != Table.STAMP else None
                    if of is not None:
                        of = of if of[0].about in _NAMED else (of[0], 0)
                        packets, octets = sums.get(of, (0, 0))
                        sums[of] = packets + flow.packets, octets + flow.bytes
                eventlet.sleep(0)  # others get their turn
        return [Dropped(node, *of, *counts) for of, counts in sums.items()]
