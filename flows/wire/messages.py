"""The messages that we send: flows, meters, bundles, questions, what conntrack is to forget, and frames."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from ryu.ofproto import ofproto_v1_4 as ofp

from flows.ir import Flow, MeterConfig, SetField
from flows.pipeline import Table
from flows.rules import COOKIE_OURS, COOKIE_OURS_MASK
from flows.wire.actions import encode_instructions, encode_match, output_to, resubmit, set_field
from flows.wire.framing import NICIRA, framed, pad

BUNDLE_ID = 1
_NXT_CT_FLUSH_ZONE = 29
_NXT_CT_FLUSH = 32
_CT_ORIGINAL, _CT_REPLY, _CT_ZONE = 0, 1, 2
_CT_SOURCE, _CT_DESTINATION = 0, 1
_BUNDLE_FLAGS = ofp.OFPBF_ATOMIC | ofp.OFPBF_ORDERED
_NO_BUFFER = 0xFFFFFFFF
_COPIES = 2048  # of 16 bytes each, in a message of 65535
FROM_CONTROLLER = ofp.OFPP_CONTROLLER
PORT_STATS, FLOW_STATS, METER_STATS = ofp.OFPMP_PORT_STATS, ofp.OFPMP_FLOW, ofp.OFPMP_METER
ANY_PORT, ANY_GROUP, ALL_TABLES, ALL_METERS = ofp.OFPP_ANY, ofp.OFPG_ANY, ofp.OFPTT_ALL, ofp.OFPM_ALL

_pack = struct.pack
_FLOW_MOD = struct.Struct("!QQBBHHHIIIHH")


def _flow_mod(
    command: int, table: int, priority: int, cookie: int, cookie_mask: int, body: bytes, seconds: int = 0
) -> bytes:
    fixed = _FLOW_MOD.pack(
        cookie, cookie_mask, table, command, 0, seconds, priority, _NO_BUFFER, ofp.OFPP_ANY, ofp.OFPG_ANY, 0, 0
    )
    return framed(ofp.OFPT_FLOW_MOD, fixed + body)


def encode_add(flow: Flow) -> bytes:
    """An upsert with xid 0: ADD keeps the counters of an identical flow and updates its cookie, MODIFY would not."""
    body = encode_match(flow.match) + encode_instructions(flow.actions)
    return _flow_mod(ofp.OFPFC_ADD, flow.table, flow.priority, flow.cookie, 0, body)


def encode_temporary(flow: Flow, seconds: int) -> bytes:
    """The same for a flow that ends by itself."""
    body = encode_match(flow.match) + encode_instructions(flow.actions)
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
    return framed(ofp.OFPT_METER_MOD, _pack("!HHI", command, flags, meter_id) + bands)


def with_xid(message: bytes, xid: int) -> bytes:
    """The same message with another transaction id."""
    return message[:4] + xid.to_bytes(4) + message[8:]


def _bundle_control(kind: int, xid: int) -> bytes:
    return framed(ofp.OFPT_BUNDLE_CONTROL, _pack("!IHH", BUNDLE_ID, kind, _BUNDLE_FLAGS), xid)


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
    return framed(ofp.OFPT_BARRIER_REQUEST, b"", xid)


def multipart_request(kind: int, body: bytes, xid: int) -> bytes:
    return framed(ofp.OFPT_MULTIPART_REQUEST, _pack("!HH4x", kind, 0) + body, xid)


def stamp_request(xid: int) -> bytes:
    """A flow statistics request for the stamp's table."""
    body = _pack("!B3xII4xQQ", Table.STAMP, ofp.OFPP_ANY, ofp.OFPG_ANY, 0, 0) + encode_match(())
    return multipart_request(ofp.OFPMP_FLOW, body, xid)


def meters_request(xid: int) -> bytes:
    """Asks for the configuration of all meters."""
    return multipart_request(ofp.OFPMP_METER_CONFIG, _pack("!I4x", ofp.OFPM_ALL), xid)


def ct_flush_zone(zone: int, xid: int = 0) -> bytes:
    """NXT_CT_FLUSH_ZONE: forgets every connection of a conntrack zone (ovs nicira-ext.h)."""
    return framed(ofp.OFPT_EXPERIMENTER, _pack("!II6xH", NICIRA, _NXT_CT_FLUSH_ZONE, zone), xid)


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
    return framed(ofp.OFPT_EXPERIMENTER, body + _pack("!HHH2x", _CT_ZONE, 8, zone), xid)


def _ct_tuple(kind: int, source: int | None, destination: int | None) -> bytes:
    addresses = b""
    for end, address in ((_CT_SOURCE, source), (_CT_DESTINATION, destination)):
        if address is not None:  # an IPv4 address as one of IPv6 (RFC 4291, 2.5.5.2)
            addresses += pad(_pack("!HH10xHI", end, 20, 0xFFFF, address))
    return _pack("!HH4x", kind, 8 + len(addresses)) + addresses if addresses else b""


def packet_out(ofport: int, frame: bytes) -> bytes:
    """Sends a frame out of a port. xid 0."""
    return _packet_out(output_to(ofport), frame)


def packet_out_copies(ofports: Sequence[int], frame: bytes) -> bytes:
    """Messages that send a frame out of several ports, each as long as one may be. xid 0."""
    parts = (ofports[at : at + _COPIES] for at in range(0, len(ofports), _COPIES))
    return b"".join(_packet_out(b"".join(output_to(ofport) for ofport in part), frame) for part in parts)


def packet_out_resubmit(table: int, registers: Mapping[str, int], frame: bytes) -> bytes:
    """Has a table decide about a frame, with what the tables before it would have put into registers. xid 0."""
    known = b"".join(set_field(SetField(name, value)) for name, value in registers.items())
    return _packet_out(known + resubmit(table), frame)


def _packet_out(actions: bytes, frame: bytes) -> bytes:
    return framed(ofp.OFPT_PACKET_OUT, _pack("!IIH6x", _NO_BUFFER, FROM_CONTROLLER, len(actions)) + actions + frame)
