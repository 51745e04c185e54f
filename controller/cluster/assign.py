"""Which controller masters which node: rendezvous hashing. Pure: whoever computes it comes to the same.

A controller that comes or goes moves the nodes that become its own, or were, and no others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from hashlib import blake2b
from typing import Final

_LEADER: Final = "leader"  # of no node: those keys begin with "node "


def first(key: str, names: Iterable[str]) -> str | None:
    """The name with the greatest weight for a key; None of none."""
    return max(names, key=lambda name: (_weight(name, key), name), default=None)


def _weight(name: str, key: str) -> bytes:
    return blake2b(f"{name}\0{key}".encode(), digest_size=8).digest()


def assign(members: Collection[str], connections: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Node -> controller. `connections`: the nodes that each controller is connected to; those of no member do not
    count. A node that no member is connected to is left out: nobody could do anything for it.
    """
    candidates: dict[str, list[str]] = {}
    for member in members:
        for node in connections.get(member, ()):
            candidates.setdefault(node, []).append(member)
    chosen = ((node, first(f"node {node}", names)) for node, names in sorted(candidates.items()))
    return {node: name for node, name in chosen if name is not None}


def leader(members: Iterable[str]) -> str | None:
    """Who does what is to be done once."""
    return first(_LEADER, members)
