"""Ports: the interfaces of machines, and on which nodes they are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from flows.model.addresses import AddressPair, FixedIp, Ipv6FixedIp, OwnAddress
from flows.model.networks import DhcpOption


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """A limit in kilobit/s, and how much more, in kilobit, may pass at once after a pause."""

    rate: int
    burst: int


@dataclass(frozen=True, slots=True)
class Qos:
    """What a port may send (`egress`) and receive (`ingress`), and the DSCP mark (RFC 2474) of what it sends."""

    egress: Bandwidth | None = None
    ingress: Bandwidth | None = None
    dscp: int | None = None


@dataclass(frozen=True, slots=True)
class Binding:
    """Where a port's interface is. `zone` is the port's conntrack zone, unique on its node."""

    node: str
    ofport: int
    zone: int


class MigrationPhase(StrEnum):
    PREPARED = "prepared"  # another node waits for the VM
    MOVED = "moved"  # the node that the VM has left passes on what still comes there


@dataclass(frozen=True, slots=True)
class Migration:
    """A VM on its way between the node of its port's binding, which serves it, and that of `other`."""

    phase: MigrationPhase
    other: Binding


@dataclass(frozen=True, slots=True)
class Port:
    """`mac` is lower case with colons. `node` is where the port is scheduled, `binding` where it has been seen.

    `security_groups` holds ids in the order of keys; None: the port is not filtered (its network, or the port itself,
    says so), and () means that nothing is allowed. `port_security` False: it may send from any address. `held`: what
    of its pairs it has now, as far as it has said so. `device_id`: the machine that it belongs to, "" if nobody has
    said. `metadata`: the revision of what the API was given for its machine, None where it was given nothing.
    """

    id: str
    key: int
    network_id: str
    mac: str
    fixed_ips: tuple[FixedIp, ...] = ()
    name: str = ""
    hostname: str = ""
    project_id: str | None = None
    node: str | None = None
    binding: Binding | None = None
    dhcp_options: tuple[DhcpOption, ...] = ()
    migration: Migration | None = None
    security_groups: tuple[str, ...] | None = None
    port_security: bool = True
    address_pairs: tuple[AddressPair, ...] = ()
    held: tuple[OwnAddress, ...] = ()
    qos: Qos = Qos()
    device_id: str = ""
    ipv6_addresses: tuple[Ipv6FixedIp, ...] = ()
    metadata: int | None = None

    @property
    def machine_id(self) -> str:
        """Of one project: the port's machine, which is the port itself where nobody has said."""
        return self.device_id or self.id

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """All nodes that have flows for the port, the one that serves it first."""
        if self.binding is None:
            return ()
        return (self.binding,) if self.migration is None else (self.binding, self.migration.other)

    @property
    def called(self) -> str:
        """What people call it: its name, else its host name; "" where it has neither."""
        return self.name or self.hostname

    @property
    def assigned(self) -> tuple[IPv4Address | IPv6Address, ...]:
        """The addresses that it has been given, of both families."""
        return (*(one.address for one in self.fixed_ips), *(one.address for one in self.ipv6_addresses))

    @property
    def own(self) -> tuple[OwnAddress, ...]:
        """What is sent to the port, but for what is behind a static route: its fixed IPs, and what it holds."""
        return (*(OwnAddress(fixed_ip.address, self.mac) for fixed_ip in self.fixed_ips), *self.held)

    @property
    def macs(self) -> frozenset[str]:
        """What the port may send from."""
        return frozenset({self.mac, *(pair.mac for pair in self.address_pairs)})

    @property
    def addresses(self) -> tuple[IPv4Network, ...]:
        """What the port may send from, but for what is behind a static route."""
        return (*(IPv4Network(fixed_ip.address) for fixed_ip in self.fixed_ips), *(p.cidr for p in self.address_pairs))

    @property
    def member_addresses(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """What is meant by the port where a rule names one of its security groups."""
        return (*self.addresses, *(IPv6Network(one.address) for one in self.ipv6_addresses))

    @property
    def seats(self) -> tuple[Binding, ...]:
        """Where the VM may send from: not where it has left."""
        moved = self.migration is not None and self.migration.phase is MigrationPhase.MOVED
        return self.bindings[:1] if moved else self.bindings

    def seat(self, node: str) -> Binding | None:
        """The port's interface on a node, if the VM may send from there."""
        return next((seat for seat in self.seats if seat.node == node), None)
