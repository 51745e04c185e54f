"""Ports on their way into the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from controller.store.specs import FixedIpSpec, PortSpec, StoreError


@dataclass(slots=True)
class Draft:
    """A port on its way in, `index` among the others. `wanted` are its IPv4 addresses, and `ipv6` those of IPv6, by
    their place in `fixed_ips` of the spec. `mac` and `fixed_ips` are filled in step by step; `had` are the addresses it
    has given back for it.
    """

    id: str
    spec: PortSpec
    index: int = 0
    wanted: tuple[tuple[int, FixedIpSpec], ...] = ()
    ipv6: tuple[tuple[int, FixedIpSpec], ...] = ()
    mac: str = ""
    fixed_ips: tuple[str, ...] = ()
    had: frozenset[int] = frozenset()


@contextmanager
def blaming(index: int) -> Iterator[None]:
    """Says of a refusal which of the ports it is about."""
    try:
        yield
    except StoreError as error:
        error.index = index
        raise
