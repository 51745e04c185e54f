"""What became of a packet that has been followed one way: the verdict, and the sentence that says it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from flows.explain.following import Follower, Heard, Passed, nothing
from flows.explain.naming import Names
from flows.explain.request import Way, in_words, one_line
from flows.explain.target import Address, What
from flows.explain.trace import Trace, Verdict
from flows.explain.wording import Wording, dropped_by, ended
from flows.model import Port
from flows.packet import Packet
from flows.pipeline import SERVICE_OFPORT
from flows.rules import Rule

# handed to the controller beside what else happens to the packet
_BESIDE: Final = frozenset({Rule.LOG_EGRESS_ACCEPTED, Rule.LOG_INGRESS_ACCEPTED, Rule.PUNT_HOLDER, Rule.PUNT_ACTIVATE})

_MACS: Final = frozenset({"from_mac", "to_mac"})


@dataclass(frozen=True, slots=True)
class Received:
    """A packet at the interface of a port."""

    node: str
    ofport: int
    packet: Packet
    port: Port


@dataclass(frozen=True, slots=True)
class Leg:
    """One way of a packet. `expected`: the port that is to get it; None: whoever it may be."""

    names: Names
    follower: Follower
    expected: Port | None
    what: What
    turn: Callable[[], None] = nothing

    def trace(self, packet: Packet, way: Way, alias: Address | None = None) -> Trace:
        """`alias`: as what the asker knows the sender, of whom it may not know more."""
        verdict = self._verdict(way)
        wording = Wording(self.names, self.follower, self.turn)
        hops = tuple(wording.hop(passed) for passed in self.follower.passed)
        if alias is not None:
            packet = packet.but(**{"ip_src" if alias.version == 4 else "ipv6_src": int(alias)})
        words = {name: said for name, said in in_words(packet).items() if alias is None or name not in _MACS}
        said = f"{one_line(packet)}: {self._said(verdict, way, wording)}"
        return Trace(verdict, said, words, hops=hops, passed=tuple(self.follower.passed))

    def near(self) -> tuple[str, ...]:
        decisive = self._decisive()
        return () if decisive is None else Wording(self.names, self.follower, self.turn).drop(decisive)[1]

    def received(self) -> Received | None:
        """Who got it, the expected one first."""
        for node, ofport, packet in ((one.node, one.ofport, one.packet) for one in self.follower.delivered):
            port = self.names.snapshot.port_at(node, ofport)
            if port is not None and (self.expected is None or port.id == self.expected.id):
                return Received(node, ofport, packet, port)
        return None

    def left_by(self) -> Heard | None:
        return next((heard for heard in self.follower.heard if heard.machines), None)

    def _verdict(self, way: Way) -> Verdict:
        follower = self.follower
        first = follower.passed[0] if follower.passed else None
        received = self.received()
        if way is Way.ASKS:
            return Verdict.ANSWERED if first is not None and first.result.answers else self._unanswered()
        if received is not None and (self.expected is not None or self.what is What.MANY):
            return Verdict.DELIVERED
        if first is not None and (first.result.answers or self._to_relay()):
            return Verdict.ANSWERED
        if self.left_by() is not None and (self.expected is None or self._outside()):
            return Verdict.LEFT
        if received is not None:
            return Verdict.DELIVERED
        decisive = self._decisive()
        if decisive is not None and dropped_by(decisive) is not None:
            return Verdict.DROPPED
        punts = [punt for passed in follower.passed for punt in passed.result.punts]
        if any(punt.rule not in _BESIDE for punt in punts):
            return Verdict.CONTROLLER
        return Verdict.LOST

    def _unanswered(self) -> Verdict:
        first = self.follower.passed[0] if self.follower.passed else None
        return Verdict.DROPPED if first is not None and dropped_by(first) is not None else Verdict.LOST

    def _outside(self) -> bool:
        return self.what in (What.ELSEWHERE, What.OUTSIDE, What.ROUTED)

    def _to_relay(self) -> bool:
        return any(one.ofport == SERVICE_OFPORT for one in self.follower.delivered)

    def _decisive(self) -> Passed | None:
        """Where it ended: on the node of who was to get it, else where it was last seen."""
        where = None if self.expected is None or self.expected.binding is None else self.expected.binding.node
        found = [passed for passed in self.follower.passed if ended(passed)]
        # a frame for many may end in different ways: one that has a name says most
        found.sort(key=lambda passed: (passed.node == where, dropped_by(passed) is not None))
        return found[-1] if found else None

    def _said(self, verdict: Verdict, way: Way, wording: Wording) -> str:
        names = self.names
        match verdict:
            case Verdict.DELIVERED:
                received = self.received()
                assert received is not None
                hidden = names.nodes is not None and not names.sees_port(received.port)
                return f"delivered to {names.port(received.port)}" + (
                    "" if hidden else f" on {names.node(received.node)}"
                )
            case Verdict.ANSWERED:
                return f"answered by {names.node(self.follower.passed[0].node)} itself"
            case Verdict.LEFT:
                heard = self.left_by()
                assert heard is not None
                on = "" if heard.network is None else f" on {names.network(heard.network)}"
                by = f" by {names.node(heard.sender)}" if heard.sender else ""
                return f"left{by}{on} to the wire of {names.wire(heard.physical_network)}"
            case Verdict.CONTROLLER:
                passed = next(one for one in self.follower.passed if one.result.punts)
                step = wording.hop(passed).steps[-1]
                texts = [one.text for one in wording.hop(passed).steps if one.rule.startswith("punt")]
                return f"handed to the controller by {names.node(passed.node)}: {(texts or [step.text])[-1]}"
            case Verdict.DROPPED:
                decisive = self._decisive()
                assert decisive is not None
                drop, _ = wording.drop(decisive)
                looked = dropped_by(decisive)
                assert drop is not None and looked is not None
                table = looked.table
                return f"dropped on {names.node(decisive.node)} in table {table} ({drop.rule}): {drop.text}"
        if way is Way.ASKS:
            return "nobody that the cloud knows answers"
        decisive = self._decisive()
        drop = None if decisive is None else wording.drop(decisive)[0]
        if drop is not None:
            return f"lost: {drop.text}"
        return "lost: no node takes it from the wire"
