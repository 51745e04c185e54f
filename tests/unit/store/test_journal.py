from __future__ import annotations

import contextlib
import random
from ipaddress import IPv4Address
from typing import Any

import pytest
from sqlalchemy import event

from controller.store.schema import metadata
from controller.store.specs import PortSpec, StoreError
from flows.snapshot import Snapshot


def test_one_row_for_each_object_of_a_transaction(world: Any) -> None:
    network = world.network()
    world.port(network)
    world.store.update_network(network.id, {"name": "new"}, "operator")
    entries = world.store.journal()
    assert [(entry.revision, entry.kind, entry.action, entry.actor) for entry in entries] == [
        (1, "network", "create", "tester"),
        (2, "security_group", "create", "tester"),  # the first port of a project brings its group `default`
        (3, "port", "create", "tester"),
        (4, "network", "update", "operator"),
    ]
    assert entries[2].payload["fixed_ips"] == ["10.0.0.1"]
    assert entries[3].payload == {"name": "new"}
    assert entries[3].at == world.clock.now
    assert world.store.journal(after=1, limit=1) == [entries[1]]
    assert world.store.journal(kind="network", object_id=network.id) == [entries[0], entries[3]]


def test_changes_are_told_once_and_as_they_are_now(world: Any) -> None:
    network = world.network()
    port = world.port(network)
    world.store.update_port(port.port.id, {"name": "a"}, "tester")
    world.store.update_port(port.port.id, {"name": "b"}, "tester")
    revision, changes = world.store.changes_since(3)
    assert revision == 5
    assert [(change.id, change.new.name) for change in changes] == [(port.port.id, "b")]
    world.store.delete_port(port.port.id, "tester")
    _, changes = world.store.changes_since(revision)
    assert [(change.id, change.new) for change in changes] == [(port.port.id, None)]
    assert world.store.changes_since(6) == (6, ())


def test_what_fails_leaves_no_trace(world: Any) -> None:
    """Whichever statement of a transaction is the last one before the end, nothing of it stays."""
    network = world.network()
    world.node()
    engine = world.store._database._writer
    dump = _dump(world)

    statements, last = 0, 0

    class Killed(Exception):
        pass

    def count(*_: Any) -> None:
        nonlocal statements
        statements += 1
        if statements == last:
            raise Killed

    event.listen(engine, "before_cursor_execute", count)
    port = None
    while port is None:
        statements, last = 0, last + 1
        try:
            port = world.port(network)
        except Killed:
            assert _dump(world) == dump
    event.remove(engine, "before_cursor_execute", count)
    assert last > 10
    assert (port.port.key, str(port.port.fixed_ips[0].address)) == (1, "10.0.0.1")


def _dump(world: Any) -> dict[str, list[Any]]:
    def work(connection: Any) -> dict[str, list[Any]]:
        return {table.name: list(map(tuple, connection.execute(table.select()))) for table in metadata.sorted_tables}

    return world.store._database.read(work)


@pytest.mark.parametrize("seed", range(5))
def test_following_the_journal_gives_what_loading_gives(make_world: Any, seed: int) -> None:
    world = make_world()
    rng = random.Random(seed)
    followed = Snapshot(0)
    networks = [world.network(f"10.{index}.0.0/28", physical_network=f"p{index}") for index in range(3)]
    networks.append(world.external())
    ports: list[str] = []

    def act() -> None:
        node = f"n{rng.randrange(3)}"
        match rng.randrange(8):
            case 0 | 1:
                made = world.store.create_ports([PortSpec(rng.choice(networks).id)] * rng.randrange(1, 4), "t")
                ports.extend(port.port.id for port in made.value)
            case 2:
                world.store.delete_port(ports.pop(rng.randrange(len(ports))), "t")
            case 3:
                changes = {"node": rng.choice([None, "n0", "n1"])}
                world.store.update_port(rng.choice(ports), changes, "t")
            case 4:
                world.node(node, physical_networks=("physnet1", "physnet-ext"))
            case 5 | 6:
                world.report(node, *rng.sample(ports, rng.randrange(len(ports) + 1)))
            case 7:
                mac = f"aa:00:00:00:00:0{rng.randrange(3)}"
                world.store.learn_neighbour(node, networks[3].id, IPv4Address("203.0.113.1"), mac)
        if rng.random() < 0.05:
            world.store.delete_node(node, "t")
        world.clock.now += 300
        world.store.release_idle_gateways(600)

    for _ in range(120):
        with contextlib.suppress(StoreError, IndexError, ValueError):  # bad luck: the action had nothing to act on
            act()
        if rng.random() < 0.5:
            followed = followed.apply(*world.store.changes_since(followed.revision))
    followed = followed.apply(*world.store.changes_since(followed.revision))
    assert followed == world.store.load_snapshot() == world.replayed()
    assert followed.revision > 60
