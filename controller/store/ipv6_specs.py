"""What goes into the store and comes out of it for IPv6 subnets, as `specs` does for the rest.

Errors beside those of `specs`:
    Invalid   [400]  address_unfit ipv6_mode_invalid
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from flows.model import Ipv6Mode


@dataclass(frozen=True, slots=True)
class Ipv6Range:
    """`first` to `last`, both included."""

    first: IPv6Address
    last: IPv6Address

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class Ipv6SubnetSpec:
    """`allocation_ranges` and `reserved` are of mode dhcpv6-stateful alone; the first empty: the whole range. `id` is
    set by the store.
    """

    cidr: IPv6Network
    gateway: IPv6Address | None = None
    mode: Ipv6Mode = Ipv6Mode.SLAAC
    allocation_ranges: tuple[Ipv6Range, ...] = ()
    reserved: tuple[Ipv6Range, ...] = ()
    dns_servers: tuple[IPv6Address, ...] = ()
    id: str | None = None
