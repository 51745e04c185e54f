"""What goes into the store and comes out of it for floating IPs, as `specs` does for the rest.

The methods of `Store`:

    create_floating_ip_pool(spec: FloatingIpPoolSpec, actor: str) -> Written[FloatingIpPoolRecord]
    delete_floating_ip_pool(reference: str, actor: str) -> Written[FloatingIpPoolRecord]
    get_floating_ip_pool(reference: str) -> FloatingIpPoolRecord             reference: id or name
    list_floating_ip_pools(*, name=None, network_id=None, limit=None, marker=None) -> list[...]     by name

    allocate_floating_ips(spec: FloatingIpSpec, actor: str) -> Written[list[FloatingIpRecord]]      all or none
    associate_floating_ip(id, port_id, fixed_ip, actor, *, expected_port_id=None) -> Written[FloatingIpRecord]
        moves it when it is associated elsewhere; fixed_ip None: the port's first address
    disassociate_floating_ip(id, actor, *, expected_port_id=None) -> Written[FloatingIpRecord]
        nothing happens when it is associated with no port, so that a request may be sent again
    release_floating_ips(ids: Sequence[str], actor: str) -> Written[list[FloatingIpRecord]]         all or none
    get_floating_ip(id) -> FloatingIpRecord
    list_floating_ips(*, project_id=None, pool=None, port_id=None, address=None, node=None, limit=None, marker=None)
        port_id: associated with it or forwarding to it; node: leading to a port that is bound there

    create_port_forwarding(floating_ip_id, spec: PortForwardingSpec, actor: str) -> Written[PortForwarding]
    delete_port_forwarding(floating_ip_id, id, actor: str) -> Written[PortForwarding]

Errors beside those of `specs`:
    NotFound  [404]  floating_ip_pool_unknown floating_ip_unknown port_forwarding_unknown
    Forbidden [403]  floating_ip_auto
    Invalid   [400]  address_outside_pool network_not_translated fixed_ip_unknown range_invalid port_range_invalid
    Conflict  [409]  pool_exists pool_overlap pool_in_use floating_ip_elsewhere floating_ip_associated
                     floating_ip_forwarded ports_in_use
    Exhausted [409]  pool_exhausted quota_exceeded (see quota_specs)
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from controller.store.specs import AddressRange
from flows.model import FloatingIp


@dataclass(frozen=True, slots=True)
class FloatingIpPoolSpec:
    """`ranges` lie in subnets of the external network `network_id`."""

    name: str
    network_id: str
    ranges: tuple[AddressRange, ...]


@dataclass(frozen=True, slots=True)
class FloatingIpPoolRecord:
    """`used` of the pool's addresses are floating IPs."""

    id: str
    spec: FloatingIpPoolSpec
    used: int
    created_at: float
    revision: int


@dataclass(frozen=True, slots=True)
class FloatingIpSpec:
    """`count` floating IPs of a pool (its id or name), or those with these `addresses`.

    With `port_id` they are associated at once. Those of no project count for no quota.
    """

    pool: str
    project_id: str | None = None
    count: int = 1
    addresses: tuple[IPv4Address, ...] = ()
    port_id: str | None = None
    fixed_ip: IPv4Address | None = None


@dataclass(frozen=True, slots=True)
class FloatingIpRecord:
    """`auto`: assigned with its port, and released with it."""

    floating_ip: FloatingIp
    pool_id: str
    pool: str
    auto: bool
    created_at: float
    revision: int


@dataclass(frozen=True, slots=True)
class PortForwardingSpec:
    """`to` None: the same ports inside. `fixed_ip` None: the port's first address."""

    protocol: int
    first: int
    last: int
    port_id: str
    fixed_ip: IPv4Address | None = None
    to: int | None = None
