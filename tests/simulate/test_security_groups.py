"""What security groups let in and out, and what becomes of connections when they change."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from flows.compile import compile_node, recompile
from flows.fabric import Fabric, Journey
from flows.model import (
    AddressPair,
    Binding,
    Direction,
    FloatingIpChange,
    Migration,
    MigrationPhase,
    NetworkChange,
    PortChange,
    ProviderRule,
    ProviderRuleChange,
    SecurityGroup,
    SecurityGroupChange,
    Service,
)
from flows.packet import Packet, packet
from flows.pipeline import CtZone, copy_mac, nat_zone, node_mac
from flows.protocols import ETH_IP, ETH_IPV6, PROTO_ICMP, PROTO_TCP, PROTO_UDP, VLAN_PRESENT
from flows.rules import Rule
from flows.simulate import Switch
from flows.snapshot import Snapshot
from tests.simulate.cloud import (
    BLUE2_2,
    BLUE_1,
    BLUE_2,
    BROADCAST,
    EXTERNAL_PHYSNET,
    NEXT_HOP,
    PHYSNET,
    SERVER,
    Vm,
    error_about,
    ip,
    reply_to,
    send,
    vm,
    world,
)
from tests.world import OPEN, egress, filtered, floating_ip, port, rule, security_group

CLOSED = security_group(5, egress(51))
WEB = security_group(6, egress(61), rule(62, PROTO_TCP, 80, 81))
DROP_LIST = {rule for rule in Rule if rule.about == "provider_rule"}
LETS_OUT = security_group(7, rule(72, PROTO_TCP), egress(71, PROTO_UDP, 80))
NEIGHBOUR = port(22, world().networks["net-blue"], 12, "n1")
FIP = ip("203.0.113.101")


def cloud(*groups: SecurityGroup, members: tuple[int, ...] | None = None, same_net: bool = False) -> Snapshot:
    """Three VMs of one network, two on n1, and all the others; without a say of the network's own."""
    base = world().apply(2, [PortChange(NEIGHBOUR.id, NEIGHBOUR)])
    networks = [replace(net, allow_same_net_traffic=same_net) for net in base.networks.values()]
    base = base.apply(3, [NetworkChange(net.id, net) for net in networks])
    return (
        filtered(base, OPEN, members=tuple(p.key for p in base.ports.values()))
        if not groups
        else filtered(filtered(base, OPEN), *groups, members=members)
    )


def changed(fabric: Fabric, snapshot: Snapshot) -> Fabric:
    """The same switches with other flows, and all that they remember."""
    flows = {name: Switch(compile_node(snapshot, name).flows()) for name in snapshot.nodes}
    return replace(fabric, switches=flows)


def tcp(sender: Vm, to: Vm, port: int = 80, source: int = 4000, **fields: int) -> Packet:
    return packet(
        **{"eth_src": sender.mac, "eth_dst": to.mac, "eth_type": ETH_IP, "ip_proto": PROTO_TCP}
        | {"ip_src": sender.ip, "ip_dst": to.ip, "tcp_src": source, "tcp_dst": port}
        | fields
    )


def fragment(sender: Vm, to: Vm, **fields: int) -> Packet:
    ends = {"eth_src": sender.mac, "eth_dst": to.mac, "ip_src": sender.ip, "ip_dst": to.ip}
    return packet(**{**ends, "eth_type": ETH_IP, "ip_proto": PROTO_TCP, "ip_frag": 1, **fields})


def datagram(sender: Vm, to: Vm, port: int, *, part: bool = False) -> Packet:
    if part:
        return fragment(sender, to, ip_proto=PROTO_UDP, part_src=4000, part_dst=port)
    return sender.udp(to.ip, to.mac, 4000, port)


def datagram_back(seen: Packet) -> Packet:
    if not seen["ip_frag"]:
        return reply_to(seen)
    turned = {"eth_src": "eth_dst", "ip_src": "ip_dst", "part_src": "part_dst"}
    turned |= {there: here for here, there in turned.items()}
    return seen.but(**{name: seen[other] for name, other in turned.items()})


def back(seen: Packet) -> Packet:
    return seen.but(
        eth_src=seen["eth_dst"],
        eth_dst=seen["eth_src"],
        ip_src=seen["ip_dst"],
        ip_dst=seen["ip_src"],
        tcp_src=seen["tcp_dst"],
        tcp_dst=seen["tcp_src"],
    )


def arrived(journey: Journey, at: Vm) -> bool:
    return any((one.node, one.ofport) == (at.node, at.ofport) for one in journey.delivered)


def refusal(seen: Packet) -> Packet:
    """By ICMP, of who has received it."""
    ends = {"eth_src": seen["eth_dst"], "eth_dst": seen["eth_src"], "ip_src": seen["ip_dst"], "ip_dst": seen["ip_src"]}
    return packet(seen, **ends, eth_type=ETH_IP, ip_proto=PROTO_ICMP, icmp_type=3)


def dropped_of(journey: Journey) -> set[tuple[Rule | None, int]]:
    """As `why`, and whose drop it was."""
    found = {(drop.rule, drop.key) for hop in journey.hops if (drop := hop.result.drop)}
    return found - {(Rule.DROP_UNCLASSIFIED, 0)}


def why(journey: Journey) -> set[Rule | None]:
    """By which rules it was dropped, on whatever node: another one may have heard it, too."""
    return {hop.result.drop.rule for hop in journey.hops if hop.result.drop} - {Rule.DROP_UNCLASSIFIED}


PEERS = pytest.mark.parametrize("client", [vm(22, cloud()), BLUE_2], ids=["same node", "another node"])
SERVER_VM = BLUE_1


@PEERS
def test_only_what_a_rule_allows_comes_in_and_is_answered(client: Vm) -> None:
    fabric = Fabric.of(cloud(WEB, members=(SERVER_VM.key,)))
    for asked_port, wanted in ((79, False), (80, True), (81, True), (82, False)):
        asked = send(client, tcp(client, SERVER_VM, asked_port), fabric)
        assert arrived(asked, SERVER_VM) is wanted, asked_port
        if not wanted:
            assert why(asked) == {Rule.DROP_INGRESS}
            continue
        answered = send(SERVER_VM, back(asked.delivered[0].packet), asked.after)
        assert arrived(answered, client)
    refused = send(client, client.udp(SERVER_VM.ip, SERVER_VM.mac, port=80), fabric)
    assert why(refused) == {Rule.DROP_INGRESS}


@PEERS
def test_what_a_vm_begins_is_answered_whatever_its_groups_let_in(client: Vm) -> None:
    fabric = Fabric.of(cloud(CLOSED, members=(client.key,)))
    asked = send(client, client.echo(SERVER_VM.ip, SERVER_VM.mac), fabric)
    assert arrived(send(SERVER_VM, reply_to(asked.delivered[0].packet), asked.after), client)
    assert not arrived(send(SERVER_VM, SERVER_VM.echo(client.ip, client.mac), asked.after), client)


@PEERS
def test_errors_about_a_connection_come_in(client: Vm) -> None:
    fabric = Fabric.of(cloud(CLOSED, members=(client.key,)))
    asked = send(client, client.udp(SERVER_VM.ip, SERVER_VM.mac), fabric)
    seen = asked.delivered[0].packet
    about = refusal(seen)
    assert arrived(send(SERVER_VM, about, asked.after), client)
    assert not arrived(send(SERVER_VM, about, fabric), client)


def test_egress_rules() -> None:
    only_web = security_group(7, egress(71, PROTO_TCP, 80))
    nothing = security_group(8)
    for group, allowed in ((only_web, True), (nothing, False)):
        fabric = Fabric.of(cloud(group, members=(BLUE_1.key,)))
        asked = send(BLUE_1, tcp(BLUE_1, BLUE_2), fabric)
        assert arrived(asked, BLUE_2) is allowed
        other = send(BLUE_1, tcp(BLUE_1, BLUE_2, 22), fabric)
        assert why(other) == {Rule.DROP_EGRESS}
        assert send(BLUE_1, BLUE_1.dhcp(), fabric).punts, "DHCP needs no rule"


@pytest.mark.parametrize(
    ("one", "allowed", "refused"),
    [
        (rule(9, PROTO_TCP, 1), {"tcp_dst": 1}, {"tcp_dst": 2}),
        (rule(9, PROTO_TCP, 65535), {"tcp_dst": 65535}, {"tcp_dst": 65534}),
        (rule(9, PROTO_TCP, 1, 65535), {"tcp_dst": 40000}, {"tcp_dst": 0}),
        (rule(9, PROTO_TCP, 100, 299), {"tcp_dst": 299}, {"tcp_dst": 300}),
        (rule(9, PROTO_TCP), {"tcp_dst": 0}, {"ip_proto": PROTO_UDP, "udp_dst": 80}),
        (rule(9, 47), {"ip_proto": 47}, {"tcp_dst": 80}),
        (rule(9, PROTO_ICMP), {"ip_proto": PROTO_ICMP, "icmp_type": 13}, {"tcp_dst": 80}),
        (
            rule(9, PROTO_ICMP, icmp_type=8),
            {"ip_proto": PROTO_ICMP, "icmp_type": 8},
            {"ip_proto": PROTO_ICMP, "icmp_type": 13},
        ),
        (
            rule(9, PROTO_ICMP, icmp_type=8, icmp_code=0),
            {"ip_proto": PROTO_ICMP, "icmp_type": 8},
            {"ip_proto": PROTO_ICMP, "icmp_type": 8, "icmp_code": 1},
        ),
        (rule(9, PROTO_TCP, 80, remote="10.20.0.11/32"), {"tcp_dst": 80}, {"tcp_dst": 81}),
        (rule(9, PROTO_TCP, 80, remote="10.20.0.0/28"), {"tcp_dst": 80}, {"tcp_dst": 80, "ip_src": ip("10.20.0.99")}),
        (rule(9, remote="10.20.0.11/32"), {"ip_proto": 132}, {"ip_src": ip("10.20.0.12")}),
        (rule(9), {"ip_proto": 4}, None),
        (rule(9, remote="0.0.0.0/0"), {"ip_proto": 4}, None),
    ],
)
def test_each_form_of_a_rule(one: object, allowed: dict[str, int], refused: dict[str, int] | None) -> None:
    """From the wire, so that any source will do."""
    fabric = Fabric.of(cloud(security_group(9, egress(91), one), members=(BLUE_1.key,)))  # type: ignore[arg-type]
    base = {"eth_src": BLUE_2.mac, "eth_dst": BLUE_1.mac, "eth_type": ETH_IP, "vlan_vid": VLAN_PRESENT | 102}
    base |= {"ip_proto": PROTO_TCP, "ip_src": BLUE_2.ip, "ip_dst": BLUE_1.ip}
    assert arrived(fabric.send_from_outside(PHYSNET, packet(**base | allowed)), BLUE_1)
    if refused is not None:
        assert not arrived(fabric.send_from_outside(PHYSNET, packet(**base | refused)), BLUE_1)


def test_rules_of_several_groups_add_up_and_overlap() -> None:
    ranges = security_group(10, egress(101), rule(102, PROTO_TCP, 10, 20), rule(103, PROTO_TCP, 15, 30))
    more = security_group(11, rule(111, PROTO_TCP, 20, 40, remote="10.20.0.0/24"), rule(112, PROTO_TCP, 50))
    fabric = Fabric.of(cloud(ranges, more, members=(BLUE_1.key,)))
    let_in = {n for n in range(5, 55) if arrived(send(BLUE_2, tcp(BLUE_2, BLUE_1, n), fabric), BLUE_1)}
    assert let_in == {*range(10, 41), 50}


def test_a_group_names_the_members_of_another() -> None:
    clients = security_group(12, egress(121))
    servers = security_group(13, egress(131), rule(132, PROTO_TCP, 80, remote=clients.id))
    both = filtered(cloud(servers, members=(BLUE_1.key,)), clients, members=(BLUE_2.key,))
    fabric = Fabric.of(both)
    stranger = vm(22, both)
    assert arrived(send(BLUE_2, tcp(BLUE_2, BLUE_1), fabric), BLUE_1)
    assert not arrived(send(BLUE_2, tcp(BLUE_2, BLUE_1, 81), fabric), BLUE_1)
    assert not arrived(send(stranger, tcp(stranger, BLUE_1), fabric), BLUE_1)
    joined = filtered(both, clients, members=(stranger.key,))
    assert arrived(send(stranger, tcp(stranger, BLUE_1), Fabric.of(joined)), BLUE_1)


def test_members_from_another_network_of_the_router_are_known_too() -> None:
    group = security_group(14, egress(141), rule(142, remote="group-14"))
    fabric = Fabric.of(cloud(group, members=(BLUE_1.key, BLUE2_2.key)))
    assert arrived(send(BLUE2_2, BLUE2_2.echo(BLUE_1.ip), fabric), BLUE_1)
    assert not arrived(send(BLUE_2, BLUE_2.echo(BLUE_1.ip, BLUE_1.mac), fabric), BLUE_1)


def test_an_address_pair_is_a_members_address() -> None:
    group = security_group(14, egress(141), rule(142, PROTO_TCP, 80, remote="group-14"))
    base = cloud(group, members=(BLUE_1.key, BLUE_2.key))
    pair = AddressPair(IPv4Network("10.20.0.200"), base.ports["port-21"].mac)
    shared = replace(base.ports["port-21"], address_pairs=(pair,))
    fabric = Fabric.of(base.apply(base.revision + 1, [PortChange(shared.id, shared)]))
    assert arrived(send(BLUE_2, tcp(BLUE_2, BLUE_1, ip_src=ip("10.20.0.200")), fabric), BLUE_1)
    assert why(send(BLUE_2, tcp(BLUE_2, BLUE_1, ip_src=ip("10.20.0.201")), fabric)) == {Rule.DROP_SPOOFED}


def test_what_is_sent_to_the_mac_of_an_address_pair_reaches_all_that_may_have_it() -> None:
    """VRRP's virtual MAC: whose it is now only the guests know."""
    base, pair = cloud(), AddressPair(IPv4Network("10.20.0.200"), "00:00:5e:00:01:07")
    for name in ("port-20", "port-21"):
        shared = replace(base.ports[name], address_pairs=(pair,))
        before, change = base, PortChange(name, shared)
        base = before.apply(before.revision + 1, [change])
        for node in base.nodes:  # a change of a pair alone is seen by who follows it
            assert set(recompile(compile_node(before, node), before, base, [change], node)[0].flows()) == set(
                compile_node(base, node).flows()
            )
    neighbour, fabric = vm(22, base), Fabric.of(base)
    for client in (neighbour, BLUE_1, BLUE_2):
        journey = send(client, client.echo(ip("10.20.0.200"), 0x00005E000107), fabric)
        wanted = {(one.node, one.ofport) for one in (BLUE_1, BLUE_2) if one is not client}
        assert {(one.node, one.ofport) for one in journey.delivered} == wanted
    closed = Fabric.of(filtered(base, CLOSED, members=(BLUE_1.key,)))
    assert not arrived(send(neighbour, neighbour.echo(ip("10.20.0.200"), 0x00005E000107), closed), BLUE_1)


def from_outside(base: Snapshot, source: int) -> Journey:
    associated = base.apply(base.revision + 1, [FloatingIpChange("floating-1", floating_ip(1, base.ports["port-20"]))])
    sent = packet(
        eth_src=NEXT_HOP,
        eth_dst=node_mac(1),
        eth_type=ETH_IP,
        ip_proto=PROTO_TCP,
        ip_src=source,
        ip_dst=FIP,
        tcp_dst=80,
    )
    return Fabric.of(associated).send_from_outside(EXTERNAL_PHYSNET, sent)


def test_a_members_address_from_outside_is_nobodys() -> None:
    """By a floating IP anybody may come, with any source."""
    group = security_group(14, egress(141), rule(142, remote="group-14"))
    for base in (cloud(group, members=(BLUE_1.key, BLUE_2.key)), cloud(CLOSED, members=(BLUE_1.key,), same_net=True)):
        forged = from_outside(base, BLUE_2.ip)
        assert not arrived(forged, BLUE_1) and Rule.DROP_INGRESS in why(forged)
    assert arrived(from_outside(cloud(WEB, members=(BLUE_1.key,)), SERVER), BLUE_1)


def test_the_same_network_as_it_says() -> None:
    for allowed in (True, False):
        fabric = Fabric.of(cloud(CLOSED, members=(BLUE_1.key,), same_net=allowed))
        assert arrived(send(BLUE_2, tcp(BLUE_2, BLUE_1), fabric), BLUE_1) is allowed
        assert not arrived(send(BLUE2_2, BLUE2_2.echo(BLUE_1.ip), fabric), BLUE_1)


def test_a_rule_that_goes_cuts_what_it_alone_allowed() -> None:
    two = security_group(6, egress(61), rule(62, PROTO_TCP, 80), rule(63, PROTO_TCP, 81))
    one = security_group(6, egress(61), rule(63, PROTO_TCP, 81))
    before = cloud(two, members=(BLUE_1.key,))
    after = filtered(before, one, members=(BLUE_1.key,))
    fabric = Fabric.of(before)
    seen = {}
    for number in (80, 81):
        asked = send(BLUE_2, tcp(BLUE_2, BLUE_1, number), fabric)
        seen[number] = asked.delivered[0].packet
        fabric = send(BLUE_1, back(seen[number]), asked.after).after
    fabric = changed(fabric, after)
    for number, goes_on in ((80, False), (81, True)):
        more = send(BLUE_2, tcp(BLUE_2, BLUE_1, number), fabric)
        assert arrived(more, BLUE_1) is goes_on
        answered = send(BLUE_1, back(seen[number]), more.after)
        assert arrived(answered, BLUE_2) is goes_on
        if not goes_on:
            assert dropped_of(answered) == {(Rule.DROP_EGRESS, BLUE_1.key)}
            assert (Rule.DROP_INGRESS, BLUE_1.key) in dropped_of(more)
        fabric = answered.after
    again = changed(fabric, before)
    assert arrived(send(BLUE_1, back(seen[80]), again), BLUE_2), "whoever speaks first"
    assert arrived(send(BLUE_2, tcp(BLUE_2, BLUE_1, 80), again), BLUE_1)


@pytest.mark.parametrize("client", [vm(22, cloud()), BLUE_2], ids=["same node", "another node"])
@pytest.mark.parametrize("part", [False, True], ids=["whole", "fragments"])
def test_answers_end_with_the_rule_though_nobody_asks_again(client: Vm, part: bool) -> None:
    """Those of who is let in, and those to who is let out, errors as well."""
    server = SERVER_VM
    for group, held in ((security_group(6, egress(61), rule(62, PROTO_UDP, 80)), server), (LETS_OUT, client)):
        before = cloud(group, members=(held.key,))
        after = filtered(before, replace(group, rules=group.rules[:1]), members=(held.key,))
        asked = send(client, datagram(client, server, 80, part=part), Fabric.of(before))
        assert arrived(asked, server)
        answer = datagram_back(asked.delivered[0].packet)
        answered = send(server, answer, asked.after)
        assert arrived(answered, client)
        late = send(server, answer, changed(answered.after, after))
        rule_of = Rule.DROP_EGRESS if held is server else Rule.DROP_INGRESS
        assert not arrived(late, client) and dropped_of(late) == {(rule_of, held.key)}
        if not part:
            about = refusal(asked.delivered[0].packet)
            assert arrived(send(server, about, answered.after), client)
            assert not arrived(send(server, about, late.after), client)
        assert not arrived(send(client, datagram(client, server, 80, part=part), late.after), server)
        assert arrived(send(server, answer, changed(late.after, before)), client)


def test_two_rules_that_allow_the_same_need_one_of_them() -> None:
    two = security_group(6, egress(61), rule(62, PROTO_TCP, 80), rule(63, PROTO_TCP, 1, 100, remote="10.20.0.0/24"))
    one = security_group(6, egress(61), rule(63, PROTO_TCP, 1, 100, remote="10.20.0.0/24"))
    before = cloud(two, members=(BLUE_1.key,))
    asked = send(BLUE_2, tcp(BLUE_2, BLUE_1), Fabric.of(before))
    fabric = send(BLUE_1, back(asked.delivered[0].packet), asked.after).after
    fabric = changed(fabric, filtered(before, one, members=(BLUE_1.key,)))
    assert arrived(send(BLUE_1, back(asked.delivered[0].packet), fabric), BLUE_2)
    assert arrived(send(BLUE_2, tcp(BLUE_2, BLUE_1), fabric), BLUE_1)


@pytest.mark.parametrize("stateful", [True, False])
def test_fragments_do_not_slip_past_a_rule_about_ports(stateful: bool) -> None:
    """Conntrack knows their ports. Without it only a rule lets them in that names none."""
    for one, hit in (
        (rule(62, PROTO_TCP, 80, 81), stateful),
        (rule(62, PROTO_TCP, 0), False),
        (rule(62, PROTO_TCP, 82, remote="10.20.0.0/24"), False),
        (rule(62, PROTO_TCP, 80, remote="10.20.0.0/24"), stateful),
        (rule(62, PROTO_UDP, 80), False),
        (rule(62, PROTO_TCP), True),
    ):
        group = replace(security_group(6, egress(61), one), stateful=stateful)
        fabric = Fabric.of(cloud(group, members=(BLUE_1.key,)))
        journey = send(BLUE_2, fragment(BLUE_2, BLUE_1, part_src=4000, part_dst=80), fabric)
        assert arrived(journey, BLUE_1) is hit, one
        assert hit or why(journey) == {Rule.DROP_INGRESS}


@pytest.mark.parametrize("stateful", [True, False])
@pytest.mark.parametrize("icmp_type", [0, 8])
def test_rules_about_icmp_types_hold_for_fragments(icmp_type: int, stateful: bool) -> None:
    """A fragment shows type 0, which is an echo reply's."""
    for code in (None, 0):
        one = rule(62, PROTO_ICMP, icmp_type=icmp_type, icmp_code=code)
        group = replace(security_group(6, egress(61), one), stateful=stateful)
        fabric = Fabric.of(cloud(group, members=(BLUE_1.key,)))
        small = send(BLUE_2, BLUE_2.echo(BLUE_1.ip, BLUE_1.mac), fabric)
        assert arrived(small, BLUE_1) is (icmp_type == 8)
        large = send(BLUE_2, fragment(BLUE_2, BLUE_1, ip_proto=PROTO_ICMP, part_src=8), fabric)
        assert arrived(large, BLUE_1) is (icmp_type == 8 and stateful)


def test_fragments_to_many_are_held_to_the_ports_of_each() -> None:
    fabric = Fabric.of(cloud(WEB, members=(BLUE_1.key,)))
    for number, hit in ((80, True), (82, False)):
        part = fragment(BLUE_2, BLUE_1, eth_dst=0x01005E000005, ip_dst=ip("224.0.0.5"), part_dst=number)
        journey = send(BLUE_2, part, fabric)
        assert arrived(journey, BLUE_1) is hit
        assert not journey.after.states["n1"].conntrack.entries


def test_a_stateless_group_keeps_no_connections() -> None:
    group = replace(WEB, stateful=False, rules=(*WEB.rules, rule(64, PROTO_UDP)))
    fabric = Fabric.of(cloud(group, members=(BLUE_1.key,)))
    asked = send(BLUE_2, tcp(BLUE_2, BLUE_1), fabric)
    assert arrived(asked, BLUE_1)
    assert arrived(send(BLUE_1, back(asked.delivered[0].packet), asked.after), BLUE_2)
    assert not asked.after.states["n1"].conntrack.entries
    begun = send(BLUE_1, BLUE_1.echo(BLUE_2.ip, BLUE_2.mac), fabric)
    assert not arrived(send(BLUE_2, reply_to(begun.delivered[0].packet), begun.after), BLUE_1)


def test_a_port_that_is_not_filtered_meets_no_conntrack() -> None:
    unfiltered = replace(cloud().ports["port-20"], security_groups=None)
    base = cloud()
    fabric = Fabric.of(base.apply(base.revision + 1, [PortChange(unfiltered.id, unfiltered)]))
    journey = send(BLUE_2, tcp(BLUE_2, BLUE_1, 9), fabric)
    assert arrived(journey, BLUE_1)
    assert not journey.after.states["n1"].conntrack.entries


def test_without_a_group_nothing_is_allowed() -> None:
    fabric = Fabric.of(filtered(cloud(), members=(BLUE_1.key,)))
    assert why(send(BLUE_2, tcp(BLUE_2, BLUE_1), fabric)) == {Rule.DROP_INGRESS}
    assert why(send(BLUE_1, tcp(BLUE_1, BLUE_2), fabric)) == {Rule.DROP_EGRESS}


@pytest.mark.parametrize("direction", [None, *Direction])
def test_the_operators_drop_list_comes_first(direction: Direction | None) -> None:
    base = cloud()
    for service, hit in (((PROTO_TCP, 80, 80), True), ((), True), ((PROTO_UDP,), False)):
        listed = ProviderRule("p", 1, IPv4Network("10.20.0.11"), Service(*service), direction)
        fabric = Fabric.of(base.apply(base.revision + 1, [ProviderRuleChange("p", listed)]))
        incoming = send(BLUE_2, tcp(BLUE_2, BLUE_1), fabric)
        outgoing = send(BLUE_1, tcp(BLUE_1, BLUE_2), fabric)
        assert arrived(incoming, BLUE_1) is not (hit and direction is not Direction.EGRESS)
        assert arrived(outgoing, BLUE_2) is not (hit and direction is not Direction.INGRESS)
        if hit and direction is Direction.INGRESS:
            assert why(incoming) == {Rule.DROP_PROVIDER_INGRESS}
            part = send(BLUE_2, fragment(BLUE_2, BLUE_1), fabric)
            assert why(part) <= {Rule.DROP_PROVIDER_INGRESS, Rule.DROP_PROVIDER_INGRESS_PART}


def test_a_broadcast_is_held_to_the_rules_of_each() -> None:
    group = security_group(6, egress(61), rule(62, PROTO_UDP, 5353))
    base = cloud(group, members=(BLUE_1.key,))
    neighbour = vm(22, base)
    fabric = Fabric.of(filtered(base, CLOSED, members=(neighbour.key,)))
    sent = BLUE_2.udp(ip("10.20.0.255"), BROADCAST, port=5353)
    journey = send(BLUE_2, sent, fabric)
    assert arrived(journey, BLUE_1) and not arrived(journey, neighbour)
    asked = send(BLUE_2, BLUE_2.arp(BLUE_1.ip), fabric)
    assert arrived(asked, BLUE_1) and arrived(asked, neighbour)


def test_other_ethertypes_from_the_wire_stop_at_a_filtered_port() -> None:
    frame = packet(eth_src=BLUE_2.mac, eth_dst=BLUE_1.mac, eth_type=ETH_IPV6, vlan_vid=VLAN_PRESENT | 102)
    assert Rule.DROP_NOT_IP in why(Fabric.of(cloud()).send_from_outside(PHYSNET, frame))


def test_what_is_refused_and_begun_is_reported_where_a_group_says_so() -> None:
    group = replace(WEB, log_dropped=True, log_accepted=True)
    fabric = Fabric.of(cloud(group, members=(BLUE_1.key,)))
    refused = send(BLUE_2, tcp(BLUE_2, BLUE_1, 22), fabric)
    assert [(punt.rule, punt.key) for _, punt in refused.punts] == [(Rule.LOG_INGRESS_DROPPED, BLUE_1.key)]
    assert not refused.delivered
    begun = send(BLUE_2, tcp(BLUE_2, BLUE_1), fabric)
    assert [(punt.rule, punt.key) for _, punt in begun.punts] == [(Rule.LOG_INGRESS_ACCEPTED, 62)]
    after = send(BLUE_1, back(begun.delivered[0].packet), begun.after).after
    assert not send(BLUE_2, tcp(BLUE_2, BLUE_1), after).punts, "only what begins"


HERE, THERE = Binding("n1", 120, 20), Binding("n3", 520, 70)


def moving(group: SecurityGroup, phase: MigrationPhase) -> Snapshot:
    base = cloud(group, members=(BLUE_1.key,))
    binding, other = (HERE, THERE) if phase is MigrationPhase.PREPARED else (THERE, HERE)
    moved = replace(base.ports["port-20"], binding=binding, migration=Migration(phase, other))
    return base.apply(base.revision + 1, [PortChange(moved.id, moved)])


def test_a_vm_that_moves_takes_its_connections_along() -> None:
    """What it began elsewhere is answered where it arrives, even if it says nothing first."""
    before = moving(CLOSED, MigrationPhase.PREPARED)
    begun = send(BLUE_1, BLUE_1.udp(BLUE_2.ip, BLUE_2.mac), Fabric.of(before))
    answer = reply_to(next(one for one in begun.delivered if one.node == "n2").packet)
    copied = send(BLUE_2, answer, begun.after)
    assert arrived(copied, BLUE_1)
    after = changed(copied.after, moving(CLOSED, MigrationPhase.MOVED))
    there = replace(BLUE_1, node="n3", ofport=520)
    announced = send(there, there.arp(BLUE_2.ip), after)
    assert arrived(send(BLUE_2, answer, announced.after), there)
    refused = send(BLUE_2, BLUE_2.udp(BLUE_1.ip, BLUE_1.mac, source_port=9), announced.after)
    assert not arrived(refused, there)


def test_the_node_that_a_vm_has_left_passes_on_what_is_allowed() -> None:
    there = replace(BLUE_1, node="n3", ofport=520)
    fabric = Fabric.of(moving(WEB, MigrationPhase.MOVED))
    neighbour = vm(22, moving(WEB, MigrationPhase.MOVED))
    assert arrived(send(neighbour, tcp(neighbour, BLUE_1, 80), fabric), there)
    refused = send(neighbour, tcp(neighbour, BLUE_1, 22), fabric)
    assert not arrived(refused, there) and why(refused) == {Rule.DROP_INGRESS}
    assert not any(frame.packet["eth_src"] == copy_mac(BLUE_1.key) for frame in refused.wire)


def test_errors_from_outside_about_what_a_vm_sent_out() -> None:
    fabric = Fabric.of(cloud(CLOSED, members=(BLUE_1.key,)))
    asked = send(BLUE_1, BLUE_1.udp(SERVER), fabric)
    told = asked.after.send_from_outside(
        EXTERNAL_PHYSNET, error_about(asked.heard[0].packet).but(eth_dst=node_mac(1), eth_src=NEXT_HOP)
    )
    assert arrived(told, BLUE_1)


def test_a_change_of_members_costs_each_node_one_flow() -> None:

    group = security_group(
        14, egress(141), *(rule(142 + n, PROTO_TCP, 80 + 2 * n, remote="group-14") for n in range(9))
    )
    before = cloud(group, members=(BLUE_1.key, BLUE_2.key))
    joins = replace(before.ports["port-22"], security_groups=(group.id,))
    unbound = replace(joins, binding=None)
    change = PortChange(unbound.id, unbound)
    base = before.apply(before.revision + 1, [PortChange(unbound.id, replace(unbound, security_groups=None))])
    after = base.apply(base.revision + 1, [change])
    for name in ("n1", "n2"):
        _, delta = recompile(compile_node(base, name), base, after, [change], name)
        assert (len(delta.upserts), len(delta.deletes)) == (1, 0)
    leaves = SecurityGroupChange(group.id, group)
    assert not recompile(compile_node(after, "n1"), after, after, [leaves], "n1")[1]


def test_a_group_that_becomes_stateless_is_asked_otherwise_who_is_meant_as_well() -> None:
    group = security_group(14, egress(141), rule(142, PROTO_TCP, 80, remote="group-14"), rule(143, remote="group-14"))
    for one in (group, replace(group, rules=group.rules[:-1])):
        before = cloud(one, members=(BLUE_1.key, BLUE_2.key))
        change = SecurityGroupChange(one.id, replace(one, stateful=False))
        after = before.apply(before.revision + 1, [change])
        edited, _ = recompile(compile_node(before, "n1"), before, after, [change], "n1")
        assert set(edited.flows()) == set(compile_node(after, "n1").flows())


def test_a_stateless_port_takes_nothing_from_what_other_zones_know() -> None:
    """What NAT calls a reply is held to the rules of the port, and no connection begins."""
    nothing_in = replace(security_group(15, egress(151)), stateful=False)
    fabric = Fabric.of(cloud(nothing_in, members=(BLUE_1.key,)))
    asked = send(BLUE_1, BLUE_1.udp(SERVER), fabric)
    back_ = reply_to(asked.heard[0].packet, eth_src=NEXT_HOP, eth_dst=node_mac(1))
    answered = asked.after.send_from_outside(EXTERNAL_PHYSNET, back_)
    assert not arrived(answered, BLUE_1) and Rule.DROP_INGRESS in why(answered)
    zones = {zone for zone, _ in answered.after.states["n1"].conntrack.entries}
    assert zones == {CtZone.SNAT, nat_zone(BLUE_1.key)}


def test_a_connection_that_nobody_has_answered_is_cut_too() -> None:
    two, one = (
        security_group(6, rule(62, PROTO_UDP, 7), egress(61, PROTO_TCP)),
        security_group(6, egress(61, PROTO_TCP)),
    )
    before = cloud(two, members=(BLUE_1.key,))
    asked = send(BLUE_2, BLUE_2.udp(BLUE_1.ip, BLUE_1.mac), Fabric.of(before))
    fabric = changed(asked.after, filtered(before, one, members=(BLUE_1.key,)))
    refused = send(BLUE_2, BLUE_2.udp(BLUE_1.ip, BLUE_1.mac), fabric)
    assert not arrived(refused, BLUE_1)
    late = send(BLUE_1, reply_to(asked.delivered[0].packet), refused.after)
    assert not arrived(late, BLUE_2) and why(late) == {Rule.DROP_EGRESS}
    again = send(BLUE_2, BLUE_2.udp(BLUE_1.ip, BLUE_1.mac), changed(late.after, before))
    assert arrived(send(BLUE_1, reply_to(again.delivered[0].packet), again.after), BLUE_2)


def test_from_an_exempt_range_nobody_is_a_neighbour() -> None:
    base = cloud(CLOSED, members=(BLUE_1.key,), same_net=True)
    wide = replace(base.networks["net-blue"], snat_exempt=(IPv4Network("10.0.0.0/8"),))
    fabric = Fabric.of(base.apply(base.revision + 1, [NetworkChange(wide.id, wide)]))
    forged = packet(
        eth_src=NEXT_HOP,
        eth_dst=node_mac(1),
        eth_type=ETH_IP,
        ip_proto=PROTO_TCP,
        ip_src=ip("10.20.0.99"),
        ip_dst=BLUE_1.ip,
        tcp_dst=80,
    )
    assert Rule.DROP_INGRESS in why(fabric.send_from_outside(EXTERNAL_PHYSNET, forged))


@pytest.mark.parametrize("loud", [6, 7], ids=["the first", "the last"])
def test_what_two_groups_allow_is_reported_if_one_of_them_wants_it(loud: int) -> None:
    """Whichever of them was made first, and while it changes."""

    def snapshot(*, log: bool) -> Snapshot:
        groups = [security_group(key, egress(key * 10 + 1), rule(key * 10 + 2, PROTO_TCP, 80, 80)) for key in (6, 7)]
        heard = [
            replace(one, rules=tuple(replace(each, log=log and one.key == loud) for each in one.rules))
            for one in groups
        ]
        return cloud(*heard, members=(BLUE_1.key,))

    def reported(fabric: Fabric, source: int) -> set[int]:
        return {
            punt.key
            for hop in send(BLUE_2, tcp(BLUE_2, BLUE_1, source=source), fabric).hops
            for punt in hop.result.punts
        }

    quiet, watching = snapshot(log=False), snapshot(log=True)
    assert reported(Fabric.of(quiet), 4000) == set()
    assert reported(Fabric.of(watching), 4001) == {loud * 10 + 2}


@pytest.mark.parametrize("part", [False, True], ids=["whole", "fragments"])
@pytest.mark.parametrize("direction", [None, *Direction])
def test_the_operators_drop_list_ends_what_is_open(direction: Direction | None, part: bool) -> None:
    """What is sent to the port, and what answers from it though nobody asks again, with errors about it."""
    base, client, server = cloud(), BLUE_2, BLUE_1
    for number, hit in ((80, True), (81, False)):
        listed = ProviderRule("p", 1, IPv4Network("0.0.0.0/0"), Service(PROTO_UDP, number, number), direction)
        after = base.apply(base.revision + 1, [ProviderRuleChange("p", listed)])
        asked = send(client, datagram(client, server, 80, part=part), Fabric.of(base))
        seen = asked.delivered[0].packet
        answered = send(server, datagram_back(seen), asked.after)
        assert arrived(answered, client)
        fabric = changed(answered.after, after)
        late = send(server, datagram_back(seen), fabric)
        assert arrived(late, client) is not hit
        again = send(client, datagram(client, server, 80, part=part), fabric)
        assert arrived(again, server) is not hit
        assert not hit or (why(late) | why(again)) <= DROP_LIST and why(late) and why(again)
        if not part:
            assert arrived(send(server, refusal(seen), fabric), client) is not hit
        assert arrived(send(server, datagram_back(seen), changed(late.after, base)), client)


def test_the_operators_drop_list_takes_no_fragment_for_an_echo_reply() -> None:
    """Nor does it miss one without conntrack, which knows what it is of."""
    for stateful, icmp_type, hit in ((True, 0, False), (True, 8, True), (False, 0, True), (False, 8, True)):
        group = replace(security_group(6, egress(61), rule(62, PROTO_ICMP)), stateful=stateful)
        base = filtered(cloud(), group, members=(BLUE_1.key,))
        listed = ProviderRule(
            "p", 1, IPv4Network("0.0.0.0/0"), Service(PROTO_ICMP, icmp_type=icmp_type), Direction.INGRESS
        )
        fabric = Fabric.of(base.apply(base.revision + 1, [ProviderRuleChange("p", listed)]))
        large = send(BLUE_2, fragment(BLUE_2, BLUE_1, ip_proto=PROTO_ICMP, part_src=8), fabric)
        assert arrived(large, BLUE_1) is not hit


def test_a_connection_that_came_along_is_held_to_the_rules_once_the_vm_speaks() -> None:
    """Where it was expected, conntrack had taken the other end for who began it."""
    two = security_group(5, egress(51), egress(52, PROTO_UDP, 7))
    one = security_group(5, egress(51, PROTO_TCP))
    begun = send(BLUE_1, BLUE_1.udp(BLUE_2.ip, BLUE_2.mac), Fabric.of(moving(two, MigrationPhase.PREPARED)))
    answer = reply_to(next(one for one in begun.delivered if one.node == "n2").packet)
    copied = send(BLUE_2, answer, begun.after)
    there = replace(BLUE_1, node="n3", ofport=520)
    for group, goes_on in ((two, True), (one, False)):
        after = changed(copied.after, moving(group, MigrationPhase.MOVED))
        after = send(there, there.arp(BLUE_2.ip), after).after
        spoken = send(there, BLUE_1.udp(BLUE_2.ip, BLUE_2.mac), after)
        assert arrived(spoken, BLUE_2) is goes_on
        assert arrived(send(BLUE_2, answer, spoken.after), there) is goes_on
