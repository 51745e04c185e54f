from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from controller.store.specs import (
    Conflict,
    Exhausted,
    FixedIpSpec,
    InterfaceReport,
    Invalid,
    NotFound,
    PortSpec,
    ReportedInterface,
)
from flows.model import Binding, GatewayMode
from flows.pipeline import PORT_ZONES
from tests.unit.store import raw
from tests.unit.store.floating import again, lead, make_pool, take


def gateways(world: Any, node: str) -> list[str]:
    return [str(held.address) for held in world.store.get_node(node).node.gateways]


def test_threat_40_the_first_claim_binds_and_the_second_is_refused(world: Any) -> None:
    port = world.port(world.network())
    world.node("n1"), world.node("n2")
    assert world.report("n1", port) == {port.port.id: "bound"}
    assert world.again(port).port.binding == Binding("n1", 100, 1)
    assert world.report("n2", port) == {port.port.id: "refused: the port is bound to n1"}
    # gone from its node, it binds where it is waiting
    world.report("n1")
    assert world.again(port).port.binding == Binding("n2", 100, 1)


def test_threat_40_a_node_that_shows_the_interfaces_of_ports_bound_elsewhere_has_problems(world: Any) -> None:
    network = world.network()
    world.node("n1"), world.node("n2")
    held = [world.port(network) for _ in range(5)]
    world.report("n1", *held)
    assert world.store.node_problems("n1") == world.store.node_problems("n2") == ()
    world.report("n2", held[0])
    line = f"the interface of port {held[0].port.id} is here, too: it is bound to n1"
    assert world.store.node_problems("n2") == world.store.get_node("n2").problems == (line,)
    assert world.store.node_problems("n1") == ()
    world.report("n2", *held)
    assert len(world.store.node_problems("n2")) == 4
    assert world.store.node_problems("n2")[-1] == "so are interfaces of 2 more ports"
    world.report("n2")
    assert world.store.node_problems("n2") == ()


def test_a_scheduled_port_binds_on_its_node_only_and_moves_with_its_schedule(world: Any) -> None:
    world.node("n1"), world.node("n2"), world.node("n3")
    port = world.port(world.network(), node="n1")
    assert world.report("n2", port) == {port.port.id: "refused: the port is scheduled on n1"}
    assert world.report("n1", port) == {port.port.id: "bound"}
    moved = world.store.update_port(port.port.id, {"node": "n2"}, "tester").value
    assert moved.port.binding == Binding("n2", 100, 1)
    assert world.store.update_port(port.port.id, {"node": "n3"}, "tester").value.port.binding is None


def test_b24_the_vm_of_a_node_that_says_nothing_any_more_is_deleted(world: Any) -> None:
    """Nobody waits for the node: address, floating IP and quota are free, and another VM may have them."""
    world.node("n1", physical_networks=("physnet1", "physnet-ext")), world.node("n2")
    make_pool(world)
    network = world.network(gateway_mode=GatewayMode.SHARED)
    port = world.port(network)
    world.report("n1", port)
    (floating_ip,) = take(world)
    lead(world, floating_ip, port)
    world.store.delete_port(port.port.id, "tester")
    assert again(world, floating_ip).floating_ip.port_id is None
    quota = world.store.get_quota("blue")
    assert (quota.ports_used, quota.fixed_ips_used) == (0, 0)
    heir = world.port(network, fixed_ips=(FixedIpSpec(port.port.fixed_ips[0].address),))
    world.report("n2", heir)
    lead(world, floating_ip, heir)
    snapshot = world.store.load_snapshot()
    assert list(snapshot.local_ports("n1")) == [] and not snapshot.presence.get(("n1", network.id))
    # it is back, and its VM still runs
    assert world.report("n1", port.port.id) == {port.port.id: "unknown"}
    assert world.again(heir).port.binding.node == "n2"
    assert again(world, floating_ip).floating_ip.port_id == heir.port.id


def test_a_port_missing_from_the_report_is_unbound(world: Any) -> None:
    network = world.network()
    one, two = world.port(network), world.port(network)
    world.node()
    world.report("n1", one, two)
    revision = world.store.revision()
    assert world.report("n1", two, first_ofport=101) == {two.port.id: "bound"}
    assert (world.again(one).port.binding, world.again(two).port.binding) == (None, Binding("n1", 101, 2))
    assert world.store.revision() == revision + 1


def test_an_unknown_interface_is_remembered_and_binds_when_its_port_is_made(world: Any) -> None:
    network, id_ = world.network(), str(uuid4())
    world.node()
    assert world.report("n1", id_) == {id_: "unknown"}
    assert world.port(network, id=id_).port.binding == Binding("n1", 100, 1)
    world.store.delete_port(id_, "tester")
    assert world.port(network, id=id_).port.binding == Binding("n1", 100, 2)


def test_an_unchanged_report_writes_nothing(world: Any) -> None:
    port = world.port(world.network())
    world.node()
    world.report("n1", port, "stranger")
    world.commits.clear()
    revision = world.store.revision()
    assert world.report("n1", port, "stranger") == {port.port.id: "bound", "stranger": "unknown"}
    assert (world.store.revision(), world.commits) == (revision, [])


def test_a_changed_ofport_keeps_the_zone(world: Any) -> None:
    port = world.port(world.network())
    world.node()
    world.report("n1", port)
    world.report("n1", port, first_ofport=200)
    assert world.again(port).port.binding == Binding("n1", 200, 1)
    assert world.report("n1", port, first_ofport=-1) == {
        port.port.id: "refused: the interface has no OpenFlow port number"
    }
    assert world.again(port).port.binding is None


def test_two_ports_may_swap_their_ofports(world: Any) -> None:
    network = world.network()
    one, two = world.port(network), world.port(network)
    world.node()
    world.report("n1", one, two)
    world.report("n1", two, one)
    assert (world.again(one).port.binding, world.again(two).port.binding) == (
        Binding("n1", 101, 1),
        Binding("n1", 100, 2),
    )


def test_zones_go_round(world: Any) -> None:
    network = world.network()
    ports = [world.port(network) for _ in range(3)]
    world.node()

    def wind_up(connection: Any) -> None:
        connection.exec_driver_sql(f"UPDATE nodes SET next_zone = {PORT_ZONES[-2]}")

    world.store._database.write(wind_up)
    world.report("n1", *ports)
    assert {world.again(port).port.binding.zone for port in ports} == {*PORT_ZONES[-2:], 1}
    world.report("n1", *ports[:2])
    world.report("n1", *ports)
    assert world.again(ports[2]).port.binding.zone == 2  # not the one just given back


def test_stale_and_bad_reports(world: Any) -> None:
    with pytest.raises(NotFound) as unknown:
        world.report("n1")
    assert unknown.value.code == "node_unknown"
    spec = world.node()
    for serial in (5, 6):  # the second changes nothing, and is still the newest
        world.store.report_interfaces("n1", InterfaceReport(serial, {"physnet1": 65001}))
    with pytest.raises(Conflict) as stale:
        world.store.report_interfaces("n1", InterfaceReport(5, {"physnet1": 65002}))
    assert (stale.value.code, stale.value.details) == ("serial_stale", {"serial": 6})
    with pytest.raises(Invalid) as bad:
        world.store.report_interfaces("n1", InterfaceReport(7, {"physnet9": 1}))
    assert bad.value.code == "physical_network_unknown"
    world.store.put_node(spec, "n1")  # a restarted agent counts from the beginning
    world.store.report_interfaces("n1", InterfaceReport(1, {"physnet1": 65001}))


def test_a_serial_outlives_the_controller(make_world: Any) -> None:
    first = make_world()
    first.node()
    first.store.report_interfaces("n1", InterfaceReport(5, {"physnet1": 65001}))
    with pytest.raises(Conflict):
        make_world().store.report_interfaces("n1", InterfaceReport(4, {}))


def test_each_node_takes_one_gateway_for_a_network(world: Any) -> None:
    network = world.network()
    ports = world.store.create_ports([PortSpec(network.id) for _ in range(4)], "tester").value
    world.node("n1"), world.node("n2")
    revision = world.store.revision()
    world.report("n1", *ports[:2])
    assert world.store.revision() == revision + 3  # two ports and their node
    world.report("n2", *ports[2:])
    assert (gateways(world, "n1"), gateways(world, "n2")) == (["10.0.0.5"], ["10.0.0.6"])


@pytest.mark.parametrize("mode", [GatewayMode.SHARED, GatewayMode.NONE])
def test_other_modes_take_none(world: Any, mode: GatewayMode) -> None:
    port = world.port(world.network(gateway_mode=mode))
    world.node()
    world.report("n1", port)
    assert gateways(world, "n1") == []


def test_b25_what_is_believed_of_a_bound_port_is_put_right_by_the_next_report(world: Any) -> None:
    world.node("n1")
    port = world.port(world.network())
    world.report("n1", port)
    before = world.again(port).port.binding
    raw.execute(world.url, "UPDATE ports SET ofport = 7")
    assert world.again(port).port.binding != before
    world.report("n1", port)
    assert world.again(port).port.binding == before
    revision = world.store.revision()
    world.report("n1", port)
    assert world.store.revision() == revision


def test_an_idle_gateway_is_given_back_after_a_while(world: Any) -> None:
    network = world.network()
    port = world.port(network)
    world.node()
    world.report("n1", port)
    world.report("n1")
    world.clock.now += 500
    assert world.store.release_idle_gateways(600).value == 0
    world.report("n1", port)  # back in time: it keeps the gateway
    world.clock.now += 500
    assert world.store.release_idle_gateways(600).value == 0
    world.store.delete_port(port.port.id, "tester")
    world.clock.now += 600
    world.commits.clear()
    assert world.store.release_idle_gateways(600).value == 1
    assert len(world.commits) == 1
    assert gateways(world, "n1") == []


def test_a_port_without_room_for_a_gateway_is_refused_until_there_is(world: Any) -> None:
    network = world.network("10.0.0.0/30")
    one, two = world.port(network), world.port(network)
    world.node()
    why = "the subnet has no address left for the gateway of node n1"
    assert world.report("n1", one) == {one.port.id: f"refused: {why}"}
    assert world.again(one).binding_error == why
    revision = world.store.revision()
    assert world.report("n1", one) == {one.port.id: f"refused: {why}"}
    assert world.store.revision() == revision  # it was known
    world.store.delete_port(two.port.id, "tester")
    assert world.report("n1", one) == {one.port.id: "bound"}
    assert world.again(one).binding_error is None


def test_a_node_without_the_physical_network_is_refused_until_it_has_it(world: Any) -> None:
    port = world.port(world.network())
    spec = world.node(physical_networks=("physnet2",))
    why = "node n1 has no physical network 'physnet1'"
    assert world.report("n1", port) == {port.port.id: f"refused: {why}"}
    assert (world.again(port).port.binding, world.again(port).binding_error) == (None, why)
    assert world.store.journal(object_id=port.port.id)[-1].payload == {"binding_error": why}
    world.store.put_node(replace(spec, physical_networks=("physnet2", "physnet1")), "n1")
    assert world.report("n1", port) == {port.port.id: "bound"}
    assert (world.again(port).port.binding, world.again(port).binding_error) == (Binding("n1", 100, 1), None)
    world.store.put_node(spec, "n1")
    assert (world.again(port).port.binding, world.again(port).binding_error) == (None, why)


def test_an_unscheduled_port_goes_where_its_network_is(world: Any) -> None:
    port = world.port(world.network())
    world.node("n1", physical_networks=()), world.node("n2")
    world.report("n1", port)
    assert world.report("n2", port) == {port.port.id: "bound"}
    assert world.report("n1", port) == {port.port.id: "refused: the port is bound to n2"}
    assert world.again(port).binding_error is None


def test_a_reason_goes_when_nobody_shows_the_port(world: Any) -> None:
    network = world.network()
    world.node("n1"), world.node("n2"), world.node("n9")
    gone, forgotten = (world.port(network, node="n9") for _ in range(2))
    world.report("n1", gone), world.report("n2", forgotten)
    for port, node in ((gone, "n1"), (forgotten, "n2")):
        why = f"the port is scheduled on n9, but its interface is on {node}"
        assert world.again(port).binding_error == why
    world.report("n1")
    world.store.delete_node("n2", "tester")
    assert world.again(gone).binding_error is world.again(forgotten).binding_error is None


def test_a_port_made_for_a_waiting_interface_says_why_it_is_not_bound(world: Any) -> None:
    network, id_ = world.network(), str(uuid4())
    world.node("n1"), world.node("n2")
    world.report("n1", id_)
    port = world.port(network, id=id_, node="n2")
    assert port.binding_error == "the port is scheduled on n2, but its interface is on n1"
    assert world.store.update_port(id_, {"node": None}, "tester").value.binding_error is None


def test_many_at_once(world: Any) -> None:
    network = world.network("10.0.0.0/16")
    ports = world.store.create_ports([PortSpec(network.id)] * 1200, "tester").value
    world.node()
    interfaces = tuple(ReportedInterface(port.port.id, 100 + index) for index, port in enumerate(ports))
    written = world.store.report_interfaces("n1", InterfaceReport(1, {}, interfaces))
    assert set(written.value.values()) == {"bound"}
    zones = [port.binding.zone for port in world.store.load_snapshot().local_ports("n1")]
    assert sorted(zones) == list(range(1, 1201))


def test_a_full_subnet_keeps_an_address_for_each_nodes_gateway(world: Any) -> None:
    """Else its ports could be made, and none of them used."""
    network = world.network("10.0.0.0/29")
    for name in ("n1", "n2"):
        world.node(name)
    ports = [world.port(network) for _ in range(4)]
    with pytest.raises(Exhausted, match="kept for the gateways of 2 nodes"):
        world.port(network)
    assert set(world.report("n1", *ports[:2]).values()) == set(world.report("n2", *ports[2:]).values()) == {"bound"}
    assert gateways(world, "n1") and gateways(world, "n2")
    with pytest.raises(Exhausted):
        world.port(network)


def test_what_was_said_before_the_node_turned_to_another_controller_is_stale(make_world: Any) -> None:
    """A controller that hung comes to an old report at last."""
    world, other = make_world(), make_world()
    hung, spec = other.store, world.node("n1")
    hung.report_interfaces("n1", InterfaceReport(6, {"physnet1": 65001}))
    # report 7 is on its way to the one that hangs; the node registers with the other, and says what it said before
    world.store.put_node(spec, "n1")
    world.store.report_interfaces("n1", InterfaceReport(8, {"physnet1": 65001}))
    with pytest.raises(Conflict) as stale:
        hung.report_interfaces("n1", InterfaceReport(7, {"physnet1": 65002}))
    assert stale.value.code == "serial_stale"


def test_an_interface_is_known_by_its_name(world: Any) -> None:
    for name in ("n1", "n2"):
        world.node(name)
    network = world.network()
    anywhere = world.port(network, interface_name="tap100i0")
    here = world.port(network, interface_name="tap101i0", node="n1")
    there = world.port(network, interface_name="tap101i0", node="n2")
    names = ["tap100i0", "tap101i0", "tap102i0", "tap102i0"]

    def claims(node: str) -> dict[str, str]:
        found: dict[str, str] = world.store.interface_claims(node, names)
        return found

    assert claims("n1") == {"tap100i0": anywhere.port.id, "tap101i0": here.port.id}
    assert claims("n2") == {"tap100i0": anywhere.port.id, "tap101i0": there.port.id}
    assert world.again(here).interface_name == "tap101i0"
    # once it is somewhere, it is nowhere else, until it is expected there
    world.report("n1", anywhere)
    assert claims("n1")["tap100i0"] == anywhere.port.id and "tap100i0" not in claims("n2")
    world.store.prepare_binding(anywhere.port.id, "n2", "tester")
    assert claims("n2")["tap100i0"] == anywhere.port.id
    world.store.delete_port(there.port.id, "tester")
    assert "tap101i0" not in claims("n2")


def test_a_name_is_of_one_port_on_a_node(world: Any) -> None:
    for name in ("n1", "n2"):
        world.node(name)
    network = world.network()
    here = world.port(network, interface_name="tap100i0", node="n1")
    there = world.port(network, interface_name="tap100i0", node="n2")
    for fields in ({"node": "n1"}, {}):
        with pytest.raises(Conflict) as refused:
            world.port(network, interface_name="tap100i0", **fields)
        assert (refused.value.code, refused.value.field) == ("interface_name_in_use", "interface_name")
    for changes in ({"node": None}, {"node": "n1"}):
        with pytest.raises(Conflict):
            world.store.update_port(there.port.id, changes, "tester")
    world.store.update_port(here.port.id, {"interface_name": None}, "tester")
    world.store.update_port(there.port.id, {"node": None}, "tester")
    with pytest.raises(Conflict):
        world.store.update_port(here.port.id, {"interface_name": "tap100i0"}, "tester")
    world.store.update_port(here.port.id, {"interface_name": "tap200i0"}, "tester")
