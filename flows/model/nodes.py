"""Nodes, the addresses that they hold, and whom they have heard."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address


@dataclass(frozen=True, slots=True)
class NetworkAddress:
    """An address that a node holds as its gateway address in one of a network's subnets."""

    network_id: str
    address: IPv4Address


@dataclass(frozen=True, slots=True)
class SnatAddress:
    """An address of an external network that a node translates to.

    `for_network_id` names the one network that it is for, None means all that have none of their own. `host`: the
    address is that of the node's own host, which answers ARP for it and keeps all ports but those of `HOST_SNAT_PORTS`.
    """

    network_id: str
    address: IPv4Address
    for_network_id: str | None = None
    host: bool = False


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A next hop on an external network, as the node resolved it by ARP (RFC 826) or ND (RFC 4861)."""

    network_id: str
    address: IPv4Address | IPv6Address
    mac: str


@dataclass(frozen=True, slots=True)
class Uplink:
    """The patch port of `br-int` towards a physical network."""

    physical_network: str
    ofport: int


class DatapathType(StrEnum):
    """Which datapath a node's Open vSwitch has (ovs-vswitchd.conf.db(5), Bridge:datapath_type)."""

    SYSTEM = "system"
    NETDEV = "netdev"


@dataclass(frozen=True, slots=True)
class Node:
    """`datapath_type` decides what flows may ask for: the kernel's datapath (`system`) can write fewer fields, and its
    conntrack hands on a datagram as a whole.
    """

    name: str
    key: int
    datapath_id: int
    uplinks: tuple[Uplink, ...] = ()
    gateways: tuple[NetworkAddress, ...] = ()
    snat_addresses: tuple[SnatAddress, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    datapath_type: DatapathType = DatapathType.NETDEV

    @property
    def on_kernel(self) -> bool:
        """True if the node's datapath is the kernel's."""
        return self.datapath_type is DatapathType.SYSTEM

    def uplink(self, physical_network: str) -> int | None:
        """The uplink's OpenFlow port number, or None when the node does not reach that physical network."""
        for uplink in self.uplinks:
            if uplink.physical_network == physical_network:
                return uplink.ofport
        return None

    def gateway(self, network_id: str, cidr: IPv4Network) -> IPv4Address | None:
        """What the node holds in the subnet of a network with this range, or None."""
        for held in self.gateways:
            if held.network_id == network_id and held.address in cidr:
                return held.address
        return None

    def snat_address(self, network_id: str, for_network_id: str | None = None) -> SnatAddress | None:
        """What the node holds on an external network, for one network alone or for all that have none of their own."""
        for held in self.snat_addresses:
            if held.network_id == network_id and held.for_network_id == for_network_id:
                return held
        return None

    def neighbour(self, network_id: str, address: IPv4Address | IPv6Address) -> str | None:
        """The MAC of a resolved next hop, or None."""
        for neighbour in self.neighbours:
            if neighbour.network_id == network_id and neighbour.address == address:
                return neighbour.mac
        return None
