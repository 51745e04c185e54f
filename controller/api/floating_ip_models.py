"""Request bodies about floating IPs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, PlainValidator, TypeAdapter, ValidationInfo, WithJsonSchema, field_validator

from controller.api.fields import (
    Address,
    AddressSpan,
    Name,
    ObjectId,
    ProjectId,
    RequestModel,
)
from controller.store.floating_ip_specs import FloatingIpPoolSpec, FloatingIpSpec, PortForwardingSpec
from flows.protocols import PROTOCOL_NUMBERS

MAX_FLOATING_IPS = 1000

# those that have ports to forward
PROTOCOLS: Mapping[str, int] = {name: PROTOCOL_NUMBERS[name] for name in ("tcp", "udp")}

_PORTS = re.compile(r"(0|[1-9][0-9]{0,4})(?:-(0|[1-9][0-9]{0,4}))?")


class FloatingIpPoolCreate(RequestModel):
    name: Name
    network_id: ObjectId
    ranges: Annotated[list[AddressSpan], Field(min_length=1, max_length=256)]

    def spec(self) -> FloatingIpPoolSpec:
        return FloatingIpPoolSpec(self.name, self.network_id, tuple(self.ranges))


class FloatingIpCreate(RequestModel):
    """`pool` is a name or an id. With `port_id` it is associated at once."""

    pool: Name
    address: Address | None = None
    project_id: ProjectId | None = None
    port_id: ObjectId | None = None
    # behind what it belongs to
    fixed_ip: Address | None = None

    @field_validator("fixed_ip")
    @classmethod
    def _of_a_port(cls, value: object, info: ValidationInfo) -> object:
        return _needs_port(value, info)

    def spec(self, project_id: str | None) -> FloatingIpSpec:
        """`project_id` is the owner the caller has settled."""
        addresses = () if self.address is None else (self.address,)
        return FloatingIpSpec(self.pool, project_id, 1, addresses, self.port_id, self.fixed_ip)


class FloatingIpBulk(RequestModel):
    """`count` of any addresses, or these very `addresses`."""

    pool: Name
    project_id: ProjectId | None = None
    count: Annotated[int, Field(ge=1, le=MAX_FLOATING_IPS)] | None = None
    addresses: (
        Annotated[
            list[Address],
            Field(min_length=1, max_length=MAX_FLOATING_IPS, json_schema_extra={"uniqueItems": True}),
        ]
        | None
    ) = None

    @field_validator("addresses")
    @classmethod
    def _one_of_both(cls, value: list[Address] | None, info: ValidationInfo) -> list[Address] | None:
        if value is not None and info.data.get("count") is not None:
            raise ValueError("cannot be given together with count")
        if value is not None and len(set(value)) < len(value):
            raise ValueError("holds the same address twice")
        return value

    def spec(self) -> FloatingIpSpec:
        return FloatingIpSpec(self.pool, self.project_id, self.count or 1, tuple(self.addresses or ()))


class FloatingIpBulkDelete(RequestModel):
    ids: Annotated[list[ObjectId], Field(min_length=1, max_length=MAX_FLOATING_IPS)]


class FloatingIpUpdate(RequestModel):
    """`port_id` null: disassociated. `expected_port_id`: refused when it is associated with another port by now."""

    port_id: ObjectId | None
    fixed_ip: Address | None = None
    expected_port_id: ObjectId | None = None

    @field_validator("fixed_ip")
    @classmethod
    def _of_a_port(cls, value: object, info: ValidationInfo) -> object:
        return _needs_port(value, info)


def _needs_port(value: object, info: ValidationInfo) -> object:
    if value is not None and "port_id" in info.data and info.data["port_id"] is None:
        raise ValueError("is an address of a port: give its port_id")
    return value


def _protocol(value: object) -> int:
    if not isinstance(value, str) or value not in PROTOCOLS:
        raise ValueError(f"must be one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[value]


def _ports(value: object) -> tuple[int, int]:
    match = _PORTS.fullmatch(value) if isinstance(value, str) and value.isascii() else None
    if match is None:
        raise ValueError('must be a port such as "2201" or a range such as "5000-5100"')
    return int(match[1]), int(match[2] or match[1])


_OF_PORTS = {
    "type": "string",
    "pattern": r"^(0|[1-9][0-9]{0,4})(-(0|[1-9][0-9]{0,4}))?$",
    "format": "port-range",
}
Ports = Annotated[tuple[int, int], PlainValidator(_ports), WithJsonSchema(_OF_PORTS)]


class PortForwardingCreate(RequestModel):
    protocol: Annotated[int, PlainValidator(_protocol), WithJsonSchema({"type": "string", "enum": [*PROTOCOLS]})]
    ports: Ports
    port_id: ObjectId
    fixed_ip: Address | None = None
    to: Annotated[int, Field(ge=1, le=65535)] | None = None

    def spec(self) -> PortForwardingSpec:
        first, last = self.ports
        return PortForwardingSpec(self.protocol, first, last, self.port_id, self.fixed_ip, self.to)


FLOATING_IP_POOL_CREATE = TypeAdapter(FloatingIpPoolCreate)
FLOATING_IP_CREATE = TypeAdapter(FloatingIpCreate)
FLOATING_IP_BULK = TypeAdapter(FloatingIpBulk)
FLOATING_IP_BULK_DELETE = TypeAdapter(FloatingIpBulkDelete)
FLOATING_IP_UPDATE = TypeAdapter(FloatingIpUpdate)
PORT_FORWARDING_CREATE = TypeAdapter(PortForwardingCreate)
