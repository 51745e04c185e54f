"""What Open vSwitch itself would do with a packet: `ofproto/trace` (ovs-vswitchd(8)), which sends and changes nothing.

A packet is its fields by the names of `flows.fields`, each a number; nothing that was sent here gets into the command
as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

from agent.vswitchd import CommandFailed, command, control_socket
from flows.fields import FIELDS
from flows.packet import packet

TIMEOUT_S: Final = 4.0
MOST: Final = 128 << 10
"""Bytes of what Open vSwitch says."""

_MOST_PORT: Final = 0xFEFF  # above are reserved ones (OpenFlow 1.4, 7.2.1), of which Open vSwitch has 16 bits
_MOST_JUDGEMENTS: Final = 8
CT_STATES: Final = frozenset({"trk", "new", "est", "rel", "rpl", "inv", "snat", "dnat"})


class BadPacket(ValueError):
    """It cannot be traced; the text says why."""


def _mac(value: int) -> str:
    return value.to_bytes(6).hex(":")


_FORMS: Final[Mapping[int, Callable[[int], str]]] = {
    48: _mac,
    32: lambda value: str(IPv4Address(value)),
    128: lambda value: str(IPv6Address(value)),
}
# 0 says nothing there, or is nothing that ofproto/trace takes
_LEFT_OUT_AT_0: Final = frozenset(
    {"vlan_vid", "ip_frag", "ip_dscp", "nd_reserved", "nd_options_type", "nd_sll", "nd_tll"}
)


def flow_text(in_port: object, fields: object) -> str:
    """The packet in the words of ovs-ofctl(8). Raises BadPacket."""
    if type(in_port) is not int or not 1 <= in_port <= _MOST_PORT:
        raise BadPacket("in_port is the number of an OpenFlow port")
    if not isinstance(fields, Mapping) or not all(name in FIELDS and type(it) is int for name, it in fields.items()):
        raise BadPacket("fields are those of a packet, each a number")
    try:
        made = packet(**fields)
    except ValueError as error:
        raise BadPacket(str(error)) from None
    if made.get("ip_frag"):
        raise BadPacket("a fragment cannot be traced")
    parts = [f"in_port={in_port}"]
    for name, value in made.items():
        field = FIELDS.get(name)
        if field is None or (name in _LEFT_OUT_AT_0 and not value):
            continue
        if name == "vlan_vid":
            parts.append(f"vlan_tci={value:#06x}")
        else:
            parts.append(f"{field.ovs}={_FORMS.get(field.bits, str)(value)}")
    return ",".join(parts)


def judgements(ct_next: object) -> list[str]:
    """What conntrack is to say, one time after the other, as arguments: `--ct-next` (ovs-vswitchd(8)). Raises
    BadPacket.
    """
    if not isinstance(ct_next, list) or len(ct_next) > _MOST_JUDGEMENTS:
        raise BadPacket(f"ct_next is a list of {_MOST_JUDGEMENTS} judgements at most")
    arguments: list[str] = []
    for states in ct_next:
        if (
            not isinstance(states, list)
            or not states
            or not all(isinstance(it, str) and it in CT_STATES for it in states)
        ):
            raise BadPacket(f"a judgement is a list of {', '.join(sorted(CT_STATES))}")
        arguments += ["--ct-next", ",".join(states)]
    return arguments


def trace(places: list[Path], bridge: str, arguments: Mapping[str, object]) -> dict[str, object]:
    """`arguments`: in_port, fields, ct_next. Raises BadPacket and CommandFailed."""
    if unknown := arguments.keys() - {"in_port", "fields", "ct_next"}:
        raise BadPacket(f"no such argument: {', '.join(sorted(unknown))[:100]}")
    text = flow_text(arguments.get("in_port"), arguments.get("fields"))
    options = judgements(arguments.get("ct_next", []))
    path = control_socket(places)
    if path is None:
        raise CommandFailed(f"ovs-vswitchd has no control socket in {places[0]}")
    output = command(path, "ofproto/trace", bridge, text, *options, timeout=TIMEOUT_S, most=MOST)
    return {"output": output}
