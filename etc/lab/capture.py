"""Watch an interface and say, in facts, what passed by."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path
from types import TracebackType

from etc.lab import netns
from etc.lab.processes import Process, start, wait_until

ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_ARP = 0x0806
ETHERTYPE_VLAN = 0x8100
ICMP, TCP, UDP = 1, 6, 17

_PCAP_HEADER = 24
_PCAP_RECORD = 16
_NUMBERS = count(1)


@dataclass(frozen=True)
class Seen:
    """One frame. Fields that its protocol does not have are None; `at` is in seconds since 1970."""

    at: float
    length: int
    eth_src: str
    eth_dst: str
    ethertype: int
    vlan: int | None = None
    src: IPv4Address | None = None
    """IPv4 source, or ARP sender address."""
    dst: IPv4Address | None = None
    """IPv4 destination, or ARP target address."""
    protocol: int | None = None
    """IPv4 protocol number, or ARP operation."""
    ttl: int | None = None
    src_port: int | None = None
    dst_port: int | None = None
    icmp_type: int | None = None


class Capture:
    """tcpdump on one interface of a namespace, for the time of a `with`. `match` is a filter as in pcap-filter(7)."""

    def __init__(self, namespace: str, interface: str, match: str, directory: Path) -> None:
        self._namespace = namespace
        self._interface = interface
        self._match = match
        directory.mkdir(parents=True, exist_ok=True)
        self._file = directory / f"{namespace}-{interface}-{next(_NUMBERS)}.pcap"
        self._process: Process | None = None

    def __enter__(self) -> Capture:
        line = ["tcpdump", "-i", self._interface, "-n", "-U", "-Z", "root", "--immediate-mode", "-w", str(self._file)]
        command = netns.command(self._namespace, [*line, *self._match.split()])
        process = start(f"tcpdump of {self._namespace}", command, self._file.with_suffix(".log"))
        self._process = process
        process.wait_for(lambda: "listening on" in process.tail(), 10, "tcpdump does not listen")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process:
            self._process.stop()

    def seen(self, condition: Callable[[Seen], bool] = lambda _: True) -> list[Seen]:
        """The frames so far for which the condition holds."""
        content = self._file.read_bytes() if self._file.exists() else b""
        return [frame for frame in parse_pcap(content) if condition(frame)]

    def wait_for(self, condition: Callable[[Seen], bool], deadline: float = 20.0, what: str = "") -> list[Seen]:
        """Wait until such a frame passed by. Raises DeadlineMissed."""
        return wait_until(lambda: self.seen(condition), deadline, what or f"a frame on {self._interface}")


def parse_pcap(content: bytes) -> list[Seen]:
    """The frames of a pcap file as tcpdump writes it on this machine; a record cut at the end is left out."""
    frames = []
    offset = _PCAP_HEADER
    while offset + _PCAP_RECORD <= len(content):
        seconds, microseconds, captured, length = struct.unpack_from("=IIII", content, offset)
        offset += _PCAP_RECORD
        if offset + captured > len(content):
            break
        frames.append(parse_frame(content[offset : offset + captured], seconds + microseconds / 1e6, length))
        offset += captured
    return frames


def parse_frame(data: bytes, at: float = 0.0, length: int | None = None) -> Seen:
    """Take the facts out of one Ethernet frame of at least 14 bytes."""
    dst, src, ethertype = data[:6].hex(":"), data[6:12].hex(":"), int.from_bytes(data[12:14])
    vlan, rest = None, data[14:]
    if ethertype == ETHERTYPE_VLAN:
        vlan, ethertype, rest = int.from_bytes(rest[:2]) & 0xFFF, int.from_bytes(rest[2:4]), rest[4:]
    seen = Seen(at, len(data) if length is None else length, src, dst, ethertype, vlan)
    if ethertype == ETHERTYPE_ARP and len(rest) >= 28:
        operation = int.from_bytes(rest[6:8])
        return replace(seen, src=IPv4Address(rest[14:18]), dst=IPv4Address(rest[24:28]), protocol=operation)
    if ethertype != ETHERTYPE_IPV4 or len(rest) < 20:
        return seen
    protocol, payload = rest[9], rest[(rest[0] & 15) * 4 :]
    has_ports = protocol in (TCP, UDP) and len(payload) >= 4
    src_port, dst_port = struct.unpack_from("!HH", payload) if has_ports else (None, None)
    return replace(
        seen,
        src=IPv4Address(rest[12:16]),
        dst=IPv4Address(rest[16:20]),
        protocol=protocol,
        ttl=rest[8],
        src_port=src_port,
        dst_port=dst_port,
        icmp_type=payload[0] if protocol == ICMP and payload else None,
    )
