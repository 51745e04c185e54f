"""From a request to a trace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from itertools import chain

from flows.compile import compile_node
from flows.explain.conditions import FINE, Conditions
from flows.explain.findings import Scene, worst_first
from flows.explain.following import Follower
from flows.explain.leg import Leg
from flows.explain.naming import Names
from flows.explain.request import (
    Request,
    Start,
    Way,
    answered_by,
    from_outside,
    from_port,
    own_address,
    protocol_of,
    replied,
)
from flows.explain.target import Address, What
from flows.explain.trace import Finding, Severity, Trace, Verdict
from flows.features.mute import MUTABLE, muted
from flows.ir import Flow
from flows.model import Port
from flows.pipeline import node_mac
from flows.protocols import PROTOCOL_NAMES
from flows.scan import ScannedSwitch
from flows.snapshot import Snapshot
from flows.turns import no_turn


@dataclass(frozen=True, slots=True)
class Explainer:
    """`flows_of` gives what a node should hold, by its name; without it, that is compiled for each node on the way.

    `turn` is called every few milliseconds: who has others to serve serves them then.
    """

    snapshot: Snapshot
    names: Names
    conditions: Conditions = FINE
    flows_of: Callable[[str], Iterable[Flow]] | None = None
    turn: Callable[[], None] = no_turn

    def explain(self, request: Request, *, reply: bool = True) -> Trace:
        """Follows the packet, and the answer of who gets it."""
        scene = Scene(self.snapshot, self.names, self.conditions, request)
        sender = request.port
        start = from_outside(self.snapshot, request) if sender is None else from_port(self.snapshot, request)
        if start is None:
            return self._never_sent(request, scene)
        follower = self._follower(request, start)
        if start.node is not None:
            follower.send(start.node, start.ofport, start.packet)
        else:
            assert start.physical_network is not None
            follower.send_from(start.physical_network, start.packet)
        leg = Leg(self.names, follower, request.target.port, request.target.what, self.turn)
        trace = leg.trace(start.packet, start.way)
        answered = None
        if reply and trace.verdict in (Verdict.DELIVERED, Verdict.LEFT):
            answered = self._reply(follower, sender, leg, request.target.address)
        near = (Finding(Severity.WARNING, text) for text in leg.near())
        findings = worst_first((*near, *scene.findings(start, follower)))
        return replace(trace, summary=_summed_up(trace, answered, findings), findings=findings, reply=answered)

    def _never_sent(self, request: Request, scene: Scene) -> Trace:
        target = request.target.address
        source = request.from_address
        if source is None and request.port is not None:
            network = self.snapshot.networks[request.port.network_id]
            source = own_address(request.port, network, request.target)
        number = protocol_of(request)
        packet: dict[str, str | int] = {"protocol": PROTOCOL_NAMES.get(number, str(number)), "to": str(target)}
        if source is not None:
            packet["from"] = str(source)
        findings = worst_first(scene.findings(None, None))
        trace = Trace(Verdict.LOST, f"{packet['protocol']} to {target}: never sent", packet, findings)
        if request.port is None:
            trace = replace(trace, summary=f"{packet['protocol']} {source} to {target}: nobody answers for {target}")
        return replace(trace, summary=_summed_up(trace, None, findings))

    def _follower(self, request: Request, start: Start) -> Follower:
        receiver = request.target.port
        near = None if receiver is None or receiver.binding is None else receiver.binding.node
        follower = Follower(self.snapshot, _Switches(self, request).of, near)
        target = request.target
        known = self.snapshot.nodes.get(target.node or "")
        # who answers for an address outside has been heard by whoever sends there
        outside = target.network is not None and target.network.external
        if known is not None and target.network is not None and outside and isinstance(target.address, IPv4Address):
            for name in self.snapshot.nodes:
                if name != known.name:
                    follower.know(name, target.network, target.address, node_mac(known.key))
        return follower

    def _reply(self, follower: Follower, sender: Port | None, leg: Leg, asked: Address) -> Trace | None:
        back = follower.again()
        alias: Address | None = None
        received = leg.received()
        if received is not None:
            answer = answered_by(self.snapshot, received.port, received.packet)
            if answer is None:
                return None
            back.send(received.node, received.ofport, answer)
            alias = None if self.names.sees_port(received.port) else asked
        else:
            heard = leg.left_by()
            answer = None if heard is None else replied(heard.packet)
            if heard is None or answer is None:
                return None
            back.send_from(heard.physical_network, answer)
        return Leg(self.names, back, sender, What.PORT if sender is not None else What.OUTSIDE, self.turn).trace(
            answer, Way.DIRECT, alias
        )


@dataclass(slots=True)
class _Switches:
    """Each node's is made when the packet comes there, with what the controller has had it drop for a while."""

    explainer: Explainer
    request: Request
    made: dict[str, ScannedSwitch] = field(default_factory=dict)

    def of(self, node: str) -> ScannedSwitch:
        if node not in self.made:
            given, turn = self.explainer.flows_of, self.explainer.turn
            flows = compile_node(self.explainer.snapshot, node).flows() if given is None else given(node)
            turn()
            self.made[node] = ScannedSwitch(chain(flows, self._muted(node)), turn)
        return self.made[node]

    def _muted(self, node: str) -> Iterator[Flow]:
        port = self.request.port
        if port is None or port.binding is None or port.binding.node != node:
            return
        names = self.explainer.conditions.port(port).muted
        for rule in MUTABLE:
            flow = muted(rule, port.key) if rule.name.lower() in names else None
            if flow is not None:
                yield flow


def _summed_up(trace: Trace, reply: Trace | None, findings: tuple[Finding, ...]) -> str:
    said = trace.summary
    worst = next((one for one in findings if one.severity is Severity.ERROR), None)
    if worst is not None and trace.verdict is Verdict.LOST:
        return f"{said}: {worst.text}"
    if worst is not None and trace.verdict is Verdict.LEFT:
        return f"{said}, but {worst.text}"
    if reply is not None and not reply.verdict.arrived:
        return f"{said}; but an answer does not get back ({reply.summary})"
    if reply is not None:
        said += "; an answer gets back" if trace.verdict is Verdict.DELIVERED else "; an answer from there gets back"
    return said
