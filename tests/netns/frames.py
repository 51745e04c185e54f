"""Raw frames into and out of a namespace, and what a switch and the controller counted of them."""

from __future__ import annotations

import re
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from controller.packet_in import frames
from controller.packet_in import outcomes as outcome
from etc.lab import netns
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import wait_until
from etc.lab.vm import INTERFACE, Vm
from flows.pipeline import GATEWAY_MAC
from flows.rules import Rule, decode_cookie
from tests.unit.packet_in.wire import Message, Reply, internet_sum, take_apart

IPV4, ARP, IPV6, RARP = 0x0800, 0x0806, 0x86DD, 0x8035
BROADCAST = b"\xff" * 6
GATEWAY = frames.mac_bytes(GATEWAY_MAC)
ETHERTYPE_ALL = 0x0003
_FLOW = re.compile(r"cookie=(0x[0-9a-f]+),.* n_packets=(\d+),")
_OUTCOME = re.compile(r'^trunkline_packet_in_outcomes_total\{outcome="(\w+)"\} ([\d.]+)', re.MULTILINE)
_USUAL = (outcome.NEIGHBOUR_SEEN, outcome.NEIGHBOUR_UNWANTED)
_SO_RCVBUFFORCE = 33  # linux/asm-generic/socket.h
_RECEIVE_BUFFER = 8 << 20


@dataclass(frozen=True)
class Asked:
    """A DHCP client's message; `unicast` says where its frame and its packet went."""

    type: int
    xid: int
    ciaddr: IPv4Address
    source: IPv4Address
    destination: IPv4Address
    unicast: bool


def take_request(frame: bytes) -> Asked:
    """Of an untagged frame without IP options."""
    bootp = frame[42:]
    assert bootp[:3] == b"\x01\x01\x06"
    at = 240
    while bootp[at] != 53:
        at += 1 if bootp[at] == 0 else 2 + bootp[at + 1]
    return Asked(
        bootp[at + 2],
        int.from_bytes(bootp[4:8]),
        IPv4Address(bootp[12:16]),
        IPv4Address(frame[26:30]),
        IPv4Address(frame[30:34]),
        not frame[0] & 1 and frame[30:34] != b"\xff" * 4,
    )


class Tap:
    """Sends frames as they are, and keeps what arrives at an interface, or with `outgoing` also what leaves it."""

    def __init__(self, namespace: str, interface: str = INTERFACE, *, outgoing: bool = False) -> None:
        with netns.inside(namespace):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        self._socket.bind((interface, ETHERTYPE_ALL))
        self._socket.setblocking(False)
        self._outgoing = outgoing
        self._frames: list[bytes] = []

    def close(self) -> None:
        self._socket.close()

    def send(self, *frames_: bytes) -> None:
        self._socket.setblocking(True)
        for frame in frames_:
            self._socket.send(frame)
        self._socket.setblocking(False)

    def frames(self) -> list[bytes]:
        """All that has passed since the start or the last `clear`."""
        while True:
            try:
                frame, address = self._socket.recvfrom(65536)
            except BlockingIOError:
                return self._frames
            if self._outgoing or address[2] != socket.PACKET_OUTGOING:
                self._frames.append(frame)

    def clear(self) -> None:
        self.frames()
        self._frames = []

    def wait_for(self, condition: Callable[[bytes], object], deadline: float = 20.0, what: str = "") -> bytes:
        """The first frame for which the condition holds. Raises DeadlineMissed."""
        return wait_until(lambda: [frame for frame in self.frames() if condition(frame)], deadline, what)[0]

    # DHCP

    def dhcp(self, xid: int | None = None) -> list[Reply]:
        """The server's messages, of one transaction or of all; asserts that their lengths and checksums are right."""
        replies = [take_apart(frame) for frame in self.frames() if is_dhcp(frame, 67, 68)]
        return [reply for reply in replies if xid is None or reply.xid == xid]

    def wait_dhcp(self, number: int, deadline: float = 20.0) -> list[Reply]:
        """All of the server's messages, as soon as there are so many: it counts one before it is here. Raises
        DeadlineMissed.
        """
        wait_until(lambda: len(self.dhcp()) >= number, deadline, lambda: f"{number} answers, not {len(self.dhcp())}")
        return self.dhcp()

    def asked(self) -> list[Asked]:
        """The client's messages; only a tap with `outgoing` sees them."""
        return [take_request(frame) for frame in self.frames() if is_dhcp(frame, 68, 67)]

    def ask(self, message: Message, deadline: float = 20.0) -> Reply:
        """Sends a client's message and waits for the answer."""
        self.send(sound(message.frame()))
        return wait_until(lambda: self.dhcp(message.xid), deadline, f"an answer to transaction {message.xid:#x}")[-1]


def is_dhcp(frame: bytes, source: int | None = None, target: int | None = None) -> bool:
    """UDP between ports 67 and 68, behind any VLAN tag."""
    offset = 18 if frame[12:14] == b"\x81\x00" else 14
    if frame[offset - 2 : offset] != b"\x08\x00" or len(frame) < offset + 28 or frame[offset + 9] != 17:
        return False
    ports = struct.unpack_from("!HH", frame, offset + (frame[offset] & 15) * 4)
    return set(ports) <= {67, 68} and (source is None or ports == (source, target))


def client_message(vm: Vm, kind: int | None, **fields: Any) -> Message:
    """A message from a VM's own MAC address."""
    return Message(type=kind, mac=mac_of(vm), **fields)


def sound(frame: bytes) -> bytes:
    """An IPv4 frame without IP options, with lengths that cover the frame and a right header checksum."""
    total = (len(frame) - 14).to_bytes(2, "big")
    header = frame[14:16] + total + frame[18:24] + b"\0\0" + frame[26:34]
    checked = header[:10] + (0xFFFF - internet_sum(header)).to_bytes(2, "big") + header[12:]
    return frame[:14] + checked + frame[34:]


# building


def mac_of(vm: Vm) -> bytes:
    return frames.mac_bytes(vm.mac)


def mac(text: str) -> bytes:
    return frames.mac_bytes(text)


def udp(
    vm: Vm,
    target: IPv4Address | str,
    ports: tuple[int, int] = (9999, 9999),
    payload: bytes = b"",
    *,
    eth_src: bytes | None = None,
    eth_dst: bytes = BROADCAST,
    source: IPv4Address | str | None = None,
) -> bytes:
    """A datagram of a VM; by default from its own addresses, to everybody."""
    source_ip = IPv4Address(source or vm.address).packed
    target_ip = IPv4Address(target).packed
    datagram = frames.udp(source_ip, target_ip, *ports, payload)
    packet = frames.ipv4(source_ip, target_ip, frames.PROTOCOL_UDP, datagram)
    return frames.ethernet(eth_dst, eth_src or mac_of(vm), IPV4, packet)


def packet(vm: Vm, target: IPv4Address | str, protocol: int, payload: bytes, **fields: bytes) -> bytes:
    """Any IPv4 packet of a VM; `fields` are those of `raw`."""
    return raw(vm, IPV4, frames.ipv4(vm.address.packed, IPv4Address(target).packed, protocol, payload), **fields)


def echo(vm: Vm, target: IPv4Address | str, payload: bytes, **fields: bytes) -> bytes:
    """An echo request of a VM; `fields` are those of `raw`."""
    message = bytes((8, 0, 0, 0)) + payload
    summed = message[:2] + frames.checksum(message).to_bytes(2) + message[4:]
    return packet(vm, target, frames.PROTOCOL_ICMP, summed, **fields)


def snap(frame: bytes, oui: bytes = bytes(3)) -> bytes:
    """An Ethernet frame as one of IEEE 802.3, with SNAP (RFC 1042)."""
    payload = b"\xaa\xaa\x03" + oui + frame[12:]
    return frame[:12] + len(payload).to_bytes(2) + payload


def summed(frame: bytes) -> bytes:
    """A frame of IPv4 with the right checksum in a header that has been changed, options included."""
    end = 14 + (frame[14] & 15) * 4
    header = frame[14:24] + b"\0\0" + frame[26:end]
    return frame[:24] + frames.checksum(header).to_bytes(2) + frame[26:]


def fragment(frame: bytes, offset: int, *, more: bool, payload: bytes | None = None) -> bytes:
    """The datagram of a frame as a fragment at `offset` bytes, with another payload if one is given."""
    field = (offset // 8 | (0x2000 if more else 0)).to_bytes(2, "big")
    return sound(frame[:20] + field + frame[22:34] + (frame[34:] if payload is None else payload))


def arp(
    vm: Vm,
    operation: int,
    sender: IPv4Address | str,
    target: IPv4Address | str,
    *,
    sha: bytes | None = None,
    eth_src: bytes | None = None,
    eth_dst: bytes = BROADCAST,
    tha: bytes = bytes(6),
) -> bytes:
    body = frames.Arp(operation, sha or mac_of(vm), IPv4Address(sender).packed, tha, IPv4Address(target).packed)
    return frames.ethernet(eth_dst, eth_src or mac_of(vm), ARP, frames.arp(body)).ljust(60, b"\0")


def raw(vm: Vm, ethertype: int, payload: bytes, *, eth_dst: bytes = BROADCAST, eth_src: bytes | None = None) -> bytes:
    return frames.ethernet(eth_dst, eth_src or mac_of(vm), ethertype, payload).ljust(60, b"\0")


def rarp(vm: Vm, *, eth_src: bytes | None = None) -> bytes:
    """As QEMU broadcasts it for a VM that has moved (RFC 903)."""
    body = struct.pack("!HHBBH", 1, IPV4, 6, 4, 3) + (mac_of(vm) + bytes(4)) * 2
    return raw(vm, RARP, body, eth_src=eth_src)


def tagged(frame: bytes, *tags: tuple[int, int]) -> bytes:
    """Puts tags (ethertype, tag control) between the addresses and the ethertype, the outermost first."""
    return frame[:12] + b"".join(struct.pack("!HH", *tag) for tag in tags) + frame[12:]


# counting


def drops(node: Node) -> Counter[tuple[Rule, int]]:
    """How many packets each named drop of a node's integration bridge has counted, by rule and object key."""
    return _packets(node, lambda rule: rule.drop)


def packets(node: Node) -> Counter[tuple[Rule, int]]:
    return _packets(node, lambda _: True)


def _packets(node: Node, wanted: Callable[[Rule], bool]) -> Counter[tuple[Rule, int]]:
    node.ovs.appctl("revalidator/wait")  # what only the datapath has counted yet
    counted: Counter[tuple[Rule, int]] = Counter()
    for value, number in _FLOW.findall(node.ovs.ofctl("dump-flows", "br-int")):
        decoded = decode_cookie(int(value, 16))
        if decoded and wanted(decoded[0]):
            counted[decoded] += int(number)
    return counted


def outcomes(lab: Lab) -> Counter[str]:
    """What the controller made of the packets that it got, since it started, but for what routers say of themselves."""
    status, text = lab.control.request("GET", "/metrics")
    assert status == 200, text
    found = {name: int(float(value)) for name, value in _OUTCOME.findall(text)}
    return Counter({name: value for name, value in found.items() if name not in _USUAL})


def describe(seen: Iterable[bytes]) -> str:
    """Frames for a failure's report."""
    return "\n".join(frame[:64].hex(" ") for frame in list(seen)[:5])
