"""DHCP options in requests about networks and ports."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo, field_validator

from controller.api.dhcp_options import OptionType, check_code, encode, type_of
from controller.api.fields import Printable, RequestModel
from controller.store.specs import DhcpOptionSpec


class DhcpOptionIn(RequestModel):
    code: Annotated[int, Field(ge=0, le=255)]
    # before the value, which is read by it
    type: Annotated[OptionType | None, Field(validate_default=True)] = None
    value: Annotated[Printable, StringConstraints(max_length=1024)]

    @field_validator("code")
    @classmethod
    def _free(cls, code: int) -> int:
        check_code(code)
        return code

    @field_validator("type")
    @classmethod
    def _known(cls, kind: OptionType | None, info: ValidationInfo) -> OptionType | None:
        if "code" in info.data:
            type_of(info.data["code"], kind)
        return kind

    @field_validator("value")
    @classmethod
    def _encodable(cls, value: str, info: ValidationInfo) -> str:
        if {"code", "type"} <= info.data.keys():
            encode(info.data["code"], value, info.data["type"])
        return value

    def spec(self) -> DhcpOptionSpec:
        type_ = None if self.type is None else self.type.value
        return DhcpOptionSpec(self.code, encode(self.code, self.value, self.type), self.value, type_)


def _each_code_once(options: list[DhcpOptionIn]) -> list[DhcpOptionIn]:
    if len({option.code for option in options}) != len(options):
        raise ValueError("holds the same option code twice")
    return options


DhcpOptions = Annotated[list[DhcpOptionIn], Field(max_length=64), AfterValidator(_each_code_once)]


def option_specs(options: list[DhcpOptionIn]) -> tuple[DhcpOptionSpec, ...]:
    return tuple(option.spec() for option in options)
