"""Everything that can go wrong becomes one JSON envelope: {"error": {"code", "message", "field", "details"}}.

A field that is wrong, of the wrong type or unknown is a 400, like a body that is no JSON; there is no 422.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from controller.store.engine import UNAVAILABLE
from controller.store.specs import StoreError, Unavailable

MAX_FIELD_ERRORS = 20

# pydantic's word -> ours; every other is `invalid_field`
_CODES = {"extra_forbidden": "unknown_field", "missing": "missing_field"}


class ApiError(Exception):
    """An answer that is not a success. `headers` are sent along."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        field: str | None = None,
        details: Mapping[str, Any] | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.field = field
        self.details = dict(details or {})
        self.headers = headers

    def envelope(self) -> dict[str, Any]:
        return {
            "error": {"code": self.code, "message": self.message, "field": self.field, "details": self.details},
        }


def invalid(field: str, message: str) -> ApiError:
    return ApiError(400, "invalid_field", f"{field}: {message}", field)


def forbidden(message: str, field: str | None = None) -> ApiError:
    return ApiError(403, "forbidden", message, field)


def unknown_object(kind: str, identity: str, field: str | None = None) -> ApiError:
    """For an object that is not there and for one the caller may not see, so that nobody can tell them apart."""
    return ApiError(404, f"{kind}_unknown", f"there is no {kind} {identity}", field)


def from_validation(
    error: ValidationError, immutable: Collection[str] = (), adapter: TypeAdapter[Any] | None = None
) -> ApiError:
    """Names the first wrong field, `details.errors` all. `immutable`: known fields that cannot be changed.

    With the `adapter` that has refused, the message about a field that there is not names those that there are.
    """
    items = error.errors(include_url=False, include_context=False)
    problems = [_problem(item, immutable) for item in items]
    unknown = [(problem, item["loc"][:-1]) for problem, item in zip(problems, items, strict=True)
               if problem["code"] == "unknown_field"][:MAX_FIELD_ERRORS]  # fmt: skip
    if unknown and adapter is not None:
        schema = adapter.json_schema()
        for problem, place in unknown:
            problem["message"] += f" (known: {', '.join(_fields(schema, place))})"
    first = problems[0]
    more = {"errors": problems[:MAX_FIELD_ERRORS]} if len(problems) > 1 else {}
    where = f"{first['field']}: " if first["field"] else ""
    return ApiError(400, first["code"], where + first["message"], first["field"], more)


def _problem(item: Any, immutable: Collection[str]) -> dict[str, Any]:
    field = ".".join(str(part) for part in item["loc"] if part != "[key]")[:200] or None
    code = _CODES.get(item["type"], "invalid_field")
    message = str(item["msg"]).removeprefix("Value error, ")
    if code == "unknown_field":
        message = "there is no such field"
        if field in immutable:
            code, message = "immutable", "cannot be changed"
    elif code == "missing_field":
        message = "is needed"
    return {"code": code, "field": field, "message": message}


def _fields(schema: Mapping[str, Any], place: Sequence[int | str]) -> list[str]:
    """The fields of the object at a place in a document of that JSON schema."""
    defined = schema.get("$defs", {})

    def forms(one: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """What it can be: a field that may be null has a choice of two."""
        if "$ref" in one:
            one = defined[one["$ref"].rpartition("/")[2]]
        yield one
        for other in one.get("anyOf", ()):
            yield from forms(other)

    found = list(forms(schema))
    for part in place:
        inner = (one.get("items") if isinstance(part, int) else one.get("properties", {}).get(part) for one in found)
        found = [form for one in inner if one for form in forms(one)]
    return [name for one in found for name in one.get("properties", ())]


def from_exception(error: Exception) -> ApiError | None:
    """The answer for an expected exception, or None when it is a bug of ours."""
    match error:
        case ApiError():
            return error
        case ValidationError():
            return from_validation(error)
        case Unavailable():
            return ApiError(503, error.code, error.message, headers=(("Retry-After", "1"),))
        case StoreError():
            return ApiError(error.status, error.code, error.message, error.field, error.details)
        case _ if isinstance(error, UNAVAILABLE):
            # the text of these holds the statement and its values: that is for the log only
            return ApiError(503, "database_unavailable", "the database does not answer; try again later")
    return None
