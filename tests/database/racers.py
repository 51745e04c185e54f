"""What several processes do to one database at once, each with a store of its own, as controllers have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

from controller.store import Store
from controller.store.quota_specs import Limits
from controller.store.specs import Busy, Exhausted, PortSpec

T = TypeVar("T")


def race(racer: Callable[..., T], each: Iterable[tuple[object, ...]]) -> list[T]:
    """Calls it in a process of its own with each of the arguments; all run at once."""
    calls = list(each)
    with ProcessPoolExecutor(len(calls), mp_context=get_context("spawn")) as pool:
        return [future.result() for future in [pool.submit(racer, *arguments) for arguments in calls]]


def take_all(url: str, network_id: str) -> list[tuple[str, str, int]]:
    """Makes ports until there is no address left: (address, MAC, key) of each."""
    return _ports(Store(url), network_id)


def take_quota(url: str, network_id: str, most: int) -> list[tuple[str, str, int]]:
    """Makes ports until the project's quota is used up."""
    return _ports(Store(url, limits=Limits(ports=most)), network_id)


def _ports(store: Store, network_id: str) -> list[tuple[str, str, int]]:
    made = []
    try:
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
