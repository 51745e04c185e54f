"""Gateway mode `single`: which node is a network's way out."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from controller.forgetting import Debt, End, Forget
from controller.store import Store
from controller.store.specs import Conflict, InterfaceReport, Invalid, NotFound, ReportedInterface
from flows.model import GatewayMode, StaticRoute
from flows.pipeline import CtZone
from tests.unit.store.floating import in_parallel

BOTH = ("physnet1", "physnet-ext")


def single(world: Any, cidr: str = "10.0.0.0/24", **fields: Any) -> Any:
    return world.network(cidr, gateway_mode=GatewayMode.SINGLE, **fields)


def node_of(world: Any, network: Any) -> str | None:
    record = world.store.get_network(network.id)
    assert world.store.load_snapshot().networks[network.id].gateway_node == record.gateway_node
    found: str | None = record.gateway_node
    return found


@pytest.fixture
def cloud(world: Any) -> Any:
    """n1 to n3 reach the outside."""
    world.external()
    for name in ("n1", "n2", "n3"):
        world.node(name, physical_networks=BOTH)
    return world


def test_the_node_of_the_first_port_is_elected_and_stays(cloud: Any) -> None:
    network = single(cloud)
    assert network.spec.subnets[0].gateway == IPv4Address("10.0.0.1")
    assert (node_of(cloud, network), network.problems) == (None, ())
    first, second = cloud.port(network), cloud.port(network)
    assert node_of(cloud, network) is None
    cloud.report("n2", first)
    assert node_of(cloud, network) == "n2"
    cloud.report("n1", second)
    cloud.report("n2")
    assert node_of(cloud, network) == "n2"


@pytest.mark.parametrize("stores", [1, 4])
def test_twenty_at_once_elect_once(cloud: Any, stores: int) -> None:
    network = single(cloud)
    workers = [cloud.store, *(Store(cloud.url, clock=cloud.clock) for _ in range(stores - 1))]
    names = [f"m{number}" for number in range(20)]
    for name in names:
        cloud.node(name, physical_networks=BOTH)
    ports = {name: cloud.port(network) for name in names}

    def boot(number: int) -> None:
        shown = ReportedInterface(ports[names[number]].port.id, 100)
        workers[number % stores].report_interfaces(names[number], InterfaceReport(100, {}, (shown,)))

    in_parallel(boot, list(range(20)))
    told = [one.payload for one in cloud.store.journal(limit=10000, kind="network", object_id=network.id)]
    assert [one["gateway_node"] for one in told if "gateway_node" in one] == [node_of(cloud, network)]
    assert all(cloud.again(port).port.binding is not None for port in ports.values())
    for worker in workers[1:]:
        worker.close()


def test_a_node_without_a_way_out_is_not_elected(world: Any) -> None:
    world.external()
    world.node("n1", physical_networks=("physnet1",))
    network = single(world)
    world.report("n1", world.port(network))
    assert node_of(world, network) is None
    (line,) = world.store.get_network(network.id).problems
    assert "no gateway node" in line
    world.node("n2", physical_networks=BOTH)
    assert node_of(world, network) == "n2"
    assert world.store.get_network(network.id).problems == ()


def test_without_an_outside_any_node_of_the_segment_is_one_until_there_is_an_outside(world: Any) -> None:
    world.node("n1")
    network = single(world)
    world.report("n1", world.port(network))
    assert node_of(world, network) == "n1"
    world.node("n2", physical_networks=BOTH)
    world.external()
    assert node_of(world, network) == "n2"


def test_another_takes_over_from_one_that_is_lost_and_they_share_what_there_is(cloud: Any) -> None:
    networks = [single(cloud, f"10.0.{number}.0/24") for number in range(4)]
    for network in networks:
        cloud.report("n1", cloud.port(network))
    assert {node_of(cloud, network) for network in networks} == {"n1"}
    taken = cloud.store.replace_gateway_nodes({"n1"}).value
    assert len(taken) == 4
    assert sorted(str(node_of(cloud, network)) for network in networks) == ["n2", "n2", "n3", "n3"]
    assert cloud.store.replace_gateway_nodes({"n1"}).value == []
    assert cloud.store.replace_gateway_nodes({"n1", "n2", "n3"}).value == []  # there is no other
    assert sorted(str(node_of(cloud, network)) for network in networks) == ["n2", "n2", "n3", "n3"]


def test_what_is_pinned_is_not_replaced(cloud: Any) -> None:
    network = single(cloud)
    cloud.report("n1", cloud.port(network))
    pinned = cloud.store.update_network(network.id, {"gateway_node": "n2"}, "tester").value
    assert (pinned.gateway_node, pinned.spec.gateway_node) == ("n2", "n2")
    assert cloud.store.replace_gateway_nodes({"n2"}).value == []
    assert node_of(cloud, network) == "n2"
    freed = cloud.store.update_network(network.id, {"gateway_node": None}, "tester").value
    assert (freed.gateway_node, freed.spec.gateway_node) == ("n2", None)
    cloud.store.replace_gateway_nodes({"n2"})
    assert node_of(cloud, network) in ("n1", "n3")


def test_pinned_from_the_beginning(cloud: Any) -> None:
    network = single(cloud, gateway_node="n3")
    assert (network.gateway_node, network.spec.gateway_node) == ("n3", "n3")
    cloud.report("n1", cloud.port(network))
    assert node_of(cloud, network) == "n3"


def test_a_node_that_is_deleted_or_leaves_the_segment_is_replaced(cloud: Any) -> None:
    network = single(cloud)
    cloud.report("n1", cloud.port(network))
    cloud.node("n1", datapath_id=0x999, physical_networks=("physnet-ext",))
    assert node_of(cloud, network) != "n1"
    cloud.store.update_network(network.id, {"gateway_node": "n2"}, "tester")
    cloud.store.delete_node("n2", "tester")
    record = cloud.store.get_network(network.id)
    assert (record.gateway_node, record.spec.gateway_node) == ("n3", None)


def test_pins_that_cannot_be(cloud: Any) -> None:
    network, other = single(cloud), cloud.network("10.0.9.0/24")
    cloud.node("n4", physical_networks=("physnet1",))
    with pytest.raises(NotFound, match="there is no node n9"):
        cloud.store.update_network(network.id, {"gateway_node": "n9"}, "tester")
    with pytest.raises(Conflict, match="no SNAT address where the network leaves"):
        cloud.store.update_network(network.id, {"gateway_node": "n4"}, "tester")
    with pytest.raises(Invalid, match="only with gateway mode single"):
        cloud.store.update_network(other.id, {"gateway_node": "n1"}, "tester")
    with pytest.raises(Invalid, match="only with gateway mode single"):
        cloud.network("10.0.8.0/24", gateway_node="n1")


def test_what_needs_every_node_is_refused(cloud: Any) -> None:
    route = StaticRoute(IPv4Network("10.99.0.0/16"), IPv4Address("10.0.0.50"))
    for option in ({"routes": (route,)}, {"own_snat_address": True}):
        with pytest.raises(Invalid, match="where every node"):
            single(cloud, **option)
    cloud.network("10.0.0.0/24", project_id="red")
    with pytest.raises(Conflict, match="needs a range of its own"):
        single(cloud)


def test_what_goes_is_forgotten_where_it_left(cloud: Any) -> None:
    """A port's connections to the outside are on the gateway node, and stay as long as the port and that do."""
    store, network = cloud.store, single(cloud, gateway_node="n3")
    port = cloud.port(network)
    cloud.report("n1", port)
    address = int(port.port.fixed_ips[0].address)
    left = Forget(CtZone.SNAT, End.ORIGINAL_SOURCE, address)

    def owed_by(step: Callable[[], object]) -> list[tuple[str, Forget]]:
        before = store.revision()
        step()
        found: list[Debt] = store.owed_since(before)
        return [(debt.node, debt.what) for debt in found if debt.what.zone == CtZone.SNAT]

    assert owed_by(lambda: store.prepare_binding(port.port.id, "n2", "tester")) == []
    cloud.report("n2", port)
    assert owed_by(lambda: store.activate_binding(port.port.id, "n2")) == []
    assert owed_by(lambda: store.update_network(network.id, {"gateway_node": "n1"}, "tester")) == [("n3", left)]
    assert owed_by(lambda: store.delete_port(port.port.id, "tester")) == [("n1", left)]
