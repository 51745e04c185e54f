"""Addresses that follow from a MAC address (RFC 4291, appendix A)."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network
from typing import Final

LINK_LOCAL: Final = IPv6Network("fe80::/64")

_MIDDLE: Final = 0xFFFE << 24
_UNIVERSAL: Final = 1 << 57


def eui64(prefix: IPv6Network, mac: str) -> IPv6Address:
    """The address that a host with this MAC forms in a /64, if it does so from its MAC (RFC 4862, 5.5.3)."""
    digits = int(mac.replace(":", ""), 16)
    interface_id = (digits >> 24 << 40 | _MIDDLE | digits & 0xFFFFFF) ^ _UNIVERSAL
    return IPv6Address(int(prefix.network_address) | interface_id)
