"""Floating IPs, and ports of them that are forwarded."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address


@dataclass(frozen=True, slots=True)
class PortForwarding:
    """`first` to `last` of `protocol` (an IP protocol with ports) at a floating IP is a range that begins with `to` at
    a port's `fixed_ip`.
    """

    id: str
    key: int
    protocol: int
    first: int
    last: int
    port_id: str
    fixed_ip: IPv4Address
    to: int


@dataclass(frozen=True, slots=True)
class FloatingIp:
    """An address of an external network that stands for one address of a port, or whose ports are forwarded to several.
    It has `port_id` and `fixed_ip`, or `port_forwardings`, or neither.
    """

    id: str
    key: int
    network_id: str
    address: IPv4Address
    project_id: str | None = None
    port_id: str | None = None
    fixed_ip: IPv4Address | None = None
    port_forwardings: tuple[PortForwarding, ...] = ()

    @property
    def port_ids(self) -> frozenset[str]:
        """The ports that it leads to."""
        ports = frozenset(forwarding.port_id for forwarding in self.port_forwardings)
        return ports if self.port_id is None else ports | {self.port_id}
