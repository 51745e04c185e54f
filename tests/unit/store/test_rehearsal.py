"""What is written in a rehearsal is seen there, and by nobody else, then or later."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from controller.store import Store, sqlite
from controller.store.engine import make_engine
from controller.store.schema import metadata
from controller.store.specs import Conflict, FixedIpSpec, NotFound, PortSpec
from flows.model import NetworkChange, PortChange, SecurityGroupChange


def dump(url: str) -> str:
    """All that is in the database; of SQLite with the schema, and its numbers."""
    if sqlite.is_sqlite(url):
        connection = sqlite3.connect(sqlite.file_of(url))
        try:
            return "\n".join(connection.iterdump())
        finally:
            connection.close()
    engine = make_engine(url)
    with engine.connect() as shown:
        rows = [(table.name, sorted(map(repr, shown.execute(table.select())))) for table in metadata.sorted_tables]
    engine.dispose()
    return repr(rows)


def test_everything_is_as_it_was(world: Any) -> None:
    network = world.network()
    port = world.port(network).port
    world.node()
    before, revision, commits = dump(world.url), world.store.revision(), list(world.commits)

    def work(store: Store) -> list[str]:
        made = store.create_ports([PortSpec(network.id, name="planned")] * 3, "tester").value
        store.update_network(network.id, {"mtu": 1400}, "tester")
        store.delete_port(port.id, "tester")
        store.delete_node("n1", "tester")
        # it sees what it has written, others do not
        assert {record.port.id for record in store.list_ports()} == {record.port.id for record in made}
        assert [record.port.id for record in world.store.list_ports()] == [port.id]
        assert store.revision() > world.store.revision() == revision
        with pytest.raises(NotFound):
            store.get_port(port.id)
        return [str(record.port.fixed_ips[0].address) for record in made]

    rehearsed = world.store.rehearse(revision, work)
    assert dump(world.url) == before
    assert world.commits == commits, "nobody is told"
    assert (rehearsed.begin, rehearsed.before) == (revision, ())
    assert rehearsed.value == ["10.0.0.2", "10.0.0.3", "10.0.0.4"]
    changes = {(type(change), change.id): change.new for change in rehearsed.after}
    assert changes[NetworkChange, network.id].mtu == 1400
    assert changes[PortChange, port.id] is None
    assert sum(kind is PortChange for kind, _ in changes) == 4
    assert not any(kind is SecurityGroupChange for kind, _ in changes)
    # and then it is done
    again = world.store.create_ports([PortSpec(network.id, name="planned")] * 3, "tester")
    assert [str(record.port.fixed_ips[0].address) for record in again.value] == rehearsed.value
    assert again.value[0].port.key == next(one.key for one in changes.values() if getattr(one, "name", "") == "planned")


def test_what_was_known_may_be_old(world: Any) -> None:
    network = world.network()
    known = world.store.revision()
    port = world.port(network).port
    rehearsed = world.store.rehearse(known, lambda store: store.update_port(port.id, {"name": "x"}, "tester").value)
    assert PortChange(port.id, port) in rehearsed.before
    (change,) = rehearsed.after
    assert (change.id, change.new.name) == (port.id, "x")
    assert known < rehearsed.begin == world.store.revision() < rehearsed.end


def test_a_refusal_takes_back_its_own_write_alone(world: Any) -> None:
    network = world.network()
    taken = world.port(network).port.fixed_ips[0].address
    before = dump(world.url)

    def work(store: Store) -> int:
        store.update_network(network.id, {"name": "new"}, "tester")
        with pytest.raises(Conflict):
            store.create_ports([PortSpec(network.id), PortSpec(network.id, fixed_ips=(FixedIpSpec(taken),))], "tester")
        return len(store.list_ports())

    rehearsed = world.store.rehearse(world.store.revision(), work)
    assert rehearsed.value == 1
    assert [change.new.name for change in rehearsed.after] == ["new"]
    assert dump(world.url) == before


def test_a_failure_leaves_nothing_and_nobody_waits_for_it(world: Any) -> None:
    network = world.network()
    before = dump(world.url)

    def work(store: Store) -> None:
        store.delete_network(network.id, "tester")
        raise KeyError("a mistake")

    with pytest.raises(KeyError):
        world.store.rehearse(world.store.revision(), work)
    assert dump(world.url) == before
    world.store.delete_network(network.id, "tester")
