"""DISCOVER to OFFER through real Open vSwitch, with raw frames in a closed loop: a window of requests under way.

One port asks for all. What bounds it, in the switch and in the controller, is opened for that: to be measured is what
the controller can do.
"""

from __future__ import annotations

import re
import socket
import statistics
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

from etc.lab import netns
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.vm import INTERFACE, Vm
from tests.bench.figures import Figure, percentile_ms
from tests.bench.ports import make_network

UNLIMITED = 1_000_000
WINDOW = 64
RUNS = 5
SECONDS = 3.0
XID = 14 + 20 + 8 + 4  # where the xid stands in a frame
_LOST_AFTER_S = 0.5


@dataclass(frozen=True)
class Run:
    rate: float
    latencies: list[float]
    lost: int


def run() -> Iterator[Figure]:
    unlimited = {"packet_in": {"rate": UNLIMITED, "burst": UNLIMITED, "mute": 0}}
    with Lab("bench", nodes=1, control_options=unlimited, open_groups=True) as lab:
        lab.wait_connected()
        network = make_network(lab, "dhcp", 204)
        vm = lab.create_vm("d0", lab.nodes[0], network)
        vm.wait_configured()
        vm.stop_client()
        open_meters(lab.nodes[0])
        runs = [exchange(vm, WINDOW, SECONDS) for _ in range(RUNS)]
        for each in runs:
            print(f"   {each.rate:.0f} a second, p50 {percentile_ms(each.latencies, 50):.2f} ms, lost {each.lost}")
        middle = sorted(runs, key=lambda each: each.rate)[RUNS // 2]
        yield Figure("dhcp_offers_per_s", statistics.median(each.rate for each in runs), "1/s")
        yield Figure("dhcp_offer_p50_ms", percentile_ms(middle.latencies, 50), "ms")
        yield Figure("dhcp_offer_p99_ms", percentile_ms(middle.latencies, 99), "ms")


def open_meters(node: Node) -> None:
    """The controller does not ask again for what it has sent."""
    meters = re.findall(r"meter=(\d+)", node.ovs.ofctl("dump-meters", "br-int"))
    assert meters
    for meter in meters:
        band = f"type=drop,rate={UNLIMITED},burst_size={UNLIMITED}"
        node.ovs.ofctl("mod-meter", "br-int", f"meter={meter},pktps,burst,band={band}")


def discover(mac: bytes) -> bytearray:
    """A DISCOVER as udhcpc sends it (RFC 2131 §2)."""
    options = bytes.fromhex("638253633501013d0701") + mac + bytes.fromhex("370701030c0f1c2a79ff")
    bootp = struct.pack("!BBBBIHH16x", 1, 1, 6, 0, 0, 0, 0) + mac.ljust(16, b"\0") + bytes(192) + options
    bootp = bootp.ljust(300, b"\0")
    udp = struct.pack("!HHHH", 68, 67, 8 + len(bootp), 0) + bootp
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    header = header[:10] + struct.pack("!H", ~total & 0xFFFF) + header[12:]
    return bytearray(b"\xff" * 6 + mac + b"\x08\x00" + header + udp)


def exchange(vm: Vm, window: int, seconds: float) -> Run:
    """Keep `window` requests under way for some seconds; one that is not answered in half a second is lost."""
    frame = discover(bytes.fromhex(vm.mac.replace(":", "")))
    with netns.inside(vm.namespace):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    with raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        raw.bind((INTERFACE, 0x0800))
        raw.settimeout(_LOST_AFTER_S)
        return _closed_loop(raw, frame, window, seconds)


def _closed_loop(raw: socket.socket, frame: bytearray, window: int, seconds: float) -> Run:
    sent: dict[int, float] = {}
    latencies: list[float] = []
    now = time.perf_counter
    lost = 0
    xid = 0

    def send() -> None:
        nonlocal xid
        xid += 1
        frame[XID : XID + 4] = xid.to_bytes(4)
        sent[xid] = now()
        raw.send(frame)

    began = now()
    end = began + seconds
    for _ in range(window):
        send()
    while now() < end:
        try:
            reply = raw.recv(2048)
        except TimeoutError:
            lost += len(sent)
            sent.clear()
            for _ in range(window):
                send()
            continue
        if reply[34:36] != b"\x00\x43":  # our own requests are seen too
            continue
        asked = sent.pop(int.from_bytes(reply[XID : XID + 4]), None)
        if asked is not None:
            latencies.append(now() - asked)
            send()
    return Run(len(latencies) / (now() - began), latencies, lost)
