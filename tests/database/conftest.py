from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Network
from typing import Any

import pytest

from controller.store import Store
from controller.store.specs import NetworkRecord, NetworkSpec, SubnetSpec
from flows.model import NetworkKind


@pytest.fixture
def url(make_database: Callable[..., str]) -> str:
    """Of a PostgreSQL database with all tables, and nothing in them."""
    return make_database()


@pytest.fixture
def open_store(url: str) -> Iterator[Callable[..., Store]]:
    """Opens stores on it, as each controller does."""
    opened: list[Store] = []

    def make(**options: Any) -> Store:
        opened.append(Store(url, **options))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def make_network() -> Callable[..., NetworkRecord]:
    """A VLAN network of project blue."""

    def make(store: Store, cidr: str = "10.0.0.0/24", name: str = "net") -> NetworkRecord:
        subnets = (SubnetSpec(IPv4Network(cidr)),)
        spec = NetworkSpec(
            name=name, kind=NetworkKind.VLAN, physical_network="physnet1", project_id="blue", subnets=subnets
        )
        return store.create_network(spec, "tester").value

    return make
