"""What Open vSwitch says of a packet, as it is read and held against what was computed: the words of 3.5."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from flows.explain.explain import Explainer
from flows.explain.following import MOST_STEPS
from flows.explain.live import LEARNED, MISS, OTHER, Reading, computed, read, rule_name
from flows.explain.naming import Names
from flows.explain.ofproto_trace import parse
from flows.explain.probe import MOST_STRETCHES, Lookup, Probe, probes
from flows.explain.request import Request
from flows.explain.target import aim
from flows.explain.trace import Drop, End, Hop, Kind, Step
from flows.pipeline import Table
from flows.protocols import CT_ESTABLISHED, CT_NEW, CT_REPLY, CT_TRACKED
from flows.rules import COOKIE_ASKED, COOKIE_LEARNED, Rule, cookie
from tests.simulate.broken import TCP, open_cloud
from tests.simulate.cloud import world

PORT = next(iter(world().ports.values()))
CLASSIFY, SECURITY = cookie(Rule.CLASSIFY_PORT, PORT.key), cookie(Rule.ALLOW_IP, PORT.key)
TEACH, GROUPS = cookie(Rule.TEACH, 2), cookie(Rule.EGRESS_GROUPS, PORT.key)
NETWORK, REFUSED = cookie(Rule.SAME_NETWORK, 2), cookie(Rule.DROP_EGRESS, PORT.key)
OUTPUT = f"""\
Flow: icmp,in_port=2,vlan_tci=0x0000,dl_src=fa:16:3e:f7:7b:1c,dl_dst=02:54:4c:00:00:01,nw_src=10.1.0.3,nw_ttl=64

bridge("br-int")
----------------
 0. in_port=2,vlan_tci=0x0000/0x1fff, priority 100, cookie {CLASSIFY:#x}
    set_field:0x2->metadata
    goto_table:4
 4. ip,reg6=0x4,nw_src=10.1.0.3, priority 100, cookie {SECURITY:#x}
    resubmit(,42)
    42. ip,reg0=0x2/0x2,metadata=0x3, priority 100, cookie {TEACH:#x}
            push_vlan:0x8100
            set_field:4198->vlan_vid
            output:65001

            bridge("br-physnet1")
            ---------------------
                 0. priority 0
                    output:9
                     -> forwarding to learned port
                12. priority 0
                    ct(commit,nat(src=192.0.2.9))
            pop_vlan
            output:7
    goto_table:18
18. reg6=0x4, priority 100, cookie {GROUPS:#x}
    resubmit(,57)
    57. No match.
            drop
    resubmit(,30)
    30. ip,reg5=0x2, priority 80, cookie {COOKIE_LEARNED:#x}
            set_field:7->reg7
    58. priority 7
            ct(commit,table=36,zone=65001,nat(src=203.0.113.11:1024-65535,random))
            drop
             -> A clone of the packet is forked to recirculate. The forked pipeline will be resumed at table 36.

bridge("br-physnet1")
---------------------
 0. priority 0
    output:9

Final flow: icmp,reg5=0x2,metadata=0x2,in_port=2,dl_vlan=102,dl_vlan_pcp=0,dl_src=fa:16:3e:f7:7b:1c,nw_src=10.1.0.3
Megaflow: recirc_id=0,eth,icmp,in_port=2
Datapath actions: ct(zone=2),recirc(0x6)

===============================================================================
recirc(0x6) - resume conntrack with default ct_state=trk|new (use --ct-next to customize)
===============================================================================

bridge("br-int")
----------------
    thaw
        Resuming from table 36
36. No match.
    output:4

Final flow: unchanged
Datapath actions: 5
"""
FOUND = (
    Lookup(0, CLASSIFY, 100),
    Lookup(4, SECURITY, 100),
    Lookup(42, TEACH, 100),
    Lookup(18, GROUPS, 100),
    Lookup(57, None),
    Lookup(30, COOKIE_LEARNED, 80),
    Lookup(58, 0, 7),
)
PORTS = frozenset({65001, 7})
HOP = Hop("n1", End(Kind.PORT, "web1"), ())
PROBE = Probe(0, 2, {"eth_type": 0x0800}, FOUND, 0, PORTS, frozenset({ip_address("203.0.113.11")}), {})


def reading(*expected: Lookup, output: str = OUTPUT, **more: object) -> Reading:
    return read((output,), (replace(PROBE, lookups=expected, **more),), HOP, Names(world()))  # type: ignore[arg-type]


def test_what_is_read_is_of_the_bridge_that_it_came_in_by_until_conntrack_has_it() -> None:
    told = parse(OUTPUT)
    assert told.lookups == FOUND and told.outputs == PORTS and told.translations == PROBE.translations
    assert told.actions == ("ct(zone=2),recirc(0x6)",)
    assert told.after is not None
    assert (told.after["vlan_vid"], told.after["metadata"], told.after["reg5"], told.after["reg7"]) == (0x1066, 2, 2, 0)
    assert told.after["eth_src"] == 0xFA163EF77B1C and told.after["ip_src"] == int(ip_address("10.1.0.3"))
    nothing = parse("no switch says this")
    assert (nothing.lookups, nothing.outputs, nothing.after, nothing.actions) == ((), frozenset(), None, ())


def test_what_has_not_changed_is_what_it_was() -> None:
    unchanged = OUTPUT.partition("Final flow: ")[0] + "Final flow: unchanged"
    after = parse(unchanged).after
    assert after is not None and (after["vlan_vid"], after["eth_dst"], after["nw_ttl"]) == (0, 0x02544C000001, 64)


def test_what_each_is_called() -> None:
    told = reading(*FOUND)
    assert not told.difference and told.alike == len(told.steps) == len(FOUND)
    assert [step.rule for step in told.steps] == [
        "classify_port",
        "allow_ip",
        "teach",
        "egress_groups",
        MISS,
        LEARNED,
        OTHER,
    ]
    assert told.steps[0].table_name == "classify"
    assert told.steps[0].object is not None and told.steps[0].object.id == PORT.id
    assert rule_name(Lookup(0, COOKIE_ASKED)) == LEARNED and rule_name(Lookup(0, 0x54FFFFFF00000000)) == OTHER


def test_each_group_that_is_asked_has_its_own_name() -> None:
    """Two rules of one kind in one table: each is told by its own words, and none by the other's."""
    cloud = open_cloud()
    first, second = [rule for group in cloud.security_groups.values() for rule in group.rules][:2]
    asked = tuple(Lookup(58, cookie(Rule.EGRESS_RULE, rule.key), 100) for rule in (first, second))
    output = "\n".join(['bridge("br-int")', *(f"58. priority 100, cookie {one.cookie:#x}" for one in asked)])
    names = Names(cloud)
    steps = tuple(
        Step(58, "rules", "egress_rule", names.thing("security_rule", rule.key)[0], f"told of {rule.id}")
        for rule in (first, second)
    )
    hop = replace(HOP, steps=steps)
    probe = replace(PROBE, lookups=asked, outputs=frozenset())
    said = read((output,), (probe,), hop, names)
    assert [step.text for step in said.steps] == [f"told of {first.id}", f"told of {second.id}"]
    alone = read((output,), (probe,), replace(hop, steps=steps[:1]), names)
    assert alone.steps[0].text == f"told of {first.id}"
    stray = read((output,), (replace(probe, lookups=asked[:1]),), replace(hop, steps=steps[:1]), names)
    assert stray.steps[1].text != f"told of {first.id}", "one that should not be there is not called by another's name"


UNLEARNED = OUTPUT.replace(f"30. ip,reg5=0x2, priority 80, cookie {COOKIE_LEARNED:#x}", "30. No match.")


def test_what_the_switch_has_learned_is_its_own() -> None:
    """Behind that is a single node, maybe on another segment, in place of all nodes."""
    switched, elsewhere = Lookup(44, cookie(Rule.L2_UPLINK, 2), 10), Lookup(44, cookie(Rule.L2_UPLINK, 3), 200)
    said = f"44. priority 200, cookie {elsewhere.cookie:#x}\n            output:5\n    58. priority 7"
    learned, unlearned = (text.replace("58. priority 7", said) for text in (OUTPUT, UNLEARNED))
    to_one = (*FOUND[:6], elsewhere, FOUND[6])
    to_all = (*FOUND[:5], Lookup(30, None), switched, FOUND[6])
    for output, expected in ((learned, to_all), (unlearned, (*to_one[:6], switched, FOUND[6]))):
        assert not reading(*expected, output=output, after={"eth_dst": 7}).difference
    assert reading(*to_all, output=unlearned).difference == (
        "in table 44 (l2_forward) it meets l2_uplink (network blue2), and should meet l2_uplink (network blue): "
        "its flows are of another generation"
    )
    dropped = Lookup(44, cookie(Rule.DROP_UNKNOWN_UNICAST, 0), 5)
    missing = reading(*to_all[:6], dropped, FOUND[6], output=learned).difference
    assert "it meets l2_uplink" in missing and "and should meet drop_unknown_unicast" in missing
    assert reading(*(one for one in to_all if one is not switched), output=learned).difference
    before = Lookup(0, CLASSIFY, 99)
    assert (
        "of priority 100, and should meet that of priority 99"
        in reading(before, *to_all[1:], output=learned).difference
    )


def test_whether_a_vm_is_here_already_its_own_switch_knows() -> None:
    output = f"""\
bridge("br-int")
50. priority 80, cookie {COOKIE_LEARNED:#x}
52. priority 1, cookie {NETWORK:#x}
"""
    assert not reading(Lookup(Table.AWAKE, None), Lookup(7, REFUSED, 3), output=output, outputs=frozenset()).difference
    assert reading(Lookup(30, None), Lookup(7, REFUSED, 3), output=output.replace("50.", "30.")).difference


@pytest.mark.parametrize(
    ("expected", "alike", "said"),
    [
        (FOUND[:3], 3, "it comes to egress_groups (port web1) in table 18 (egress_policy), and should come no further"),
        ((*FOUND, Lookup(56, NETWORK, 1)), 7, "it comes no further, and should come to same_network"),
        (
            (*FOUND[:4], Lookup(57, NETWORK, 9), *FOUND[5:]),
            4,
            "it meets no flow, and should meet same_network (network blue): same_network is missing there",
        ),
        (
            (FOUND[0], Lookup(4, TEACH, 101)),
            1,
            "(port web1), and should meet teach (network blue): teach is missing there",
        ),
        (
            (FOUND[0], Lookup(4, TEACH, 9)),
            1,
            "and should meet teach (network blue): its flows are of another generation",
        ),
        ((FOUND[0], Lookup(4, None)), 1, "(port web1), and should meet no flow: its flows are of another generation"),
        (
            (*FOUND[:6], Lookup(58, NETWORK, 7)),
            6,
            "it meets not_ours, and should meet same_network (network blue): somebody",
        ),
    ],
)
def test_it_decides_otherwise(expected: tuple[Lookup, ...], alike: int, said: str) -> None:
    called = {"port web1": Names(world()).port(PORT), "network blue": Names(world()).thing("network", 2)[1]}
    for name, real in called.items():
        said = said.replace(name, real)
    told = reading(*expected)
    assert said in told.difference and told.alike == alike, told.difference


def test_who_drops_it_in_the_end_is_said() -> None:
    output = f"""\
bridge("br-int")
----------------
58. No match.
22. reg6=0x4, priority 100, cookie {REFUSED:#x}
    drop
"""
    told = reading(Lookup(58, NETWORK, 7), Lookup(22, GROUPS, 1), output=output)
    assert "same_network is missing there; in the end drop_egress (" in told.difference
    assert told.difference.endswith(" drops it")
    alone = reading(Lookup(22, GROUPS, 1), output=output.replace("58. No match.\n", ""))
    assert "in the end" not in alone.difference


def test_flows_of_another_generation_have_other_effects() -> None:
    plain = FOUND[:5]
    output = OUTPUT.partition("    resubmit(,30)")[0] + "Final flow: reg7=0x3,dl_vlan=102,dl_dst=02:00:00:00:00:01"

    def differs(**more: object) -> str:
        whole = {"translations": frozenset(), "after": {"reg7": 3, "vlan_vid": 0x1066, "eth_dst": 0x020000000001}}
        return reading(*plain, output=output, **(whole | more)).difference

    assert differs() == ""
    assert differs(outputs=frozenset({5})).endswith("they send it to 65001, 7, and should send it to 5")
    assert differs(outputs=frozenset()).endswith("and should send it to none")
    assert differs(after={"reg7": 4}).endswith("they make reg7 0x3, and should make it 0x4")
    assert differs(after={"vlan_vid": 0x1065}).endswith("they make vlan_vid 102, and should make it 101")
    assert differs(after={"vlan_vid": 0}).endswith("they make vlan_vid 102, and should make it none")
    assert differs(after={"eth_dst": 2}).endswith(
        "make eth_dst 02:00:00:00:00:01, and should make it 00:00:00:00:00:02"
    )
    other = reading(*FOUND, translations=frozenset({ip_address("203.0.113.12")})).difference
    assert other.endswith("they translate to 203.0.113.11, and should translate to 203.0.113.12")


def test_what_is_measured_goes_both_ways() -> None:
    told = reading(*FOUND[:2], *FOUND[5:], measured=2)
    assert not told.difference and [step.rule for step in told.steps] == ["classify_port", "allow_ip", LEARNED, OTHER]
    assert reading(*FOUND[:2], FOUND[5], measured=2).difference
    assert reading(*FOUND[:2], *FOUND, measured=2).difference


def test_behind_a_difference_no_more_is_read() -> None:
    told = read((OUTPUT, OUTPUT), (replace(PROBE, lookups=FOUND[:1]), PROBE), HOP, Names(world()))
    assert told.difference and len(told.steps) == len(FOUND) and len(told.actions) == 1
    told = read((OUTPUT, OUTPUT), (PROBE, replace(PROBE, lookups=FOUND[:1])), HOP, Names(world()))
    assert told.difference and told.alike == len(FOUND) + 1 and len(told.actions) == 2


def test_what_should_become_of_it() -> None:
    assert computed(replace(HOP, drop=Drop("drop_ingress", "", None))) == "dropped (drop_ingress)"
    assert computed(replace(HOP, out=(End(Kind.PORT, "b"), End(Kind.CONTROLLER, "controller")))) == (
        "out by b, out by controller"
    )


@pytest.mark.parametrize(
    "line", ["9" * 5000 + ". No match", "0. x, cookie 0x" + "f" * 5000, "0. " + ", cookie 0x" * 5000, " " * 50_000]
)
def test_what_a_hostile_node_says_is_read_all_the_same(line: str) -> None:
    found = parse(f'bridge("br-int")\n{line}\n 7. No match\n').lookups
    assert found[-1] == (7, None, 0) and len(found) <= 2
    assert all(rule_name(lookup) in (OTHER, MISS) for lookup in found)


def test_of_much_that_a_node_says_not_all_is_told_and_others_have_their_turn() -> None:
    turns: list[int] = []
    probe = replace(PROBE, lookups=FOUND[:1])
    said = 'bridge("br-int")\n' + " 7. No match.\n" * 10_000
    told = read((said,), (probe,), HOP, Names(world()), lambda: turns.append(0))
    assert told.difference and len(told.steps) == MOST_STEPS + 1
    assert len(turns) > MOST_STEPS + 10_000 // 200


@pytest.mark.parametrize(
    "said", ["\n" * 10_000, 'bridge("a")\n' + "x\n" * 10_000, 'bridge("a")\nbridge("b")' + "\n" * 10_000]
)
def test_others_have_their_turn_also_while_nothing_is_found(said: str) -> None:
    turns: list[int] = []
    assert not parse(said, lambda: turns.append(0)).lookups
    assert len(turns) >= said.count("\n") // 200 + 1


ENDS = (
    *("reg7=0x1ffffffff", "reg7=-1", "reg7=x", "reg7=" + "9" * 5000, "dl_vlan=99999", "dl_src=" + "f" * 5000),
    *("nw_src=::1", "nw_src=2001:db8::1", "nw_ttl=256", "=" * 50_000, "unchanged", ""),
)


@pytest.mark.parametrize("end", ENDS, ids=range(len(ENDS)))
def test_a_hostile_end_is_no_fault(end: str) -> None:
    after = {"reg7": 3, "eth_src": 1, "ip_src": 2, "vlan_vid": 0, "nw_ttl": 64}
    output = f'bridge("br-int")\nFinal flow: {end}\n'
    probe = replace(PROBE, lookups=(), outputs=frozenset(), after=after)
    said = read((output,), (probe,), HOP, Names(world())).difference
    assert said == "" or "another generation" in said


# what is asked


def followed(to: str) -> list[tuple[Probe, ...]]:
    """Of each hop there and back, from port 20 on node n1."""
    snapshot = open_cloud()
    sender = snapshot.ports["port-20"]
    target = aim(snapshot, snapshot.networks[sender.network_id], ip_address(to), TCP, 80)
    wanted = Request(sender, target, protocol=TCP, destination_port=80)
    trace = Explainer(snapshot, Names(snapshot)).explain(wanted)
    assert trace.reply is not None
    for way in (trace, trace.reply):
        assert [hop.node for hop in way.hops] == [passed.node for passed in way.passed]
    return [probes(passed) for way in (trace, trace.reply) for passed in way.passed]


def test_a_hop_is_asked_for_from_conntrack_to_conntrack() -> None:
    there, here, back, home = followed("10.21.0.11")
    assert [probe.table for probe in there] == [Table.CLASSIFY, Table.EGRESS_POLICY, Table.EGRESS_BEGUN]
    assert [probe.table for probe in here] == [Table.CLASSIFY, Table.INGRESS_POLICY]
    assert {probe.in_port for probe in there} == {120} and {probe.in_port for probe in here} == {65001}
    assert here[0].fields["vlan_vid"] and "ct_state" not in here[0].fields and "reg6" not in here[0].fields
    began = {"ct_nw_src": int(ip_address("10.20.0.10")), "ct_nw_dst": int(ip_address("10.21.0.11")), "ct_tp_dst": 80}
    for probe in (there[1], here[1], back[1], home[1]):
        assert began.items() <= probe.fields.items(), "also of the answer: how the connection has begun"
    assert here[1].fields["ct_state"] == CT_TRACKED | CT_NEW and here[1].fields["reg7"] == 31
    assert back[1].fields["ct_state"] == home[1].fields["ct_state"] == CT_TRACKED | CT_ESTABLISHED | CT_REPLY
    assert there[-1].outputs == {65001} and here[-1].outputs == {131}
    for hop in (there, here, back, home):
        assert all(probe.lookups[0].table == probe.table for probe in hop)


def test_what_is_translated_is_asked_for_as_it_is_then() -> None:
    there, back = followed("198.51.100.7")
    translating = next(probe for probe in there if probe.translations)
    behind = there[there.index(translating) + 1]
    assert {behind.fields["ip_src"]} == set(map(int, translating.translations))
    assert (
        back[0].fields["ip_dst"] == behind.fields["ip_src"] and back[-1].fields["ip_dst"] == there[0].fields["ip_src"]
    )


def test_of_what_goes_to_many_not_all_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_STRETCHES > 8
    monkeypatch.setattr("flows.explain.probe.MOST_STRETCHES", 2)
    assert [len(hop) for hop in followed("10.21.0.11")] == [2, 2, 2, 2]
