"""What several processes do to one database at once, each with a store of its own, as controllers have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from threading import Barrier
from typing import TypeVar

from controller.store import Store
from controller.store.quota_specs import Limits
from controller.store.specs import Busy, Exhausted, PortSpec

T = TypeVar("T")

_START_S = 60.0


def race(racer: Callable[..., T], each: Iterable[tuple[object, ...]]) -> list[T]:
    """Calls it in a process of its own with a barrier and each of the arguments; all run at once."""
    calls, context = list(each), get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(len(calls), mp_context=context) as pool:
        start = manager.Barrier(len(calls))
        return [future.result() for future in [pool.submit(racer, start, *arguments) for arguments in calls]]


def take_all(start: Barrier, url: str, network_id: str) -> list[tuple[str, str, int]]:
    """Makes ports until there is no address left: (address, MAC, key) of each."""
    return _ports(start, Store(url), network_id)


def take_quota(start: Barrier, url: str, network_id: str, most: int) -> list[tuple[str, str, int]]:
    """Makes ports until the project's quota is used up."""
    return _ports(start, Store(url, limits=Limits(ports=most)), network_id)


def _ports(start: Barrier, store: Store, network_id: str) -> list[tuple[str, str, int]]:
    made = []
    try:
        store.revision()  # so that it is connected
        start.wait(_START_S)
        while True:
            try:
                (port,) = store.create_ports([PortSpec(network_id, project_id="blue")], "racer").value
            except Busy:
                continue
            except Exhausted:
                return made
            made.append((str(port.port.fixed_ips[0].address), port.port.mac, port.port.key))
    finally:
        store.close()
