"""What may pass: security groups and their rules, and the provider's."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network

from flows.model.addresses import Family


class Direction(StrEnum):
    """As the VM sees it: `ingress` is what it receives, `egress` what it sends."""

    INGRESS = "ingress"
    EGRESS = "egress"


@dataclass(frozen=True, slots=True)
class Service:
    """What a rule is about. `protocol`: an IP protocol number, None for all.

    `first` to `last`: destination ports of TCP and UDP. `icmp_type` and `icmp_code`: of ICMP. None means any.
    """

    protocol: int | None = None
    first: int | None = None
    last: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None


@dataclass(frozen=True, slots=True)
class SecurityRule:
    """Lets in, or out, a service from, or to, `remote_cidr` or the members of `remote_group_id` (both None: anybody).

    It is about packets of its `family` alone, which `remote_cidr` is of, too.

    `log`: connections that begin because of it are reported.
    """

    id: str
    key: int
    direction: Direction
    service: Service = Service()
    remote_cidr: IPv4Network | IPv6Network | None = None
    remote_group_id: str | None = None
    log: bool = False
    family: Family = Family.IPV4


@dataclass(frozen=True, slots=True)
class SecurityGroup:
    """What its members may send and receive; what no rule allows is dropped. `rules` by key.

    `stateful`: replies to what is allowed are allowed. `log_accepted` and `log_dropped` report the connections that
    begin, and the packets of its members that nothing allows.
    """

    id: str
    key: int
    name: str
    project_id: str | None = None
    stateful: bool = True
    rules: tuple[SecurityRule, ...] = ()
    log_accepted: bool = False
    log_dropped: bool = False


@dataclass(frozen=True, slots=True)
class ProviderRule:
    """What the operator drops for all VMs, whatever their groups say: a service from or to `cidr`.

    `direction` None: both ways.
    """

    id: str
    key: int
    cidr: IPv4Network
    service: Service = Service()
    direction: Direction | None = None
