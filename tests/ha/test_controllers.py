"""Controllers that die, hang, come and go: traffic and DHCP do not notice, and the switches obey one at a time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from functools import partial
from ipaddress import IPv4Address

import pytest

from controller.client import Client
from etc.lab.control import Control
from etc.lab.fabric import OUTSIDE_INTERFACE
from etc.lab.lab import DATABASE, Lab
from etc.lab.node import Node
from etc.lab.processes import in_parallel, wait_until
from flows.pipeline import node_mac
from flows.rules import Rule, decode_cookie
from tests.ha.cluster import DEADLINE, THREE, TWO, Cloud, Renewals, metric
from tests.netns.cloud import installed, make_vms, program, want, who_has

pytestmark = pytest.mark.root

BOB_ALONE = dict.fromkeys(TWO, "bob")
PAM_ALONE = dict.fromkeys(TWO, "pam")


def generation(cloud: Cloud, node: str) -> int:
    assert cloud.lab.postgres is not None
    return int(cloud.lab.postgres.sql(f"SELECT generation FROM node_leases WHERE node = '{node}'", DATABASE))


def test_a_killed_controller_is_replaced_and_its_nodes_are_sent_nothing(cloud: Cloud) -> None:
    lab, bob, pam = cloud.lab, cloud.control("bob"), cloud.control("pam")
    with cloud.traffic(), Renewals(cloud.vms["east"]).running() as renewals:
        with cloud.unchanged():
            renewals.wait_answered()
            began = time.monotonic()
            bob.kill()
            cloud.wait_masters(PAM_ALONE, pam)
            print(f"taken over in {time.monotonic() - began:.1f} s")
            renewals.wait_answered()
        # the API, the agents and DHCP go on with the other one
        lab.ask(pam)
        new = make_vms(lab, want("new", cloud.node("n1"), cloud.network))["new"]
        assert not new.ping(cloud.vms["west"].address).lost
        lab.delete_vm(new)
        with cloud.unchanged():
            bob.start()
            cloud.wait_masters(TWO)
            renewals.wait_answered()
    assert renewals.longest_gap_s < 10, "generous: the machine may be busy"
    assert [one["name"] for one in lab.client.list_controllers()] == ["bob", "pam"]


def _is_told(text: str, client: Client, after: int) -> bool:
    return text in [event["text"] for event in client.list_events(after)[0]]


def test_each_tells_of_what_is_written_anywhere_and_plans_for_all_nodes(cloud: Cloud) -> None:
    lab, bob, pam = cloud.lab, cloud.control("bob"), cloud.control("pam")
    clients = [control.client() for control in (bob, pam)]
    begins = [client.list_events()[1] for client in clients]
    made = clients[0].create_port({"network_id": cloud.network["id"], "name": "told"}).object
    assert made
    request = {"method": "PATCH", "path": f"/v1/networks/{cloud.network['id']}", "body": {"mtu": 1400}}
    plans = []
    for client, begin in zip(clients, begins, strict=True):
        wait_until(partial(_is_told, "admin created port told", client, begin), 20, f"{client.url} does not tell")
        with cloud.unchanged():
            plans.append(client._call("POST", "plan", {"requests": [request]})["nodes"])
    assert plans[0] == plans[1] and {node["node"] for node in plans[0]} == set(TWO)
    bob.kill()
    cloud.wait_masters(PAM_ALONE, pam)
    told = {event["text"] for event in clients[1].list_events(begins[1])[0]}
    assert {"n1 is this controller's now", "n3 is this controller's now"} <= told
    assert any(text.startswith("controller bob is gone") for text in told)
    lab.ask(pam)
    lab.client.delete_port(made["id"])


def test_one_that_ends_hands_over_first(cloud: Cloud) -> None:
    pam = cloud.control("pam")
    with cloud.traffic(), cloud.unchanged(), Renewals(cloud.vms["west"]).running() as renewals:
        renewals.wait_answered()
        assert pam.process and pam.process.stop(20) == 0
        assert cloud.masters(cloud.control("bob")) == BOB_ALONE, "already"
        renewals.wait_answered()
    assert renewals.longest_gap_s < 5


def test_a_third_one_gets_its_share_and_gives_it_back(cloud: Cloud) -> None:
    with cloud.traffic(), cloud.unchanged(), Renewals(cloud.vms["snat"]).running() as renewals:
        renewals.wait_answered()
        dora = cloud.start("dora")
        cloud.wait_masters(THREE)
        assert metric(dora, "trunkline_nodes_mastered") == 1 and metric(dora, "trunkline_controllers") == 3
        renewals.wait_answered()
        dora.kill()
        cloud.wait_masters(TWO)
        renewals.wait_answered()
    assert renewals.longest_gap_s < 10


def test_a_master_that_was_stopped_for_long_can_change_nothing(cloud: Cloud) -> None:
    lab, bob, pam = cloud.lab, cloud.control("bob"), cloud.control("pam")
    before = generation(cloud, "n1")
    late = []
    with cloud.traffic():
        with cloud.stopped(bob):
            cloud.wait_masters(PAM_ALONE, pam)
            lab.ask(pam)
            late.append(make_vms(lab, want("late", cloud.node("n1"), cloud.network))["late"])
        # it wakes up with another state of the world, and believes that it is master
        cloud.wait_masters(TWO)
        assert not late[0].ping(cloud.vms["west"].address).lost
        assert generation(cloud, "n1") >= before + 2
    lab.ask(bob)
    lab.delete_vm(late[0])


def test_a_node_that_its_master_cannot_reach_gets_another_one(cloud: Cloud) -> None:
    pam = cloud.control("pam")
    with cloud.traffic(), cloud.unchanged(), Renewals(cloud.vms["west"]).running() as renewals:
        renewals.wait_answered()
        with cloud.cut(*cloud.between(pam, cloud.node("n2"))):
            cloud.wait_masters(BOB_ALONE)
            renewals.wait_answered()
        cloud.wait_masters(TWO)
        renewals.wait_answered()


def test_a_node_that_reaches_no_controller_goes_on_and_catches_up(cloud: Cloud) -> None:
    lab, n2, network = cloud.lab, cloud.node("n2"), cloud.network
    cut = [end for name in ("bob", "pam") for end in cloud.between(cloud.control(name), n2)]
    gone = make_vms(lab, want("gone", n2, network))["gone"]
    segment = Rule.CLASSIFY_PORT, gone.port["key"]
    with cloud.traffic():
        with cloud.cut(*cut):
            wait_until(
                lambda: lab.client.get_node("n2")["state"] == "disconnected", DEADLINE, "it is thought to be there"
            )
            before = program(n2)
            deleted = lab.client.delete_port(gone.port["id"])
            new = make_vms(lab, want("new", cloud.node("n1"), network))["new"]  # the others are served
            assert not new.ping(cloud.vms["snat"].address).lost
            assert program(n2) == before and segment in cookies(n2)
        healed = time.monotonic()
        wait_until(lambda: segment not in cookies(n2), DEADLINE, "what was deleted is still there")
        print(f"caught up after {time.monotonic() - healed:.1f} s")
        lab.client.wait_revision(deleted.revision or 0, DEADLINE)
        cloud.wait_masters(TWO)
        assert not new.ping(cloud.vms["west"].address).lost
    gone.delete()
    lab.delete_vm(new)


def cookies(node: Node) -> set[tuple[Rule, int] | None]:
    return {decode_cookie(flow.cookie) for flow in installed(node)}


def test_controllers_need_not_reach_each_other(cloud: Cloud) -> None:
    bob, pam = cloud.control("bob"), cloud.control("pam")
    with cloud.traffic(), cloud.cut((bob.namespace, pam.address.ip), (pam.namespace, bob.address.ip)):
        made = bob.client().create_port({"network_id": cloud.network["id"], "project_id": "blue", "name": "p"}).object
        assert made
        wait_until(lambda: pam.client().list_ports(name="p"), 20, "the other one does not know")
        written = pam.client().delete_port(made["id"])
        bob.client().wait_revision(written.revision or 0, 20)
        assert cloud.masters(bob) == cloud.masters(pam) == TWO


def test_one_that_is_cut_off_from_the_database_is_fenced(cloud: Cloud) -> None:
    lab, bob, pam = cloud.lab, cloud.control("bob"), cloud.control("pam")
    with cloud.traffic(), cloud.unchanged(), Renewals(cloud.vms["east"]).running() as renewals:
        renewals.wait_answered()
        with cloud.cut(*cloud.database_of(bob)):
            cloud.wait_masters(PAM_ALONE, pam)
            renewals.wait_answered()
            wait_until(lambda: metric(bob, "trunkline_nodes_mastered") == 0, 20, "two masters")
            assert metric(bob, "trunkline_controller_leader") == 0 == 1 - metric(pam, "trunkline_controller_leader")
            _refuses(bob, cloud)
        cloud.wait_masters(TWO)
        renewals.wait_answered()
    assert lab.client.list_controllers() == pam.client().list_controllers()


def _refuses(control: Control, cloud: Cloud) -> None:
    body = {"network_id": cloud.network["id"], "project_id": "blue"}
    status, answer = control.request("POST", "/v1/ports", body)
    assert (status, answer["error"]["code"]) == (503, "database_unavailable"), answer


def test_without_the_database_nothing_moves_and_dhcp_goes_on(cloud: Cloud) -> None:
    lab = cloud.lab
    assert lab.postgres is not None
    generations = {node: generation(cloud, node) for node in TWO}
    with cloud.traffic(), cloud.unchanged(), Renewals(cloud.vms["east"]).running() as renewals:
        renewals.wait_answered()
        lab.postgres.kill()
        for name in ("bob", "pam"):
            _refuses(cloud.control(name), cloud)
        west = Renewals(cloud.vms["west"])
        with west.running():
            west.wait_answered(20)
            renewals.wait_answered(20)
        for name, nodes in (("bob", 2), ("pam", 1)):
            assert metric(cloud.control(name), "trunkline_nodes_mastered") == nodes
        # a switch that comes anew now finds its master, too
        cloud.node("n2").ovs.appctl("bridge/reconnect", "br-int")
        wait_until(lambda: metric(cloud.control("pam"), "trunkline_sessions_total", "n2") >= 2, 20, "not back")
        wait_until(lambda: metric(cloud.control("pam"), "trunkline_nodes_mastered") == 1, 20, "not master again")
        lab.postgres.start()
        cloud.wait_masters(TWO)
    assert renewals.longest_gap_s < 5
    assert {node: generation(cloud, node) for node in TWO} == generations, "a node has moved"


def test_a_restored_database_heals(cloud: Cloud) -> None:
    """Its generations are older than those that the switches have seen."""
    assert cloud.lab.postgres is not None
    cloud.control("bob").restart(kill=True)
    cloud.wait_masters(TWO)
    before = generation(cloud, "n2")
    assert before > 1
    with cloud.traffic(), cloud.unchanged():
        cloud.lab.postgres.sql("UPDATE node_leases SET generation = 1", DATABASE)
        wait_until(lambda: all(generation(cloud, node) > 1 for node in TWO), 20, "nobody has noticed")
        cloud.wait_masters(TWO)
    assert generation(cloud, "n2") > before


def test_two_controllers_and_one_floating_ip(cloud: Cloud) -> None:
    """It goes to and fro between nodes that different controllers master. Each question has one answer at most."""
    lab, bob, pam = cloud.lab, cloud.control("bob"), cloud.control("pam")
    vms = [cloud.vms["floating"], cloud.vms["west"]]
    id_ = cloud.floating_ip["id"]

    def lead(number: int) -> int:
        control = (bob, pam)[number % 3 % 2]
        written = control.client().update_floating_ip(id_, {"port_id": vms[number % 2].port["id"]})
        return written.revision or 0

    with OneOwner(lab, cloud.public) as owners:
        for number in range(1, 13):
            revision = lead(number)
            if number % 4:  # else the next one comes at once
                (bob, pam)[number % 2].client().wait_revision(revision, 20)
        revision = lead(0)
        in_parallel([partial(one.client().wait_revision, revision, 20) for one in (bob, pam)])
        wait_until(lambda: owners.last_answer() == owner_mac(cloud, "n1"), 20, "the last owner does not answer")
    assert owners.most == 1, owners.answers
    assert len(owners.answers) == 2, "it did not move"
    for control in (bob, pam):
        assert control.client().get_floating_ip(id_)["status"] == "active"


def owner_mac(cloud: Cloud, node: str) -> str:
    return node_mac(cloud.lab.client.get_node(node)["key"]).to_bytes(6).hex(":")


class OneOwner:
    """Asks for an address by ARP all the time, and counts how many answer each question."""

    def __init__(self, lab: Lab, address: IPv4Address) -> None:
        self.most = 0
        self.answers: Counter[str] = Counter()
        self._lab, self._address = lab, address
        self._last = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> OneOwner:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def last_answer(self) -> str:
        return self._last

    def _run(self) -> None:
        while not self._stopping.is_set():
            found = who_has(
                self._lab.fabric.outside,
                OUTSIDE_INTERFACE,
                "02:00:00:00:77:01",
                "203.0.113.99",
                self._address,
                silence=0.03,
            )[str(self._address)]
            self.most = max(self.most, len(found))
            self.answers.update(found)
            if found:
                self._last = found[-1]
