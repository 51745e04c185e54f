"""How much a project may have, as `specs` says the rest.

The methods of `Store`:

    get_quota(project_id) -> QuotaRecord
    set_quota(project_id, changes: Mapping[str, int | None], actor: str) -> Written[QuotaRecord]
        changes: fields of Limits; None: as configured

Errors beside those of `specs`:
    Exhausted [409]  quota_exceeded
"""

from __future__ import annotations

from dataclasses import dataclass

UNLIMITED = -1


@dataclass(frozen=True, slots=True)
class Limits:
    """`floating_ips` and `security_groups` of a project, `security_group_rules` of each of its groups and
    `address_pairs` of each of its ports; `networks` that it has beside those it was given, `ports`, and the `fixed_ips`
    of these. -1: any number.
    """

    floating_ips: int = 10
    security_groups: int = 10
    security_group_rules: int = 100
    address_pairs: int = 10
    networks: int = 3
    ports: int = UNLIMITED
    fixed_ips: int = UNLIMITED
    dns_zones: int = 10
    dns_records: int = 500


@dataclass(frozen=True, slots=True)
class QuotaRecord:
    """`own`: which of the limits are set for this project, in the order of Limits. Its group `default` is not among
    `security_groups_used`.
    """

    project_id: str
    limits: Limits
    own: tuple[str, ...]
    floating_ips_used: int
    security_groups_used: int
    networks_used: int
    ports_used: int
    fixed_ips_used: int
    dns_zones_used: int
