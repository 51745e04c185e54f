"""From what the simulated switches did to hops in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from flows.explain.following import MOST_STEPS, Follower, Passed, nothing
from flows.explain.naming import Names
from flows.explain.policy_words import deciding, refused
from flows.explain.request import ECHOES, ends_of, turned_ports
from flows.explain.trace import Drop, End, Hop, Kind, Object, Step
from flows.explain.words import LOGGED_DROPS, REASONS, sentence, table_name
from flows.ir import Ct, Output
from flows.model import Direction, Port, SecurityRule
from flows.packet import Packet
from flows.pipeline import SERVICE_OFPORT
from flows.protocols import ETH_ARP, ETH_IP, ETH_IPV6
from flows.rules import Rule
from flows.simulate import Reason
from flows.simulate import Step as Looked
from flows.view import mac_text

RELAY: Final = End(Kind.PORT, "tl-service")
"""The interface of the node's relay for metadata and DNS over TCP."""

_ASKED = {Rule.EGRESS_RULE, Rule.INGRESS_RULE}
_ANSWERS = {Rule.EGRESS_ANSWERS, Rule.INGRESS_ANSWERS}


def dropped_by(passed: Passed) -> Looked | None:
    """The lookup that dropped a packet in the name of a rule."""
    result = passed.result
    last = result.steps[-1]
    if passed.outputs:
        return None
    if last.rule in LOGGED_DROPS or (last.rule is not None and last.rule.drop):
        return last
    if result.drop is None or result.drop.rule is None or result.drop.reason is not Reason.RULE:
        return None
    found = [step for step in result.steps if (step.rule, step.key) == (result.drop.rule, result.drop.key)]
    return found[-1] if found else None


def ended(passed: Passed) -> bool:
    """Nothing but what the controller is told has come of it."""
    return not passed.outputs and (not passed.result.punts or dropped_by(passed) is not None)


def as_seen(passed: Passed) -> Packet:
    """A packet as whoever it is for would see it: translated where the node has translated it."""
    if passed.outputs:
        return passed.outputs[-1].packet
    seen = passed.packet
    for step in passed.result.steps:
        for action in () if step.flow is None else step.flow.actions:
            if isinstance(action, Ct) and action.nat is not None and action.nat.family == seen["eth_type"]:
                v4 = action.nat.family == ETH_IP
                end = ("ip_dst" if v4 else "ipv6_dst") if action.nat.destination else ("ip_src" if v4 else "ipv6_src")
                seen = seen.but(**{end: action.nat.address})
                ports = action.nat.ports
                for name in ("tcp_dst", "udp_dst"):
                    if action.nat.destination and ports is not None and name in seen:
                        seen = seen.but(**{name: ports[0]})
    return seen


def _began(seen: Packet) -> Packet:
    """The packet that an answer answers, as far as rules look at it."""
    turned = turned_ports(seen)
    for name, asked, answer in ECHOES:
        if seen.get(name) == answer:
            turned[name] = asked
    return seen.but(**turned)


def _skipped(passed: Passed, looked: Looked) -> bool:
    """Open vSwitch sends nothing back to where it came from, unless it is told to."""
    out = [action.port for action in looked.flow.actions if isinstance(action, Output)] if looked.flow else []
    return bool(out) and out[0] == passed.in_port and all(sent.port != out[0] for sent in passed.outputs)


@dataclass(frozen=True, slots=True)
class Wording:
    """`hop` says what a node did, `drop` why nothing left it, `near` what comes near to letting it through."""

    names: Names
    follower: Follower
    turn: Callable[[], None] = nothing

    def hop(self, passed: Passed) -> Hop:
        return Hop(
            self.names.node(passed.node),
            self._came_in(passed),
            tuple(self._steps(passed)),
            tuple(dict.fromkeys(self._out(passed))),
            self.drop(passed)[0],
        )

    def _came_in(self, passed: Passed) -> End:
        physical_network = self.follower.uplinks(passed.node).get(passed.in_port)
        if physical_network is not None:
            return End(Kind.UPLINK, self.names.wire(physical_network))
        return self._port_end(passed.node, passed.in_port)

    def _port_end(self, node: str, ofport: int) -> End:
        if ofport == SERVICE_OFPORT:
            return RELAY
        found = self.names.snapshot.port_at(node, ofport)
        if found is None:
            return End(Kind.PORT, f"interface {ofport}")
        thing, name = self.names.thing("port", found.key)
        return End(Kind.PORT, name if thing is None else thing.name, None if thing is None else thing.id)

    def _out(self, passed: Passed) -> Iterator[End]:
        uplinks = self.follower.uplinks(passed.node)
        for port, _ in passed.outputs:
            self.turn()
            physical_network = uplinks.get(port)
            if physical_network is not None:
                yield End(Kind.PHYSICAL_NETWORK, self.names.wire(physical_network))
            else:
                yield self._port_end(passed.node, port)
        if passed.result.punts and passed.result.steps[-1].rule not in LOGGED_DROPS:
            yield End(Kind.CONTROLLER, "controller")

    def _steps(self, passed: Passed) -> Iterator[Step]:
        node = self.names.node(passed.node)
        answers = False
        dropped = dropped_by(passed)
        steps = passed.result.steps
        left_out = range(MOST_STEPS // 2, len(steps) - MOST_STEPS // 2)
        for index, looked in enumerate(steps):
            if looked.flow is None or looked.rule is None:
                continue
            answers = answers or looked.rule in _ANSWERS
            if index in left_out:
                continue
            self.turn()
            thing, name = self.names.thing(looked.rule.about, looked.key)
            if looked.rule in _ASKED:
                thing, name = self._rule(looked.key, passed, answers)
            text = sentence(looked.rule, looked.flow, name, node, known=thing is not None)
            if looked is dropped:
                text, _ = self._why(passed, looked)
            elif _skipped(passed, looked):
                text = f"not back to {name}, where it comes from"
            yield Step(looked.table, table_name(looked.table), looked.rule.name.lower(), thing, text)

    def _rule(self, key: int, passed: Passed, answers: bool) -> tuple[Object | None, str]:
        """Of the rules that share a flow, the one that is about the packet."""
        named = self.names.find("security_rule", key)
        if not isinstance(named, SecurityRule):
            return None, f"rule {key}"
        group = self.names.snapshot.security_groups[self.names.snapshot.groups_by_rule[key]]
        # what is sent is looked at before it is translated, what is received afterwards
        seen = passed.packet if named.direction is Direction.EGRESS else as_seen(passed)
        return self.names.security_rule(deciding(group, named, _began(seen) if answers else seen))

    def drop(self, passed: Passed) -> tuple[Drop | None, tuple[str, ...]]:
        result, looked = passed.result, dropped_by(passed)
        if looked is not None and looked.rule is not None:
            thing, _ = self.names.thing(looked.rule.about, looked.key)
            text, near = self._why(passed, looked)
            return Drop(LOGGED_DROPS.get(looked.rule, looked.rule).name.lower(), text, thing), near
        if not ended(passed):
            return None, ()
        reason = Reason.NOTHING if result.drop is None else result.drop.reason
        text = REASONS.get(reason, "dropped").format(table=table_name(result.steps[-1].table))
        return Drop(reason.value, text, None), ()

    def _why(self, passed: Passed, looked: Looked) -> tuple[str, tuple[str, ...]]:
        """Why a rule drops the packet, and what comes near to letting it through."""
        assert looked.rule is not None and looked.flow is not None
        port = self.names.find("port", looked.key) if looked.rule.about == "port" else None
        rule = LOGGED_DROPS.get(looked.rule, looked.rule)
        ip = passed.packet["eth_type"] in (ETH_IP, ETH_IPV6)
        if isinstance(port, Port):
            if rule is Rule.DROP_EGRESS and ip:
                return refused(self.names, port, Direction.EGRESS, passed.packet, ends_of(passed.packet)[1])
            if rule is Rule.DROP_INGRESS and ip:
                seen = as_seen(passed)
                return refused(self.names, port, Direction.INGRESS, seen, ends_of(seen)[0])
            if rule is Rule.DROP_SPOOFED:
                return self._spoofed(port, passed.packet), ()
        _, name = self.names.thing(looked.rule.about, looked.key)
        return sentence(looked.rule, looked.flow, name, self.names.node(passed.node)), ()

    def _spoofed(self, port: Port, packet: Packet) -> str:
        name = self.names.port(port)
        if not self.names.sees_port(port):
            return f"its source MAC or address is not one of {name}"
        mac = mac_text(packet["eth_src"])
        if mac not in port.macs:
            return f"source MAC {mac} is not that of {name} ({', '.join(sorted(port.macs))})"
        if packet["eth_type"] not in (ETH_IP, ETH_IPV6, ETH_ARP):
            return f"{name} may send IPv4, IPv6 and ARP, and nothing of type {packet['eth_type']:#06x}"
        source = IPv4Address(packet["arp_spa"]) if packet["eth_type"] == ETH_ARP else ends_of(packet)[0]
        own = ", ".join(str(cidr).removesuffix("/32").removesuffix("/128") for cidr in port.member_addresses)
        return f"source address {source} is not one of {name} ({own or 'it has none'})"
