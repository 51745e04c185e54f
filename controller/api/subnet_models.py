"""Subnets in requests about networks."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from controller.api.fields import AnyAddress, AnyCidr, AnyUnicastAddress, Cidr, RequestModel, UnicastAddress
from controller.bounds import MOST_SUBNETS
from controller.store.ipv6_specs import Ipv6Range, Ipv6SubnetSpec
from controller.store.specs import AddressRange, SubnetSpec
from flows.model import HostRoute, Ipv6Mode


class RangeIn(RequestModel):
    first: AnyAddress
    last: AnyAddress

    @model_validator(mode="after")
    def _ordered(self) -> RangeIn:
        if self.first.version != self.last.version:
            raise ValueError(f"first ({self.first}) and last ({self.last}) are not of one family")
        if int(self.first) > int(self.last):
            raise ValueError(f"first ({self.first}) is behind last ({self.last})")
        return self

    def spec(self) -> AddressRange | Ipv6Range:
        if isinstance(self.first, IPv4Address) and isinstance(self.last, IPv4Address):
            return AddressRange(self.first, self.last)
        return Ipv6Range(IPv6Address(self.first), IPv6Address(self.last))


def _reserved(value: object) -> object:
    """A single address is a range of one."""
    return {"first": value, "last": value} if isinstance(value, str) else value


ReservedIn = Annotated[RangeIn, BeforeValidator(_reserved, json_schema_input_type=RangeIn | AnyAddress)]


class HostRouteIn(RequestModel):
    destination: Cidr
    next_hop: UnicastAddress

    def spec(self) -> HostRoute:
        return HostRoute(self.destination, self.next_hop)


class SubnetIn(RequestModel):
    """Of either family: `cidr` says which. `host_routes` are of IPv4, and `ipv6_mode` of IPv6, where null is slaac."""

    cidr: AnyCidr
    gateway: AnyUnicastAddress | None = None
    allocation_ranges: Annotated[list[RangeIn], Field(max_length=64)] = []
    reserved: Annotated[list[ReservedIn], Field(max_length=256)] = []
    dns_servers: Annotated[list[AnyUnicastAddress], Field(max_length=16)] = []
    ipv6_mode: Ipv6Mode | None = None
    host_routes: Annotated[list[HostRouteIn], Field(max_length=64)] = []

    @field_validator("gateway", "allocation_ranges", "reserved", "dns_servers")
    @classmethod
    def _of_one_family(cls, value: Any, info: ValidationInfo) -> Any:
        cidr = info.data.get("cidr")
        for item in value if isinstance(value, list) else [] if value is None else [value]:
            version = item.first.version if isinstance(item, RangeIn) else item.version
            if cidr is not None and version != cidr.version:
                raise ValueError(f"is IPv{version}, and {cidr} IPv{cidr.version}")
        return value

    @field_validator("ipv6_mode", "host_routes")
    @classmethod
    def _of_that_family(cls, value: Any, info: ValidationInfo) -> Any:
        cidr, of_ipv6 = info.data.get("cidr"), info.field_name == "ipv6_mode"
        if value and cidr is not None and of_ipv6 != isinstance(cidr, IPv6Network):
            raise ValueError(f"is of IPv{6 if of_ipv6 else 4} subnets, which {cidr} is none of")
        return value

    @property
    def is_ipv6(self) -> bool:
        return isinstance(self.cidr, IPv6Network)

    def spec(self) -> SubnetSpec | Ipv6SubnetSpec:
        ranges: dict[str, Any] = {
            "allocation_ranges": tuple(item.spec() for item in self.allocation_ranges),
            "reserved": tuple(item.spec() for item in self.reserved),
        }
        values: dict[str, Any] = {"gateway": self.gateway, "dns_servers": tuple(self.dns_servers), **ranges}
        if isinstance(self.cidr, IPv6Network):
            return Ipv6SubnetSpec(self.cidr, mode=self.ipv6_mode or Ipv6Mode.SLAAC, **values)
        return SubnetSpec(self.cidr, host_routes=tuple(item.spec() for item in self.host_routes), **values)


def by_family(subnets: Sequence[SubnetIn]) -> tuple[tuple[SubnetSpec, ...], tuple[Ipv6SubnetSpec, ...]]:
    specs = [subnet.spec() for subnet in subnets]
    return (
        tuple(spec for spec in specs if isinstance(spec, SubnetSpec)),
        tuple(spec for spec in specs if isinstance(spec, Ipv6SubnetSpec)),
    )


def place_in(subnets: Sequence[SubnetIn], field: str | None) -> str | None:
    """The field of a request that a field of the store is, where the subnets of each family are counted apart."""
    name, *parts = (field or "").split(".")
    if name not in ("subnets", "ipv6_subnets") or not parts:
        return field
    apart = [index for index, subnet in enumerate(subnets) if subnet.is_ipv6 == (name == "ipv6_subnets")]
    return ".".join(("subnets", str(apart[int(parts[0])]), *parts[1:]))


Subnets = Annotated[list[SubnetIn], Field(min_length=1, max_length=MOST_SUBNETS)]
