"""Where floating IPs lead, whoever says so and whatever goes."""

from __future__ import annotations

import random
from ipaddress import IPv4Address
from typing import Any

import pytest

from controller.store.floating_ip_specs import FloatingIpSpec
from controller.store.specs import (
    Conflict,
    FixedIpSpec,
    Invalid,
    NotFound,
)
from flows.model import GatewayMode, NetworkKind
from tests.unit.store.floating import again, events, give_back, in_parallel, lead, make_pool, span, take

# -- where it leads


def test_a_floating_ip_leads_to_the_first_address_or_the_one_asked_for(world: Any) -> None:
    make_pool(world)
    ips = (FixedIpSpec(IPv4Address("10.0.0.9")), FixedIpSpec(IPv4Address("10.0.0.5")))
    port = world.port(world.network(), fixed_ips=ips)
    first, second = take(world, 2)
    lead(world, first, port)
    lead(world, second, port, "10.0.0.5")
    assert [str(again(world, one).floating_ip.fixed_ip) for one in (first, second)] == ["10.0.0.9", "10.0.0.5"]
    shown = world.again(port).floating_ips
    assert shown == (again(world, first).floating_ip, again(world, second).floating_ip)
    with pytest.raises(Invalid) as refused:
        lead(world, first, port, "10.0.0.6")
    assert (refused.value.code, refused.value.field) == ("fixed_ip_unknown", "fixed_ip")


def test_each_transition_is_told_once(world: Any) -> None:
    make_pool(world)
    network = world.network()
    one, two = world.port(network), world.port(network)
    (floating_ip,) = take(world)
    for port in (one, one, two, two):  # every other one changes nothing
        lead(world, floating_ip, port)
    id_ = floating_ip.floating_ip.id
    for _ in range(2):
        world.store.disassociate_floating_ip(id_, "tester")
    lead(world, floating_ip, one)
    give_back(world, floating_ip)
    assert events(world, floating_ip) == [
        ["allocate"],
        ["associate"],
        ["disassociate", "associate"],
        ["disassociate"],
        ["associate"],
        ["disassociate", "release"],
    ]
    moved = world.store.journal(kind="floating_ip", object_id=id_)[2].payload
    assert (moved["from_port_id"], moved["port_id"]) == (one.port.id, two.port.id)
    assert (moved["address"], moved["project_id"], moved["fixed_ip"]) == ("203.0.113.200", "blue", "10.0.0.2")


def test_the_revision_of_the_row_is_that_of_its_last_change(world: Any) -> None:
    make_pool(world)
    (floating_ip,) = take(world)
    assert floating_ip.revision == world.store.revision()
    written = lead(world, floating_ip, world.port(world.network()))
    assert written.value.revision == written.revision == world.store.revision()


@pytest.mark.parametrize(
    "fields",
    [
        {"gateway_mode": GatewayMode.NONE},
        {"external": True, "gateway": IPv4Address("10.0.0.1"), "kind": NetworkKind.FLAT},
    ],
)
def test_a_network_that_nobody_translates_for_has_none(world: Any, fields: dict[str, Any]) -> None:
    make_pool(world)
    port = world.port(world.network(**fields))
    with pytest.raises(Invalid) as refused:
        lead(world, take(world)[0], port)
    assert (refused.value.code, refused.value.field) == ("network_not_translated", "port_id")


def test_a_router_of_the_operators_is_no_obstacle(world: Any) -> None:
    make_pool(world)
    port = world.port(world.network(gateway_mode=GatewayMode.EXTERNAL, gateway=IPv4Address("10.0.0.1")))
    assert lead(world, take(world)[0], port).value.floating_ip.port_id == port.port.id


def test_who_expects_another_port_is_refused(world: Any) -> None:
    make_pool(world)
    network = world.network()
    one, two = world.port(network), world.port(network)
    (floating_ip,) = take(world)
    id_ = floating_ip.floating_ip.id
    lead(world, floating_ip, one, expected_port_id=two.port.id)  # it led nowhere
    for attempt in (
        lambda: world.store.disassociate_floating_ip(id_, "tester", expected_port_id=two.port.id),
        lambda: lead(world, floating_ip, two, expected_port_id=two.port.id),
    ):
        with pytest.raises(Conflict) as refused:
            attempt()
        assert (refused.value.code, refused.value.field) == ("floating_ip_elsewhere", "expected_port_id")
    world.store.disassociate_floating_ip(id_, "tester", expected_port_id=one.port.id)
    # asked again, because the answer was lost
    world.store.disassociate_floating_ip(id_, "tester", expected_port_id=one.port.id)


def test_allocated_and_associated_in_one(world: Any) -> None:
    make_pool(world)
    port = world.port(world.network())
    (floating_ip,) = take(world, port_id=port.port.id)
    assert floating_ip.floating_ip.port_id == port.port.id
    assert events(world, floating_ip) == [["allocate", "associate"]]
    with pytest.raises(NotFound) as unknown:
        take(world, port_id="nothing")
    assert (unknown.value.code, unknown.value.field) == ("port_unknown", "port_id")
    assert world.store.list_floating_ips() == [floating_ip]


def test_a_port_that_goes_leaves_its_floating_ips_to_the_project(world: Any) -> None:
    make_pool(world)
    port = world.port(world.network())
    (floating_ip,) = take(world, port_id=port.port.id)
    world.store.delete_port(port.port.id, "tester")
    left = again(world, floating_ip)
    assert (left.floating_ip.port_id, left.floating_ip.fixed_ip, left.floating_ip.project_id) == (None, None, "blue")
    assert events(world, floating_ip)[-1] == ["disassociate"]


def test_an_address_that_a_port_loses_takes_what_led_to_it(world: Any) -> None:
    make_pool(world)
    ips = (FixedIpSpec(IPv4Address("10.0.0.9")), FixedIpSpec(IPv4Address("10.0.0.5")))
    port = world.port(world.network(), fixed_ips=ips)
    first, second = take(world, 2)
    lead(world, first, port, "10.0.0.9")
    lead(world, second, port, "10.0.0.5")
    world.store.update_port(port.port.id, {"fixed_ips": (ips[1], FixedIpSpec(IPv4Address("10.0.0.7")))}, "tester")
    assert again(world, first).floating_ip.port_id is None
    assert again(world, second) == world.store.list_floating_ips(port_id=port.port.id)[0]


def test_lists(world: Any) -> None:
    make_pool(world, network=(external := world.external()))
    make_pool(world, span("203.0.113.90", "203.0.113.99"), name="other", network=external)
    port = world.port(world.network())
    one, two = take(world, port_id=port.port.id), take(world, project_id="red")
    three = world.store.allocate_floating_ips(FloatingIpSpec("other"), "tester").value
    listed = world.store.list_floating_ips
    assert listed() == one + two + three
    assert listed(limit=1, marker=one[0].floating_ip.id) == two
    assert listed(project_id="red") == two
    assert listed(pool="other") == three
    assert listed(address=IPv4Address("203.0.113.201")) == two
    assert listed(port_id=port.port.id) == one
    assert listed(node="n1") == []
    world.node()
    world.report("n1", port)
    assert listed(node="n1") == one
    with pytest.raises(NotFound):
        listed(pool="nothing")


# -- races


def test_whoever_moves_and_deletes_at_once_it_leads_to_one_place_that_there_is(world: Any) -> None:
    make_pool(world)
    network = world.network()
    (floating_ip,) = take(world)
    id_ = floating_ip.floating_ip.id
    wrong: list[Any] = []

    def wander(seed: int) -> None:
        rng, port = random.Random(seed), world.port(network)
        for _ in range(60):
            try:
                match rng.randrange(3):
                    case 0:
                        lead(world, floating_ip, port)
                    case 1:
                        world.store.disassociate_floating_ip(id_, "tester")
                    case 2:
                        world.store.delete_port(port.port.id, "tester")
                        port = world.port(network)
            except Exception as error:
                wrong.append(error)

    in_parallel(wander, [1, 2, 3])
    assert wrong == []
    told = [name for names in events(world, floating_ip) for name in names]
    assert told[0] == "allocate" and len(told) > 20
    # never two of one kind in a row: it leads to one port or to none
    assert all(now != before for before, now in zip(told[1:], told[2:], strict=False))
