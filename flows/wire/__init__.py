"""Flows and the few other messages we send, as OpenFlow 1.4 bytes, and back for the few we read.

Our own encoder, because it is on the path of every change: 5-10 us a flow against some 450 us through Ryu's message
objects. tests/unit/flows/test_wire.py holds it to Ryu's bytes.
"""

from __future__ import annotations

from flows.wire.actions import encode_match
from flows.wire.framing import header
from flows.wire.messages import (
    ALL_METERS,
    ALL_TABLES,
    ANY_GROUP,
    ANY_PORT,
    BUNDLE_ID,
    FLOW_STATS,
    FROM_CONTROLLER,
    METER_STATS,
    PORT_STATS,
    barrier_request,
    bundle_add,
    bundle_commit,
    bundle_discard,
    bundle_open,
    ct_flush,
    ct_flush_zone,
    delete_meter,
    delete_ours,
    delete_stamp,
    encode_add,
    encode_delete,
    encode_meter,
    encode_temporary,
    meters_request,
    multipart_request,
    packet_out,
    packet_out_copies,
    packet_out_resubmit,
    stamp_request,
    with_xid,
)
from flows.wire.replies import PacketIn, entries, parse_meters_reply, parse_packet_in, parse_stamp_reply

__all__ = [
    "ALL_METERS",
    "ALL_TABLES",
    "ANY_GROUP",
    "ANY_PORT",
    "BUNDLE_ID",
    "FLOW_STATS",
    "FROM_CONTROLLER",
    "METER_STATS",
    "PORT_STATS",
    "PacketIn",
    "barrier_request",
    "bundle_add",
    "bundle_commit",
    "bundle_discard",
    "bundle_open",
    "ct_flush",
    "ct_flush_zone",
    "delete_meter",
    "delete_ours",
    "delete_stamp",
    "encode_add",
    "encode_delete",
    "encode_match",
    "encode_meter",
    "encode_temporary",
    "entries",
    "header",
    "meters_request",
    "multipart_request",
    "packet_out",
    "packet_out_copies",
    "packet_out_resubmit",
    "parse_meters_reply",
    "parse_packet_in",
    "parse_stamp_reply",
    "stamp_request",
    "with_xid",
]
