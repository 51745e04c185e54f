"""Short words for what the tests of floating IPs do all the time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

from controller.store.floating_ip_specs import FloatingIpPoolSpec, FloatingIpRecord, FloatingIpSpec
from controller.store.specs import (
    AddressRange,
    NetworkRecord,
)


def span(first: str, last: str) -> AddressRange:
    return AddressRange(IPv4Address(first), IPv4Address(last))


def make_pool(world: Any, *parts: AddressRange, name: str = "public", network: NetworkRecord | None = None) -> Any:
    network = network or world.external()
    spec = FloatingIpPoolSpec(name, network.id, parts or (span("203.0.113.200", "203.0.113.203"),))
    return world.store.create_floating_ip_pool(spec, "tester").value


def take(world: Any, count: int = 1, **fields: Any) -> list[FloatingIpRecord]:
    spec = FloatingIpSpec("public", count=count, **({"project_id": "blue"} | fields))
    found: list[FloatingIpRecord] = world.store.allocate_floating_ips(spec, "tester").value
    return found


def lead(world: Any, floating_ip: FloatingIpRecord, port: Any, fixed_ip: str | None = None, **more: Any) -> Any:
    address = None if fixed_ip is None else IPv4Address(fixed_ip)
    id_ = floating_ip.floating_ip.id
    return world.store.associate_floating_ip(id_, port.port.id, address, "tester", **more)


def give_back(world: Any, *floating_ips: FloatingIpRecord) -> None:
    world.store.release_floating_ips([record.floating_ip.id for record in floating_ips], "tester")


def again(world: Any, floating_ip: FloatingIpRecord) -> FloatingIpRecord:
    found: FloatingIpRecord = world.store.get_floating_ip(floating_ip.floating_ip.id)
    return found


def addresses_of(records: list[FloatingIpRecord]) -> list[int]:
    """Their last bytes."""
    return [int(record.floating_ip.address) & 0xFF for record in records]


def events(world: Any, floating_ip: FloatingIpRecord) -> list[Any]:
    entries = world.store.journal(kind="floating_ip", object_id=floating_ip.floating_ip.id)
    return [entry.payload["events"] for entry in entries]


def in_parallel(work: Callable[[Any], None], arguments: list[Any]) -> None:
    threads = [threading.Thread(target=work, args=(argument,)) for argument in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
