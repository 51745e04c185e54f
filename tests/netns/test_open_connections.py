"""What is open is held to the rules of now: answers that nobody asks for again, and fragments (H1, H10, H12).

Fragments are those of datagrams of 4000 bytes, which no link here takes whole.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from controller.client import Object
from etc.lab.lab import Lab
from etc.lab.openvswitch import datapath_type
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from flows.rules import Rule
from tests.netns.cloud import drops, make_network, make_outside, make_vms, udp, wait_dropped, wait_outside, want
from tests.netns.floating import Place, at, far, give, make_pool
from tests.netns.policy import (
    PING,
    SOON,
    add,
    egress,
    grouped,
    ingress,
    make_group,
    remove,
    wait_reachable,
    wait_refused,
)

pytestmark = pytest.mark.root

SIZES = pytest.mark.parametrize("size", [16, 4000], ids=["whole", "fragments"])
FAR_RANGE = "198.51.100.0/24"
MANY = 30


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2, open_groups=False)


@pytest.fixture(scope="module")
def edited(lab: Lab) -> Object:
    return make_group(lab, "edited", ingress("icmp"), egress("icmp"), egress("udp", 7), out=False)


@pytest.fixture(scope="module")
def vms(lab: Lab, edited: Object) -> dict[str, Vm]:
    """`server` and `near` on n1, `away` on n2. The group `edited` is the server's; the others' allows everything."""
    make_pool(lab, make_outside(lab))
    network = make_network(lab, "a", "10.20.0.0/24", segment=120, allow_same_net_traffic=False)
    first, second = lab.nodes
    of = {"security_groups": [edited["id"]]}
    free = {"security_groups": [make_group(lab, "opened", ingress())["id"]]}
    vms = make_vms(
        lab,
        want("server", first, network, **of),
        want("near", first, network, **free),
        want("away", second, network, **free),
    )
    wait_outside(lab, vms["near"], vms["away"])
    for name in ("near", "away"):
        wait_reachable(at(vms[name]), vms["server"].address, PING)
    return vms


@pytest.fixture(autouse=True)
def only_its_own(lab: Lab, edited: Object) -> Iterator[None]:
    """What a test has added to the group goes with it."""
    before = {rule["id"] for rule in lab.client.get_security_group(edited["id"])["rules"]}
    yield
    remove(lab, *(rule for rule in lab.client.get_security_group(edited["id"])["rules"] if rule["id"] not in before))


def key(vm: Vm) -> int:
    return int(vm.port["key"])


class Open:
    """A connection of UDP. Each says what it says with its own name in front, so that nothing late is taken for it."""

    def __init__(self, client: socket.socket, server: socket.socket, size: int) -> None:
        self._client, self._server, self._size = client, server, size
        self._turn = 0
        self.open()

    def open(self) -> None:
        """The datapath may need a moment to forget what became of such packets before."""
        wait_until(self._begun, 20, "the server does not hear the client")
        assert self.answered()

    def _begun(self) -> bool:
        with suppress(OSError):  # an ICMP error, or nothing in time
            self._client.send(self._said())
            _, self._peer = self._server.recvfrom(65535)
            return True
        return False

    def _said(self) -> bytes:
        self._turn += 1
        return self._turn.to_bytes(4) + bytes(self._size - 4)

    def asked(self) -> bool:
        """Whether the server hears the client within a moment."""
        said = self._said()
        with suppress(OSError):  # an ICMP error about what was sent before
            self._client.send(said)
        return self._hears(self._server, said)

    def answered(self) -> bool:
        """Whether the client hears the server, to which it says nothing."""
        said = self._said()
        self._server.sendto(said, self._peer)
        return self._hears(self._client, said)

    def ask(self, count: int) -> None:
        for _ in range(count):
            self._client.send(self._said())

    def answer(self, count: int) -> None:
        for _ in range(count):
            self._server.sendto(self._said(), self._peer)

    def silent(self) -> bool:
        """Whether neither end has heard anything since it was last asked or answered."""
        for end in (self._client, self._server):
            end.setblocking(False)
            with suppress(BlockingIOError):
                end.recv(65535)
                return False
        return True

    @staticmethod
    def _hears(end: socket.socket, said: bytes) -> bool:
        end.settimeout(0.2)
        with suppress(TimeoutError):
            while True:
                if end.recv(65535) == said:
                    return True
        return False


@contextmanager
def opened(client: Place, server: Place, port: int, size: int, target: object = None) -> Iterator[Open]:
    with udp(server.namespace, server.address, port) as served, udp(client.namespace, client.address) as asking:
        asking.connect((str(target or server.address), port))
        yield Open(asking, served, size)


# H10: a rule that goes


@SIZES
@pytest.mark.parametrize("name", ["near", "away"])
def test_h10_answers_end_with_the_rule_that_let_the_question_in(
    lab: Lab, vms: dict[str, Vm], edited: Object, name: str, size: int
) -> None:
    """Though nobody asks again; nor does a question get through. With the rule back, answers go on by themselves."""
    client, server = vms[name], vms["server"]
    rule = add(lab, edited, ingress("udp", 6000))
    with opened(at(client), at(server), 6000, size) as talk:
        remove(lab, *rule)
        wait_until(lambda: not talk.answered(), SOON, "answers go on")
        before = drops(server.node)
        talk.answer(MANY)
        wait_dropped(server.node, before, Rule.DROP_EGRESS, MANY, key(server))
        assert talk.silent()
        before = drops(server.node)
        talk.ask(MANY)
        wait_dropped(server.node, before, Rule.DROP_INGRESS, MANY, key(server))
        assert talk.silent()
        add(lab, edited, ingress("udp", 6000))
        wait_until(talk.answered, SOON, "answers do not go on")
        assert talk.asked()


@SIZES
@pytest.mark.parametrize("name", ["near", "away", "far"])
def test_h10_answers_end_with_the_rule_that_let_the_question_out(
    lab: Lab, vms: dict[str, Vm], edited: Object, name: str, size: int
) -> None:
    client = vms["server"]
    rule = add(lab, edited, egress("udp", 6001))
    there = far(lab) if name == "far" else at(vms[name])
    with opened(at(client), there, 6001, size) as talk:
        remove(lab, *rule)
        wait_until(lambda: not talk.answered(), SOON, "answers go on")
        before = drops(client.node)
        talk.answer(MANY)
        wait_dropped(client.node, before, Rule.DROP_INGRESS, MANY, key(client))
        talk.ask(MANY)
        wait_dropped(client.node, before, Rule.DROP_EGRESS, MANY, key(client))
        assert talk.silent()
        add(lab, edited, egress("udp", 6001))
        wait_until(talk.answered, SOON, "answers do not go on")


# H12: the operator's drop list


def whole(size: int) -> bool:
    """True if conntrack hands such a datagram on in one piece: the kernel's puts fragments together first."""
    return size < 1000 or datapath_type() == "system"


@SIZES
@pytest.mark.parametrize("direction", [None, "egress"])
@pytest.mark.parametrize("name", ["near", "away"])
def test_h12_the_drop_list_ends_what_a_vm_has_open_with_a_port(
    lab: Lab, vms: dict[str, Vm], name: str, direction: str | None, size: int
) -> None:
    """Also what only the far end still sends; another port does not notice, and with the entry gone all goes on."""
    vm = vms[name]
    with (
        opened(at(vm), far(lab), 5000, size) as talk,
        opened(at(vm), far(lab), 5001, size) as other,
        listed(lab, "udp", 5000, direction) as entry,
    ):
        wait_until(lambda: not talk.answered(), SOON, "answers go on")
        before = drops(vm.node)
        talk.answer(MANY)
        wait_dropped(vm.node, before, Rule.DROP_PROVIDER_INGRESS_PART, MANY, entry)
        talk.ask(MANY)
        where = Rule.DROP_PROVIDER_EGRESS if whole(size) else Rule.DROP_PROVIDER_EGRESS_PART
        wait_dropped(vm.node, before, where, MANY, entry)
        assert talk.silent()
        assert other.answered() and other.asked()
        lab.confirm(lab.client.delete_provider_rule(lab.client.list_provider_rules()[0]["id"]).revision)
        wait_until(talk.answered, SOON, "answers do not go on")
        assert talk.asked()


@SIZES
@pytest.mark.parametrize("direction", [None, "ingress"])
def test_h12_the_drop_list_ends_what_others_have_open_with_a_vm(
    lab: Lab, vms: dict[str, Vm], edited: Object, direction: str | None, size: int
) -> None:
    """By its floating IP; also what the VM still sends to one who asks no more."""
    server = vms["server"]
    add(lab, edited, ingress("udp", 5000))
    public = give(lab, server)
    with (
        opened(far(lab), at(server), 5000, size, public["address"]) as talk,
        listed(lab, "udp", 5000, direction) as entry,
    ):
        wait_until(lambda: not talk.answered(), SOON, "answers go on")
        before = drops(server.node)
        talk.answer(MANY)
        wait_dropped(server.node, before, Rule.DROP_PROVIDER_EGRESS_PART, MANY, entry)
        talk.ask(MANY)
        where = Rule.DROP_PROVIDER_INGRESS if whole(size) else Rule.DROP_PROVIDER_INGRESS_PART
        wait_dropped(server.node, before, where, MANY, entry)
        assert talk.silent()
    lab.client.delete_floating_ip(public["id"])


@contextmanager
def listed(lab: Lab, protocol: str, ports: object, direction: str | None) -> Iterator[int]:
    """An entry of the drop list, as long as the caller does not take it away itself; its key."""
    fields: Object = {"cidr": FAR_RANGE, "protocol": protocol, "ports": str(ports)}
    made = lab.client.create_provider_rule(fields | ({"direction": direction} if direction else {}))
    assert made.object
    lab.confirm(made.revision)
    try:
        yield int(made.object["key"])
    finally:
        for rule in lab.client.list_provider_rules():
            lab.confirm(lab.client.delete_provider_rule(rule["id"]).revision)


# H1: what begins in fragments


@pytest.mark.parametrize("name", ["near", "away", "far"])
def test_h1_what_begins_in_fragments_is_held_to_the_ports_of_rules(
    lab: Lab, vms: dict[str, Vm], edited: Object, name: str
) -> None:
    """Allowed by a rule about its port, refused by one about another."""
    server = vms["server"]
    public = give(lab, server) if name == "far" else None
    client, target = (far(lab), public["address"]) if public else (at(vms[name]), server.address)
    add(lab, edited, ingress("udp", 6002), ingress("tcp", 6003))
    with opened(client, at(server), 6002, 4000, target), udp(server.namespace, server.address, 6003) as refused:
        before = drops(server.node)
        with udp(client.namespace, client.address) as asking:
            for _ in range(MANY):
                asking.sendto(bytes(4000), (str(target), 6003))
            wait_dropped(server.node, before, Rule.DROP_INGRESS, MANY, key(server))
        refused.setblocking(False)
        with pytest.raises(BlockingIOError):
            refused.recv(65535)
    if public:
        lab.client.delete_floating_ip(public["id"])


@pytest.mark.parametrize("name", ["near", "away"])
def test_h1_a_rule_about_icmp_types_holds_for_pings_of_any_size(lab: Lab, vms: dict[str, Vm], name: str) -> None:
    """One that lets in echo replies lets in no large request, and one that lets in requests all of them."""
    client, server = vms[name], vms["server"]
    replies = make_group(lab, f"replies {name}", ingress("icmp", icmp_type=0))
    requests = make_group(lab, f"requests {name}", ingress("icmp", icmp_type=8))
    with grouped(lab, server, replies):
        wait_refused(at(client), server.address, PING)
        before = drops(server.node)
        assert not client.ping(server.address, size=4000, count=5, interval=0.02, wait=0.3).answered
        wait_dropped(server.node, before, Rule.DROP_INGRESS, 5, key(server))
    with grouped(lab, server, requests):
        wait_reachable(at(client), server.address, PING)
        for size in (56, 4000):
            assert not client.ping(server.address, size=size, count=5, interval=0.02).lost
