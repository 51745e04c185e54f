"""Neighbour discovery (RFC 4861): what hosts and next hops say, and what a node asks. Router advertisements are in
`router_advertisement`.
"""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Final, NamedTuple

from controller.packet_in import frames
from flows.ipv6 import LINK_LOCAL, eui64

ROUTER_SOLICITATION: Final = 133
ROUTER_ADVERTISEMENT: Final = 134
NEIGHBOUR_SOLICITATION: Final = 135
NEIGHBOUR_ADVERTISEMENT: Final = 136

SOURCE_LINK_LAYER: Final = 1
TARGET_LINK_LAYER: Final = 2

HOP_LIMIT: Final = 255
"""What no router has passed on (RFC 4861, 11.2)."""

ALL_NODES: Final = IPv6Address("ff02::1").packed
ALL_NODES_MAC: Final = bytes.fromhex("333300000001")
_SOLICITED_NODE = IPv6Address("ff02::1:ff00:0").packed[:13]
_SOLICITED_NODE_MAC = bytes.fromhex("3333ff")
_UNIT: Final = 8  # of an option's length
# bytes in front of the options: type, code, checksum, and what the message is about
_FIXED: Final = {
    ROUTER_SOLICITATION: 8,
    NEIGHBOUR_SOLICITATION: 24,
    NEIGHBOUR_ADVERTISEMENT: 24,
}
_SOLICITED_FLAG = 0x40
_OVERRIDE_FLAG = 0x20


class Message(NamedTuple):
    """`body` is what stands between the checksum and the options; of an option that repeats the first counts."""

    mac: bytes
    source: bytes
    destination: bytes
    kind: int
    body: bytes
    options: dict[int, bytes]


def parse(frame: bytes) -> Message | None:
    """A sound message of a kind that hosts send; None for what must be thrown away (RFC 4861, 6.1.1, 7.1)."""
    ethernet = frames.parse_ethernet(frame)
    if ethernet is None or ethernet.ethertype != frames.ETHERTYPE_IPV6:
        return None
    packet = frames.parse_ipv6(frame, ethernet.offset)
    if packet is None or packet.protocol != frames.PROTOCOL_ICMPV6 or packet.hop_limit != HOP_LIMIT:
        return None
    message = frame[packet.offset : packet.end]
    fixed = _FIXED.get(message[0])
    if fixed is None or len(message) < fixed or message[1]:
        return None
    options = _options(message, fixed)
    if options is None:
        return None
    if frames.ipv6_sum(packet.source, packet.destination, packet.protocol, message) != frames.SUM_RIGHT:
        return None
    return Message(ethernet.source, packet.source, packet.destination, message[0], message[4:fixed], options)


def _options(message: bytes, at: int) -> dict[int, bytes] | None:
    found: dict[int, bytes] = {}
    end = len(message)
    while at < end:
        if at + 2 > end:
            return None
        stop = at + message[at + 1] * _UNIT
        if stop == at or stop > end:
            return None
        found.setdefault(message[at], message[at + 2 : stop])
        at = stop
    return found


def option(kind: int, payload: bytes) -> bytes:
    """Type, length in units of 8 bytes, payload padded with zeros."""
    units = -(-(2 + len(payload)) // _UNIT)
    return (bytes((kind, units)) + payload).ljust(units * _UNIT, b"\0")


def frame(mac: bytes, source_mac: bytes, source: bytes, destination: bytes, message: bytes, vlan: int | None) -> bytes:
    """A message as it goes on the wire; its checksum is filled in."""
    sound = frames.icmpv6(source, destination, message)
    packet = frames.ipv6(source, destination, frames.PROTOCOL_ICMPV6, sound, HOP_LIMIT)
    return frames.ethernet(mac, source_mac, frames.ETHERTYPE_IPV6, packet, vlan)


def is_router_solicitation(message: Message) -> bool:
    """Sound also in what RFC 4861, 6.1.1 says of who has no address yet."""
    if message.kind != ROUTER_SOLICITATION:
        return False
    return message.source != frames.NO_IPV6 or SOURCE_LINK_LAYER not in message.options


def node_address(mac: int) -> IPv6Address:
    """The link-local address of a node on external networks: that of its MAC there."""
    return eui64(LINK_LOCAL, frames.mac_text(frames.mac_bytes(mac)))


def solicitation(node_mac: int, target: IPv6Address, vlan: int | None = None) -> bytes:
    """The question who has `target`, by multicast (RFC 4861, 7.2.2); `vlan` is the network's VLAN id."""
    mac, last = frames.mac_bytes(node_mac), target.packed[13:]
    body = bytes((NEIGHBOUR_SOLICITATION, 0, 0, 0)) + bytes(4) + target.packed + option(SOURCE_LINK_LAYER, mac)
    source = node_address(node_mac).packed
    return frame(_SOLICITED_NODE_MAC + last, mac, source, _SOLICITED_NODE + last, body, vlan)


def announcement(node_mac: int, address: IPv6Address, vlan: int | None = None) -> bytes:
    """An advertisement that nobody has asked for: a node now answers for an address with its MAC (RFC 4861, 7.2.6)."""
    mac = frames.mac_bytes(node_mac)
    flags = bytes((_OVERRIDE_FLAG, 0, 0, 0))
    body = bytes((NEIGHBOUR_ADVERTISEMENT, 0, 0, 0)) + flags + address.packed + option(TARGET_LINK_LAYER, mac)
    return frame(ALL_NODES_MAC, mac, node_address(node_mac).packed, ALL_NODES, body, vlan)


def parse_claim(frame_: bytes) -> tuple[IPv6Address, str] | None:
    """Who says in a neighbour advertisement which MAC is his.

    None for anything else, and for a claim that is not sound or not made from the very MAC that it is about. One that
    names no MAC is about that of its frame (RFC 4861, 7.2.5, as far as who was asked by multicast must name it).
    """
    message = parse(frame_)
    if message is None or message.kind != NEIGHBOUR_ADVERTISEMENT:
        return None
    target = IPv6Address(message.body[4:20])
    if target.is_multicast or (message.destination[0] == 0xFF and message.body[0] & _SOLICITED_FLAG):
        return None
    mac = message.options.get(TARGET_LINK_LAYER, message.mac)
    if mac != message.mac or mac[0] & 1 or mac == frames.NO_MAC:
        return None
    return target, frames.mac_text(mac)
