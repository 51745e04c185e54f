"""A port that says by ARP that it has an address which several may use: it is the one that holds it from now on."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import NamedTuple

from controller.packet_in import frames, outcomes
from flows.model import OwnAddress
from flows.pipeline import GATEWAY_MAC
from flows.snapshot import Snapshot

_GATEWAY = frames.mac_bytes(GATEWAY_MAC)


class Place(NamedTuple):
    """An address of a network."""

    network_id: str
    address: IPv4Address


class Claim(NamedTuple):
    """Which port has it, by which MAC. `asked`: it has answered us, and did not say so by itself."""

    port_id: str
    mac: str
    asked: bool = False


def said(key: int, node: str, in_port: int, frame: bytes, snapshot: Snapshot) -> tuple[str, tuple[Place, Claim] | None]:
    """The outcome, and what the port with this key has said."""
    port_id = snapshot.ports_by_key.get(key)
    if port_id is None:
        return outcomes.UNKNOWN_OBJECT, None
    port = snapshot.ports[port_id]
    seat = port.seat(node)
    if seat is None or seat.ofport != in_port:
        return outcomes.WRONG_IN_PORT, None
    ethernet = frames.parse_ethernet(frame)
    if ethernet is None or ethernet.ethertype != frames.ETHERTYPE_ARP:
        return outcomes.MALFORMED, None
    arp = frames.parse_arp(frame, ethernet.offset)
    if arp is None:
        return outcomes.MALFORMED, None
    asked = arp.operation == frames.ARP_REPLY and arp.target_mac == _GATEWAY
    mac, address = arp.sender_mac, arp.sender_ip
    if mac == _GATEWAY:  # it has asked for the gateway, and the switch has made the answer of the frame
        mac, address = arp.target_mac, arp.target_ip
    own = OwnAddress(IPv4Address(address), frames.mac_text(mac))
    network = snapshot.networks[port.network_id]
    if all((network.virtual(pair), pair.mac) != (own.address, own.mac) for pair in port.address_pairs):
        return outcomes.SPOOFED_SOURCE, None
    return outcomes.HOLDER_HEARD, (Place(network.id, own.address), Claim(port.id, own.mac, asked))
