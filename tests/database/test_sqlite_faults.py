"""SQLite on a disk that is full, or may only be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.store import Store
from controller.store.specs import Unavailable
from etc.lab.processes import run, wait_until
from tests.database.test_faults import refusal
from tests.disks import fill, small_disk


@pytest.fixture
def disk(root: None, tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    with small_disk(tmp_path / "disk", "4m") as place:
        yield place


@pytest.fixture
def store(disk: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{disk}/trunkline.db")
    yield made
    made.close()


def test_a_disk_that_is_full(store: Store, disk: Path, make_network: Any) -> None:
    kept = make_network(store)
    fill(disk / "filler")

    def write_on() -> None:
        """What is in the files already takes some more."""
        for number in range(1, 200):
            make_network(store, f"10.{number}.0.0/24", "n" * 200)

    assert refusal(write_on) == "database_full"
    written = store.revision()
    assert len(store.list_networks()) == written >= 1
    (disk / "filler").unlink()
    make_network(store, "10.250.0.0/24")
    assert store.revision() == written + 1
    store.close()
    again = Store(f"sqlite:///{disk}/trunkline.db")
    assert len(again.list_networks()) == written + 1 and again.get_network(kept.id)
    again.close()


def test_a_disk_that_may_only_be_read(store: Store, disk: Path, make_network: Any) -> None:
    """As Linux makes it after an error of the disk."""
    make_network(store)
    store.close()  # else it could not be done to it
    run(["mount", "-o", "remount,ro", str(disk)])
    for _ in range(2):
        assert refusal(lambda: make_network(store, "10.1.0.0/24")) in ("database_read_only", "database_unavailable")
    run(["mount", "-o", "remount,rw", str(disk)])
    wait_until(lambda: _written(store, make_network), 30, "it does not come back")
    assert len(store.list_networks()) == store.revision() == 2


def test_a_file_that_may_not_be_written_any_more(tmp_path: Path, root: None, make_network: Any) -> None:
    """Under a store that has it open, which SQLite takes for a bad disk. What is there can be read all the time."""
    image, place = tmp_path / "image", tmp_path / "ext4"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(16 << 20)
    run(["mkfs.ext4", "-q", str(image)])
    run(["mount", "-o", "loop", str(image), str(place)])
    store = Store(f"sqlite:///{place}/trunkline.db")
    files = [place / "trunkline.db", place / "trunkline.db-wal"]
    try:
        make_network(store)
        run(["chattr", "+i", *map(str, files)])
        for _ in range(3):
            assert refusal(lambda: make_network(store, "10.1.0.0/24")) == "database_read_only"
            assert len(store.list_networks()) == 1 and not store.away
        run(["chattr", "-i", *map(str, files)])
        make_network(store, "10.1.0.0/24")
        assert len(store.list_networks()) == store.revision() == 2
    finally:
        run(["chattr", "-i", *map(str, files)])
        store.close()
        run(["umount", str(place)])


@pytest.mark.parametrize("name", ["trunkline.db", "trunkline.db-wal"])
def test_a_file_that_is_replaced_or_removed(tmp_path: Path, make_network: Any, name: str) -> None:
    """What would be written to it could be found by nobody afterwards, so that nothing is said to be written."""
    store = Store(f"sqlite:///{tmp_path}/trunkline.db")
    make_network(store)
    file, aside = tmp_path / name, tmp_path / "aside"
    file.rename(aside)
    assert refusal(lambda: make_network(store, "10.1.0.0/24")) == "database_unavailable"
    file.write_bytes(aside.read_bytes())
    with pytest.raises(Unavailable):
        make_network(store, "10.1.0.0/24")
    aside.rename(file)
    wait_until(lambda: _written(store, make_network), 30, "it does not come back")
    assert len(store.list_networks()) == store.revision() == 2
    store.close()
    again = Store(f"sqlite:///{tmp_path}/trunkline.db")
    assert len(again.list_networks()) == 2
    again.close()


def _written(store: Store, make_network: Any) -> bool:
    try:
        return bool(make_network(store, "10.1.0.0/24"))
    except Unavailable:
        return False
