"""How controllers share nodes, on PostgreSQL."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from controller.cluster.assign import assign
from controller.store import Store
from controller.store.cluster import Confirmation, NameInUse, Own
from controller.store.cluster_store import ClusterStore
from controller.store.specs import NodeSpec
from tests.unit.store import raw

NODES = [f"n{number}" for number in range(1, 9)]
TTL = 60.0
DAY = 86400.0


def own(name: str, instance: str = "1") -> Own:
    return Own(name, instance, f"http://{name}:8080")


def later(url: str, seconds: float) -> None:
    """As if it were so much later: all times are the database's, and it keeps only when each controller's ends."""
    raw.execute(url, f"UPDATE controllers SET expires_at = expires_at - {seconds}")


@pytest.fixture
def url(make_database: Callable[..., str]) -> str:
    made = make_database()
    store = Store(made)
    for number, name in enumerate(NODES, 1):
        store.put_node(NodeSpec(name=name, datapath_id=number), "agent")
    store.close()
    return made


@pytest.fixture
def cluster(url: str) -> Iterator[ClusterStore]:
    store = ClusterStore(url, TTL)
    yield store
    store.close()


def test_the_first_masters_all_it_is_connected_to(cluster: ClusterStore) -> None:
    state = cluster.tick(own("a"), [*NODES, "unknown"])
    assert {lease.controller for lease in state.leases.values()} == {"a"} and state.leases.keys() == set(NODES)
    assert {lease.generation for lease in state.leases.values()} == {1}
    assert cluster.read() == state and state.leader == "a"
    later = cluster.tick(own("a"), NODES[:4])
    assert later.leases == state.leases, "who is connected to nobody stays whose it was"
    assert [later.controller_of(node) for node in (NODES[0], NODES[-1])] == ["a", None]
    assert later.members["a"].expires_at > state.members["a"].expires_at
    assert later.members["a"].started_at == state.members["a"].started_at


def test_one_that_joins_gets_its_share_and_gives_it_back(cluster: ClusterStore) -> None:
    cluster.tick(own("a"), NODES)
    both = cluster.tick(own("b"), NODES)
    wanted = assign(["a", "b"], {"a": NODES, "b": NODES})
    assert {node: lease.controller for node, lease in both.leases.items()} == wanted
    assert {lease.generation for lease in both.leases.values() if lease.controller == "b"} == {2}
    assert {lease.generation for lease in both.leases.values() if lease.controller == "a"} == {1}
    left = cluster.resign(own("b"))
    assert {lease.controller for lease in left.leases.values()} == {"a"} and left.members.keys() == {"a"}
    assert {left.leases[node].generation for node, name in wanted.items() if name == "b"} == {3}
    assert cluster.resign(own("b")) == left


def test_the_dead_are_buried_by_who_looks_first(url: str, cluster: ClusterStore) -> None:
    assert cluster.tick(own("a"), NODES).controller_of("n1") == "a"
    later(url, TTL / 2)
    cluster.tick(own("b"), [])
    later(url, TTL / 2)
    state = cluster.tick(own("b"), NODES)
    assert state.members.keys() == {"b"} == {lease.controller for lease in state.leases.values()}
    assert {lease.generation for lease in state.leases.values()} == {2} and "a" not in state.connections
    # it was only held up
    back = cluster.tick(own("a"), NODES)
    assert {node: lease.controller for node, lease in back.leases.items()} == assign(
        ["a", "b"], {"a": NODES, "b": NODES}
    )


def test_when_the_database_was_away_nobody_is_taken_for_dead_at_once(url: str, cluster: ClusterStore) -> None:
    cluster.tick(own("a"), NODES)
    before = cluster.tick(own("b"), NODES)
    later(url, TTL * 2)
    after = cluster.tick(own("a"), NODES)
    assert after.members.keys() == {"a", "b"} and after.leases == before.leases
    assert cluster.tick(own("b"), NODES).leases == before.leases
    later(url, TTL / 2)
    cluster.tick(own("a"), NODES)
    later(url, TTL / 2)
    assert cluster.tick(own("a"), NODES).members.keys() == {"a"}, "b is dead"
    later(url, TTL * 2)
    # another process that begins after a pause of all does not wait for anybody
    assert cluster.tick(own("c"), NODES).members.keys() == {"c"}


@pytest.mark.parametrize("seconds", [DAY, -DAY], ids=["forward", "back"])
def test_a_clock_of_the_database_that_is_set(url: str, cluster: ClusterStore, seconds: float) -> None:
    """Nobody is taken for dead by it, and nobody who dies then is taken for alive for a day."""
    cluster.tick(own("a"), NODES)
    before = cluster.tick(own("b"), NODES)
    later(url, seconds)
    assert cluster.tick(own("a"), NODES).leases == before.leases
    assert cluster.tick(own("b"), NODES).leases == before.leases
    later(url, seconds)
    cluster.tick(own("a"), NODES)
    later(url, TTL / 2)
    cluster.tick(own("a"), NODES)
    later(url, TTL / 2)
    assert cluster.tick(own("a"), NODES).members.keys() == {"a"}, "b is dead"


def test_only_who_has_the_lease_confirms(cluster: ClusterStore) -> None:
    cluster.tick(own("a"), ["n1"])
    said = {"state": "live", "peer": "192.0.2.11:1"}
    cluster.confirm(own("a"), [Confirmation("n1", 1, 7, 5, said)])
    lease = cluster.read().leases["n1"]
    assert (lease.confirmed, lease.unclaimed, lease.session) == (7, 5, said)
    cluster.confirm(own("b"), [Confirmation("n1", 1, 8, None, said)])
    cluster.confirm(own("a"), [Confirmation("n1", 0, 8, None, said), Confirmation("n2", 1, 8, None, said)])
    assert cluster.read().leases == {"n1": lease}
    cluster.tick(own("a"), [])
    other = cluster.tick(own("b"), ["n1"]).leases["n1"]
    assert (other.controller, other.generation) == ("b", 2)
    assert (other.confirmed, other.unclaimed, other.session) == (7, 5, None)


def test_a_generation_is_raised_above_what_the_switch_has_seen(cluster: ClusterStore) -> None:
    cluster.tick(own("a"), ["n1"])
    assert cluster.raise_generation(own("a"), "n1", 40)
    assert cluster.read().leases["n1"].generation == 41
    assert cluster.raise_generation(own("a"), "n1", 3)
    assert cluster.read().leases["n1"].generation == 42
    assert not cluster.raise_generation(own("b"), "n1", 50), "it is not its own"
    assert not cluster.raise_generation(own("a", "2"), "n1", 50), "another process"
    assert not cluster.raise_generation(own("a"), "n1", 2**63 - 2), "soon there would be no later one"
    assert cluster.read().leases["n1"].generation == 42


def test_two_of_one_name(cluster: ClusterStore) -> None:
    cluster.tick(own("a"), NODES)
    with pytest.raises(NameInUse) as refused:
        cluster.tick(own("a", "2"), NODES)
    assert refused.value.other.instance == "1"
    after = cluster.tick(own("a", "2"), NODES, ["1"])
    assert after.members["a"].instance == "2"
    with pytest.raises(NameInUse):
        cluster.tick(own("a"), NODES)


def test_all_at_once(url: str) -> None:
    """Each tick sees what the one before has written: no node is given away twice with one generation."""
    stores = {name: ClusterStore(url, TTL) for name in "abcd"}

    def ticks(name: str) -> list[tuple[str, str, int]]:
        seen = []
        for number in range(20):
            state = stores[name].tick(own(name), NODES[number % 3 :])
            seen += [(lease.node, lease.controller, lease.generation) for lease in state.leases.values()]
        return seen

    with ThreadPoolExecutor(4) as pool:
        seen = {each for found in pool.map(ticks, stores) for each in found}
    masters: dict[tuple[str, int], set[str]] = {}
    for node, name, generation in seen:
        masters.setdefault((node, generation), set()).add(name)
    assert all(len(names) == 1 for names in masters.values())
    for name in stores:
        stores[name].tick(own(name), NODES)
    state = stores["a"].read()
    assert {node: lease.controller for node, lease in state.leases.items()} == assign(
        list("abcd"), dict.fromkeys("abcd", NODES)
    )
    for store in stores.values():
        store.close()


def test_a_node_that_is_gone_has_no_lease(url: str, cluster: ClusterStore) -> None:
    cluster.tick(own("a"), NODES)
    store = Store(url)
    store.delete_node("n1", "admin")
    store.close()
    state = cluster.tick(own("a"), NODES)
    assert "n1" not in state.leases and "n1" not in state.connections["a"]


def test_who_listens_is_told(url: str, cluster: ClusterStore) -> None:
    from controller.store.cluster import CONFIRMED, LEASES
    from controller.store.notifications import Listener

    heard: list[str] = []
    ready: list[bool] = []
    channels = {LEASES: lambda _: heard.append(LEASES), CONFIRMED: lambda _: heard.append(CONFIRMED)}
    listener = Listener(url, channels, partial(ready.append, True))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(listener.run)
        _until(lambda: bool(ready))
        cluster.tick(own("a"), NODES)
        _until(lambda: heard == [LEASES])
        cluster.tick(own("a"), NODES)  # nothing new
        cluster.confirm(own("a"), [Confirmation("n1", 1, 7, None, {})])
        _until(lambda: heard == [LEASES, CONFIRMED])
        listener.stop()
        running.result(20)


def _until(condition: Callable[[], bool], deadline: float = 20.0) -> None:
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
