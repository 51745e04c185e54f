"""What Open vSwitch itself would do with packets: `ofproto/trace` (ovs-vswitchd(8)), which sends and changes nothing.

A packet comes in by a port, or goes on in a table: as it does when conntrack has looked at it, with what a switch knows
of it then. It is its fields by the names of `flows.fields`, each a number; nothing that was sent here gets into the
command as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

from agent.vswitchd import CommandFailed, command, control_socket
from flows.fields import FIELDS
from flows.packet import PIPELINE_FIELDS, packet

TIMEOUT_S: Final = 4.0
MOST: Final = 256 << 10
"""Bytes of what Open vSwitch says. Both for all packets of one errand together."""

MOST_PACKETS: Final = 64

_MOST_PORT: Final = 0xFEFF  # above are reserved ones (OpenFlow 1.4, 7.2.1), of which Open vSwitch has 16 bits
_MOST_TABLE: Final = 0xFE
_SHAPE: Final = frozenset({"in_port", "table", "fields"})


class BadPacket(ValueError):
    """It cannot be traced; the text says why."""


def _mac(value: int) -> str:
    return value.to_bytes(6).hex(":")


_FORMS: Final[Mapping[int, Callable[[int], str]]] = {
    48: _mac,
    32: lambda value: str(IPv4Address(value)),
    128: lambda value: str(IPv6Address(value)),
}
_ADDRESSES: Final = frozenset({"ct_nw_src", "ct_nw_dst", "ct_ipv6_src", "ct_ipv6_dst"})
_NUMBERS: Final = PIPELINE_FIELDS - _ADDRESSES | {"nd_reserved"}
_KNOWN: Final = PIPELINE_FIELDS - {"in_port", "conj_id"}
# 0 says nothing there, or is nothing that ofproto/trace takes
_LEFT_OUT_AT_0: Final = frozenset(
    {"vlan_vid", "ip_frag", "ip_dscp", "nd_reserved", "nd_options_type", "nd_sll", "nd_tll"}
)


def command_of(bridge: str, start: object) -> tuple[str, ...]:
    """What Open vSwitch is told of one packet: in_port, table, fields. Raises BadPacket."""
    if not isinstance(start, Mapping) or start.keys() != _SHAPE:
        raise BadPacket("a packet has in_port, table and fields")
    table = start["table"]
    if type(table) is not int or not 0 <= table <= _MOST_TABLE:
        raise BadPacket("table is the number of a table")
    if table == 0:
        return "ofproto/trace", bridge, flow_text(start["in_port"], start["fields"])
    text = flow_text(start["in_port"], start["fields"], known=_KNOWN)
    return "ofproto/trace-packet-out", bridge, text, f"resubmit(,{table})"


def flow_text(in_port: object, fields: object, known: frozenset[str] = frozenset()) -> str:
    """The packet in the words of ovs-ofctl(8). `known`: fields that it may have beside its own; with them it may also
    have come in by no port. Raises BadPacket.
    """
    if type(in_port) is not int or not (0 if known else 1) <= in_port <= _MOST_PORT:
        raise BadPacket("in_port is the number of an OpenFlow port")
    if not isinstance(fields, Mapping) or not all(name in FIELDS and type(it) is int for name, it in fields.items()):
        raise BadPacket("fields are those of a packet, each a number")
    # in this order, in which what others need comes first
    beside = {name: fields[name] for name in FIELDS if name in known and name in fields}
    if not all(0 <= value < 1 << FIELDS[name].bits for name, value in beside.items()):
        raise BadPacket("a field has a value that does not fit")
    try:
        made = packet(**{name: value for name, value in fields.items() if name not in known})
    except ValueError as error:
        raise BadPacket(str(error)) from None
    if made.get("ip_frag"):
        raise BadPacket("a fragment cannot be traced")
    parts = [f"in_port={in_port}"]
    for name, value in (*made.items(), *beside.items()):
        field = FIELDS.get(name)
        if field is None or (name in _LEFT_OUT_AT_0 and not value):
            continue
        if name == "vlan_vid":
            parts.append(f"vlan_tci={value:#06x}")
        else:
            form = str if name in _NUMBERS else _FORMS.get(field.bits, str)
            parts.append(f"{field.ovs}={form(value)}")
    return ",".join(parts)


def trace(places: list[Path], bridge: str, arguments: Mapping[str, object]) -> dict[str, object]:
    """`arguments`: packets, each by itself. Raises BadPacket and CommandFailed."""
    if unknown := arguments.keys() - {"packets"}:
        raise BadPacket(f"no such argument: {', '.join(sorted(unknown))[:100]}")
    packets = arguments.get("packets")
    if not isinstance(packets, list) or not 1 <= len(packets) <= MOST_PACKETS:
        raise BadPacket(f"packets are {MOST_PACKETS} at most, and one at least")
    commands = [command_of(bridge, start) for start in packets]
    path = control_socket(places)
    if path is None:
        raise CommandFailed(f"ovs-vswitchd has no control socket in {places[0]}")
    until, left = time.monotonic() + TIMEOUT_S, MOST
    outputs: list[str] = []
    for words in commands:
        output = command(path, *words, timeout=max(0.0, until - time.monotonic()), most=left)
        outputs.append(output)
        left -= len(output)
    return {"outputs": outputs}
