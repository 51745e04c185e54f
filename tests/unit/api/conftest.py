"""The real API over a real SQLite store, called as a WSGI application: no socket, no thread."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.store import Store
from tests.unit.api.world import World


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Making the tables takes longer than most tests: it is done once."""
    path = tmp_path_factory.mktemp("database") / "empty.db"
    Store(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def world(empty_database: Path, tmp_path: Path) -> Iterator[World]:
    path = shutil.copy(empty_database, tmp_path / "trunkline.db")
    built = World(f"sqlite:///{path}")
    yield built
    built.close()


@pytest.fixture(scope="module")
def shared_world(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """For tests whose requests are all refused, or that do not care what other tests have left."""
    path = shutil.copy(empty_database, tmp_path_factory.mktemp("shared") / "trunkline.db")
    built = World(f"sqlite:///{path}")
    yield built
    built.close()


@pytest.fixture(scope="module")
def shared_network(shared_world: World) -> str:
    """The id of a network in `shared_world`."""
    return str(shared_world.network(subnets=[{"cidr": "10.200.0.0/16"}])["id"])
