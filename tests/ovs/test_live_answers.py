"""What a real Open vSwitch says of a packet's way is what was computed; what is missing or another is noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest

from agent.ofproto_trace import command_of
from flows.compile import compile_node
from flows.conntrack import Conntrack
from flows.explain.following import Passed
from flows.explain.live import read
from flows.explain.naming import Names
from flows.explain.probe import probes
from flows.explain.request import replied
from flows.explain.trace import End, Hop, Kind
from flows.ir import Flow, Output, SetField
from flows.packet import Packet
from flows.simulate import Result, State, Switch
from flows.snapshot import Snapshot
from tests.ovs.pair import LOCAL, NODE, OFPORTS
from tests.ovs.real_switch import RealSwitch
from tests.ovs.test_ipv6_agrees import FEATURES as FEATURES_OF_IPV6
from tests.ovs.test_simulator_agrees import BLUE_TAG, FEATURES
from tests.simulate.broken import floating, forwarded, open_cloud
from tests.simulate.cloud import BLUE2_2, BLUE_1, BLUE_2, EXTERNAL_UPLINK, FLAT_1, SERVER, UPLINK, world
from tests.simulate.ipv6 import world6

HOP = Hop(NODE, End(Kind.PORT, ""), ())


def asked(real: RealSwitch, names: Names, passed: Passed) -> str:
    """The difference that is told of."""
    of_hop = probes(passed)
    starts = [{"in_port": it.in_port, "table": it.table, "fields": dict(it.fields)} for it in of_hop]
    return read([real.command(*command_of("br-int", start)) for start in starts], of_hop, HOP, names).difference


CLOUDS = (
    (world, FEATURES),
    (open_cloud, FEATURES),
    (lambda: floating(20), FEATURES),
    (forwarded, FEATURES),
    (world6, FEATURES_OF_IPV6),
)


@pytest.mark.parametrize(("made", "features"), CLOUDS, ids=["plain", "filtered", "floating", "forwarded", "ipv6"])
def test_it_says_what_was_computed(
    made: Callable[[], Snapshot], features: Mapping[str, Sequence[tuple[Packet, int]]]
) -> None:
    snapshot = made()
    names, flows = Names(snapshot), list(compile_node(snapshot, NODE).flows())
    simulated, state, answers = Switch(flows), State(Conntrack(userspace=True)), 0
    with RealSwitch.running(OFPORTS, flows) as real:
        for sent, in_port in (one for frames in features.values() for one in frames if _traceable(one[0])):
            result = simulated.receive(sent, in_port, state)
            assert asked(real, names, Passed(NODE, in_port, sent, result)) == "", sent
            # what is learned there is no packet's that is only asked for
            state = State(result.state.conntrack)
            for port, out in result.outputs:
                if port in (UPLINK, EXTERNAL_UPLINK) and (back := replied(out)) is not None:
                    answered = Passed(NODE, port, back, simulated.receive(back, port, state))
                    assert asked(real, names, answered) == "", back
                    answers += 1
    assert answers > 4


def _traceable(sent: Packet) -> bool:
    """Conntrack puts fragments together."""
    return not sent.get("ip_frag")


@pytest.fixture(scope="module")
def real() -> Iterator[RealSwitch]:
    with RealSwitch.running(OFPORTS, compile_node(open_cloud(), NODE).flows()) as switch:
        yield switch


WAYS: dict[str, tuple[Packet, int]] = {
    "to the wire": (BLUE_1.udp(BLUE_2.ip, BLUE_2.mac), BLUE_1.ofport),
    "routed": (BLUE_1.udp(BLUE2_2.ip), BLUE_1.ofport),
    "out": (BLUE_1.udp(SERVER), BLUE_1.ofport),
    "from the wire": (BLUE_2.udp(BLUE_1.ip, BLUE_1.mac, vlan_vid=BLUE_TAG), UPLINK),
    "on the node": (FLAT_1.udp(LOCAL[1].ip, LOCAL[1].mac), FLAT_1.ofport),
}


@pytest.mark.parametrize("way", WAYS)
def test_each_flow_that_is_missing_or_another_is_noticed(real: RealSwitch, way: str) -> None:
    snapshot, (sent, in_port) = open_cloud(), WAYS[way]
    names, flows = Names(snapshot), list(compile_node(snapshot, NODE).flows())
    result = Switch(flows).receive(sent, in_port, State(Conntrack(userspace=True)))
    passed = Passed(NODE, in_port, sent, result)
    assert result.outputs and asked(real, names, passed) == ""
    met = dict.fromkeys(step.flow for step in result.steps if step.flow is not None)
    assert len(met) > 8
    changed = 0
    for flow in met:
        with _changed(real, flow, None):
            assert "missing" in asked(real, names, passed), flow
        for other in _other_actions(flow):
            instead = Switch([other if it == flow else it for it in flows]).receive(sent, in_port)
            if (instead.outputs, _cookies(instead)) == (result.outputs, _cookies(result)):
                continue  # it makes no difference to this packet
            changed += 1
            with _changed(real, flow, other):
                assert asked(real, names, passed), (flow, other)
    assert changed > 5
    assert asked(real, names, passed) == ""


@contextmanager
def _changed(real: RealSwitch, flow: Flow, other: Flow | None) -> Iterator[None]:
    instead = [] if other is None else [other]
    real.replace([flow], instead)
    try:
        yield
    finally:
        real.replace(instead, [flow])


def _cookies(result: Result) -> list[int | None]:
    return [None if step.flow is None else step.flow.cookie for step in result.steps]


def _other_actions(flow: Flow) -> Iterator[Flow]:
    """The same flow with one port, or one value that it sets, changed."""
    for index, action in enumerate(flow.actions):
        match action:
            case Output(port=port):
                other: Output | SetField = Output(port ^ 1)
            case SetField(field=name, value=value) if name.startswith(("reg", "metadata", "eth_", "ip_", "vlan_vid")):
                other = SetField(name, value ^ 1)
            case _:
                continue
        yield replace(flow, actions=(*flow.actions[:index], other, *flow.actions[index + 1 :]))
