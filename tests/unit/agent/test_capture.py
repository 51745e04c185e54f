"""What a capture is about: its arguments, its device, its frames."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from agent import pcap
from agent.capture import MOST_BYTES, BadCapture, Wanted, device_of
from agent.frame_filter import FrameFilter
from agent.state import MARK_AGENT, MARK_KEY, BridgeState, OvsState, PortState
from controller.api import captures as api
from etc.lab.capture import parse_pcap
from flows.packet import packet
from flows.protocols import ETH_ARP, ETH_IP, ETH_IPV6, PROTO_ICMP, PROTO_TCP, PROTO_UDP
from tests.ovs.frames import encode

SOUND: dict[str, Any] = {
    "capture": "0123456789abcdef" * 2,
    "iface_id": "7d5ea0a2-5a55-4bd2-b1e0-0d63a3b0a077",
    "seconds": 30,
    "packets": 1000,
    "snaplen": 128,
    "bytes": 1 << 20,
    "filter": {"protocol": 6},
}


def test_sound_arguments() -> None:
    wanted = Wanted.parse(SOUND)
    assert (wanted.seconds, wanted.packets, wanted.snaplen, wanted.bytes) == (30, 1000, 128, 1 << 20)
    assert wanted.filter == FrameFilter(protocol=6)
    assert Wanted.parse(SOUND | {"bytes": api.MOST_BYTES}).bytes == MOST_BYTES


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("capture", "../../ports"),
        ("capture", "0" * 31),
        ("capture", None),
        ("iface_id", "x; reboot"),
        ("iface_id", ""),
        ("iface_id", ["x"]),
        *(
            (name, value)
            for name in ("seconds", "packets", "snaplen", "bytes")
            for value in (0, -1, True, "7", 1 << 40)
        ),
        ("filter", []),
        ("filter", {"net": "10.0.0.0/8"}),
        ("filter", {"protocol": 256}),
        ("filter", {"protocol": True}),
        ("filter", {"port": -1}),
        ("filter", {"address": "10.0.0.0/8"}),
        ("filter", {"address": 7}),
        ("command", "reboot"),
    ],
)
def test_others_are_refused(name: str, value: object) -> None:
    with pytest.raises(BadCapture):
        Wanted.parse(SOUND | {name: value})
    if name in SOUND and name != "filter":
        with pytest.raises(BadCapture):
            Wanted.parse({key: value for key, value in SOUND.items() if key != name})


def interface(iface_id: str, ofport: int | None = 7, kind: str = "") -> dict[str, Any]:
    return {"external_ids": {"iface-id": iface_id}, "ofport": ofport, "type": kind}


STATE = OvsState(
    bridges={
        "br-int": BridgeState("br-int", ("vm1", "vm2", "vm3", "uplink-lan", "vhu")),
        "br-lan": BridgeState("br-lan", ("eth0",)),
    },
    ports={
        "vm1": PortState("vm1", "br-int", ("vm1",)),
        "vm2": PortState("vm2", "br-int", ("vm2",)),
        "vm3": PortState("vm3", "br-int", ("vm3",)),
        "vhu": PortState("vhu", "br-int", ("vhu",)),
        "uplink-lan": PortState("uplink-lan", "br-int", ("uplink-lan",), {"external_ids": {MARK_KEY: MARK_AGENT}}),
        "eth0": PortState("eth0", "br-lan", ("eth0",)),
    },
    interfaces={
        "vm1": interface("one", 9),
        "vm2": interface("one", 8),
        "vm3": interface("not open", -1),
        "vhu": interface("dpdk", 5, "dpdkvhostuserclient"),
        "uplink-lan": interface("uplink"),
        "eth0": interface("card"),
    },
)  # fmt: skip


def test_the_device_is_that_of_the_port() -> None:
    assert device_of(STATE, "br-int", "one") == "vm2", "the one with the lower number is bound"


@pytest.mark.parametrize("iface_id", ["two", "not open", "uplink", "card"])
def test_nothing_else_is_looked_at(iface_id: str) -> None:
    with pytest.raises(BadCapture, match="not in Open vSwitch"):
        device_of(STATE, "br-int", iface_id)


def test_what_cannot_be_seen_is_said() -> None:
    with pytest.raises(BadCapture, match="vhu is of type dpdkvhostuserclient"):
        device_of(STATE, "br-int", "dpdk")
    for state in (None, OvsState()):
        with pytest.raises(BadCapture, match="no bridge"):
            device_of(state, "br-int", "one")


A, B = "10.0.0.7", "10.0.0.8"
ENDS = {"ip_src": int(ip_address(A)), "ip_dst": int(ip_address(B)), "eth_type": ETH_IP}
ENDS6 = {
    "ipv6_src": int(ip_address("2001:db8::7")),
    "ipv6_dst": int(ip_address("2001:db8::8")),
    "eth_type": ETH_IPV6,
}
FRAMES = {
    "tcp": encode(packet(**ENDS, ip_proto=PROTO_TCP, tcp_src=4000, tcp_dst=80)),
    "tagged": encode(packet(**ENDS, ip_proto=PROTO_TCP, tcp_src=4000, tcp_dst=80, vlan_vid=0x1007)),
    "udp": encode(packet(**ENDS, ip_proto=PROTO_UDP, udp_src=80, udp_dst=53)),
    "icmp": encode(packet(**ENDS, ip_proto=PROTO_ICMP, icmp_type=8)),
    "later": encode(packet(**ENDS, ip_proto=PROTO_UDP, ip_frag=3)),
    "arp": encode(packet(eth_type=ETH_ARP, arp_op=1, arp_spa=ENDS["ip_src"], arp_tpa=ENDS["ip_dst"])),
    "tcp6": encode(packet(**ENDS6, ip_proto=PROTO_TCP, tcp_src=4000, tcp_dst=80)),
    "later6": encode(packet(**ENDS6, ip_proto=44, ip_frag=3)),
    "cut": b"\0" * 13,
    "other": b"\0" * 12 + b"\x88\xcc" + b"\0" * 46,
}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({}, set(FRAMES) - {"cut"}),
        ({"protocol": 6}, {"tcp", "tagged", "tcp6"}),
        ({"protocol": 17}, {"udp", "later", "later6"}),
        ({"port": 80}, {"tcp", "tagged", "udp", "tcp6"}),
        ({"protocol": 17, "port": 53}, {"udp"}),
        ({"protocol": 6, "port": 53}, set()),
        ({"address": A}, {"tcp", "tagged", "udp", "icmp", "later", "arp"}),
        ({"address": B, "protocol": 1}, {"icmp"}),
        ({"address": "2001:db8::8"}, {"tcp6", "later6"}),
        ({"address": "10.0.0.9"}, set()),
    ],
)
def test_filters(given: dict[str, Any], taken: set[str]) -> None:
    it = FrameFilter.parse(given)
    assert {name for name, frame in FRAMES.items() if it.takes(frame)} == taken
    assert it.takes_all is (given == {})


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_that_ends_anywhere_harms_nothing(name: str) -> None:
    it = FrameFilter.parse({"port": 80, "address": "2001:db8::7"})
    for length in range(len(FRAMES[name])):
        it.takes(FRAMES[name][:length])
    it.takes(b"\x86\xdd".rjust(14, b"\0") + bytes(6) + b"\0" + bytes(200))  # extension headers without end


def test_a_file_that_others_read() -> None:
    at = 1_700_000_000_123_456_789
    data = FRAMES["tcp"]
    (seen,) = parse_pcap(pcap.header(60) + pcap.record(at, 1514, data))
    assert (seen.length, str(seen.src), seen.dst_port) == (1514, A, 80)
    assert seen.at == pytest.approx(1_700_000_000.123456, abs=1e-6)
