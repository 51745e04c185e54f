"""What flows match and do, as OpenFlow 1.4 and Open vSwitch's extensions put it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any

from ryu.ofproto import nicira_ext as nx
from ryu.ofproto import ofproto_v1_4 as ofp

from flows.fields import FIELDS
from flows.ir import (
    CheckLarger,
    Conjunction,
    Controller,
    Ct,
    CtClear,
    DecTtl,
    Goto,
    Learn,
    Match,
    Meter,
    Move,
    Nat,
    NoInPort,
    Output,
    OutputInPort,
    PopVlan,
    PushVlan,
    Restart,
    Resubmit,
    SetField,
    Swap,
)
from flows.protocols import ETH_IPV6
from flows.wire.framing import nicira, pad

_CT_FORCE = 2
_NXAST_STACK_PUSH = 27
_NXAST_STACK_POP = 28
_NXAST_CONTROLLER2 = 37
_CONTROLLER2_MAX_LEN, _CONTROLLER2_METER_ID = 0, 5
_NXAST_LEARN2 = 45
_NXAST_CHECK_PKT_LARGER = 49
_NXM_IN_PORT = 0x00000002
_NAT_SOURCE = 1 << 0
_NAT_DESTINATION = 1 << 1
_VLAN_ETHERTYPE = 0x8100
_LEARN_IMMEDIATE = 1 << 13
_LEARN_LOAD = 1 << 11

_pack = struct.pack
_NXM_HEADERS = {name: field.header for name, field in FIELDS.items()}
_OXM = {name: (field.header, field.size) for name, field in FIELDS.items()}


def _oxm(name: str, value: int, mask: int | None = None) -> bytes:
    header, size = _OXM[name]
    if mask is None:
        return header.to_bytes(4) + value.to_bytes(size)
    # the has-mask bit, and a length that counts value and mask
    return ((header & ~0xFF) | 0x100 | size * 2).to_bytes(4) + value.to_bytes(size) + mask.to_bytes(size)


def encode_match(match: Match) -> bytes:
    """An ofp_match with its padding (OpenFlow 1.4 §7.2.3)."""
    body = b"".join([_oxm(name, value, mask) for name, value, mask in match])
    return pad(_pack("!HH", ofp.OFPMT_OXM, 4 + len(body)) + body)


def set_field(action: SetField) -> bytes:
    body = _oxm(action.field, action.value)
    length = 4 + len(body) + (-(4 + len(body)) % 8)
    return pad(_pack("!HH", ofp.OFPAT_SET_FIELD, length) + body)


def _move(action: Move) -> bytes:
    return nicira(
        nx.NXAST_REG_MOVE,
        _pack("!HHHII", FIELDS[action.source].bits, 0, 0, _NXM_HEADERS[action.source], _NXM_HEADERS[action.target]),
    )


def _swap(action: Swap) -> bytes:
    # struct nx_action_stack of Open vSwitch's ofp-actions.c: both are pushed, then popped in the same order
    ends = [_pack("!HIH", 0, _NXM_HEADERS[name], FIELDS[name].bits) for name in (action.first, action.second)]
    return b"".join(nicira(kind, end) for kind in (_NXAST_STACK_PUSH, _NXAST_STACK_POP) for end in ends)


def output_to(port: int, max_len: int = 0) -> bytes:
    return _pack("!HHIH6x", ofp.OFPAT_OUTPUT, 16, port, max_len)


def _controller(action: Controller) -> bytes:
    if not action.meter:
        return output_to(ofp.OFPP_CONTROLLER, action.max_len)
    # struct nx_action_controller2 of Open vSwitch's ofp-actions.c, and its properties
    properties = _pack("!HHH2x", _CONTROLLER2_MAX_LEN, 6, action.max_len)
    properties += _pack("!HHI", _CONTROLLER2_METER_ID, 8, action.meter)
    return nicira(_NXAST_CONTROLLER2, _pack("!6x") + properties)


def _conjunction(action: Conjunction) -> bytes:
    return nicira(nx.NXAST_CONJUNCTION, _pack("!BBI", action.clause - 1, action.clauses, action.id))


def _push_vlan(action: PushVlan) -> bytes:
    return _pack("!HHH2x", ofp.OFPAT_PUSH_VLAN, 8, _VLAN_ETHERTYPE) + set_field(
        SetField("vlan_vid", action.vid | ofp.OFPVID_PRESENT)
    )


def _ct(action: Ct) -> bytes:
    flags = (nx.NX_CT_F_COMMIT if action.commit else 0) | (_CT_FORCE if action.force else 0)
    if isinstance(action.zone, str):
        source, zone = _NXM_HEADERS[action.zone], 0 << 6 | (16 - 1)
    else:
        source, zone = 0, action.zone
    nested = b""
    if action.nat is not None:
        nested = _nat(action.nat)
    elif action.translate:
        nested = nicira(nx.NXAST_NAT, _pack("!2xHH", 0, 0))
    if action.mark is not None:
        nested += _load("ct_mark", *action.mark)
    table = nx.NX_CT_RECIRC_NONE if action.table is None else action.table
    return nicira(nx.NXAST_CT, _pack("!HIHB3xH", flags, source, zone, table, 0) + nested)


def _load(field: str, value: int, mask: int) -> bytes:
    """Sets the bits of a mask, which are in a row."""
    offset = (mask & -mask).bit_length() - 1
    bits = mask.bit_length() - offset
    return nicira(nx.NXAST_REG_LOAD, _pack("!HIQ", offset << 6 | (bits - 1), _NXM_HEADERS[field], value >> offset))


def _nat(nat: Nat) -> bytes:
    if nat.family == ETH_IPV6:
        present, ranges = nx.NX_NAT_RANGE_IPV6_MIN, nat.address.to_bytes(16)
    else:
        present, ranges = nx.NX_NAT_RANGE_IPV4_MIN, nat.address.to_bytes(4)
    if nat.ports is not None:
        present |= nx.NX_NAT_RANGE_PROTO_MIN | nx.NX_NAT_RANGE_PROTO_MAX
        ranges += _pack("!HH", *nat.ports)
    flags = _NAT_DESTINATION if nat.destination else _NAT_SOURCE
    return nicira(nx.NXAST_NAT, _pack("!2xHH", flags, present) + ranges)


def resubmit(table: int) -> bytes:
    return nicira(nx.NXAST_RESUBMIT_TABLE, _pack("!HB3x", ofp.OFPP_IN_PORT & 0xFFFF, table))


def _no_in_port() -> bytes:
    # set_field on in_port is refused; the 16-bit register behind it is not
    return nicira(nx.NXAST_REG_LOAD, _pack("!HIQ", 16 - 1, _NXM_IN_PORT, 0))


def _restart(action: Restart) -> bytes:
    return _no_in_port() + resubmit(action.table)


def _check_larger(action: CheckLarger) -> bytes:
    # struct nx_action_check_pkt_larger of Open vSwitch's ofp-actions.c
    fixed = _pack("!HHI6x", action.size, action.bit, _NXM_HEADERS[action.register])
    return nicira(_NXAST_CHECK_PKT_LARGER, fixed)


def _learn(action: Learn) -> bytes:
    specs = b""
    for target, source in action.match:
        bits = FIELDS[target].bits
        if isinstance(source, int):
            size = (bits + 15) // 16 * 2
            specs += _pack("!H", _LEARN_IMMEDIATE | bits) + source.to_bytes(size)
        else:
            specs += _pack("!HIH", bits, _NXM_HEADERS[source], 0)
        specs += _pack("!IH", _NXM_HEADERS[target], 0)
    for source, target in action.load:
        bits = FIELDS[target].bits
        specs += _pack("!HIHIH", _LEARN_LOAD | bits, _NXM_HEADERS[source], 0, _NXM_HEADERS[target], 0)
    # struct nx_action_learn2 of Open vSwitch's nicira-ext.h: nx_action_learn, then the limit and no result field
    return nicira(
        _NXAST_LEARN2,
        _pack(
            "!HHHQHBxHHIHH",
            action.idle_timeout,
            action.hard_timeout,
            action.priority,
            action.cookie,
            0,
            action.table,
            0,
            0,
            action.limit,
            0,
            0,
        )
        + specs,
    )


_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    SetField: set_field,
    Move: _move,
    Swap: _swap,
    Output: lambda action: output_to(action.port),
    OutputInPort: lambda action: output_to(ofp.OFPP_IN_PORT),
    Controller: _controller,
    PushVlan: _push_vlan,
    PopVlan: lambda action: _pack("!HH4x", ofp.OFPAT_POP_VLAN, 8),
    DecTtl: lambda action: _pack("!HH4x", ofp.OFPAT_DEC_NW_TTL, 8),
    Ct: _ct,
    CtClear: lambda action: nicira(nx.NXAST_CT_CLEAR, b""),
    Resubmit: lambda action: resubmit(action.table),
    Restart: _restart,
    NoInPort: lambda action: _no_in_port(),
    CheckLarger: _check_larger,
    Learn: _learn,
    Conjunction: _conjunction,
}


def encode_instructions(actions: Iterable[Any]) -> bytes:
    metered = applied = goto = b""
    for action in actions:
        if isinstance(action, Goto):
            goto = _pack("!HHB3x", ofp.OFPIT_GOTO_TABLE, 8, action.table)
        elif isinstance(action, Meter):
            metered = _pack("!HHI", ofp.OFPIT_METER, 8, action.id)
        else:
            applied += _ENCODERS[type(action)](action)
    if applied:
        applied = _pack("!HH4x", ofp.OFPIT_APPLY_ACTIONS, 8 + len(applied)) + applied
    return metered + applied + goto
