"""Who is answered, how often, and from what."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy.exc import OperationalError

from controller.metadata.given import Given
from controller.store.metadata_specs import MachineMetadata
from flows.model import Binding, Migration, MigrationPhase
from tests.unit.metadata.model import GIVEN, OTHER, WEB, Cloud, FakeStore, port, snapshot

AWAY = OperationalError("SELECT", {}, Exception("no connection"))
USER_DATA = "latest/user-data"


def test_g4_only_a_port_of_that_node_is_answered() -> None:
    cloud = Cloud(WEB, port(6, binding=None))
    assert cloud.ask(USER_DATA)[0] == 200
    for key, node in ((5, "n2"), (6, "n1"), (7, "n1"), (0, "n1")):
        assert cloud.ask(USER_DATA, key, node=node) == (0, b"")


def test_g4_one_that_moves_is_answered_on_both_nodes() -> None:
    cloud = Cloud(replace(WEB, migration=Migration(MigrationPhase.PREPARED, Binding("n2", 1, 1))))
    assert [cloud.ask(USER_DATA, node=node)[0] for node in ("n1", "n2", "n3")] == [200, 200, 0]


def test_g4_two_projects_with_one_address_and_one_device_id() -> None:
    theirs = port(6, OTHER, fixed_ips=WEB.fixed_ips, device_id="vm-1", metadata=8)
    cloud = Cloud(WEB, theirs)
    cloud.store.given["q", "vm-1"] = MachineMetadata(user_data=b"theirs", revision=8)
    assert cloud.ask(USER_DATA) == (200, GIVEN.user_data)
    assert cloud.ask(USER_DATA, 6) == (200, b"theirs")


def test_g5_what_is_remembered_is_of_this_revision_alone() -> None:
    cloud = Cloud()
    assert cloud.ask(USER_DATA) == cloud.ask(USER_DATA) == (200, GIVEN.user_data)
    assert cloud.store.asked == ["vm-1"]
    # another machine with the same key, address and device_id
    cloud.snapshot = snapshot(port(5, device_id="vm-1", metadata=None))
    assert cloud.ask(USER_DATA)[0] == 404
    cloud.snapshot = snapshot(port(5, device_id="vm-1", metadata=12))
    cloud.store.given["p", "vm-1"] = MachineMetadata(user_data=b"new", revision=12)
    assert cloud.ask(USER_DATA) == (200, b"new")
    assert cloud.store.asked == ["vm-1", "vm-1"]


def test_the_database_is_not_needed_for_what_was_asked_before() -> None:
    cloud = Cloud(WEB, port(6), port(7, metadata=3))
    cloud.ask(USER_DATA)
    cloud.store.away = AWAY
    assert cloud.ask(USER_DATA) == (200, GIVEN.user_data)
    assert cloud.ask("latest/meta-data/hostname", 6)[0] == 200  # was given nothing
    assert cloud.ask("latest/meta-data/hostname", 7) == (503, b"503 Service Unavailable\n")
    cloud.snapshot = snapshot(replace(WEB, metadata=8))
    assert cloud.ask(USER_DATA)[0] == 503  # it is old by now


def test_what_is_remembered_is_bounded() -> None:
    store = FakeStore()
    store.given = {("p", f"m{n}"): MachineMetadata(user_data=bytes(1 << 16), revision=1) for n in range(20)}
    given = Given(store, most_bytes=5 * 70_000)
    ports = [port(n + 1, device_id=f"m{n}", metadata=1) for n in range(20)]
    for _ in range(2):
        for each in ports[:5]:
            given.of(each)
    assert len(store.asked) == 5
    for each in ports:
        given.of(each)
    given.of(ports[-1])
    given.of(ports[0])
    assert store.asked[20:] == ["m0"]


def test_requests_of_one_machine_are_bounded_and_no_others() -> None:
    cloud = Cloud(WEB, port(6), port(8, device_id="vm-1"), rate=2, burst=10)
    assert [cloud.ask(USER_DATA)[0] for _ in range(9)] == [200] * 9
    assert cloud.ask(USER_DATA, 8)[0] == 404  # another port of the same machine, given nothing here
    limited = cloud.service.answer("n1", 5, "GET", USER_DATA)
    assert limited is not None and limited.status.value == 429
    assert dict(limited.headers) == {"Retry-After": "1"}
    assert cloud.ask("latest", 6)[0] == 200
    cloud.now += 1
    assert [cloud.ask(USER_DATA)[0] for _ in range(3)] == [200, 200, 429]
    assert (cloud.count(200), cloud.count(404), cloud.count(429)) == (12, 1, 2)


PASSWORD = "openstack/latest/password"


def test_g7_a_password_is_told_once() -> None:
    cloud = Cloud()
    assert cloud.ask(PASSWORD) == (200, b"")
    assert cloud.ask(PASSWORD, body=b"x" * 1021)[0] == 400
    assert cloud.ask(PASSWORD, body=b"")[0] == 400
    assert cloud.ask(PASSWORD, body=b"\xff\0")[0] == 400
    assert cloud.ask("openstack/2013-04-04/password", body=b"x" * 1020) == (200, b"")
    assert cloud.ask(PASSWORD, body=b"y")[0] == 409
    cloud.snapshot = snapshot(replace(WEB, metadata=None))
    cloud.snapshot = snapshot(replace(WEB, metadata=8))
    assert cloud.ask(PASSWORD) == (200, b"x" * 1020)
    cloud.store.away = AWAY
    assert cloud.ask(PASSWORD, body=b"z")[0] == 503


@pytest.mark.parametrize("path", ["", "latest/user-data", "openstack/2012-08-10/password", "openstack/latest"])
def test_nothing_else_is_told(path: str) -> None:
    assert Cloud().ask(path, body=b"x")[0] == 405


def test_what_is_asked_for_by_two_at_once_is_counted_once() -> None:
    class Slow(FakeStore):
        def load_metadata(self, project_id: str | None, machine_id: str) -> MachineMetadata | None:
            if not self.asked:
                self.asked.append(machine_id)
                inner.append(given.of(asked))
            return super().load_metadata(project_id, machine_id)

    inner: list[MachineMetadata] = []
    given, asked = Given(Slow()), WEB
    assert given.of(asked) == inner[0]
    once = Given(FakeStore())
    once.of(asked)
    assert given._bytes == once._bytes
