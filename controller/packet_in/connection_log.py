"""What a security group wants reported: connections that begin, and packets that nothing allows.

One line each, or for one in so many, with names, as far as the rule's bucket goes; the next line says how many were
left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import structlog

from controller.packet_in import frames, outcomes
from controller.packet_in.limits import TokenBuckets
from flows.model import Direction, Port
from flows.protocols import PROTOCOL_NAMES, PROTOCOL_NUMBERS
from flows.rules import Rule
from flows.snapshot import Snapshot

Event = Mapping[str, str | int]

RATE: Final = 10.0
BURST: Final = 20.0
"""Lines a second, and at once: for each rule that lets in, and each port that is refused something."""

MOST_COUNTED: Final = 65536
"""Rules and ports of which it is known how many lines were left out."""

_DIRECTIONS: Final = {
    Rule.LOG_EGRESS_ACCEPTED: (Direction.EGRESS, True),
    Rule.LOG_EGRESS_DROPPED: (Direction.EGRESS, False),
    Rule.LOG_INGRESS_ACCEPTED: (Direction.INGRESS, True),
    Rule.LOG_INGRESS_DROPPED: (Direction.INGRESS, False),
}
LOGGED: Final = tuple(_DIRECTIONS)
"""The rules whose packets come here."""

_WITH_PORTS: Final = tuple(PROTOCOL_NUMBERS[name] for name in ("tcp", "udp", "sctp"))


def write(event: str, fields: Event) -> None:
    structlog.get_logger("connections").info(event, **fields)


class ConnectionLog:
    """Of one node. `sink` gets the name of the event and its fields; of each `sample` packets the first is told of."""

    def __init__(self, node: str, sink: Callable[[str, Event], None] = write, sample: int = 1) -> None:
        self._node = node
        self._sink = sink
        self._sample = sample
        self._buckets = TokenBuckets(RATE, BURST)
        self._left_out: dict[int, int] = {}

    def log(self, rule: Rule, key: int, frame: bytes, snapshot: Snapshot, now: float) -> str:
        """The outcome. `key` is that of the security rule, or of the port; `now` in seconds of a steady clock."""
        direction, accepted = _DIRECTIONS[rule]
        about = key << 2 | LOGGED.index(rule)
        left_out = self._left_out.get(about, self._sample - 1)  # before the first line there is nothing to wait for
        told_of = left_out >= self._sample - 1
        if not told_of or not self._buckets.allow(about, now):
            self._remember(about, self._left_out.get(about, 0) + 1)
            return outcomes.RATE_LIMITED if told_of else outcomes.SAMPLED_OUT
        packet = _packet(frame)
        if packet is None:
            return outcomes.MALFORMED
        own = packet["source"] if direction is Direction.EGRESS else packet["destination"]
        who = (_of_rule if accepted else _of_port)(key, ip_address(str(own)), self._node, snapshot)
        if who is None:
            return outcomes.UNKNOWN_OBJECT
        left_out = self._left_out.get(about, 0)
        self._remember(about, 0)
        more = {"left_out": left_out} if left_out else {}
        name = "connection_accepted" if accepted else "connection_dropped"
        self._sink(name, {"node": self._node, "direction": direction.value, **who, **packet, **more})
        return outcomes.CONNECTION_LOGGED

    def _remember(self, about: int, left_out: int) -> None:
        if about not in self._left_out and len(self._left_out) >= MOST_COUNTED:
            self._left_out.clear()
        self._left_out[about] = left_out


def _of_rule(key: int, address: IPv4Address | IPv6Address, node: str, snapshot: Snapshot) -> Event | None:
    group = snapshot.security_groups.get(snapshot.groups_by_rule.get(key, ""))
    if group is None:
        return None
    rule = next(rule for rule in group.rules if rule.key == key)
    member = _name(snapshot.member_at(node, group.id, address))
    return {"security_group": group.name, "security_group_id": group.id, "rule_id": rule.id, **member}


def _of_port(key: int, address: IPv4Address | IPv6Address, node: str, snapshot: Snapshot) -> Event | None:
    port_id = snapshot.ports_by_key.get(key)
    return None if port_id is None else _name(snapshot.ports[port_id])


def _name(port: Port | None) -> dict[str, str | int]:
    return {} if port is None else {"port": port.name or port.id, "port_id": port.id}


def _packet(frame: bytes) -> dict[str, str | int] | None:
    """The packet's ends. Only the beginning of it is here."""
    ethernet = frames.parse_ethernet(frame)
    header: frames.Ipv4 | frames.Ipv6 | None = None
    if ethernet is not None and ethernet.ethertype == frames.ETHERTYPE_IPV4:
        header = frames.parse_ipv4_header(frame, ethernet.offset)
    elif ethernet is not None and ethernet.ethertype == frames.ETHERTYPE_IPV6:
        header = frames.parse_ipv6_header(frame, ethernet.offset)
    if header is None:
        return None
    found: dict[str, str | int] = {
        "protocol": PROTOCOL_NAMES.get(header.protocol, str(header.protocol)),
        "source": str(ip_address(header.source)),
        "destination": str(ip_address(header.destination)),
    }
    payload = frame[header.offset : header.offset + 4]
    if len(payload) < 4 or (isinstance(header, frames.Ipv4) and (header.fragment or header.more_fragments)):
        return found
    if header.protocol in _WITH_PORTS:
        found |= {"source_port": int.from_bytes(payload[:2]), "destination_port": int.from_bytes(payload[2:])}
    elif header.protocol in (frames.PROTOCOL_ICMP, frames.PROTOCOL_ICMPV6):
        found |= {"icmp_type": payload[0], "icmp_code": payload[1]}
    return found
