"""Each form of a rule (H2), groups that add up, those called default (H3), and who may be meant by a rule (H5)."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count

import pytest

from controller.client import ApiError, Object
from controller.packet_in.frames import checksum
from etc.lab import netns
from etc.lab.control import member_token
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from flows.rules import Rule
from tests.netns.cloud import drops, installed, make_network, make_outside, make_vms, wait_dropped, wait_outside, want
from tests.netns.floating import at, echo_message, far, give, make_pool
from tests.netns.policy import (
    PING,
    SOON,
    Heard,
    Service,
    add,
    grouped,
    ingress,
    make_group,
    put,
    reachable,
    remove,
    serving,
    wait_reachable,
    wait_refused,
)

pytestmark = pytest.mark.root

MARKER = Service("udp", 4999)
MEMBERS = 999
"""A network of this size has room for little more."""
_ROUNDS = count(1)

Sent = tuple[str, object]
"""tcp or udp and a port, icmp and a type, ip and a protocol."""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2, open_groups=False, projects=("blue", "green", "red"))


@pytest.fixture(scope="module")
def networks(lab: Lab) -> dict[str, Object]:
    make_pool(lab, make_outside(lab))
    lab.client.update_quota("blue", {"security_groups": -1})
    return {
        "a": make_network(lab, "a", "10.20.0.0/22", segment=120, allow_same_net_traffic=False),
        "b": make_network(lab, "b", "10.24.0.0/24", segment=121, allow_same_net_traffic=False),
        "free": make_network(lab, "free", "10.25.0.0/24", segment=122),
    }


@pytest.fixture(scope="module")
def marker(lab: Lab) -> Object:
    """A group that lets in one port."""
    return make_group(lab, "marker", ingress("udp", MARKER.port))


@pytest.fixture(scope="module")
def vms(lab: Lab, networks: dict[str, Object], marker: Object) -> dict[str, Vm]:
    """`server` on n1; in a client's name are network and node."""
    of = {"security_groups": [marker["id"]]}
    vms = make_vms(
        lab,
        want("server", lab.nodes[0], networks["a"], **of),
        *(want(name, lab.nodes[int(name[1]) - 1], networks[name[0]], **of) for name in ("a1", "a2", "b1", "b2")),
    )
    wait_outside(lab, vms["server"])
    return vms


@pytest.fixture(scope="module")
def heard(vms: dict[str, Vm]) -> Iterator[Heard]:
    it = Heard(vms["server"])
    yield it
    it.close()


# H2: each form


def send(client: Vm, server: Vm, *wanted: Sent) -> None:
    for kind, what in wanted:
        number = {"tcp": 6, "udp": 17, "icmp": 1}.get(kind, what)
        with netns.inside(client.namespace):
            raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, number)  # type: ignore[arg-type]
        with raw:
            raw.bind((str(client.address), 0))
            raw.sendto(_payload(client, server, kind, what), (str(server.address), 0))


def _payload(client: Vm, server: Vm, kind: str, what: object) -> bytes:
    if kind == "icmp":
        return echo_message(what, next(_ROUNDS).to_bytes(8)[4:])  # type: ignore[arg-type]
    source = (20000 + next(_ROUNDS) % 40000).to_bytes(2)
    ports = source + what.to_bytes(2) if kind in ("tcp", "udp") else bytes(4)  # type: ignore[attr-defined]
    if kind == "udp":
        return ports + (8).to_bytes(2) + bytes(2)  # without a checksum
    if kind != "tcp":
        return ports + bytes(16)
    begin = ports + bytes(8) + b"\x50\x02\xff\xff"
    both = client.address.packed + server.address.packed + bytes([0, 6, 0, 20])
    return begin + checksum(both + begin + bytes(4)).to_bytes(2) + bytes(2)  # conntrack looks at it


def came(heard: Heard, client: Vm) -> set[Sent]:
    """Of what a client has sent."""
    found: set[Sent] = set()
    for frame in heard.frames(lambda frame: frame.src == client.address):
        if frame.protocol in (6, 17):
            found.add(("tcp" if frame.protocol == 6 else "udp", frame.dst_port))
        elif frame.protocol == 1:
            found.add(("icmp", frame.icmp_type))
        else:
            found.add(("ip", frame.protocol))
    return found


FORMS: list[tuple[Object, list[Sent], list[Sent]]] = [
    (ingress(), [("udp", 1), ("tcp", 9), ("icmp", 8), ("ip", 47), ("ip", 253)], []),
    (ingress(remote_cidr="0.0.0.0/0"), [("udp", 1), ("ip", 253)], []),
    (ingress("udp"), [("udp", 1), ("udp", 65535)], [("tcp", 1), ("icmp", 8), ("ip", 136)]),
    (ingress("udp", 1), [("udp", 1)], [("udp", 2), ("tcp", 1)]),
    (ingress("udp", "100-299"), [("udp", 100), ("udp", 299)], [("udp", 99), ("udp", 300), ("tcp", 200)]),
    (ingress("udp", "1-65535"), [("udp", 1), ("udp", 65535)], [("tcp", 1)]),
    (ingress("tcp", 65535), [("tcp", 65535)], [("tcp", 65534), ("udp", 65535)]),
    (ingress("icmp"), [("icmp", 8), ("icmp", 13)], [("udp", 1)]),
    (ingress("icmp", icmp_type=8), [("icmp", 8)], [("icmp", 13), ("udp", 8)]),
    (ingress("icmp", icmp_type=13, icmp_code=0), [("icmp", 13)], [("icmp", 8)]),
    (ingress("gre"), [("ip", 47)], [("ip", 50), ("udp", 47)]),
    (ingress(253), [("ip", 253)], [("ip", 254), ("tcp", 253)]),
    (ingress("vrrp"), [("ip", 112)], [("ip", 113)]),
]


CASES = [
    pytest.param(*form, remote, id=f"{remote}-{' '.join(map(str, form[0].values()))}")
    for form in FORMS
    for remote in ("anybody", "range", "address", "group")
    if remote == "anybody" or "remote_cidr" not in form[0]
]


@pytest.mark.parametrize(("rule", "allowed", "refused", "remote"), CASES)
def test_h2_each_form_of_a_rule(
    lab: Lab,
    vms: dict[str, Vm],
    marker: Object,
    heard: Heard,
    rule: Object,
    allowed: list[Sent],
    refused: list[Sent],
    remote: str,
) -> None:
    """From the other node; whom the rule is not about gets nothing through."""
    client, server, stranger = vms["a2"], vms["server"], vms["b1"]
    clients = group_called(lab, "clients")
    about: dict[str, Object] = {
        "anybody": {},
        "range": {"remote_cidr": "10.20.0.0/22"},
        "address": {"remote_cidr": f"{client.address}/32"},
        "group": {"remote_group_id": clients["id"]},
    }
    group = group_called(lab, "tested")
    made = add(lab, group, rule | about[remote])
    put(lab, server, group, marker)
    if remote == "group":
        put(lab, client, clients, marker)
    try:
        expected = set(allowed)
        wait_until(lambda: ask_for(client, server, heard, allowed, refused) == expected, SOON, f"{rule} {remote}")
        from_stranger = expected if remote == "anybody" else set()
        assert ask_for(stranger, server, heard, allowed, refused) == from_stranger
    finally:
        remove(lab, *made)


def group_called(lab: Lab, name: str) -> Object:
    found = lab.client.list_security_groups(name=name)
    return found[0] if found else make_group(lab, name)


def ask_for(client: Vm, server: Vm, heard: Heard, allowed: list[Sent], refused: list[Sent]) -> set[Sent]:
    """What arrives, besides the marker, which always does: once each packet has come or is counted as dropped."""
    dropped = Rule.DROP_INGRESS, int(server.port["key"])
    before = drops(server.node)[dropped]
    heard.clear()
    sent = [*refused, *allowed, MARKER]
    send(client, server, *sent)

    def settled() -> bool:
        return len(came(heard, client)) + drops(server.node)[dropped] - before >= len(sent)

    wait_until(settled, 20, lambda: f"of {sent} come {came(heard, client)}, {drops(server.node)} dropped")
    arrived = came(heard, client)
    assert MARKER in arrived
    return arrived - {MARKER}


def test_h2_what_is_no_rule_is_refused(lab: Lab) -> None:
    group = group_called(lab, "tested")
    bad: list[tuple[Object, str]] = [
        (ingress("tcp", "0"), "ports"),
        (ingress("tcp", "65536"), "ports"),
        (ingress("tcp", "9-8"), "ports"),
        (ingress("gre", "5"), "ports"),
        (ingress(None, "5"), "ports"),
        (ingress("icmp", icmp_type=256), "icmp_type"),
        (ingress("icmp", icmp_code=1), "icmp_code"),
        (ingress("tcp", icmp_type=1), "icmp_type"),
        (ingress(256), "protocol"),
        (ingress("quic"), "protocol"),
        (ingress(remote_cidr="10.20.0.1/24"), "remote_cidr"),
        (ingress(remote_cidr="10.0.0.0/0"), "remote_cidr"),
        (ingress(remote_cidr="2001:db8::/32", family="ipv4"), "remote_cidr"),
        (ingress(remote_group_id="none"), "remote_group_id"),
    ]
    for rule, name in bad:
        with pytest.raises(ApiError) as refused:
            add(lab, group, rule)
        assert refused.value.status in (400, 404, 409, 422), rule
        assert name in str(refused.value.field), (rule, refused.value.field)
    (made,) = add(lab, group, ingress("tcp", 80))
    with pytest.raises(ApiError, match="409"):
        add(lab, group, ingress("tcp", 80))
    remove(lab, made)


# H3: default


def test_h3_a_projects_default_group_lets_in_nothing_but_its_own_network(
    lab: Lab, vms: dict[str, Vm], networks: dict[str, Object]
) -> None:
    free = networks["free"]
    made = make_vms(lab, want("free1", lab.nodes[0], free), want("free2", lab.nodes[1], free))
    mine, neighbour = made["free1"], made["free2"]
    held = lab.client.get_port(mine.port["id"])["security_groups"]
    assert [group["name"] for group in held] == ["default"]
    rules = lab.client.get_security_group(held[0]["id"])["rules"]
    assert {rule["family"] for rule in rules} == {"ipv4", "ipv6"} and len(rules) == 2
    assert {(rule["direction"], rule["protocol"], rule["remote_cidr"]) for rule in rules} == {("egress", None, None)}
    public = give(lab, mine)["address"]
    wait_outside(lab, mine)  # out it may go, and is answered
    wait_reachable(at(neighbour), mine.address, PING)
    for client, address in ((at(vms["b2"]), mine.address), (at(vms["b1"]), mine.address), (far(lab), public)):
        before = drops(mine.node)
        assert not reachable(client, address, PING)
        wait_dropped(mine.node, before, Rule.DROP_INGRESS, 1, int(mine.port["key"]))
    for call in (
        lambda: lab.client.delete_security_group(held[0]["id"]),
        lambda: lab.client.update_security_group(held[0]["id"], {"name": "other"}),
    ):
        with pytest.raises(ApiError) as refused:
            call()
        assert refused.value.status in (400, 403, 409)


def test_h3_what_the_template_says_later_is_of_new_groups_only(lab: Lab, networks: dict[str, Object]) -> None:
    """Blue's is there already, green's is made now: with the template of this moment."""
    client = lab.client
    template = client.create_default_rule(ingress("tcp", 22) | {"applies_to": "default"}).object
    assert template
    try:
        (blue,) = client.list_security_groups(name="default", project_id="blue")
        green = lab.control.client(member_token("green"))
        network = make_network(
            lab, "green", "10.26.0.0/24", segment=126, project_id="green", allow_same_net_traffic=False
        )
        vm, peer = make_vms(lab, want("green1", lab.nodes[0], network), want("green2", lab.nodes[1], network)).values()
        wait_reachable_port(peer, vm, 22)
        (made,) = green.list_security_groups(name="default")
        assert {rule["ports"] for rule in client.get_security_group(made["id"])["rules"]} == {None, "22"}
        assert {rule["ports"] for rule in client.get_security_group(blue["id"])["rules"]} == {None}
        own = client.create_security_group({"name": "other", "project_id": "green"}).object
        assert own
        assert {rule["ports"] for rule in client.get_security_group(own["id"])["rules"]} == {None}
    finally:
        client.delete_default_rule(template["id"])


def wait_reachable_port(client: Vm, server: Vm, port: int) -> None:
    """The next one is not."""
    with ExitStack() as stack:
        serving(stack, server, Service("tcp", port), Service("tcp", port + 1))
        wait_reachable(at(client), server.address, Service("tcp", port))
        before = drops(server.node)
        assert not reachable(at(client), server.address, Service("tcp", port + 1))
        wait_dropped(server.node, before, Rule.DROP_INGRESS, 1, int(server.port["key"]))


# H5: the members of a group


def test_h5_members_are_known_on_every_node_as_they_come_and_go(lab: Lab, vms: dict[str, Vm], marker: Object) -> None:
    """Join and leave, from another network of the router as well; by a floating IP a member is a stranger."""
    servers, clients = make_group(lab, "servers"), make_group(lab, "members")
    add(lab, servers, ingress("icmp", remote_group_id=clients["id"]))
    server = vms["server"]
    public = give(lab, server)["address"]
    wait_outside(lab, vms["a2"])
    with grouped(lab, server, servers, marker):
        wait_refused(at(vms["a1"]), server.address, PING)
        for name in ("a1", "a2", "b2"):
            client = vms[name]
            assert not reachable(at(client), server.address, PING)
            with grouped(lab, client, clients, marker):
                wait_reachable(at(client), server.address, PING)
                before = drops(server.node)
                assert not reachable(at(client), public, PING)
                wait_dropped(server.node, before, Rule.DROP_INGRESS, 1, int(server.port["key"]))
            wait_refused(at(client), server.address, PING)


def test_h5_a_thousand_members_cost_a_flow_each_and_one_that_joins_is_known_within_two_seconds(
    lab: Lab, vms: dict[str, Vm], networks: dict[str, Object]
) -> None:
    """X4: from the call that has it join, and from the one that has it leave, without waiting for the revision."""
    group = make_group(lab, "crowd")
    add(lab, group, *(ingress("udp", port, remote_group_id=group["id"]) for port in range(6000, 6040, 2)))
    add(lab, group, ingress("icmp", remote_group_id=group["id"]))
    server, client = vms["server"], vms["a2"]
    with grouped(lab, server, group):
        few = len(installed(server.node))
        port = {"network_id": networks["a"]["id"], "project_id": "blue", "security_groups": [group["id"]]}
        ports, revision = lab.client.create_ports([port] * MEMBERS)
        try:
            lab.confirm(revision)
            assert len(installed(server.node)) - few == MEMBERS
            before = [one["id"] for one in lab.client.get_port(client.port["id"])["security_groups"]]
            for groups, wait in (([group["id"]], wait_reachable), (before, wait_refused)):
                written = lab.client.update_port(client.port["id"], {"security_groups": groups})
                wait(at(client), server.address, PING)
                lab.confirm(written.revision)
                assert len(installed(server.node)) - few == MEMBERS + (groups != before)
        finally:
            for made in ports:
                lab.client.delete_port(made["id"])


def test_rules_of_several_groups_overlap_and_repeat(lab: Lab, vms: dict[str, Vm], marker: Object, heard: Heard) -> None:
    """What two allow needs one of them."""
    one, two = make_group(lab, "one"), make_group(lab, "two")
    client, server = vms["a2"], vms["server"]
    first = add(lab, one, ingress("udp", "10-20"), ingress("udp", "15-30"), ingress("udp", "40"))
    second = add(lab, two, ingress("udp", "20-25", remote_cidr="10.20.0.0/22"), ingress("udp", "40"))
    asked: list[Sent] = [("udp", port) for port in (9, 10, 14, 15, 20, 21, 25, 26, 30, 31, 40)]

    def wait_came(ports: set[int]) -> None:
        wanted = {("udp", port) for port in ports}
        wait_until(lambda: ask_for(client, server, heard, asked, []) == wanted, SOON, f"{ports}")

    with grouped(lab, server, one, two, marker):
        wait_came({10, 14, 15, 20, 21, 25, 26, 30, 40})
        remove(lab, first[1])
        wait_came({10, 14, 15, 20, 21, 25, 40})
        remove(lab, first[2])
        wait_came({10, 14, 15, 20, 21, 25, 40})
        remove(lab, second[1])
        wait_came({10, 14, 15, 20, 21, 25})
        remove(lab, second[0])
        wait_came({10, 14, 15, 20})
