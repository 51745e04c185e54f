"""What becomes of a packet's fields in the command that Open vSwitch is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent import ofproto_trace
from agent.ofproto_trace import MOST, MOST_PACKETS, TIMEOUT_S, BadPacket, command_of, flow_text, trace
from agent.vswitchd import CommandFailed
from flows.protocols import ETH_ARP, ETH_IP, ETH_IPV6, PROTO_TCP

MACS = {"eth_src": 0x020000000007, "eth_dst": 0x020000000008}
TCP = {**MACS, "eth_type": ETH_IP, "ip_proto": PROTO_TCP, "ip_src": 0x0A000007, "ip_dst": 0x0A000008, "tcp_dst": 80}


def test_a_packet_in_the_words_of_open_vswitch() -> None:
    assert flow_text(7, TCP) == (
        "in_port=7,dl_dst=02:00:00:00:00:08,dl_src=02:00:00:00:00:07,eth_type=2048,nw_ttl=64,nw_proto=6,"
        "nw_src=10.0.0.7,nw_dst=10.0.0.8,tcp_src=0,tcp_dst=80"
    )
    tagged = flow_text(65001, {**MACS, "eth_type": ETH_ARP, "vlan_vid": 0x1064, "arp_op": 1, "arp_tpa": 0x0A000008})
    assert "vlan_tci=0x1064" in tagged and "arp_tpa=10.0.0.8" in tagged and "arp_sha=00:00:00:00:00:00" in tagged
    assert "ipv6_src=::7" in flow_text(7, {"eth_type": ETH_IPV6, "ip_proto": 6, "ipv6_src": 7})


@pytest.mark.parametrize(
    ("in_port", "fields"),
    [
        (0, TCP),
        (0xFF00, TCP),
        ("7", TCP),
        ("7,actions=drop", TCP),
        (True, TCP),
        (None, TCP),
        (7, None),
        (7, [1]),
        (7, {"tcp_dst": 80}),
        (7, TCP | {"tcp_dst": "80"}),
        (7, TCP | {"tcp_dst": True}),
        (7, TCP | {"tcp_dst": 65536}),
        (7, TCP | {"tcp_dst": -1}),
        (7, TCP | {"udp_dst": 80}),
        (7, TCP | {"reg0": 1}),
        (7, TCP | {"metadata": 1}),
        (7, TCP | {"ct_state": 1}),
        (7, TCP | {"payload": 1}),
        (7, TCP | {"in_port": 1}),
        (7, TCP | {"dl_dst": 1}),
        (7, TCP | {"-generate": 1}),
        (7, {**MACS, "eth_type": ETH_IP, "ip_frag": 1}),
    ],
)
def test_what_is_no_packet_is_refused(in_port: Any, fields: Any) -> None:
    with pytest.raises(BadPacket):
        flow_text(in_port, fields)


KNOWN = {"reg7": 0xFFFFFFFE, "metadata": 2, "ct_tp_dst": 80, "ct_nw_src": 0x0A000007, "ct_state": 33, "ct_mark": 4}


def test_a_packet_goes_on_in_a_table_with_what_is_known_of_it() -> None:
    method, bridge, text, actions = command_of("br-int", {"in_port": 7, "table": 54, "fields": TCP | KNOWN})
    assert (method, bridge, actions) == ("ofproto/trace-packet-out", "br-int", "resubmit(,54)")
    assert text == flow_text(7, TCP) + (
        ",metadata=2,reg7=4294967294,ct_state=33,ct_mark=4,ct_nw_src=10.0.0.7,ct_tp_dst=80"
    ), "what needs the state of conntrack comes behind it"
    assert "in_port=0," in command_of("br-int", {"in_port": 0, "table": 40, "fields": TCP})[2]
    assert "ct_ipv6_src=::7" in command_of("b", {"in_port": 1, "table": 9, "fields": {**TCP, "ct_ipv6_src": 7}})[2]
    assert command_of("br-int", {"in_port": 7, "table": 0, "fields": TCP}) == (
        "ofproto/trace",
        "br-int",
        flow_text(7, TCP),
    )


@pytest.mark.parametrize(
    "packet",
    [
        None,
        [],
        {},
        {"in_port": 7, "fields": TCP},
        {"in_port": 7, "table": 54, "fields": TCP, "bridge": "br-ex"},
        {"in_port": 7, "table": 255, "fields": TCP},
        {"in_port": 7, "table": -1, "fields": TCP},
        {"in_port": 7, "table": True, "fields": TCP},
        {"in_port": 7, "table": "54", "fields": TCP},
        {"in_port": 7, "table": 0, "fields": TCP | KNOWN},
        {"in_port": 0, "table": 0, "fields": TCP},
        {"in_port": -1, "table": 54, "fields": TCP},
        {"in_port": 7, "table": 54, "fields": TCP | {"reg7": 1 << 32}},
        {"in_port": 7, "table": 54, "fields": TCP | {"ct_nw_src": -1}},
        {"in_port": 7, "table": 54, "fields": TCP | {"reg7": "1,actions=drop"}},
        {"in_port": 7, "table": 54, "fields": TCP | {"in_port": 1}},
        {"in_port": 7, "table": 54, "fields": TCP | {"conj_id": 1}},
        {"in_port": 7, "table": 54, "fields": {"reg7": 1, "tcp_dst": 80}},
    ],
)
def test_what_is_no_packet_in_a_table_is_refused(packet: Any) -> None:
    with pytest.raises(BadPacket):
        command_of("br-int", packet)


def test_nothing_else_is_taken(tmp_path: Path) -> None:
    packet = {"in_port": 7, "table": 0, "fields": TCP}
    with pytest.raises(BadPacket, match="bridge"):
        trace([tmp_path], "br-int", {"packets": [packet], "bridge": "br-ex"})
    for wrong in (None, packet, [], [packet] * (MOST_PACKETS + 1), [packet, None]):
        with pytest.raises(BadPacket):
            trace([tmp_path], "br-int", {"packets": wrong})
    with pytest.raises(CommandFailed, match="no control socket"):
        trace([tmp_path], "br-int", {"packets": [packet]})


def test_all_of_an_errand_have_one_limit_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[float, int]] = []

    def command(*_words: object, timeout: float, most: int) -> str:
        limits.append((timeout, most))
        return "x" * 100

    monkeypatch.setattr(ofproto_trace, "command", command)
    monkeypatch.setattr(ofproto_trace, "control_socket", lambda places: places[0])
    packet = {"in_port": 7, "table": 0, "fields": TCP}
    assert trace([tmp_path], "br-int", {"packets": [packet] * 3}) == {"outputs": ["x" * 100] * 3}
    assert [most for _, most in limits] == [MOST, MOST - 100, MOST - 200]
    times = [timeout for timeout, _ in limits]
    assert times == sorted(times, reverse=True) and len(set(times)) == 3 and times[0] <= TIMEOUT_S
