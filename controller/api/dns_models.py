"""Request bodies about DNS zones and their records."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, TypeAdapter, ValidationInfo, field_validator

from controller.api.fields import ObjectId, ProjectId, RequestModel, UpdateModel
from controller.store import dns_names
from controller.store.dns_specs import DnsRecordSpec, DnsZoneSpec
from flows.model import RecordType, ZoneScope

MAX_NETWORKS = 100

_OF_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_OF_ZONE = rf"^{_OF_LABEL}(\.{_OF_LABEL})*\.?$"
ZoneName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=dns_names.MAX_NAME + 1),
    AfterValidator(dns_names.zone_name),
    Field(json_schema_extra={"pattern": _OF_ZONE}),
]
RecordName = Annotated[str, StringConstraints(min_length=1, max_length=dns_names.MAX_NAME)]
Data = Annotated[str, StringConstraints(min_length=1, max_length=dns_names.MAX_TEXT)]
Ttl = Annotated[int, Field(ge=dns_names.LEAST_TTL, le=dns_names.MOST_TTL)]


def _each_once(value: list[str]) -> list[str]:
    if len(set(value)) < len(value):
        raise ValueError("holds the same network twice")
    return value


NetworkIds = Annotated[
    list[ObjectId],
    Field(max_length=MAX_NETWORKS, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_each_once),
]


class DnsZoneUpdate(UpdateModel):
    scope: ZoneScope = ZoneScope.PRIVATE
    project_id: ProjectId | None = None
    ttl: Ttl = 60
    network_ids: NetworkIds = []


class DnsZoneCreate(DnsZoneUpdate):
    name: ZoneName

    def spec(self, project_id: str | None) -> DnsZoneSpec:
        """`project_id` is the owner the caller has settled."""
        return DnsZoneSpec(self.name, self.scope, project_id, self.ttl, tuple(self.network_ids))


class DnsRecordUpdate(UpdateModel):
    """`data`, or a floating IP whose address it is; `floating_ip_id` null: its address stays when it is released."""

    data: Data = ""
    floating_ip_id: ObjectId | None = None
    ttl: Ttl | None = None

    @field_validator("floating_ip_id")
    @classmethod
    def _one_of_both(cls, value: object, info: ValidationInfo) -> object:
        if value is not None and info.data.get("data"):
            raise ValueError("cannot be given together with data")
        return value


class DnsRecordCreate(RequestModel):
    """`name` is within the zone, @ the zone's own."""

    zone_id: ObjectId
    name: RecordName
    type: RecordType
    data: Data | None = None
    floating_ip_id: ObjectId | None = None
    ttl: Ttl | None = None

    @field_validator("floating_ip_id")
    @classmethod
    def _one_of_both(cls, value: object, info: ValidationInfo) -> object:
        if value is not None and info.data.get("data") is not None:
            raise ValueError("cannot be given together with data")
        return value

    def spec(self) -> DnsRecordSpec:
        return DnsRecordSpec(self.zone_id, self.name, self.type, self.data, self.floating_ip_id, self.ttl)


DNS_ZONE_CREATE = TypeAdapter(DnsZoneCreate)
DNS_ZONE_UPDATE = TypeAdapter(DnsZoneUpdate)
DNS_RECORD_CREATE = TypeAdapter(DnsRecordCreate)
DNS_RECORD_UPDATE = TypeAdapter(DnsRecordUpdate)
