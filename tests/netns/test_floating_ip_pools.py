"""Floating IPs as objects: many at once or none, quotas, with each port a new one, what is told and shown of them."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from controller.client import ApiError, Object
from etc.lab.control import member_token
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from flows.rules import Rule, decode_cookie
from tests.netns.cloud import installed, make_network, make_outside, make_vms, program, wait_outside, want
from tests.netns.floating import (
    DEADLINE,
    answering,
    at,
    claimants,
    far,
    give,
    lead,
    make_pool,
    take,
    talk,
    wait_owner,
)

pytestmark = pytest.mark.root

PARALLEL, AVAILABLE = 100, 50
AUTO = "auto"
ASSIGNED = "203.0.113.180-203.0.113.185"
QUOTA = 3


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    """Each port gets a floating IP, and a project has a small quota."""
    options = {"floating_ips": {"auto_assign_pool": AUTO}, "quota": {"floating_ips": QUOTA}}
    return make_lab(nodes=2, projects=("blue", "red"), control_options=options)


@pytest.fixture(scope="module")
def outside(lab: Lab) -> Object:
    outside = make_outside(lab)
    make_pool(lab, outside)
    make_pool(lab, outside, AUTO, ASSIGNED)
    return outside


@pytest.fixture(scope="module")
def network(lab: Lab, outside: Object) -> Object:
    return make_network(lab, "a", "10.20.0.0/24", segment=120)


@pytest.fixture(scope="module")
def vm(lab: Lab, network: Object) -> Vm:
    vm = make_vms(lab, want("vm1", lab.nodes[0], network))["vm1"]
    wait_outside(lab, vm)
    return vm


def used(lab: Lab, pool: str) -> int:
    count: int = lab.client.get_floating_ip_pool(pool)["used"]
    return count


def refused(status: int, code: str, call: Callable[[], object]) -> None:
    with pytest.raises(ApiError) as error:
        call()
    assert (error.value.status, error.value.code) == (status, code)


def in_threads(count: int, call: Callable[[int], object]) -> Counter[object]:
    """What so many calls at once come to: None, or the status and code of the refusal."""

    def outcome(number: int) -> object:
        try:
            call(number)
        except ApiError as error:
            return error.status, error.code
        return None

    with ThreadPoolExecutor(16) as pool:
        return Counter(pool.map(outcome, range(count)))


# F2, F3: many at once


def test_f2_a_whole_range_is_made_at_once_or_not_at_all(lab: Lab, outside: Object) -> None:
    nodes = {"first": "198.18.129.10", "last": "198.18.129.20"}
    subnet = {"cidr": "198.18.128.0/23", "gateway": "198.18.129.1", "allocation_ranges": [nodes]}
    fields = {"project_id": None, "external": True, "dhcp": False, "segment": 300, "subnets": [subnet]}
    wide = make_network(lab, "wide", "", None, **fields)
    make_pool(lab, wide, "wide", "198.18.128.1-198.18.128.254")
    made, _ = lab.client.create_floating_ips({"pool": "wide", "count": 254})
    assert {one["address"] for one in made} == {f"198.18.128.{number}" for number in range(1, 255)}
    assert used(lab, "wide") == 254
    free = make_pool(lab, outside, "few", "203.0.113.140-203.0.113.149")
    taken = str(take(lab, "few", "green", address="203.0.113.145")["address"])
    wanted = [f"203.0.113.{number}" for number in range(140, 150)]
    refused(409, "address_in_use", lambda: lab.client.create_floating_ips({"pool": "few", "addresses": wanted}))
    assert [one["address"] for one in lab.client.list_floating_ips(pool="few")] == [taken]
    refused(409, "pool_exhausted", lambda: lab.client.create_floating_ips({"pool": free["id"], "count": 10}))
    assert used(lab, "few") == 1


def test_f3_many_are_released_at_once_and_no_flow_stays(lab: Lab, outside: Object, vm: Vm) -> None:
    knows_its_router = (Rule.PUNT_ON_LINK, outside["key"])
    wait_until(
        lambda: knows_its_router in {decode_cookie(flow.cookie) for flow in installed(vm.node)},
        DEADLINE,
        "the node knows its router",
    )
    before = program(lab.nodes[0])
    made = [give(lab, vm), take(lab), take(lab)]
    ids = [one["id"] for one in made]
    status, _ = lab.control.request("POST", "/v1/floating-ips/bulk-delete", {"ids": [*ids, vm.port["id"]]})
    assert status == 404
    assert claimants(lab, made[0]) == ["n1"] and used(lab, "public") == 3
    status, answer = lab.control.request("POST", "/v1/floating-ips/bulk-delete", {"ids": ids})
    assert status == 200
    lab.confirm(answer["revision"])
    assert used(lab, "public") == 0 and answering(lab, *(one["address"] for one in made)) == []
    assert program(lab.nodes[0]) == before


def test_f4_lists_are_of_the_project_and_by_node(lab: Lab, vm: Vm) -> None:
    mine, other = give(lab, vm), take(lab, project="red")
    auto = {one["id"] for one in lab.client.list_floating_ips(pool=AUTO)}

    def listed(token: str | None = None, **filters: str) -> set[str]:
        client = lab.client if token is None else lab.control.client(token)
        return {one["id"] for one in client.list_floating_ips(**filters)} - auto

    assert listed(member_token("blue"), pool="public") == {mine["id"]}
    assert listed(member_token("red"), pool="public") == {other["id"]}
    assert listed(pool="public") == {mine["id"], other["id"]}
    assert listed(node="n1") == {mine["id"]} and listed(node="n2") == set()
    for one in (mine, other):
        lab.client.delete_floating_ip(one["id"])


# F5, F9: at once


def test_f5_a_hundred_at_once_of_fifty(lab: Lab, outside: Object) -> None:
    make_pool(lab, outside, "fifty", f"203.0.113.200-203.0.113.{200 + AVAILABLE - 1}")
    outcomes = in_threads(PARALLEL, lambda number: take(lab, "fifty", project=f"project-{number}"))
    assert outcomes == {None: AVAILABLE, (409, "pool_exhausted"): PARALLEL - AVAILABLE}
    made = lab.client.list_floating_ips(pool="fifty")
    assert len({one["address"] for one in made}) == len(made) == AVAILABLE


def test_f5_f9_the_quota_moves_by_one_whoever_asks_at_once(lab: Lab, outside: Object) -> None:
    def count() -> int:
        found: int = lab.client.get_quota("red")["floating_ips_used"]
        return found

    outcomes = in_threads(10, lambda _: take(lab, project="red"))
    assert outcomes == {None: QUOTA, (409, "quota_exceeded"): 10 - QUOTA} and count() == QUOTA
    first, *others = lab.client.list_floating_ips(project_id="red")
    outcomes = in_threads(10, lambda _: lab.client.delete_floating_ip(first["id"]))
    assert outcomes == {None: 1, (404, "floating_ip_unknown"): 9} and count() == QUOTA - 1
    for one in others:
        lab.client.delete_floating_ip(one["id"])
    assert count() == 0


def test_f6_f7_only_its_own_project_leads_it_and_only_where_it_is_expected(lab: Lab, vm: Vm) -> None:
    floating_ip = give(lab, vm)
    path, port = f"/v1/floating-ips/{floating_ip['id']}", vm.port["id"]
    for token, body, expected in (
        (member_token("red"), {"port_id": None}, 404),
        (member_token("blue"), {"port_id": port, "fixed_ip": "10.20.0.250"}, 400),
        (member_token("blue"), {"port_id": None, "expected_port_id": floating_ip["id"]}, 409),
    ):
        status, _ = lab.control.request("PATCH", path, body, token=token)
        assert status == expected, body
    assert lab.client.get_floating_ip(floating_ip["id"])["port_id"] == port
    assert talk(far(lab), at(vm), floating_ip["address"], "tcp") == str(lab.fabric.far_host)
    lab.client.delete_floating_ip(floating_ip["id"])


# F10: with each port


def test_f10_a_port_comes_and_goes_with_one(lab: Lab, network: Object) -> None:
    vm = make_vms(lab, want("brief", lab.nodes[1], network))["brief"]
    (assigned,) = lab.client.list_floating_ips(port_id=vm.port["id"])
    assert assigned["auto"] and assigned["pool"] == AUTO and assigned["fixed_ip"] == str(vm.address)
    wait_owner(lab, assigned, lab.nodes[1])
    assert talk(far(lab), at(vm), assigned["address"], "tcp") == str(lab.fabric.far_host)
    assert talk(at(vm), far(lab), lab.fabric.far_host, "icmp") == assigned["address"]
    refused(403, "floating_ip_auto", lambda: lead(lab, assigned, None))
    refused(403, "floating_ip_auto", lambda: lab.client.delete_floating_ip(assigned["id"]))
    assert claimants(lab, assigned) == ["n2"]
    lab.delete_vm(vm)
    wait_owner(lab, assigned, None)
    assert assigned["address"] not in {one["address"] for one in lab.client.list_floating_ips()}


def test_f10_without_one_left_there_is_no_port(lab: Lab, network: Object, vm: Vm) -> None:
    """And none of the quota is used: those that are assigned do not count."""
    fields = {"network_id": network["id"], "project_id": "blue"}
    made = []
    with pytest.raises(ApiError, match="No more floating IPs"):
        for _ in range(10):
            made.append(lab.client.create_port(fields).object)
    assert len(made) == 6 - 1 > QUOTA and len(lab.client.list_ports(network_id=network["id"])) == 6
    assert lab.client.get_quota("blue")["floating_ips_used"] == 0
    for port in made:
        lab.client.delete_port(port["id"])  # type: ignore[index]
    assert used(lab, AUTO) == 1


# F14, F15: told and shown


def test_f14_each_transition_is_told_once(lab: Lab, vm: Vm) -> None:
    floating_ip = give(lab, vm)
    lead(lab, floating_ip, vm)  # nothing changes
    lead(lab, floating_ip, None)
    lead(lab, floating_ip, None)
    lead(lab, floating_ip, vm)
    lab.client.delete_floating_ip(floating_ip["id"])
    database = sqlite3.connect(lab.control.directory / "trunkline.db")
    query = "SELECT payload FROM journal WHERE object_id = ? ORDER BY revision"
    payloads = [json.loads(text) for (text,) in database.execute(query, (floating_ip["id"],))]
    database.close()
    told = [(event, payload) for payload in payloads for event in payload.get("events", ())]
    assert [event for event, _ in told] == [
        "allocate",
        "associate",
        "disassociate",
        "associate",
        "disassociate",
        "release",
    ]
    assert {payload["project_id"] for _, payload in told} == {"blue"}
    assert {payload["port_id"] for event, payload in told if event == "associate"} == {vm.port["id"]}


def test_f15_it_is_shown_at_its_port_at_once(lab: Lab, vm: Vm) -> None:
    def shown() -> set[str]:
        port = lab.control.client(member_token("blue")).get_port(vm.port["id"])
        return {one["address"] for one in port["floating_ips"]}

    before = shown()
    floating_ip = give(lab, vm)
    assert shown() == before | {floating_ip["address"]}
    wait_until(
        lambda: lab.client.get_floating_ip(floating_ip["id"])["status"] == "active", DEADLINE, "it becomes active"
    )
    assert lab.client.get_floating_ip(floating_ip["id"])["node"] == "n1"
    assert talk(far(lab), at(vm), floating_ip["address"], "tcp") == str(lab.fabric.far_host)
    lead(lab, floating_ip, None)
    assert shown() == before
    assert lab.client.get_floating_ip(floating_ip["id"])["status"] == "down"
    lab.client.delete_floating_ip(floating_ip["id"])
