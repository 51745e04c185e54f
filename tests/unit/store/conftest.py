from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from controller.store import Store
from controller.store.specs import (
    InterfaceReport,
    NetworkRecord,
    NetworkSpec,
    NodeSpec,
    PortRecord,
    PortSpec,
    ReportedInterface,
    SubnetSpec,
)
from flows.model import NetworkKind
from flows.snapshot import Snapshot


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class World:
    """A store with short words for what the tests do all the time."""

    store: Store
    clock: Clock
    url: str
    commits: list[int] = field(default_factory=list)
    _serial: int = 0
    _datapath_id: int = 0x100

    def network(self, cidr: str = "10.0.0.0/24", *, name: str = "net", **fields: Any) -> NetworkRecord:
        subnet = {key: fields.pop(key) for key in ("gateway", "allocation_ranges", "reserved") if key in fields}
        subnets = (SubnetSpec(IPv4Network(cidr), **subnet),)
        values = {"kind": NetworkKind.VLAN, "physical_network": "physnet1", "project_id": "blue"} | fields
        return self.store.create_network(NetworkSpec(name=name, subnets=subnets, **values), "tester").value

    def external(self, cidr: str = "203.0.113.0/24", gateway: str = "203.0.113.1", **fields: Any) -> NetworkRecord:
        values = {"physical_network": "physnet-ext", "kind": NetworkKind.FLAT, "project_id": None} | fields
        return self.network(cidr, name="ext", gateway=IPv4Address(gateway), external=True, **values)

    def port(self, network: NetworkRecord, **fields: Any) -> PortRecord:
        return self.store.create_ports([PortSpec(network.id, **fields)], "tester").value[0]

    def node(self, name: str = "n1", **fields: Any) -> NodeSpec:
        if "datapath_id" not in fields:
            self._datapath_id += 1
            fields["datapath_id"] = self._datapath_id
        spec = NodeSpec(name, **({"physical_networks": ("physnet1",)} | fields))
        self.store.put_node(spec, name)
        return spec

    def report(self, node: str, *ports: PortRecord | str, first_ofport: int = 100) -> dict[str, str]:
        self._serial += 1
        ids = [port if isinstance(port, str) else port.port.id for port in ports]
        interfaces = tuple(ReportedInterface(id_, first_ofport + index) for index, id_ in enumerate(ids))
        return self.store.report_interfaces(node, InterfaceReport(self._serial, {}, interfaces)).value

    def again(self, port: PortRecord) -> PortRecord:
        return self.store.get_port(port.port.id)

    def replayed(self) -> Snapshot:
        revision, changes = self.store.changes_since(0)
        return Snapshot(0).apply(revision, changes)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """`--database postgresql`: what is about SQLite has nothing to show."""
    if config.getoption("--database") != "sqlite":
        for item in items:
            if item.get_closest_marker("sqlite") is not None:
                item.add_marker(pytest.mark.skip("about SQLite alone"))


@pytest.fixture
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a database that is not there yet, or empty."""
    if request.config.getoption("--database") == "postgresql":
        return str(request.getfixturevalue("make_database")(empty=True))
    return f"sqlite:///{tmp_path}/new.db"


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a database with all tables, and nothing in them."""
    if request.config.getoption("--database") == "postgresql":
        return str(request.getfixturevalue("make_database")())
    shutil.copy(request.getfixturevalue("template"), tmp_path / "trunkline.db")
    return f"sqlite:///{tmp_path}/trunkline.db"


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database with all its tables: a copy is made sooner than a new one."""
    path = tmp_path_factory.mktemp("store") / "template.db"
    Store(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def make_world(url: str) -> Iterator[Callable[..., World]]:
    opened: list[Store] = []

    def make(**options: Any) -> World:
        clock, commits = Clock(), []
        store = Store(url, **({"clock": clock, "on_commit": commits.append} | options))
        opened.append(store)
        return World(store, clock, url, commits)

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def world(make_world: Callable[..., World]) -> Iterator[World]:
    """After every test that uses it, what was loaded at once must be what the journal tells."""
    made = make_world()
    yield made
    assert made.replayed() == made.store.load_snapshot()
