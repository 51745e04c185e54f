"""Packets on their way out whose next hop has no MAC yet: one is kept for each while it is asked for.

An on-link neighbour's answer is learned by the switch and never seen here. So what is kept is given back to the switch
after a while: either it now knows the way, or the packet comes again and is kept once more. Nothing here waits.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from controller.packet_in import nd, neighbours, outcomes
from flows.model import Network, Node
from flows.pipeline import node_mac

Address = IPv4Address | IPv6Address

RETRIES: Final = (0.05, 0.2, 1.0, 0.05)
"""Seconds until a kept packet is tried again and again. The third time its hop is asked for anew: hence the last."""

LIFETIME: Final = 3.0
"""Seconds after which a next hop is a new one again, whatever came of it."""

ASK_PERIOD: Final = 1.0
MOST_ASKED: Final = 3
CAPACITY: Final = 1024
"""Next hops of all nodes; the oldest makes room."""

_NOBODY: Final = IPv4Address(0)


class Hop(NamedTuple):
    node: str
    network_id: str
    address: Address


class Kept(NamedTuple):
    hop: Hop
    network_key: int
    frame: bytes


@dataclass(slots=True)
class _Waiting:
    network_key: int
    began: float
    frame: bytes | None = None
    due: float = 0.0
    tries: int = 0
    asked: int = 0
    asked_at: float = 0.0


class Unresolved:
    """`counters` counts what was kept, or should have been, and is given up: by its name in `outcomes`."""

    def __init__(self, counters: MutableMapping[str, int] | None = None) -> None:
        self._waiting: dict[Hop, _Waiting] = {}
        self._counters = {} if counters is None else counters

    def keep(self, hop: Hop, network_key: int, frame: bytes, now: float, *, again: bool = False) -> bool:
        """Keeps the packet in the place of an older one; one that was tried and comes `again` is the older one.

        True when the hop is to be asked for now.
        """
        waiting = self._get(hop, network_key, now)
        if waiting.frame is not None:
            self._given_up()
            waiting.frame = waiting.frame if again else frame
        elif waiting.tries < len(RETRIES):
            waiting.frame, waiting.due = frame, now + RETRIES[waiting.tries]
        else:
            self._given_up()
        return self._ask(waiting, now)

    def ask(self, hop: Hop, network_key: int, now: float) -> bool:
        """True when a hop whose packets take another way meanwhile is to be asked for now."""
        return self._ask(self._get(hop, network_key, now), now)

    def answered(self, hop: Hop) -> Kept | None:
        """The hop is known. What was kept for it."""
        waiting = self._waiting.pop(hop, None)
        return None if waiting is None or waiting.frame is None else Kept(hop, waiting.network_key, waiting.frame)

    def due(self, now: float) -> list[Kept]:
        """What is to be tried again now."""
        again = []
        for hop, waiting in list(self._waiting.items()):
            over = now - waiting.began >= LIFETIME
            if waiting.frame is not None and (over or waiting.due <= now):
                again.append(Kept(hop, waiting.network_key, waiting.frame))
                waiting.frame = None
                waiting.tries += 1
            if over:
                del self._waiting[hop]
        return again

    def next_due(self) -> float | None:
        """When `due` has something again."""
        return min((waiting.due for waiting in self._waiting.values() if waiting.frame is not None), default=None)

    def __len__(self) -> int:
        return len(self._waiting)

    def _get(self, hop: Hop, network_key: int, now: float) -> _Waiting:
        waiting = self._waiting.get(hop)
        if waiting is None or now - waiting.began >= LIFETIME:
            self._end(hop)
            if len(self._waiting) >= CAPACITY:
                self._end(next(iter(self._waiting)))
            waiting = self._waiting[hop] = _Waiting(network_key, now)
        return waiting

    def _end(self, hop: Hop) -> None:
        waiting = self._waiting.pop(hop, None)
        if waiting is not None and waiting.frame is not None:
            self._given_up()

    def _given_up(self) -> None:
        self._counters[outcomes.UNRESOLVED] = self._counters.get(outcomes.UNRESOLVED, 0) + 1

    @staticmethod
    def _ask(waiting: _Waiting, now: float) -> bool:
        if waiting.asked >= MOST_ASKED or (waiting.asked and now - waiting.asked_at < ASK_PERIOD):
            return False
        waiting.asked += 1
        waiting.asked_at = now
        return True


def next_hop(network: Network, source: Address, destination: Address) -> Address | None:
    """Where a packet goes next on an external network: to a neighbour, or to the router of where it comes from, by IPv6
    to the first router.
    """
    if isinstance(destination, IPv6Address):
        if any(destination in subnet.cidr for subnet in network.ipv6_subnets):
            return destination
        return next((subnet.gateway for subnet in network.ipv6_subnets if subnet.gateway is not None), None)
    if any(destination in subnet.cidr for subnet in network.subnets):
        return destination
    own = (subnet for subnet in network.subnets if source in subnet.cidr)
    subnet = next(own, next(iter(network.subnets), None))
    return None if subnet is None else subnet.gateway


def question(node: Node, network: Network, target: Address) -> bytes:
    """The frame by which a node asks an external network for a neighbour."""
    mac = node_mac(node.key)
    if isinstance(target, IPv6Address):
        return nd.solicitation(mac, target, network.segment)
    return neighbours.request(mac, asking_address(node, network, target), target, network.segment)


def asking_address(node: Node, network: Network, target: IPv4Address) -> IPv4Address:
    """From which address a node asks for another: an SNAT address that is its alone, else from none (RFC 5227, 2.1.1).

    To ask from the host's own address would have answers, and the host's own neighbours, believe in the wrong MAC.
    """
    for subnet in network.subnets:
        if target in subnet.cidr:
            for held in node.snat_addresses:
                if held.network_id == network.id and not held.host and held.address in subnet.cidr:
                    return held.address
    return _NOBODY
