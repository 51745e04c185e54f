"""Addresses: who has them, who had them, and plans of them, as `specs` says the rest.

The methods of `Store`:

    list_addresses(network_id, *, project_id=None, limit=None, marker=None) -> list[AddressRecord]
        by address; those that are in use, kept, reserved or were used once; of IPv6 those that are in use.
        marker: the address of the last one seen.
        project_id: only what its ports have.
    reserve_address, unreserve_address(network_id, address: IPv4Address, actor) -> Written[NetworkRecord]
        whoever has it keeps it
    end_hold(network_id, address: IPv4Address, actor) -> Written[None]      an address that is kept is free at once
    end_holds() -> int                       those that are over; how many
    shift_holds(seconds: float) -> int       the clock has jumped: holds and leases end when they would have
    address_history(*, address: IPv4Address | IPv6Address, network_id=None, project_id=None, at=None, limit=1000)
        -> list[HistoryRecord]               newest first
    forget_history(older_than_s: float, most: int = 1000) -> int
        what ended so long ago, at most so many at once; how many
    apply_plan(entries: Sequence[PlanEntry], check: bool, actor) -> Written[PlanOutcome]
        all or none; with problems or `check` none

Errors beside those of `specs`:
    NotFound [404]   address_unknown
    Conflict [409]   address_in_use
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address

from controller.store.ipv6_specs import Ipv6Range
from controller.store.specs import AddressRange

NO_TIMEOUT = -1
MOST_RESERVED = 256
"""Reserved ranges that a subnet may have."""


@dataclass(frozen=True, slots=True)
class HoldPolicy:
    """What becomes of the address of a port that goes while its lease is live. `force`: the lease ends with the port.
    Else nobody is given the address until the lease ends, or for `timeout` seconds (-1: however long that is).
    """

    force: bool = True
    timeout: int = 600

    def end(self, now: float, lease_end: float | None) -> float | None:
        """Until when the address is kept; None: not at all. Times are seconds since the epoch."""
        if self.force or lease_end is None or lease_end <= now:
            return None
        return lease_end if self.timeout == NO_TIMEOUT else min(lease_end, now + self.timeout)


class AddressState(StrEnum):
    """`held`: released, and kept for now. `reserved`: free, but not to be given."""

    ALLOCATED = "allocated"
    HELD = "held"
    RESERVED = "reserved"
    FREE = "free"


@dataclass(frozen=True, slots=True)
class AddressRecord:
    """An address of a subnet. Three things are apart: `associated` (nobody else is given it), allocated (something has
    it, by its `state`) and `leased` (a client has been told that it may use it, until `lease_expires_at`).

    `owner`: port, gateway, snat, floating_ip or pair. `node`: where the port is, or what has the address.
    """

    address: IPv4Address | IPv6Address
    subnet_id: str
    state: AddressState
    reserved: bool
    owner: str | None = None
    port_id: str | None = None
    port_name: str | None = None
    project_id: str | None = None
    device_id: str | None = None
    mac: str | None = None
    node: str | None = None
    leased: bool = False
    lease_expires_at: float | None = None
    held_until: float | None = None

    @property
    def associated(self) -> bool:
        return self.state in (AddressState.ALLOCATED, AddressState.HELD)


@dataclass(frozen=True, slots=True)
class HistoryRecord:
    """Who had an address from `began_at` until `ended_at` (None: has it), in seconds since the epoch. Of a floating IP
    (`kind`) `port_*` are of the port that it led to, if it led to one. Names are those of then.
    """

    address: IPv4Address | IPv6Address
    network_id: str
    network_name: str
    kind: str
    object_id: str
    project_id: str | None
    port_id: str | None
    port_name: str | None
    device_id: str | None
    mac: str | None
    began_at: float
    ended_at: float | None


class PlanKind(StrEnum):
    PORT = "port"
    RESERVED = "reserved"


@dataclass(frozen=True, slots=True)
class PlanEntry:
    """A line of an address plan: an address of a port, or an IPv4 range that nobody is to be given. `network`: name or
    id.

    Entries with the same MAC on the same network are one port with several addresses, in their order. `project_id`
    None: the network's. `mac` None: made up.
    """

    kind: PlanKind
    network: str
    range: AddressRange | Ipv6Range
    mac: str | None = None
    name: str = ""
    hostname: str = ""
    project_id: str | None = None
    device_id: str = ""


class PlanAction(StrEnum):
    """`keep`: it is so already. `update`: a name of the port changes."""

    CREATE = "create"
    UPDATE = "update"
    RESERVE = "reserve"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class PlanProblem:
    """What is wrong with the entry of this index."""

    entry: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class PlanOutcome:
    """`actions`: for each entry; of one with a problem None."""

    actions: tuple[PlanAction | None, ...]
    problems: tuple[PlanProblem, ...] = ()
