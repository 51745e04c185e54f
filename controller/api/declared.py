"""What an endpoint declares of itself: the gate reads queries by it, and `openapi` tells of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import Field, PlainValidator, StringConstraints, TypeAdapter, ValidationError, WithJsonSchema

from controller.api.errors import ApiError, from_validation, invalid

MAX_PAGE = 1000
MAX_REVISION = (1 << 63) - 1
MAX_TEXT = 255
"""Characters of any field of a query."""

Revision = Annotated[int, Field(ge=0, le=MAX_REVISION)]
Warnings = Annotated[list[str], Field(description="What is no error, but what its writer should know, for people")]
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT), Field(json_schema_extra={"format": "printable"})]


@dataclass(frozen=True, slots=True)
class Query:
    """A field of a query. `type` reads its text."""

    type: TypeAdapter[Any]
    about: str = ""
    required: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """An answer: a JSON object with all of these fields and no others, each with its type."""

    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Media:
    """An answer, or the body of a request, that is no JSON object of ours. `types`: its content type may be any of
    them. `also`: statuses that come in the same form.
    """

    types: tuple[str, ...]
    about: str
    schema: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    also: tuple[int, ...] = ()


Answers = Shape | Media | tuple[Shape, ...]


def shown(**fields: Any) -> Shape:
    """Of something that is read."""
    return Shape(fields)


def written(**fields: Any) -> Shape:
    """Of a write, with the revision that it has made."""
    return Shape({**fields, "revision": Revision})


def bounded_int(name: str, text: str, low: int, high: int) -> int:
    """A decimal number of a path or query. Raises ApiError 400."""
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and low <= int(text) <= high):
        raise invalid(name, f"must be a whole number from {low} to {high}")
    return int(text)


def _limit(text: object) -> int:
    return bounded_int("limit", str(text), 1, MAX_PAGE)


# as Python writes a number, too
_SECONDS = re.compile(r"[0-9]{1,3}(\.[0-9]{1,20})?(e-[0-9]{1,3})?")


def seconds(most: float) -> TypeAdapter[float]:
    """Of a query: how long to wait."""

    def read(text: object) -> float:
        if not isinstance(text, str) or not _SECONDS.fullmatch(text) or float(text) > most:
            raise ValueError(f"must be seconds from 0 to {most:.0f}")
        return float(text)

    schema = WithJsonSchema({"type": "number", "minimum": 0, "maximum": most})
    return TypeAdapter(Annotated[float, PlainValidator(read), schema])


TEXT = TypeAdapter(Text)
LIMIT = Query(
    TypeAdapter(
        Annotated[int, PlainValidator(_limit), WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_PAGE})]
    ),
    f"How many at most; {MAX_PAGE} without.",
)
MARKER = Query(TEXT, "The id of the last one seen (of nodes: the name), to go on behind it.")


def texts(*names: str) -> dict[str, Query]:
    """Fields that an object is found by, exactly as they are."""
    return {name: Query(TEXT) for name in names}


def page(*names: str, **others: Query) -> dict[str, Query]:
    """The fields of a list: filters, those that are plain text by name, and what the page is."""
    return {**texts(*names), **others, "limit": LIMIT, "marker": MARKER}


def read_query(known: Mapping[str, Query], given: Mapping[str, str]) -> dict[str, Any]:
    """The values of a query's fields. Raises ApiError 400 for one that is not known, wrong, or missing."""
    for name in given:
        if name not in known:
            those = f"known: {', '.join(known)}" if known else "there are none"
            raise ApiError(400, "unknown_field", f"{name[:80]}: no such query field ({those})", name[:80])
    for name, query in known.items():
        if query.required and name not in given:
            raise ApiError(400, "missing_field", f"{name}: is needed", name)
    values = {}
    for name, text in given.items():
        try:
            values[name] = known[name].type.validate_python(text)
        except ValidationError as error:
            raise invalid(name, from_validation(error).message) from None
    return values
