from __future__ import annotations

from typing import Any

import pytest

from controller.store.specs import Conflict, NotFound
from flows.model import Binding, GatewayMode, Migration, MigrationPhase

HERE, THERE = Binding("n1", 100, 1), Binding("n2", 200, 1)
PREPARED = Migration(MigrationPhase.PREPARED, THERE)
MOVED = Migration(MigrationPhase.MOVED, HERE)


@pytest.fixture
def port(world: Any) -> Any:
    """Bound to n1."""
    for name in ("n1", "n2", "n3"):
        world.node(name)
    made = world.port(world.network())
    world.report("n1", made)
    return made


def prepared(world: Any, port: Any, node: str = "n2") -> None:
    world.store.prepare_binding(port.port.id, node, "tester")
    assert world.report(node, port, first_ofport=200) == {port.port.id: "prepared"}


def state(world: Any, port: Any) -> tuple[Binding | None, Migration | None]:
    now = world.again(port).port
    return now.binding, now.migration


def test_an_expected_port_waits_for_its_interface(world: Any, port: Any) -> None:
    before = world.store.prepare_binding(port.port.id, "n2", "tester").value
    assert (before.port.migration, before.expected_on) == (None, "n2")
    assert [str(held.address) for held in world.store.get_node("n2").node.gateways]  # before the VM is there
    with pytest.raises(Conflict) as unseen:
        world.store.activate_binding(port.port.id, "n2")
    assert unseen.value.code == "binding_unseen"
    world.report("n2", port, first_ofport=200)
    assert state(world, port) == (HERE, PREPARED)
    assert world.report("n1", port) == {port.port.id: "bound"}
    assert world.report("n3", port) == {port.port.id: "refused: the port is bound to n1"}


def test_an_interface_that_is_there_already_is_seen_at_once(world: Any, port: Any) -> None:
    world.report("n2", port, first_ofport=200)
    world.store.prepare_binding(port.port.id, "n2", "tester")
    assert state(world, port) == (HERE, PREPARED)


def test_activation_swaps_the_bindings_and_the_old_one_ends(world: Any, port: Any) -> None:
    prepared(world, port)
    for _ in range(2):  # by the frame and by the API
        assert world.store.activate_binding(port.port.id, "n2").value.port.migration == MOVED
    assert state(world, port) == (THERE, MOVED)
    assert world.report("n1", port) == {port.port.id: "moved"}
    assert world.report("n2", port, first_ofport=200) == {port.port.id: "bound"}
    world.report("n1")
    assert state(world, port) == (THERE, MOVED)  # it passes on what comes late
    world.clock.now += 10
    assert world.store.end_moves(15).value == 0
    world.clock.now += 5
    assert world.store.end_moves(15).value == 1
    assert state(world, port) == (THERE, None)
    assert world.store.load_snapshot() == world.replayed()


def test_the_same_phases_written_twice_leave_no_trace(world: Any, port: Any) -> None:
    prepared(world, port)
    revision = world.store.revision()
    world.report("n2", port, first_ofport=200), world.report("n1", port)
    world.store.prepare_binding(port.port.id, "n2", "tester")
    assert world.store.revision() == revision


@pytest.mark.parametrize("seen", [False, True])
def test_withdrawn_the_port_is_as_before(world: Any, port: Any, seen: bool) -> None:
    world.store.prepare_binding(port.port.id, "n2", "tester")
    if seen:
        world.report("n2", port, first_ofport=200)
    world.store.withdraw_binding(port.port.id, "n2", "tester")
    assert state(world, port) == (HERE, None)
    with pytest.raises(NotFound) as unknown:
        world.store.withdraw_binding(port.port.id, "n2", "tester")
    assert unknown.value.code == "binding_unknown"


def test_gone_from_the_node_that_expects_it_the_move_is_off(world: Any, port: Any) -> None:
    prepared(world, port)
    world.report("n2")
    assert state(world, port) == (HERE, None)
    assert world.again(port).expected_on is None


def test_gone_from_its_node_it_is_served_where_it_is_expected(world: Any, port: Any) -> None:
    prepared(world, port)
    world.report("n1")
    assert state(world, port) == (THERE, MOVED)


def test_gone_from_its_node_before_it_came_it_waits(world: Any, port: Any) -> None:
    world.store.prepare_binding(port.port.id, "n2", "tester")
    world.report("n1")
    assert state(world, port) == (None, None)


def test_gone_from_both_it_is_bound_nowhere(world: Any, port: Any) -> None:
    prepared(world, port)
    world.report("n1"), world.report("n2")
    assert state(world, port) == (None, None)


def test_a_deleted_node_ends_its_moves(world: Any, port: Any) -> None:
    world.store.prepare_binding(port.port.id, "n2", "tester")
    world.store.delete_node("n2", "tester")
    prepared(world, port, "n3")
    world.store.delete_node("n1", "tester")
    assert state(world, port) == (Binding("n3", 200, 1), None)


def test_a_schedule_follows_a_move_and_moves_a_prepared_port(world: Any, port: Any) -> None:
    world.store.update_port(port.port.id, {"node": "n1"}, "tester")
    prepared(world, port)
    world.store.activate_binding(port.port.id, "n2")
    assert world.again(port).port.node == "n2"
    prepared(world, port, "n3")
    world.store.update_port(port.port.id, {"node": "n3"}, "tester")
    assert state(world, port)[0] == Binding("n3", 200, 1)
    assert state(world, port)[1] == Migration(MigrationPhase.MOVED, THERE)


def test_back_again_before_the_first_move_is_over(world: Any, port: Any) -> None:
    prepared(world, port)
    world.store.activate_binding(port.port.id, "n2")
    with pytest.raises(Conflict) as moved:
        world.store.activate_binding(port.port.id, "n1")
    assert moved.value.code == "binding_moved"
    world.store.prepare_binding(port.port.id, "n1", "tester")
    assert state(world, port) == (THERE, Migration(MigrationPhase.PREPARED, Binding("n1", 100, 2)))
    world.store.activate_binding(port.port.id, "n1")
    assert state(world, port)[0] == Binding("n1", 100, 2)


def test_refusals(world: Any, port: Any) -> None:
    world.node("n4", physical_networks=("physnet2",))
    unbound = world.port(world.network("10.9.0.0/24"))
    for made, node, code in (
        (port, "n9", "node_unknown"),
        (port, "n1", "binding_exists"),
        (port, "n4", "node_unfit"),
        (unbound, "n1", "port_unbound"),
    ):
        with pytest.raises((Conflict, NotFound)) as refused:
            world.store.prepare_binding(made.port.id, node, "tester")
        assert refused.value.code == code
    world.store.prepare_binding(port.port.id, "n2", "tester")
    with pytest.raises(Conflict) as busy:
        world.store.prepare_binding(port.port.id, "n3", "tester")
    assert busy.value.code == "binding_exists"
    with pytest.raises(Conflict) as active:
        world.store.withdraw_binding(port.port.id, "n1", "tester")
    assert active.value.code == "binding_active"


def test_no_two_interfaces_of_a_node_share_a_zone(world: Any, port: Any) -> None:
    network = world.network("10.8.0.0/24")
    prepared(world, port)
    other = world.port(network)
    world.report("n2", port, other, first_ofport=200)
    assert world.again(other).port.binding == Binding("n2", 201, 2)
    rewind = "UPDATE nodes SET next_zone = 1"
    world.store._database.write(lambda connection: connection.exec_driver_sql(rewind) and None)
    third = world.port(network)
    world.report("n2", port, other, third, first_ofport=200)
    assert world.again(third).port.binding == Binding("n2", 202, 3)


def test_a_gateway_is_not_idle_where_a_port_is_expected(world: Any, port: Any) -> None:
    network = world.store.get_network(port.port.network_id)
    assert network.spec.gateway_mode is GatewayMode.PER_HOST
    neighbour = world.port(network)
    world.report("n2", neighbour, first_ofport=300)
    world.store.prepare_binding(port.port.id, "n2", "tester")
    world.report("n2")
    world.clock.now += 1000
    assert world.store.release_idle_gateways(600).value == 0


def test_a_vm_that_has_moved_keeps_its_gateway_until_it_renews_its_lease(world: Any, port: Any) -> None:
    lease = world.store.get_network(port.port.network_id).spec.lease_time
    (gateway,) = world.store.get_node("n1").node.gateways
    prepared(world, port)
    world.store.activate_binding(port.port.id, "n2")
    world.clock.now += 20
    world.store.end_moves(15)
    world.clock.now += lease
    world.store.release_idle_gateways(600)
    assert world.store.get_node("n1").node.gateways == (gateway,)
    world.clock.now += 700
    world.store.release_idle_gateways(600)
    assert world.store.get_node("n1").node.gateways == ()


def test_deleted_on_its_way(world: Any, port: Any) -> None:
    prepared(world, port)
    world.store.delete_port(port.port.id, "tester")
    assert world.store.load_snapshot() == world.replayed()


# the life of a port on one node and between two, without a move


def test_removed_and_added_within_a_moment_keeps_its_addresses(world: Any, port: Any) -> None:
    world.report("n1")
    assert world.report("n1", port, first_ofport=150) == {port.port.id: "bound"}
    assert world.again(port).port.fixed_ips == port.port.fixed_ips


def test_an_operator_says_that_a_dead_nodes_port_is_elsewhere(world: Any, port: Any) -> None:
    """n1 says nothing any more: what it last said must not hold the port."""
    world.report("n2", port, first_ofport=200)
    world.store.update_port(port.port.id, {"node": "n2"}, "tester")
    assert state(world, port) == (THERE, None)
    # n1 is back and says what it always said
    assert world.report("n1", port) == {port.port.id: "refused: the port is scheduled on n2"}
    assert state(world, port) == (THERE, None)


def test_a_restarted_node_reports_again_and_nothing_has_changed(world: Any, port: Any) -> None:
    revision = world.store.revision()
    assert world.report("n1", port) == {port.port.id: "bound"}
    assert world.store.revision() == revision
