"""Requests for counters against Ryu's bytes, and answers as a switch gives them or an attacker would."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from ryu.ofproto import ofproto_v1_4 as ofp
from ryu.ofproto import ofproto_v1_4_parser as parser

from flows import statistics
from flows.statistics import FlowStats, PortStats
from tests.unit.flows.test_wire import _Datapath, _serialized

REQUESTS: list[tuple[Callable[[int], bytes], Any]] = [
    (statistics.ports_request, parser.OFPPortStatsRequest(_Datapath, 0, ofp.OFPP_ANY)),
    (statistics.meters_request, parser.OFPMeterStatsRequest(_Datapath, 0, ofp.OFPM_ALL)),
    (
        statistics.muted_request,
        parser.OFPFlowStatsRequest(
            _Datapath, 0, ofp.OFPTT_ALL, ofp.OFPP_ANY, ofp.OFPG_ANY, 0x4D << 56, 0xFF << 56, parser.OFPMatch()
        ),
    ),
    (
        lambda xid: statistics.flows_request(7, xid),
        parser.OFPFlowStatsRequest(
            _Datapath, 0, ofp.OFPTT_ALL, ofp.OFPP_ANY, ofp.OFPG_ANY, 7, 0xFFFFFFFF, parser.OFPMatch()
        ),
    ),
]


@pytest.mark.parametrize(("ours", "theirs"), REQUESTS)
def test_a_request_is_byte_identical_to_ryu(ours: Callable[[int], bytes], theirs: Any) -> None:
    assert ours(0) == _serialized(theirs)


def reply(kind: int, *entries: bytes) -> bytes:
    body = struct.pack("!HH4x", kind, 0) + b"".join(entries)
    return struct.pack("!BBHI", 5, 19, 8 + len(body), 1) + body


PORTS = reply(
    4,
    struct.pack("!H2xIII8Q", 120, 3, 0, 0, 1, 2, 3, 4, 5, 0xFFFFFFFFFFFFFFFF, 0, 0) + bytes(40),
    struct.pack("!H2xIII8Q", 80, 4, 0, 0, *range(8)),
)
FLOWS = reply(1, struct.pack("!HBxIIHHHH4xQQQ", 56, 4, 0, 0, 0, 0, 0, 0, 0x5400002200000007, 9, 999) + bytes(8))
METERS = reply(
    9,
    struct.pack("!IH6xIQQIIQQ", 30_001, 56, 1, 100, 1000, 0, 0, 40, 400),
    struct.pack("!IH6xIQQIIQQ", 7, 56, 1, 100, 1000, 0, 0, 0, 0),
)


def test_answers_are_read() -> None:
    assert statistics.parse_ports(PORTS) == {3: PortStats(1, 2, 3, 4, 5, 0), 4: PortStats(0, 1, 2, 3, 4, 5)}
    assert statistics.parse_flows(FLOWS) == [FlowStats(4, 0x5400002200000007, 9, 999)]
    assert statistics.parse_meters(METERS) == {30_001: 40, 7: 0}


@pytest.mark.parametrize(
    ("parse", "whole"),
    [(statistics.parse_ports, PORTS), (statistics.parse_flows, FLOWS), (statistics.parse_meters, METERS)],
)
def test_a_cut_answer_raises_value_error_and_never_loops(parse: Callable[[bytes], object], whole: bytes) -> None:
    for length in range(17, len(whole)):
        try:
            parse(whole[:length])
        except ValueError:
            continue
        assert length in (16 + 120, 16 + 56), length
    for other in {PORTS, FLOWS, METERS} - {whole}:
        with pytest.raises(ValueError, match="kind"):
            parse(other)
    zero = bytearray(whole)
    zero[16:24] = bytes(8)
    with pytest.raises(ValueError, match="0 bytes"):
        parse(bytes(zero))
