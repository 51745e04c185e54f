"""ARP for the next hops of external networks (RFC 826): what a node asks, learns and announces."""

from __future__ import annotations

from ipaddress import IPv4Address

from controller.packet_in import frames


def request(node_mac: int, source: IPv4Address, target: IPv4Address, vlan: int | None = None) -> bytes:
    """The broadcast question who has `target`, from `source` or nobody (0.0.0.0); `vlan` is the network's VLAN id."""
    mac = frames.mac_bytes(node_mac)
    question = frames.Arp(frames.ARP_REQUEST, mac, source.packed, frames.NO_MAC, target.packed)
    frame = frames.ethernet(frames.BROADCAST_MAC, mac, frames.ETHERTYPE_ARP, frames.arp(question), vlan)
    return frame.ljust(frames.MIN_FRAME, b"\0")


def announcement(node_mac: int, address: IPv4Address, vlan: int | None = None) -> tuple[bytes, bytes]:
    """What tells everybody that an address is now at this MAC (RFC 5227 §3): some heed the request, some the reply."""
    mac = frames.mac_bytes(node_mac)
    forms = (
        frames.Arp(frames.ARP_REQUEST, mac, address.packed, frames.NO_MAC, address.packed),
        frames.Arp(frames.ARP_REPLY, mac, address.packed, mac, address.packed),
    )
    request_form, reply_form = (
        frames.ethernet(frames.BROADCAST_MAC, mac, frames.ETHERTYPE_ARP, frames.arp(form), vlan).ljust(
            frames.MIN_FRAME, b"\0"
        )
        for form in forms
    )
    return request_form, reply_form


def parse_claim(frame: bytes) -> tuple[IPv4Address, str] | None:
    """Who says which MAC is his: in a reply, or unasked in a request for his own address (RFC 5227 §3, announcement).

    None for anything else, and for a claim that is not sound or not made from the very MAC it is about.
    """
    ethernet = frames.parse_ethernet(frame)
    if ethernet is None or ethernet.ethertype != frames.ETHERTYPE_ARP:
        return None
    arp = frames.parse_arp(frame, ethernet.offset)
    if arp is None or arp.sender_mac != ethernet.source:
        return None
    announced = arp.operation == frames.ARP_REQUEST and arp.target_ip == arp.sender_ip
    if arp.operation != frames.ARP_REPLY and not announced:
        return None
    if arp.sender_mac[0] & 1 or arp.sender_mac == frames.NO_MAC or not frames.is_host(arp.sender_ip):
        return None
    return IPv4Address(arp.sender_ip), frames.mac_text(arp.sender_mac)
