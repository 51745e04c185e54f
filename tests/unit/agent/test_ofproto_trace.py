"""What becomes of a packet's fields in the command that Open vSwitch is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.ofproto_trace import BadPacket, flow_text, judgements, trace
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


def test_what_conntrack_is_to_say() -> None:
    assert judgements([["trk", "est"], ["trk", "new"]]) == ["--ct-next", "trk,est", "--ct-next", "trk,new"]
    for wrong in (None, "trk", [[]], ["trk"], [["trk", "-generate"]], [[1]], [["trk"]] * 9):
        with pytest.raises(BadPacket):
            judgements(wrong)


def test_nothing_else_is_taken(tmp_path: Path) -> None:
    with pytest.raises(BadPacket, match="bridge"):
        trace([tmp_path], "br-int", {"in_port": 7, "fields": TCP, "bridge": "br-ex"})
    with pytest.raises(CommandFailed, match="no control socket"):
        trace([tmp_path], "br-int", {"in_port": 7, "fields": TCP})
