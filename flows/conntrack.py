"""Connection tracking for the simulator, as ovs-actions(7) "ct" describes it, without time: nothing expires.

Not modelled: TCP's own states (any TCP packet may begin a connection), helpers, and the reassembly of fragments: each
has its ports in `part_src` and `part_dst`, as if the others were there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

from flows.ir import Ct, Nat
from flows.packet import Packet
from flows.protocols import (
    CT_ESTABLISHED,
    CT_INVALID,
    CT_NEW,
    CT_RELATED,
    CT_REPLY,
    CT_TRACKED,
    ETH_IP,
    ETH_IPV6,
    ICMP_ERRORS,
    ICMPV6_ECHO_REPLY,
    ICMPV6_ECHO_REQUEST,
    ICMPV6_ERRORS,
    PROTO_ICMP,
    PROTO_ICMPV6,
    PROTO_TCP,
    PROTO_UDP,
)

_PORTS = {PROTO_TCP: ("tcp_src", "tcp_dst"), PROTO_UDP: ("udp_src", "udp_dst")}
_ICMP = frozenset({PROTO_ICMP, PROTO_ICMPV6})
_ICMP_ERRORS = {PROTO_ICMP: ICMP_ERRORS, PROTO_ICMPV6: ICMPV6_ERRORS}
# neighbour discovery is of no connection
_ICMP_REPLIES = {PROTO_ICMP: {8: 0, 13: 14, 15: 16}, PROTO_ICMPV6: {ICMPV6_ECHO_REQUEST: ICMPV6_ECHO_REPLY}}
_ICMP_OPPOSITE = {
    protocol: replies | {reply: request for request, reply in replies.items()}
    for protocol, replies in _ICMP_REPLIES.items()
}
# packet's source and target, the same of how the connection began
_ADDRESSES = {
    ETH_IP: ("ip_src", "ip_dst", "ct_nw_src", "ct_nw_dst"),
    ETH_IPV6: ("ipv6_src", "ipv6_dst", "ct_ipv6_src", "ct_ipv6_dst"),
}
_ANY_PORT = (0, 0xFFFF)


class Flowing(NamedTuple):
    """What a connection looks like in one direction. For ICMP both ports are the id, and type and code count."""

    protocol: int
    source: int
    target: int
    source_port: int = 0
    target_port: int = 0
    icmp_type: int = 0
    icmp_code: int = 0
    family: int = ETH_IP

    def back(self) -> Flowing:
        return Flowing(
            self.protocol,
            self.target,
            self.source,
            self.target_port,
            self.source_port,
            _ICMP_OPPOSITE.get(self.protocol, {}).get(self.icmp_type, 0),
            self.icmp_code,
            self.family,
        )

    def began(self) -> dict[str, int]:
        """The fields that show how a connection began, if it began like this (ovs-fields(7), "ct_nw_src" and on)."""
        icmp = self.protocol in _ICMP
        _, _, source, target = _ADDRESSES[self.family]
        return {
            "ct_nw_proto": self.protocol,
            source: self.source,
            target: self.target,
            "ct_tp_src": self.icmp_type if icmp else self.source_port,
            "ct_tp_dst": self.icmp_code if icmp else self.target_port,
        }

    def fields(self, *, fragment: bool = False) -> dict[str, int]:
        """The packet fields that translation may change."""
        source, target, _, _ = _ADDRESSES[self.family]
        changed = {source: self.source, target: self.target}
        if fragment:
            if self.protocol in _PORTS:
                changed |= {"part_src": self.source_port, "part_dst": self.target_port}
        elif self.protocol in _ICMP:
            changed["icmp_id"] = self.source_port
        elif self.protocol in _PORTS:
            changed.update(zip(_PORTS[self.protocol], (self.source_port, self.target_port), strict=True))
        return changed


@dataclass(frozen=True, slots=True)
class Connection:
    """`reply` is the answer as it arrives: to the translated address."""

    original: Flowing
    reply: Flowing
    answered: bool = False
    mark: int = 0

    @property
    def to_destination(self) -> bool:
        """True when it is the destination that is translated."""
        return self.reply.source != self.original.target

    def translated(self, is_reply: bool) -> Flowing:
        """What a packet of that direction becomes."""
        return self.original.back() if is_reply else self.reply.back()


_Entries = Mapping[tuple[int, Flowing], Connection]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`changes` and `inner` are for the packet to take over, `began` says how its connection began. `exhausted`: no
    translation was free, or its zone is full, so it is lost.
    """

    conntrack: Conntrack
    state: int
    mark: int = 0
    changes: Mapping[str, int] = field(default_factory=dict)
    inner: Packet | None = None
    exhausted: bool = False
    began: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Conntrack:
    """The connections of a switch, by zone and by either direction. A value: `track` gives the next one.

    Linux's conntrack, or with `userspace` that of the userspace datapath (as seen in Open vSwitch 3.5): it never
    translates an ICMP id, lets a packet pass as it is when no translation is free or its zone is full, and takes port 0
    for invalid. `limits`: how many connections a zone has room for.
    """

    entries: _Entries = field(default_factory=lambda: MappingProxyType({}))
    userspace: bool = False
    limits: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))

    def track(self, zone: int, fields: Mapping[str, int], inner: Packet | None, action: Ct) -> Verdict:
        """The ct action on a packet."""
        if fields["eth_type"] not in _ADDRESSES:
            return Verdict(self, CT_TRACKED | CT_INVALID, inner=inner)
        translate = action.translate or action.nat is not None
        if _icmp_type(fields) in _ICMP_ERRORS.get(fields["ip_proto"], ()):
            return self._related(zone, inner, translate)
        flowing = _flowing(fields)
        connection = self.entries.get((zone, flowing))
        if connection is not None and action.force and flowing == connection.reply:
            return self._without(zone, connection).track(zone, fields, inner, action)
        if connection is None:
            return self._begin(zone, flowing, inner, action, bool(fields["ip_frag"] & 1))
        is_reply = flowing == connection.reply
        after = self
        if is_reply and not connection.answered:
            connection = replace(connection, answered=True)
            after = self._with(zone, connection)
        if action.commit and action.mark is not None:
            connection = replace(connection, mark=_marked(connection.mark, action.mark))
            after = after._with(zone, connection)
        # as in the kernel: until the first answer even a committed connection is new
        state = CT_ESTABLISHED if is_reply or connection.answered else CT_NEW
        fragment = bool(fields["ip_frag"] & 1)
        changes = connection.translated(is_reply).fields(fragment=fragment) if translate else {}
        state |= CT_TRACKED | (CT_REPLY if is_reply else 0)
        return Verdict(after, state, connection.mark, changes, inner, began=connection.original.began())

    def flush(self, zone: int) -> Conntrack:
        """Without the connections of a zone."""
        kept = {key: connection for key, connection in self.entries.items() if key[0] != zone}
        return replace(self, entries=kept)

    def _begin(self, zone: int, flowing: Flowing, inner: Packet | None, action: Ct, fragment: bool) -> Verdict:
        if (not fragment or flowing.protocol == PROTO_ICMPV6) and not self._may_begin(flowing):
            return Verdict(self, CT_TRACKED | CT_INVALID, inner=inner)
        state = CT_TRACKED | CT_NEW
        began = flowing.began()
        if not action.commit:
            return Verdict(self, state, inner=inner, began=began)
        if self._full(zone):
            return Verdict(self, state, inner=inner, exhausted=not self.userspace, began=began)
        reply = flowing.back()
        if action.nat is not None:
            ids_too = not self.userspace
            free = (back for back in _translations(flowing, action.nat, ids_too) if (zone, back) not in self.entries)
            chosen = next(free, None)
            if chosen is None:
                return Verdict(self, state, inner=inner, exhausted=not self.userspace, began=began)
            reply = chosen
        connection = Connection(flowing, reply, mark=_marked(0, action.mark))
        after = self._with(zone, connection)
        changes = connection.translated(False).fields(fragment=fragment)
        return Verdict(after, state, connection.mark, changes, inner, began=began)

    def _full(self, zone: int) -> bool:
        limit = self.limits.get(zone)
        return limit is not None and len({id(one) for of, one in self.entries.items() if of[0] == zone}) >= limit

    def _may_begin(self, flowing: Flowing) -> bool:
        if flowing.protocol in _ICMP:
            return flowing.icmp_type in _ICMP_REPLIES[flowing.protocol]
        ports_matter = self.userspace and flowing.protocol in _PORTS
        return not ports_matter or bool(flowing.source_port and flowing.target_port)

    def _related(self, zone: int, inner: Packet | None, translate: bool) -> Verdict:
        """An ICMP error belongs to the connection of the packet that it quotes, and goes the other way."""
        quoted = None if inner is None or inner.get("eth_type") not in _ADDRESSES else _flowing(inner).back()
        connection = None if quoted is None else self.entries.get((zone, quoted))
        if inner is None or quoted is None or connection is None:
            return Verdict(self, CT_TRACKED | CT_INVALID, inner=inner)
        is_reply = quoted == connection.reply
        state = CT_TRACKED | CT_RELATED | (CT_REPLY if is_reply else 0)
        began = connection.original.began()
        if not translate:
            return Verdict(self, state, connection.mark, inner=inner, began=began)
        after = connection.translated(is_reply)
        # of the outer addresses only the one that the connection's packets of this direction have translated
        source, target, _, _ = _ADDRESSES[after.family]
        outer = {target: after.target} if is_reply != connection.to_destination else {source: after.source}
        return Verdict(self, state, connection.mark, outer, inner.but(**after.back().fields()), began=began)

    def _without(self, zone: int, connection: Connection) -> Conntrack:
        gone = {(zone, connection.original), (zone, connection.reply)}
        return replace(self, entries={key: kept for key, kept in self.entries.items() if key not in gone})

    def _with(self, zone: int, connection: Connection) -> Conntrack:
        new = {(zone, connection.original): connection, (zone, connection.reply): connection}
        return replace(self, entries={**self.entries, **new})


def _marked(mark: int, change: tuple[int, int] | None) -> int:
    value, mask = change or (0, 0)
    return mark & ~mask | value


def _icmp_type(fields: Mapping[str, int]) -> int:
    return fields.get("icmpv6_type" if fields["ip_proto"] == PROTO_ICMPV6 else "icmp_type", 0)


def _flowing(fields: Mapping[str, int]) -> Flowing:
    protocol, family = fields["ip_proto"], fields["eth_type"]
    source, target, _, _ = _ADDRESSES[family]
    ends = Flowing(protocol, fields[source], fields[target], family=family)
    if fields["ip_frag"] & 1:
        shown = fields.get("part_src", 0), fields.get("part_dst", 0)
        if protocol in _ICMP:
            return ends._replace(icmp_type=shown[0], icmp_code=shown[1])
        return ends._replace(source_port=shown[0], target_port=shown[1]) if protocol in _PORTS else ends
    if protocol in _ICMP:
        id_ = fields.get("icmp_id", 0)
        code = fields.get("icmpv6_code" if protocol == PROTO_ICMPV6 else "icmp_code", 0)
        return ends._replace(source_port=id_, target_port=id_, icmp_type=_icmp_type(fields), icmp_code=code)
    names = _PORTS.get(protocol)
    if names is None:
        return ends
    return ends._replace(source_port=fields.get(names[0], 0), target_port=fields.get(names[1], 0))


def _translations(flowing: Flowing, nat: Nat, ids_too: bool) -> Iterator[Flowing]:
    """The replies that a new connection could expect: on its own source port if allowed, then on any in the range.

    With `ids_too` the id of ICMP takes the port's place.
    """
    if nat.destination:
        # the field that names the translated port is the source of what comes back
        reply = flowing.back()._replace(source=nat.address)
        yield reply if nat.ports is None or flowing.protocol not in _PORTS else reply._replace(source_port=nat.ports[0])
        return
    reply = flowing.back()._replace(target=nat.address)
    if flowing.protocol not in _PORTS and not (flowing.protocol == PROTO_ICMP and ids_too):
        yield reply
        return
    first, last = nat.ports or _ANY_PORT
    own = flowing.source_port
    count = last - first + 1
    start = own - first if first <= own <= last else 0
    for step in range(count):
        port = first + (start + step) % count
        if flowing.protocol == PROTO_ICMP:
            yield reply._replace(source_port=port, target_port=port)
        else:
            yield reply._replace(target_port=port)
