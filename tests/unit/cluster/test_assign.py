"""Which controller masters which node."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from controller.cluster.assign import assign, leader
from controller.cluster.state import ClusterState, Member, NodeLease

NODES = [f"node{number}" for number in range(200)]
MEMBERS = ["c1", "c2", "c3"]
names = st.text("abc123.-", min_size=1, max_size=6)
clusters = st.dictionaries(names, st.frozensets(names, max_size=8), max_size=5)


def everywhere(members: list[str]) -> dict[str, list[str]]:
    return dict.fromkeys(members, NODES)


def test_nodes_are_spread_evenly() -> None:
    counts = Counter(assign(MEMBERS, everywhere(MEMBERS)).values())
    assert sorted(counts) == MEMBERS and max(counts.values()) < 100 > 40 < min(counts.values())


def test_one_that_joins_or_goes_moves_only_what_is_its_own() -> None:
    two, three = assign(MEMBERS[:2], everywhere(MEMBERS[:2])), assign(MEMBERS, everywhere(MEMBERS))
    moved = {node for node in NODES if two[node] != three[node]}
    assert moved == {node for node in NODES if three[node] == "c3"} and moved


@given(clusters)
def test_a_node_is_mastered_by_a_member_that_is_connected_to_it(connections: dict[str, frozenset[str]]) -> None:
    members = sorted(connections)[1:]
    chosen = assign(members, connections)
    assert all(name in members and node in connections[name] for node, name in chosen.items())
    assert chosen.keys() == {node for name in members for node in connections[name]}


@given(clusters)
def test_who_is_not_connected_does_not_count(connections: dict[str, frozenset[str]]) -> None:
    chosen = assign(list(connections), connections)
    for name, nodes in connections.items():
        without = {**connections, name: frozenset()}
        after = assign(list(connections), without)
        assert {node: one for node, one in chosen.items() if node not in nodes or one != name} == {
            node: after[node] for node in chosen if node not in nodes or chosen[node] != name
        }


@given(st.lists(names, unique=True))
def test_the_leader_is_a_member_whatever_their_order(members: list[str]) -> None:
    assert leader(members) == leader(reversed(members))
    assert (leader(members) in members) == bool(members)


def test_a_dead_controller_masters_nothing() -> None:
    live = Member("c1", "i", "", 0.0, 9.0)
    leases = {"n1": NodeLease("n1", "c1", 1), "n2": NodeLease("n2", "c2", 1), "n3": NodeLease("n3", "c1", 1)}
    state = ClusterState({"c1": live}, {"c1": frozenset({"n1"}), "c2": frozenset({"n2"})}, leases)
    assert [state.controller_of(node) for node in ("n1", "n2", "n3", "n4")] == ["c1", None, None, None]
    assert state.connected("n1") and not state.connected("n2")
    assert [one["nodes"] for one in state.describe()] == [["n1"]]
