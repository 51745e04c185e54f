"""What `ofproto/trace` says, as it is read: Open vSwitch 3.5's own words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.explain.live import LEARNED, MISS, OTHER, Reading, lookups, read, rule_name
from flows.explain.naming import Names
from flows.explain.trace import End, Hop, Kind, Launch, Step, Trace, Verdict
from flows.rules import COOKIE_ASKED, COOKIE_LEARNED, Rule, cookie
from tests.simulate.broken import open_cloud
from tests.simulate.cloud import world

PORT = next(iter(world().ports.values()))
CLASSIFY, SECURITY = cookie(Rule.CLASSIFY_PORT, PORT.key), cookie(Rule.ALLOW_IP, PORT.key)
DONE, GROUPS, NETWORK = (
    cookie(Rule.SERVICES_DONE, 0),
    cookie(Rule.EGRESS_GROUPS, PORT.key),
    cookie(Rule.SAME_NETWORK, 2),
)
OUTPUT = f"""\
Flow: icmp,in_port=2,vlan_tci=0x0000,dl_src=fa:16:3e:f7:7b:1c,nw_src=10.1.0.3,nw_dst=10.1.0.2,icmp_type=8

bridge("br-int")
----------------
 0. in_port=2,vlan_tci=0x0000/0x1fff, priority 100, cookie {CLASSIFY:#x}
    set_field:0x2->metadata
    goto_table:4
 4. ip,reg6=0x4,nw_src=10.1.0.3, priority 100, cookie {SECURITY:#x}
    goto_table:12
12. priority 0, cookie {DONE:#x}
    ct(table=18,zone=NXM_NX_REG8[0..15])
    drop
     -> A clone of the packet is forked to recirculate. The forked pipeline will be resumed at table 18.

Final flow: icmp,in_port=2
Megaflow: recirc_id=0,eth,icmp,in_port=2
Datapath actions: ct(zone=2),recirc(0x6)

===============================================================================
recirc(0x6) - resume conntrack with default ct_state=trk|new (use --ct-next to customize)
===============================================================================

Flow: recirc_id=0x6,ct_state=new|trk,ct_zone=2,eth,icmp

bridge("br-int")
----------------
    thaw
        Resuming from table 18
18. reg6=0x4, priority 100, cookie {GROUPS:#x}
    resubmit(,57)
    57. No match.
            drop
    resubmit(,30)
    30. ip,reg5=0x2, priority 80, cookie {COOKIE_LEARNED:#x}
            set_field:7->reg7
    58. priority 7
            output:65001

bridge("br-physnet1")
---------------------
 0. priority 0
    NORMAL
     -> forwarding to learned port
56. No match.

Final flow: recirc_id=0x6,eth,icmp
Datapath actions: push_vlan(vid=101,pcp=0),5
"""
FOUND = ((0, CLASSIFY), (4, SECURITY), (12, DONE), (18, GROUPS), (57, None), (30, COOKIE_LEARNED), (58, 0))
FIELDS = {"eth_type": 0x0800}


def reading(*expected: tuple[int, int | None], measured: int = 0, of: int | None = None) -> Reading:
    launch = Launch("n1", 2, FIELDS, expected, measured, frozenset() if of is None else frozenset({of}))
    return read(OUTPUT, Trace(Verdict.DELIVERED, "", {}), launch, Names(world()))


def test_lookups_are_those_of_the_bridge_that_it_came_in_by() -> None:
    assert lookups(OUTPUT) == FOUND
    assert lookups("no switch says this") == ()
    back = OUTPUT.replace("56. No match.", f"56. priority 1, cookie {NETWORK:#x}")
    assert lookups(back) == (*FOUND, (56, NETWORK)), "a flow of ours is one in br-int again"


def test_what_each_is_called() -> None:
    told = reading(*FOUND)
    assert [step.rule for step in told.steps] == [
        "classify_port",
        "allow_ip",
        "services_done",
        "egress_groups",
        MISS,
        LEARNED,
        OTHER,
    ]
    assert told.steps[0].table_name == "classify"
    assert told.steps[0].object is not None and told.steps[0].object.id == PORT.id
    assert told.actions == ("ct(zone=2),recirc(0x6)", "push_vlan(vid=101,pcp=0),5")
    assert rule_name(COOKIE_ASKED) == LEARNED and rule_name(0x54FFFFFF00000000) == OTHER


def test_each_group_that_is_asked_has_its_own_name() -> None:
    """Two rules of one kind in one table: each is told by its own words, and none by the other's."""
    cloud = open_cloud()
    first, second = [rule for group in cloud.security_groups.values() for rule in group.rules][:2]
    asked = tuple((58, cookie(Rule.EGRESS_RULE, rule.key)) for rule in (first, second))
    output = "\n".join(['bridge("br-int")', *(f"58. priority 100, cookie {value:#x}" for _, value in asked)])
    names = Names(cloud)
    steps = tuple(
        Step(58, "rules", "egress_rule", names.thing("security_rule", rule.key)[0], f"told of {rule.id}")
        for rule in (first, second)
    )
    hop = Hop("n1", End(Kind.PORT, "web1"), steps, (), None)
    launch = Launch("n1", 2, FIELDS, asked, 0, frozenset())
    said = read(output, Trace(Verdict.DELIVERED, "", {}, hops=(hop,)), launch, names)
    assert [step.text for step in said.steps] == [f"told of {first.id}", f"told of {second.id}"]
    alone = read(output, Trace(Verdict.DELIVERED, "", {}, hops=(replace(hop, steps=steps[:1]),)), launch, names)
    assert alone.steps[0].text == f"told of {first.id}"
    other = replace(launch, lookups=asked[:1])
    stray = read(output, Trace(Verdict.DELIVERED, "", {}, hops=(replace(hop, steps=steps[:1]),)), other, names)
    assert stray.steps[1].text != f"told of {first.id}", "one that should not be there is not called by another's name"


def test_it_agrees() -> None:
    assert reading(*FOUND).agrees is True
    assert reading(*FOUND[:5], (30, None), FOUND[6]).agrees is True, "what is learned is the switch's own"


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        (FOUND[:3], "there it comes to egress_groups in table 18 (egress_policy)"),
        ((*FOUND, (56, NETWORK)), "it comes no further"),
        ((FOUND[0], (4, None)), "there it comes to allow_ip in table 4 (port_security), by the flows"),
        ((*FOUND[:6], (58, NETWORK)), "not_ours in table 58 (rules), by the flows that it should have"),
    ],
)
def test_it_decides_otherwise(expected: tuple[tuple[int, int | None], ...], said: str) -> None:
    told = reading(*expected)
    assert told.agrees is False and said in told.difference, told.difference


def test_a_trace_does_not_know_how_a_connection_began() -> None:
    told = reading(*FOUND[:6], (58, NETWORK), of=6)
    assert told.agrees is None and told.blind == "from table 58 (rules) on"
    assert len(told.steps) == 6
    assert reading(*FOUND[:5], (30, 7), FOUND[6], of=6).agrees is False, "it differed before"


def test_what_is_measured_goes_both_ways() -> None:
    assert reading(*FOUND[:3], *FOUND[5:], measured=3).agrees is True
    assert reading(*FOUND[:3], FOUND[5], measured=3).agrees is False


@pytest.mark.parametrize(
    "line", ["9" * 5000 + ". No match", "0. x, cookie 0x" + "f" * 5000, "0. " + ", cookie 0x" * 5000, " " * 50_000]
)
def test_what_a_hostile_node_says_is_read_all_the_same(line: str) -> None:
    found = lookups(f'bridge("br-int")\n{line}\n 7. No match\n')
    assert found[-1] == (7, None) and len(found) <= 2
    assert all(rule_name(cookie) in (OTHER, MISS) for _, cookie in found)
