"""`flows.explain` finds what is wrong with each of many broken clouds, and says it by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import pytest

from flows.compile import compile_node
from flows.explain import findings, wording
from flows.explain.explain import Explainer
from flows.explain.naming import Names
from flows.explain.request import Request
from flows.explain.target import aim
from flows.explain.trace import Trace, Verdict
from flows.ir import Flow
from flows.scan import ScannedSwitch
from flows.simulate import Switch
from flows.snapshot import Snapshot
from tests.ipv6_world import ipv6_cloud
from tests.simulate.broken import (
    BLUE_2,
    BROKEN,
    DHCP,
    SERVER,
    TCP,
    WEB,
    Broken,
    explained,
    floating,
    forwarded,
    moving,
    open_cloud,
    routed_to,
    single_without_node,
)
from tests.simulate.cloud import Vm, ip
from tests.world import OPEN, cloud, egress, filtered, rule, security_group


def said(trace: Trace) -> str:
    return "\n".join([trace.summary, *(finding.text for finding in trace.findings)])


@pytest.mark.parametrize("it", BROKEN, ids=lambda it: it.cause)
def test_the_cause_is_named(it: Broken) -> None:
    trace = explained(it)
    text = said(trace)
    assert trace.verdict is it.verdict, text
    for words in it.words:
        assert words in text
    if it.node is not None:
        assert it.node in [hop.node for hop in trace.hops]
    if it.rule is None:
        return
    hops = [hop for hop in trace.hops if hop.node == it.node]
    if it.verdict is Verdict.DROPPED:
        drops = [hop.drop for hop in hops if hop.drop is not None]
        assert [(drop.rule, drop.object and (drop.object.kind, drop.object.name)) for drop in drops] == [
            (it.rule, it.thing)
        ]
        assert it.rule in trace.summary and f"on {it.node}" in trace.summary
        return
    steps = [step for hop in hops for step in hop.steps if step.rule == it.rule]
    assert steps, [step.rule for hop in hops for step in hop.steps]
    assert (steps[-1].object and (steps[-1].object.kind, steps[-1].object.name)) == it.thing
    if it.thing is not None:
        assert it.thing[1] in steps[-1].text


def test_there_are_enough_of_them() -> None:
    assert len({it.cause for it in BROKEN}) == len(BROKEN) >= 30


def ask(cause: str, project: str | None = None) -> Trace:
    return explained(next(it for it in BROKEN if it.cause == cause), project)


def test_a_project_is_not_told_of_another_ones_objects() -> None:
    cause = "a shared network, and the other project lets nobody in"
    own, other = ask(cause, "blue"), ask(cause, "red")
    assert own.verdict is other.verdict is Verdict.DROPPED
    assert "secret" in str(other) and "hidden" in str(other)
    for hidden in ("secret", "hidden", "port-11", "group-2", "tcp 22", "n2", "physnet1"):
        assert hidden not in str(own), hidden
    assert "a port of another project" in own.summary


def test_the_answer_is_followed_too() -> None:
    """Both ways are allowed by what lets the connection begin, but the sender must be able to get the answer."""
    snapshot = filtered(cloud(), OPEN)
    there = replace(security_group(2, egress(3, TCP, 443), rule(4), stateful=False), project_id="blue")
    snapshot = filtered(snapshot, there, members=(31,))
    sender = snapshot.ports["port-20"]
    target = aim(snapshot, snapshot.networks["net-blue"], IPv4Address("10.21.0.11"))
    wanted = Request(sender, target, protocol=TCP, destination_port=80)
    trace = Explainer(snapshot, Names(snapshot)).explain(wanted)
    assert trace.verdict is Verdict.DELIVERED and trace.reply is not None
    assert trace.reply.verdict is Verdict.DROPPED
    assert "but an answer does not get back" in trace.summary and "do not let out tcp port 40000" in trace.summary
    assert Explainer(snapshot, Names(snapshot)).explain(wanted, reply=False).reply is None


def test_of_a_packet_for_many_not_all_is_told_and_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = cloud()
    target = aim(snapshot, snapshot.networks["net-blue"], IPv4Address("255.255.255.255"))
    wanted = Request(snapshot.ports["port-20"], target, protocol=17, destination_port=9)
    whole = Explainer(snapshot, Names(snapshot)).explain(wanted)
    most = 4
    assert max(len(hop.steps) for hop in whole.hops) > most and "more lookups" not in str(whole.findings)
    for module in (wording, findings):
        monkeypatch.setattr(module, "MOST_STEPS", most)
    turns: list[int] = []
    told = Explainer(snapshot, Names(snapshot), turn=lambda: turns.append(0)).explain(wanted)
    assert all(len(hop.steps) <= most for hop in told.hops) and "more lookups" in str(told.findings)
    assert told.summary == whole.summary
    assert [(hop.steps[0], hop.steps[-1]) for hop in told.hops] == [(hop.steps[0], hop.steps[-1]) for hop in whole.hops]
    assert len(turns) > sum(len(hop.steps) for hop in whole.hops) + sum(len(hop.steps) for hop in told.hops)


def test_the_rule_that_decides_is_named_and_not_the_first_with_its_remote() -> None:
    snapshot = filtered(cloud(), security_group(1, egress(1), rule(2, TCP, 22), rule(3, TCP, 80)))
    target = aim(snapshot, snapshot.networks["net-blue"], IPv4Address("10.21.0.11"))
    wanted = Request(snapshot.ports["port-20"], target, protocol=TCP, destination_port=80)
    trace = Explainer(snapshot, Names(snapshot)).explain(wanted)
    assert trace.verdict is Verdict.DELIVERED and trace.reply is not None
    for way in (trace, trace.reply):
        named = [step.object for hop in way.hops for step in hop.steps if step.rule == "ingress_rule"]
        assert [one and one.id for one in named] == ["rule-3"]


@pytest.mark.parametrize("it", BROKEN, ids=lambda it: it.cause)
def test_looking_through_flows_finds_what_an_index_finds(it: Broken) -> None:
    snapshot = it.snapshot()
    vm = snapshot.ports["port-20"]
    assert vm.binding is None or vm.binding.node == "n1"
    flows = list(compile_node(snapshot, "n1").flows())
    indexed, scanned = Switch(flows), ScannedSwitch(flows)
    for key in (20, 10, 40):
        for to in ("10.21.0.11", "10.20.0.1", SERVER, "10.20.0.11"):
            sent = Vm(key, "n1", 100 + key, 0xFA163E000000 | key, ip(f"10.{key}.0.10"), "").udp(ip(to), port=80)
            assert scanned.receive(sent, 100 + key) == indexed.receive(sent, 100 + key)


ADDRESSES = (
    *("10.20.0.10", "10.20.0.11", "10.21.0.11", "10.10.0.11", "10.20.0.1", "10.20.0.255", "10.20.0.99", "10.60.0.1"),
    *("203.0.113.1", "203.0.113.11", "203.0.113.12", "203.0.113.101", "203.0.113.77", "198.51.100.7", "127.0.0.1"),
    *("0.0.0.0", "255.255.255.255", "224.0.0.5", "169.254.169.254", "169.254.169.253", "100.64.0.20"),
    *("2001:db8:20:0:f816:3eff:fe00:15", "2001:db8:21::5", "2001:db8:20::1", "2001:db8:f::7", "fe80::54:4cff:fe00:1"),
    *("ff02::1", "fe80::1", "::", "fe80::a9fe:a9fe", "2001:db8:ff::1"),
)
OUTSIDERS = {4: ip_address("198.51.100.9"), 6: ip_address("2001:db8:f::9")}
CLOUDS = (open_cloud, lambda: ipv6_cloud(floating(21)), forwarded, single_without_node, moving)


@pytest.mark.parametrize("made", CLOUDS, ids=["open", "ipv6", "forwarded", "single", "moving"])
def test_whatever_is_asked_is_answered(made: Callable[[], Snapshot]) -> None:
    snapshot = made()
    flows = {node: list(compile_node(snapshot, node).flows()) for node in snapshot.nodes}
    for project in (None, "blue"):
        explainer = Explainer(snapshot, Names(snapshot, project), flows_of=flows.__getitem__)
        for sender in (snapshot.ports["port-20"], snapshot.ports["port-11"], None):
            network = None if sender is None else snapshot.networks[sender.network_id]
            for text in ADDRESSES:
                address = ip_address(text)
                source = (
                    None
                    if sender is not None
                    else ip_address("198.51.100.9" if address.version == 4 else "2001:db8:f::9")
                )
                for protocol, port in ((None, None), (TCP, 80), (17, 53), (17, 67), (17, 547), (47, None)):
                    target = aim(snapshot, network, address, protocol or 0, port or 0)
                    asked = Request(sender, target, source, protocol=protocol, destination_port=port)
                    trace = explainer.explain(asked)
                    assert trace.summary and (trace.hops or trace.verdict is Verdict.LOST)


def test_the_documents_have_all_causes() -> None:
    text = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text()
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in text.splitlines() if line.startswith("| ")}
    for it in BROKEN:
        assert it.cause in rows
        assert f"| {it.verdict.value}" in rows[it.cause]
        if it.rule is not None and it.verdict in (Verdict.DROPPED, Verdict.CONTROLLER):
            assert f"`{it.rule}`" in rows[it.cause]


def test_only_the_nodes_on_the_way_are_looked_at() -> None:
    snapshot = open_cloud()
    asked: list[str] = []
    turns: list[int] = []

    def flows_of(node: str) -> Iterable[Flow]:
        asked.append(node)
        return compile_node(snapshot, node).flows()

    target = aim(snapshot, snapshot.networks["net-blue"], IPv4Address("10.21.0.11"))
    explainer = Explainer(snapshot, Names(snapshot), flows_of=flows_of, turn=lambda: turns.append(1))
    trace = explainer.explain(Request(snapshot.ports["port-20"], target))
    assert trace.reply is not None and trace.reply.verdict is Verdict.DELIVERED
    assert asked == ["n1", "n2"]
    lookups = sum(len(hop.steps) for way in (trace, trace.reply) for hop in way.hops)
    assert len(turns) >= lookups


WORKS = (
    (lambda: floating(21), 10, "203.0.113.101", {}, Verdict.DELIVERED, "learned_neighbour", ["n1", "n2"]),
    (lambda: floating(21), 20, "203.0.113.101", {}, Verdict.DELIVERED, "floating_in", ["n1", "n2"]),
    (lambda: floating(20), 10, "203.0.113.101", {}, Verdict.DELIVERED, "floating_hairpin", ["n1"]),
    (forwarded, "198.51.100.9", "203.0.113.101", WEB, Verdict.DELIVERED, "forwarding_in", ["n2"]),
    (open_cloud, 20, SERVER, WEB, Verdict.LEFT, "snat", ["n1"]),
    (open_cloud, 20, "10.20.0.2", {}, Verdict.ANSWERED, "gateway_echo", ["n1"]),
    (open_cloud, 20, "255.255.255.255", DHCP, Verdict.CONTROLLER, "punt_dhcp", ["n1"]),
    (open_cloud, 20, "10.20.0.1", {"protocol": 17, "destination_port": 53}, Verdict.CONTROLLER, "punt_dns", ["n1"]),
    (open_cloud, 20, "169.254.169.254", WEB, Verdict.ANSWERED, "to_metadata", ["n1"]),
    (single_without_node, 20, SERVER, {}, Verdict.LEFT, "gateway_node_in", ["n1", "n3"]),
    (lambda: routed_to(BLUE_2), 20, "10.60.0.1", {}, Verdict.DELIVERED, "route_static", ["n1", "n2"]),
)


@pytest.mark.parametrize(("snapshot", "sender", "to", "question", "verdict", "rule", "nodes"), WORKS)
def test_what_works_is_followed_to_its_end(
    snapshot: Callable[[], Snapshot],
    sender: int | str,
    to: str,
    question: dict[str, int],
    verdict: Verdict,
    rule: str,
    nodes: list[str],
) -> None:
    trace = explained(Broken("", snapshot, sender, to, verdict, ask=question))
    assert (trace.verdict, [hop.node for hop in trace.hops]) == (verdict, nodes), said(trace)
    assert rule in [step.rule for hop in trace.hops for step in hop.steps]
    if verdict in (Verdict.DELIVERED, Verdict.LEFT):
        assert trace.reply is not None
        back = Verdict.LEFT if isinstance(sender, str) else Verdict.DELIVERED
        assert trace.reply.verdict is back, said(trace.reply)
