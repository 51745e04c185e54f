"""The encoder against Ryu's serializer, byte by byte. tests/ovs/test_wire.py asks Open vSwitch's decoder."""

from __future__ import annotations

from typing import Any

import pytest
from ryu.ofproto import ofproto_v1_4 as ofp
from ryu.ofproto import ofproto_v1_4_parser as parser

from flows import wire
from flows.ir import (
    Action,
    Conjunction,
    Controller,
    Ct,
    CtClear,
    DecTtl,
    Flow,
    Goto,
    Meter,
    MeterConfig,
    Move,
    Nat,
    Output,
    OutputInPort,
    PopVlan,
    PushVlan,
    Resubmit,
    SetField,
    matching,
)
from flows.pipeline import CtZone, Table


class _Datapath:
    """What Ryu's messages ask of a datapath when they are serialized."""

    ofproto = ofp
    ofproto_parser = parser


def _ryu(match: dict[str, object], actions: list[object], goto: int | None, **values: int) -> bytes:
    instructions = [parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, actions)] if actions else []
    if goto is not None:
        instructions.append(parser.OFPInstructionGotoTable(goto))
    message = parser.OFPFlowMod(
        _Datapath,
        match=parser.OFPMatch(**match),
        instructions=instructions,
        out_port=ofp.OFPP_ANY,
        out_group=ofp.OFPG_ANY,
        **values,
    )
    return _serialized(message)


def _serialized(message: Any) -> bytes:
    message.serialize()
    data = bytes(message.buf)
    return data[:4] + bytes(4) + data[8:]


NAT_RYU = parser.NXActionNAT(flags=1, range_ipv4_min="203.0.113.11", range_proto_min=1024, range_proto_max=65535)
MARK_RYU = parser.NXActionRegLoad(0, "ct_mark", 1)
CASES: list[tuple[Action, list[object]]] = [
    (Conjunction(77, 2, 2), [parser.NXActionConjunction(clause=1, n_clauses=2, id_=77)]),
    (
        Ct(None, "reg8", commit=True, mark=(1, 1)),
        [parser.NXActionCT(1, "reg8", 15, 255, 0, [MARK_RYU])],
    ),
    (
        Ct(Table.EGRESS_POLICY, "reg8", commit=True, force=True),
        [parser.NXActionCT(3, "reg8", 15, Table.EGRESS_POLICY, 0, [])],
    ),
    (SetField("metadata", 7), [parser.OFPActionSetField(metadata=7)]),
    (SetField("reg6", 7), [parser.OFPActionSetField(reg6=7)]),
    (SetField("eth_dst", 0x02544C000001), [parser.OFPActionSetField(eth_dst="02:54:4c:00:00:01")]),
    (
        Move("arp_sha", "arp_tha"),
        [parser.NXActionRegMove(src_field="arp_sha", dst_field="arp_tha", n_bits=48)],
    ),
    (Output(65001), [parser.OFPActionOutput(65001, 0)]),
    (OutputInPort(), [parser.OFPActionOutput(ofp.OFPP_IN_PORT, 0)]),
    (Controller(), [parser.OFPActionOutput(ofp.OFPP_CONTROLLER, 0xFFFF)]),
    (PushVlan(5), [parser.OFPActionPushVlan(0x8100), parser.OFPActionSetField(vlan_vid=0x1005)]),
    (PopVlan(), [parser.OFPActionPopVlan()]),
    (DecTtl(), [parser.OFPActionDecNwTtl()]),
    (CtClear(), [parser.NXActionCTClear()]),
    (Resubmit(Table.FLOOD), [parser.NXActionResubmitTable(table_id=Table.FLOOD)]),
    (
        Ct(Table.EXTERNAL_OUT, CtZone.SNAT, commit=True, nat=Nat(0xCB00710B, (1024, 65535))),
        [parser.NXActionCT(1, "", CtZone.SNAT, Table.EXTERNAL_OUT, 0, [NAT_RYU])],
    ),
    (
        Ct(Table.ROUTING, 12, translate=True),
        [parser.NXActionCT(0, "", 12, Table.ROUTING, 0, [parser.NXActionNAT(flags=0)])],
    ),
]


@pytest.mark.parametrize(("ours", "theirs"), CASES, ids=lambda case: type(case).__name__)
def test_action_is_byte_identical_to_ryu(ours: Action, theirs: list[object]) -> None:
    flow = Flow(Table.CLASSIFY, 100, matching(eth_type=0x0800, ip_dst=(0x0A000000, 0xFF000000)), (ours,), 5)
    match = {"eth_type": 0x0800, "ipv4_dst": ("10.0.0.0", "255.0.0.0")}
    assert wire.encode_add(flow) == _ryu(match, theirs, None, table_id=0, priority=100, cookie=5)


def test_translation_of_ipv6_is_byte_identical_to_ryu() -> None:
    ours = Ct(Table.SERVICE_OUT, 30001, commit=True, nat=Nat(0x0064_FF9B << 96 | 7, (1024, 65535), family=0x86DD))
    nat = parser.NXActionNAT(flags=1, range_ipv6_min="64:ff9b::7", range_proto_min=1024, range_proto_max=65535)
    theirs = [parser.NXActionCT(1, "", 30001, Table.SERVICE_OUT, 0, [nat])]
    made = wire.encode_add(Flow(Table.SERVICE_NAT, 100, matching(eth_type=0x86DD), (ours,), 5))
    expected = {"table_id": Table.SERVICE_NAT, "priority": 100, "cookie": 5}
    assert made == _ryu({"eth_type": 0x86DD}, theirs, None, **expected)


def test_match_and_goto_are_byte_identical_to_ryu() -> None:
    fields = matching(in_port=3, metadata=9, eth_src=0xFA163E000001, eth_type=0x0806, arp_op=1, arp_spa=0x0A000001)
    flow = Flow(Table.PORT_SECURITY, 7, fields, (Goto(Table.ARP_RESPONDER),), 1)
    match = {
        "in_port": 3,
        "metadata": 9,
        "eth_src": "fa:16:3e:00:00:01",
        "eth_type": 0x0806,
        "arp_op": 1,
        "arp_spa": "10.0.0.1",
    }
    assert wire.encode_add(flow) == _ryu(match, [], Table.ARP_RESPONDER, table_id=4, priority=7, cookie=1)


def test_ipv6_is_byte_identical_to_ryu() -> None:
    net, host, mac = 0x20010DB8 << 96, (0xFE80 << 112) | 1, 0xFA163E000001
    fields = {"eth_type": 0x86DD, "ip_proto": 58, "ipv6_dst": host, "icmpv6_type": 135, "icmpv6_code": 0}
    made = matching(**fields, ipv6_src=(net, ((1 << 64) - 1) << 64), nd_target=host, nd_sll=mac)
    flow = Flow(Table.ND_SECURITY, 7, made, (SetField("ipv6_src", host), Move("ipv6_src", "ipv6_dst")), 1)
    match = {
        "eth_type": 0x86DD,
        "ip_proto": 58,
        "ipv6_src": ("2001:db8::", "ffff:ffff:ffff:ffff::"),
        "ipv6_dst": "fe80::1",
        "icmpv6_type": 135,
        "icmpv6_code": 0,
        "ipv6_nd_target": "fe80::1",
        "ipv6_nd_sll": "fa:16:3e:00:00:01",
    }
    actions = [
        parser.OFPActionSetField(ipv6_src="fe80::1"),
        parser.NXActionRegMove(src_field="ipv6_src", dst_field="ipv6_dst", n_bits=128),
    ]
    assert wire.encode_add(flow) == _ryu(match, actions, None, table_id=9, priority=7, cookie=1)


def test_a_meter_comes_before_the_actions_byte_identical_to_ryu() -> None:
    actions = Meter(60_007), SetField("ip_dscp", 46), Goto(Table.SERVICES)
    flow = Flow(Table.PORT_SECURITY, 7, matching(reg6=3, eth_type=0x0800, ip_dscp=1), actions, 1)
    message = parser.OFPFlowMod(
        _Datapath,
        match=parser.OFPMatch(reg6=3, eth_type=0x0800, ip_dscp=1),
        instructions=[
            parser.OFPInstructionMeter(60_007),
            parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, [parser.OFPActionSetField(ip_dscp=46)]),
            parser.OFPInstructionGotoTable(Table.SERVICES),
        ],
        out_port=ofp.OFPP_ANY,
        out_group=ofp.OFPG_ANY,
        table_id=4,
        priority=7,
        cookie=1,
    )
    assert wire.encode_add(flow) == _serialized(message)


@pytest.mark.parametrize("packets", [False, True])
@pytest.mark.parametrize("modify", [False, True])
def test_a_meter_is_byte_identical_to_ryu(packets: bool, modify: bool) -> None:
    unit = ofp.OFPMF_PKTPS if packets else ofp.OFPMF_KBPS
    band = parser.OFPMeterBandDrop(rate=10_000, burst_size=4000)
    command = ofp.OFPMC_MODIFY if modify else ofp.OFPMC_ADD
    theirs = parser.OFPMeterMod(_Datapath, command, unit | ofp.OFPMF_BURST | ofp.OFPMF_STATS, 30_001, [band])
    assert wire.encode_meter(MeterConfig(30_001, 10_000, 4000, packets), modify=modify) == _serialized(theirs)
    assert wire.delete_meter(7) == _serialized(parser.OFPMeterMod(_Datapath, ofp.OFPMC_DELETE, 0, 7))


def _packet_in(frame: bytes) -> bytes:
    match = bytes.fromhex("0001000c80000004") + (7).to_bytes(4) + bytes(4)
    body = (0xFFFFFFFF).to_bytes(4) + len(frame).to_bytes(2) + b"\x00\x0c" + (0x54 << 56).to_bytes(8)
    body += match + bytes(2) + frame
    return b"\x05\x0a" + (8 + len(body)).to_bytes(2) + bytes(4) + body


def test_packet_in_round_trip() -> None:
    parsed = wire.parse_packet_in(_packet_in(b"frame"))
    assert parsed == wire.PacketIn(0x54 << 56, 7, 0, b"frame")


def test_a_cut_packet_in_is_refused_not_raised() -> None:
    whole = _packet_in(b"frame")
    for length in range(8, 42):
        assert wire.parse_packet_in(whole[:length]) is None


@pytest.mark.parametrize("length", range(16, 70))
def test_a_cut_stamp_reply_raises_value_error_and_never_loops(length: int) -> None:
    reply = bytearray(b"\x05\x13\x00\x00\x00\x00\x00\x00" + bytes.fromhex("0001000000000000") + bytes(length - 16))
    if length == 16:
        assert wire.parse_stamp_reply(bytes(reply)) is None
        return
    with pytest.raises(ValueError):
        wire.parse_stamp_reply(bytes(reply))
