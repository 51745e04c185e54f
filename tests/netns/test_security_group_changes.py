"""Security groups that change under traffic: what is still allowed loses nothing, what no longer is gets nowhere."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import pytest

from controller.client import ApiError, Object
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from flows.rules import Rule
from tests.netns.cloud import drops, make_network, make_vms, metric, program, wait_dropped, want
from tests.netns.floating import at
from tests.netns.policy import (
    SOON,
    Heard,
    Path,
    Service,
    add,
    grouped,
    ingress,
    make_group,
    path,
    probing,
    put,
    reachable,
    remove,
    serving,
    session,
    wait_reachable,
    wait_refused,
)

pytestmark = pytest.mark.root

WEB, OTHER, SHUT = 5000, 5001, 5002
"""Allowed by the group `web`; by `more`, where a VM is in it; by none."""

EDITS, WORKERS, EDITS_A_SECOND = 300, 2, 50


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2, open_groups=False)


@pytest.fixture(scope="module")
def network(lab: Lab) -> Object:
    return make_network(lab, "a", "10.20.0.0/24", segment=120, allow_same_net_traffic=False)


@pytest.fixture(scope="module")
def groups(lab: Lab) -> dict[str, Object]:
    return {
        "web": make_group(lab, "web", ingress("tcp", WEB), ingress("udp", WEB)),
        "more": make_group(lab, "more", ingress("tcp", OTHER), ingress("udp", OTHER)),
        "edited": make_group(lab, "edited"),
    }


@pytest.fixture(scope="module")
def vms(lab: Lab, network: Object, groups: dict[str, Object]) -> dict[str, Vm]:
    """`server` on n1, in `web` and `edited`; a client on each node, in no group but the project's default."""
    of = {"security_groups": [groups["web"]["id"], groups["edited"]["id"]]}
    first, second = lab.nodes
    vms = make_vms(
        lab, want("server", first, network, **of), want("near", first, network), want("away", second, network)
    )
    with ExitStack() as stack:
        serving(stack, vms["server"], Service("udp", WEB))
        for name in ("near", "away"):
            wait_reachable(at(vms[name]), vms["server"].address, Service("udp", WEB))
    return vms


@pytest.fixture
def heard(vms: dict[str, Vm]) -> Iterator[Heard]:
    it = Heard(vms["server"])
    yield it
    it.close()


def permitted(vms: dict[str, Vm]) -> list[Path]:
    """From both nodes, a connection that goes on and new ones all the time."""
    server = vms["server"]
    return [
        path(f"permitted, {name}, {kind}", vms[name], server, WEB, fresh=kind == "new")
        for name, kind in (("near", "known"), ("away", "known"), ("away", "new"))
    ]


def forbidden(vms: dict[str, Vm]) -> list[Path]:
    server = vms["server"]
    return [path(f"forbidden, {name}", vms[name], server, SHUT, fresh=True) for name in ("near", "away")]


def none_of(good: list[Path], bad: list[Path]) -> None:
    """None of what is permitted is lost, and none of what is forbidden has come."""
    assert {each.name: (each.unanswered, each.sent) for each in good if each.unanswered} == {}
    assert {each.name: (len(each.arrived), each.sent) for each in bad if each.arrived} == {}


# H4: groups of a VM


@pytest.mark.parametrize("name", ["near", "away"])
def test_h4_a_group_is_given_and_taken_under_traffic(
    lab: Lab, vms: dict[str, Vm], groups: dict[str, Object], name: str
) -> None:
    """In force within a second of the call; what the other group allows does not notice."""
    client, server = vms[name], vms["server"]
    steady = path("steady", client, server, WEB)
    with ExitStack() as stack:
        serving(stack, server, Service("tcp", OTHER))
        stack.enter_context(probing(steady))
        for _ in range(3):
            assert not reachable(at(client), server.address, Service("tcp", OTHER))
            for more, wait in (([groups["more"]], wait_reachable), ([], wait_refused)):
                began = time.monotonic()
                put(lab, server, groups["web"], groups["edited"], *more)
                wait(at(client), server.address, Service("tcp", OTHER), 1.0)
                assert time.monotonic() - began < 1.0
    assert steady.sent > 100 and not steady.unanswered, steady.unanswered


def test_h4_what_is_in_use_stays(lab: Lab, vms: dict[str, Vm], groups: dict[str, Object]) -> None:
    with pytest.raises(ApiError) as refused:
        lab.client.delete_security_group(groups["web"]["id"])
    assert refused.value.status == 409
    assert vms["server"].port["id"] in str(refused.value.details) + refused.value.message


def test_h4_a_vm_begins_with_groups_and_applies_them_to_each_port(
    lab: Lab, vms: dict[str, Vm], network: Object, groups: dict[str, Object]
) -> None:
    late = make_vms(lab, want("late", lab.nodes[1], network, security_groups=["more"]))["late"]
    with ExitStack() as stack:
        serving(stack, late, Service("tcp", OTHER), Service("tcp", WEB))
        wait_reachable(at(vms["near"]), late.address, Service("tcp", OTHER))
        before = drops(late.node)
        assert not reachable(at(vms["near"]), late.address, Service("tcp", WEB))
        wait_dropped(late.node, before, Rule.DROP_INGRESS, 1, int(late.port["key"]))
    lab.delete_vm(late)


# H10: a rule that goes


@pytest.mark.parametrize("name", ["near", "away"])
def test_h10_a_rule_that_goes_cuts_what_it_alone_allowed(
    lab: Lab, vms: dict[str, Vm], groups: dict[str, Object], heard: Heard, name: str
) -> None:
    """And no other connection; when it is back, so is the connection."""
    client, server = vms[name], vms["server"]
    made = add(lab, groups["edited"], ingress("tcp", 6000), ingress("tcp", 6001), ingress("tcp", "6001-6002"))
    with ExitStack() as stack:
        cut, twice, only = (stack.enter_context(session(client, server, port)) for port in (6000, 6001, 6002))
        remove(lab, made[0], made[1])
        wait_until(lambda: not cut.lives(), SOON, "the connection goes on")
        assert twice.lives() and only.lives()
        before = drops(server.node)
        heard.clear()
        cut.client.send(b"hello?")
        cut.served.send(b"who is there?")
        wait_dropped(server.node, before, Rule.DROP_EGRESS, 1, int(server.port["key"]))
        wait_dropped(server.node, before, Rule.DROP_INGRESS, 1, int(server.port["key"]))
        assert twice.lives() and only.lives()
        assert not heard.frames(lambda frame: frame.dst_port == 6000)
        again = add(lab, groups["edited"], ingress("tcp", 6000))
        wait_until(cut.lives, 30, "the connection is not back")  # TCP itself tries again ever more seldom
        assert twice.lives() and only.lives()
        remove(lab, *again, made[2])


def test_h10_a_member_that_leaves_is_cut(lab: Lab, vms: dict[str, Vm], groups: dict[str, Object]) -> None:
    clients = make_group(lab, "clients")
    (rule,) = add(lab, groups["edited"], ingress("tcp", "6003-6004", remote_group_id=clients["id"]))
    server = vms["server"]
    with grouped(lab, vms["near"], clients), ExitStack() as stack:
        put(lab, vms["away"], clients)
        stays = stack.enter_context(session(vms["near"], server, 6003))
        with session(vms["away"], server, 6004) as leaves:
            put(lab, vms["away"], groups["more"])
            wait_until(lambda: not leaves.lives(), SOON, "the connection goes on")
            assert stays.lives()
    remove(lab, rule)
    lab.client.delete_security_group(clients["id"])


# edits under traffic


def edit(lab: Lab, group: Object, number: int, began: float, failures: list[BaseException]) -> None:
    """Rules like those that the traffic needs, overlapping, equal and others, that come and go."""
    dice, client = random.Random(number), lab.client
    own: list[str] = []
    try:
        for turn in range(EDITS // WORKERS):
            time.sleep(max(0.0, began + turn * WORKERS / EDITS_A_SECOND - time.monotonic()))
            if len(own) > 10 or (own and dice.random() < 0.4):
                client.delete_security_group_rule(own.pop(dice.randrange(len(own))))
                continue
            low = 4000 + 1000 * number + dice.randrange(900)
            wanted = dice.choice(
                [
                    ingress("udp", f"{low}-{low + turn % 50}", remote_cidr="10.20.0.0/24"),
                    ingress("udp", f"{low}-{low + turn % 50}", remote_group_id=group["id"]),
                    ingress("tcp", f"{low}-{low + turn % 50}"),
                    ingress(60 + turn % 40, remote_cidr=f"10.20.{number}.{turn % 250}/32"),
                ]
            )
            try:
                made = client.create_security_group_rule({"security_group_id": group["id"], **wanted}).object
            except ApiError as refused:
                assert refused.status == 409, refused  # one like it is there
                continue
            assert made
            own.append(made["id"])
        for id_ in own:
            client.delete_security_group_rule(id_)
    except BaseException as error:
        failures.append(error)


def test_fifty_edits_a_second_lose_nothing_that_is_permitted_and_let_nothing_else_in(
    lab: Lab, vms: dict[str, Vm], groups: dict[str, Object]
) -> None:
    before = [program(node) for node in lab.nodes]
    good, bad = permitted(vms), forbidden(vms)
    failures: list[BaseException] = []
    with ExitStack() as stack:
        stack.enter_context(probing(*good, *bad))
        began = time.monotonic()
        workers = [
            threading.Thread(target=edit, args=(lab, groups["edited"], number, began, failures))
            for number in (2, 3)  # ports from 6000 and from 7000: those of the probes are in none
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert not failures, failures
        lab.confirm(lab.client.update_port(vms["near"].port["id"], {"name": "near"}).revision)
    none_of(good, bad)
    assert min(each.sent for each in (*good, *bad)) > 100
    wait_until(lambda: [program(node) for node in lab.nodes] == before, 20, "flows are left")


# H11: restarts


def crash_controller(lab: Lab, vms: dict[str, Vm]) -> None:
    before = [program(node) for node in lab.nodes]
    lab.control.restart(kill=True)
    lab.wait_connected()
    assert metric(lab, "of_flowmsgs_sent_total") == 0
    assert [program(node) for node in lab.nodes] == before


def crash_agent(lab: Lab, vms: dict[str, Vm]) -> None:
    for node in lab.nodes:
        node.restart_agent(lab.control, kill=True)
    # they are at work when each serves a new port
    network = lab.client.get_network(vms["server"].port["network_id"])
    made = make_vms(lab, *(want(f"new{node.name}", node, network) for node in lab.nodes))
    for vm in made.values():
        lab.delete_vm(vm)


@pytest.mark.parametrize("crash", [crash_controller, crash_agent])
def test_h11_neither_controller_nor_agent_is_missed(
    lab: Lab, vms: dict[str, Vm], crash: Callable[[Lab, dict[str, Vm]], None]
) -> None:
    """A hundred packets a second on each path: all of what is permitted comes, and nothing of what is not."""
    good, bad = permitted(vms), forbidden(vms)
    before = drops(vms["server"].node)
    with probing(*good, *bad):
        crash(lab, vms)
    none_of(good, bad)
    refused = sum(each.sent for each in bad)
    wait_dropped(vms["server"].node, before, Rule.DROP_INGRESS, refused, int(vms["server"].port["key"]))


def restart_switch(lab: Lab, node: Node, *, kill: bool) -> None:
    label = f'"{node.name}"'
    sessions = metric(lab, "trunkline_sessions_total", label)
    node.ovs.restart_switch(kill=kill)
    wait_until(lambda: metric(lab, "trunkline_sessions_total", label) > sessions, 20, "it has connected again")


def more_than(path: Path, count: int) -> bool:
    return len(path.arrived) > count


@pytest.mark.parametrize("kill", [True, False], ids=["crash", "restart"])
def test_h11_a_switch_that_restarts_lets_nothing_in_that_is_forbidden(lab: Lab, vms: dict[str, Vm], kill: bool) -> None:
    """Of either end. What is permitted comes again when the flows are back."""
    good, bad = permitted(vms)[2], forbidden(vms)
    with probing(good, *bad) as probes:
        for node in lab.nodes:
            restart_switch(lab, node, kill=kill)
            arrived = len(good.arrived)
            wait_until(partial(more_than, good, arrived + 50), 20, "what is permitted does not come")
        probes.run(0.5)
    none_of([], bad)
    assert min(each.sent for each in bad) > 200


def test_h11_without_a_controller_the_policy_holds(lab: Lab, vms: dict[str, Vm]) -> None:
    good, bad = permitted(vms)[2], forbidden(vms)
    lab.control.stop()
    try:
        before = drops(vms["server"].node)
        with probing(good, *bad) as probes:
            probes.run(1)
        none_of([good], bad)
        refused = sum(each.sent for each in bad)
        wait_dropped(vms["server"].node, before, Rule.DROP_INGRESS, refused, int(vms["server"].port["key"]))
    finally:
        lab.control.start()
        lab.wait_connected()
