"""Flows and the few other messages we send, as OpenFlow 1.4 bytes, and back for the few we read.

Our own encoder, because it is on the path of every change: 5-10 us a flow against some 450 us through Ryu's message
objects. tests/unit/flows/test_wire.py holds it to Ryu's bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
    Flow,
    Goto,
    Learn,
    Match,
    Meter,
    MeterConfig,
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
from flows.pipeline import Table
from flows.protocols import ETH_IPV6
from flows.rules import COOKIE_OURS, COOKIE_OURS_MASK

BUNDLE_ID = 1
NICIRA = 0x00002320
_NXT_CT_FLUSH_ZONE = 29
_NXT_CT_FLUSH = 32
_CT_ORIGINAL, _CT_REPLY, _CT_ZONE = 0, 1, 2
_CT_SOURCE, _CT_DESTINATION = 0, 1
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
_BUNDLE_FLAGS = ofp.OFPBF_ATOMIC | ofp.OFPBF_ORDERED
_NO_BUFFER = 0xFFFFFFFF
_COPIES = 2048  # of 16 bytes each, in a message of 65535
FROM_CONTROLLER = ofp.OFPP_CONTROLLER
PORT_STATS, FLOW_STATS, METER_STATS = ofp.OFPMP_PORT_STATS, ofp.OFPMP_FLOW, ofp.OFPMP_METER
ANY_PORT, ANY_GROUP, ALL_TABLES, ALL_METERS = ofp.OFPP_ANY, ofp.OFPG_ANY, ofp.OFPTT_ALL, ofp.OFPM_ALL
_VLAN_ETHERTYPE = 0x8100
_LEARN_IMMEDIATE = 1 << 13
_LEARN_LOAD = 1 << 11

_pack = struct.pack
_HEADER = struct.Struct("!BBHI")
_FLOW_MOD = struct.Struct("!QQBBHHHIIIHH")
_NX_ACTION = struct.Struct("!HHIH")


def _pad(data: bytes, to: int = 8) -> bytes:
    return data + bytes(-len(data) % to)


def header(kind: int, body_size: int, xid: int) -> bytes:
    """The first 8 bytes of a message."""
    return _HEADER.pack(ofp.OFP_VERSION, kind, 8 + body_size, xid)


def _message(kind: int, body: bytes, xid: int = 0) -> bytes:
    return header(kind, len(body), xid) + body


def _nicira(subtype: int, body: bytes) -> bytes:
    length = 10 + len(body) + (-(10 + len(body)) % 8)
    return _pad(_NX_ACTION.pack(ofp.OFPAT_EXPERIMENTER, length, NICIRA, subtype) + body)


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
    return _pad(_pack("!HH", ofp.OFPMT_OXM, 4 + len(body)) + body)


def _set_field(action: SetField) -> bytes:
    body = _oxm(action.field, action.value)
    length = 4 + len(body) + (-(4 + len(body)) % 8)
    return _pad(_pack("!HH", ofp.OFPAT_SET_FIELD, length) + body)


def _move(action: Move) -> bytes:
    return _nicira(
        nx.NXAST_REG_MOVE,
        _pack("!HHHII", FIELDS[action.source].bits, 0, 0, _NXM_HEADERS[action.source], _NXM_HEADERS[action.target]),
    )


def _swap(action: Swap) -> bytes:
    # struct nx_action_stack of Open vSwitch's ofp-actions.c: both are pushed, then popped in the same order
    ends = [_pack("!HIH", 0, _NXM_HEADERS[name], FIELDS[name].bits) for name in (action.first, action.second)]
    return b"".join(_nicira(kind, end) for kind in (_NXAST_STACK_PUSH, _NXAST_STACK_POP) for end in ends)


def _output(port: int, max_len: int = 0) -> bytes:
    return _pack("!HHIH6x", ofp.OFPAT_OUTPUT, 16, port, max_len)


def _controller(action: Controller) -> bytes:
    if not action.meter:
        return _output(ofp.OFPP_CONTROLLER, action.max_len)
    # struct nx_action_controller2 of Open vSwitch's ofp-actions.c, and its properties
    properties = _pack("!HHH2x", _CONTROLLER2_MAX_LEN, 6, action.max_len)
    properties += _pack("!HHI", _CONTROLLER2_METER_ID, 8, action.meter)
    return _nicira(_NXAST_CONTROLLER2, _pack("!6x") + properties)


def _conjunction(action: Conjunction) -> bytes:
    return _nicira(nx.NXAST_CONJUNCTION, _pack("!BBI", action.clause - 1, action.clauses, action.id))


def _push_vlan(action: PushVlan) -> bytes:
    return _pack("!HHH2x", ofp.OFPAT_PUSH_VLAN, 8, _VLAN_ETHERTYPE) + _set_field(
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
        nested = _nicira(nx.NXAST_NAT, _pack("!2xHH", 0, 0))
    if action.mark is not None:
        nested += _load("ct_mark", *action.mark)
    table = nx.NX_CT_RECIRC_NONE if action.table is None else action.table
    return _nicira(nx.NXAST_CT, _pack("!HIHB3xH", flags, source, zone, table, 0) + nested)


def _load(field: str, value: int, mask: int) -> bytes:
    """Sets the bits of a mask, which are in a row."""
    offset = (mask & -mask).bit_length() - 1
    bits = mask.bit_length() - offset
    return _nicira(nx.NXAST_REG_LOAD, _pack("!HIQ", offset << 6 | (bits - 1), _NXM_HEADERS[field], value >> offset))


def _nat(nat: Nat) -> bytes:
    if nat.family == ETH_IPV6:
        present, ranges = nx.NX_NAT_RANGE_IPV6_MIN, nat.address.to_bytes(16)
    else:
        present, ranges = nx.NX_NAT_RANGE_IPV4_MIN, nat.address.to_bytes(4)
    if nat.ports is not None:
        present |= nx.NX_NAT_RANGE_PROTO_MIN | nx.NX_NAT_RANGE_PROTO_MAX
        ranges += _pack("!HH", *nat.ports)
    flags = _NAT_DESTINATION if nat.destination else _NAT_SOURCE
    return _nicira(nx.NXAST_NAT, _pack("!2xHH", flags, present) + ranges)


def _resubmit(table: int) -> bytes:
    return _nicira(nx.NXAST_RESUBMIT_TABLE, _pack("!HB3x", ofp.OFPP_IN_PORT & 0xFFFF, table))


def _no_in_port() -> bytes:
    # set_field on in_port is refused; the 16-bit register behind it is not
    return _nicira(nx.NXAST_REG_LOAD, _pack("!HIQ", 16 - 1, _NXM_IN_PORT, 0))


def _restart(action: Restart) -> bytes:
    return _no_in_port() + _resubmit(action.table)


def _check_larger(action: CheckLarger) -> bytes:
    # struct nx_action_check_pkt_larger of Open vSwitch's ofp-actions.c
    fixed = _pack("!HHI6x", action.size, action.bit, _NXM_HEADERS[action.register])
    return _nicira(_NXAST_CHECK_PKT_LARGER, fixed)


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
    return _nicira(
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
    SetField: _set_field,
    Move: _move,
    Swap: _swap,
    Output: lambda action: _output(action.port),
    OutputInPort: lambda action: _output(ofp.OFPP_IN_PORT),
    Controller: _controller,
    PushVlan: _push_vlan,
    PopVlan: lambda action: _pack("!HH4x", ofp.OFPAT_POP_VLAN, 8),
    DecTtl: lambda action: _pack("!HH4x", ofp.OFPAT_DEC_NW_TTL, 8),
    Ct: _ct,
    CtClear: lambda action: _nicira(nx.NXAST_CT_CLEAR, b""),
    Resubmit: lambda action: _resubmit(action.table),
    Restart: _restart,
    NoInPort: lambda action: _no_in_port(),
    CheckLarger: _check_larger,
    Learn: _learn,
    Conjunction: _conjunction,
}


def _instructions(actions: Iterable[Any]) -> bytes:
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


def _flow_mod(
    command: int, table: int, priority: int, cookie: int, cookie_mask: int, body: bytes, seconds: int = 0
) -> bytes:
    fixed = _FLOW_MOD.pack(
        cookie, cookie_mask, table, command, 0, seconds, priority, _NO_BUFFER, ofp.OFPP_ANY, ofp.OFPG_ANY, 0, 0
    )
    return _message(ofp.OFPT_FLOW_MOD, fixed + body)


def encode_add(flow: Flow) -> bytes:
    """An upsert with xid 0: ADD keeps the counters of an identical flow and updates its cookie, MODIFY would not."""
    body = encode_match(flow.match) + _instructions(flow.actions)
    return _flow_mod(ofp.OFPFC_ADD, flow.table, flow.priority, flow.cookie, 0, body)


def encode_temporary(flow: Flow, seconds: int) -> bytes:
    """The same for a flow that ends by itself."""
    body = encode_match(flow.match) + _instructions(flow.actions)
    return _flow_mod(ofp.OFPFC_ADD, flow.table, flow.priority, flow.cookie, 0, body, seconds)


def encode_delete(flow: Flow) -> bytes:
    """Deletes exactly the flow with this table, priority and match. xid 0."""
    return _flow_mod(ofp.OFPFC_DELETE_STRICT, flow.table, flow.priority, 0, 0, encode_match(flow.match))


def delete_ours() -> bytes:
    """Deletes whatever carries our cookie mark, in all tables. Learned flows do not carry it."""
    return _flow_mod(ofp.OFPFC_DELETE, ofp.OFPTT_ALL, 0, COOKIE_OURS, COOKIE_OURS_MASK, encode_match(()))


def delete_stamp() -> bytes:
    """Empties the stamp's table: its cookie is a digest and carries no mark."""
    return _flow_mod(ofp.OFPFC_DELETE, Table.STAMP, 0, 0, 0, encode_match(()))


def encode_meter(meter: MeterConfig, *, modify: bool = False) -> bytes:
    """Adds a meter that is not there, or modifies one that is (OpenFlow 1.4 §7.3.4.5). xid 0. Not for bundles."""
    unit = ofp.OFPMF_PKTPS if meter.packets else ofp.OFPMF_KBPS
    flags = unit | ofp.OFPMF_BURST | ofp.OFPMF_STATS
    band = _pack("!HHII4x", ofp.OFPMBT_DROP, 16, meter.rate, meter.burst)
    return _meter_mod(ofp.OFPMC_MODIFY if modify else ofp.OFPMC_ADD, flags, meter.id, band)


def delete_meter(meter_id: int) -> bytes:
    """Deletes a meter, and with it every flow that uses it. xid 0."""
    return _meter_mod(ofp.OFPMC_DELETE, 0, meter_id, b"")


def _meter_mod(command: int, flags: int, meter_id: int, bands: bytes) -> bytes:
    return _message(ofp.OFPT_METER_MOD, _pack("!HHI", command, flags, meter_id) + bands)


def with_xid(message: bytes, xid: int) -> bytes:
    """The same message with another transaction id."""
    return message[:4] + xid.to_bytes(4) + message[8:]


def _bundle_control(kind: int, xid: int) -> bytes:
    return _message(ofp.OFPT_BUNDLE_CONTROL, _pack("!IHH", BUNDLE_ID, kind, _BUNDLE_FLAGS), xid)


def bundle_open(xid: int) -> bytes:
    return _bundle_control(ofp.OFPBCT_OPEN_REQUEST, xid)


def bundle_commit(xid: int) -> bytes:
    return _bundle_control(ofp.OFPBCT_COMMIT_REQUEST, xid)


def bundle_discard(xid: int) -> bytes:
    return _bundle_control(ofp.OFPBCT_DISCARD_REQUEST, xid)


_BUNDLE_ADD = struct.Struct("!BBHIIHH")


def bundle_add(message: bytes, xid: int) -> bytes:
    """A message in its bundle wrapper. Inner and outer xid are the same: Open vSwitch refuses anything else."""
    header = _BUNDLE_ADD.pack(
        ofp.OFP_VERSION, ofp.OFPT_BUNDLE_ADD_MESSAGE, 16 + len(message), xid, BUNDLE_ID, 0, _BUNDLE_FLAGS
    )
    return header + with_xid(message, xid)


def barrier_request(xid: int) -> bytes:
    return _message(ofp.OFPT_BARRIER_REQUEST, b"", xid)


def multipart_request(kind: int, body: bytes, xid: int) -> bytes:
    return _message(ofp.OFPT_MULTIPART_REQUEST, _pack("!HH4x", kind, 0) + body, xid)


def stamp_request(xid: int) -> bytes:
    """A flow statistics request for the stamp's table."""
    body = _pack("!B3xII4xQQ", Table.STAMP, ofp.OFPP_ANY, ofp.OFPG_ANY, 0, 0) + encode_match(())
    return multipart_request(ofp.OFPMP_FLOW, body, xid)


_FLOW_STATS = struct.Struct("!HBxIIHHHH4xQQQ")


def parse_stamp_reply(message: bytes) -> int | None:
    """The digest in a reply to stamp_request; None when there is no stamp, or more than one.

    Raises ValueError for a message that is cut or of another kind.
    """
    digests = []
    for offset in entries(message, ofp.OFPMP_FLOW, _FLOW_STATS.size):
        _, table, _, _, _, _, _, _, cookie, _, _ = _FLOW_STATS.unpack_from(message, offset)
        if table == Table.STAMP:
            digests.append(cookie)
    return digests[0] if len(digests) == 1 else None


def meters_request(xid: int) -> bytes:
    """Asks for the configuration of all meters."""
    return multipart_request(ofp.OFPMP_METER_CONFIG, _pack("!I4x", ofp.OFPM_ALL), xid)


_METER_CONFIG = struct.Struct("!HHI")


def parse_meters_reply(message: bytes) -> list[int]:
    """The meters in one part of a reply to meters_request. Raises ValueError as parse_stamp_reply does."""
    found = []
    for offset in entries(message, ofp.OFPMP_METER_CONFIG, _METER_CONFIG.size):
        _length, _flags, id_ = _METER_CONFIG.unpack_from(message, offset)
        found.append(id_)
    return found


def entries(message: bytes, wanted: int, size: int, *, length_at: int = 0) -> Iterator[int]:
    """Where the entries of a multipart reply begin, each of at least `size` bytes and with its length at `length_at`.

    Raises ValueError for a message that is cut or of another kind.
    """
    if len(message) < 16:
        raise ValueError("multipart reply is cut")
    if message[1] != ofp.OFPT_MULTIPART_REPLY or int.from_bytes(message[8:10]) != wanted:
        raise ValueError("another kind of reply")
    offset = 16
    while offset < len(message):
        length = int.from_bytes(message[offset + length_at : offset + length_at + 2])
        if length < size or length > len(message) - offset:
            raise ValueError(f"an entry of {length} bytes")
        yield offset
        offset += length


def ct_flush_zone(zone: int, xid: int = 0) -> bytes:
    """NXT_CT_FLUSH_ZONE: forgets every connection of a conntrack zone (ovs nicira-ext.h)."""
    return _message(ofp.OFPT_EXPERIMENTER, _pack("!II6xH", NICIRA, _NXT_CT_FLUSH_ZONE, zone), xid)


def ct_flush(
    zone: int,
    *,
    original_source: int | None = None,
    original_destination: int | None = None,
    reply_destination: int | None = None,
    xid: int = 0,
) -> bytes:
    """NXT_CT_FLUSH: forgets the connections of a zone with these IPv4 addresses (ovs nicira-ext.h, since 3.1).

    `original` is the packet that began a connection, before any translation, `reply` what comes back.
    """
    body = _pack("!II8x", NICIRA, _NXT_CT_FLUSH)
    body += _ct_tuple(_CT_ORIGINAL, original_source, original_destination)
    body += _ct_tuple(_CT_REPLY, None, reply_destination)
    return _message(ofp.OFPT_EXPERIMENTER, body + _pack("!HHH2x", _CT_ZONE, 8, zone), xid)


def _ct_tuple(kind: int, source: int | None, destination: int | None) -> bytes:
    addresses = b""
    for end, address in ((_CT_SOURCE, source), (_CT_DESTINATION, destination)):
        if address is not None:  # an IPv4 address as one of IPv6 (RFC 4291, 2.5.5.2)
            addresses += _pad(_pack("!HH10xHI", end, 20, 0xFFFF, address))
    return _pack("!HH4x", kind, 8 + len(addresses)) + addresses if addresses else b""


def packet_out(ofport: int, frame: bytes) -> bytes:
    """Sends a frame out of a port. xid 0."""
    return _packet_out(_output(ofport), frame)


def packet_out_copies(ofports: Sequence[int], frame: bytes) -> bytes:
    """Messages that send a frame out of several ports, each as long as one may be. xid 0."""
    parts = (ofports[at : at + _COPIES] for at in range(0, len(ofports), _COPIES))
    return b"".join(_packet_out(b"".join(_output(ofport) for ofport in part), frame) for part in parts)


def packet_out_resubmit(table: int, registers: Mapping[str, int], frame: bytes) -> bytes:
    """Has a table decide about a frame, with what the tables before it would have put into registers. xid 0."""
    known = b"".join(_set_field(SetField(name, value)) for name, value in registers.items())
    return _packet_out(known + _resubmit(table), frame)


def _packet_out(actions: bytes, frame: bytes) -> bytes:
    return _message(ofp.OFPT_PACKET_OUT, _pack("!IIH6x", _NO_BUFFER, FROM_CONTROLLER, len(actions)) + actions + frame)


@dataclass(frozen=True, slots=True)
class PacketIn:
    cookie: int
    in_port: int
    reason: int
    frame: bytes


_PACKET_IN = struct.Struct("!IHBBQHH")
_IN_PORT_HEADER = FIELDS["in_port"].header.to_bytes(4)


def parse_packet_in(message: bytes) -> PacketIn | None:
    """A packet_in (OpenFlow 1.4 §7.4.1), or None when it is cut or carries no in_port."""
    if len(message) < 42:
        return None
    _buffer, total, reason, _table, cookie, match_type, match_length = _PACKET_IN.unpack_from(message, 8)
    match_end = 24 + match_length + (-match_length % 8)
    start = match_end + 2
    if match_type != ofp.OFPMT_OXM or match_length < 12 or start > len(message):
        return None
    # Open vSwitch puts in_port first
    if message[28:32] != _IN_PORT_HEADER:
        return None
    in_port = int.from_bytes(message[32:36])
    return PacketIn(cookie, in_port, reason, message[start : start + total])
