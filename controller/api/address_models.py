"""Request bodies about addresses, and what stands in queries about them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field, PlainValidator, TypeAdapter, WithJsonSchema, model_validator

from controller.api.fields import AnyAddressSpan, Mac, MachineName, Name, ProjectId, RequestModel, Text
from controller.store.address_specs import PlanEntry, PlanKind

MAX_ENTRIES = 4096


class PlanEntryIn(RequestModel):
    """`address`: ADDRESS, or for `reserved` also FIRST-LAST or a CIDR, both of IPv4."""

    kind: PlanKind
    network: Name
    address: AnyAddressSpan
    mac: Mac | None = None
    name: Text = ""
    hostname: MachineName = ""
    project_id: ProjectId | None = None
    device_id: Text = ""

    @model_validator(mode="after")
    def _fits(self) -> PlanEntryIn:
        if self.kind is PlanKind.PORT and self.address.first != self.address.last:
            raise ValueError("a port has single addresses, not a range")
        if self.kind is PlanKind.RESERVED and (self.mac or self.name or self.hostname or self.device_id):
            raise ValueError("what is reserved has neither a MAC nor names")
        return self

    def spec(self) -> PlanEntry:
        return PlanEntry(
            self.kind,
            self.network,
            self.address,
            self.mac,
            self.name,
            self.hostname,
            self.project_id,
            self.device_id,
        )


class PlanIn(RequestModel):
    """`check`: only say what would be done."""

    entries: Annotated[list[PlanEntryIn], Field(min_length=1, max_length=MAX_ENTRIES)]
    check: bool = False


PLAN = TypeAdapter(PlanIn)


def _moment(text: object) -> float:
    """RFC 3339, of which the end may be left out; without an offset it is UTC."""
    try:
        if not (isinstance(text, str) and text.isascii() and text.isprintable()):  # Python reads on behind NUL
            raise ValueError
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError("must be a time such as 2026-11-25T10:00 (UTC) or 2026-11-25T10:00:00+01:00") from None


Moment = Annotated[float, PlainValidator(_moment), WithJsonSchema({"type": "string", "format": "moment"})]
MOMENT: TypeAdapter[float] = TypeAdapter(Moment)
