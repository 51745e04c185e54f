"""What calls of all resources have in common: lists that come in pages, one object, and a write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from controller.client.errors import ApiError
from controller.client.transport import Object, Transport

PAGE = 500
"""Objects asked for at a time."""


class Written:
    """The answer to a write: the object as it is now (None after a delete) and the revision that holds it."""

    __slots__ = ("kind", "object", "path", "revision")

    def __init__(
        self, object_: Object | None, revision: int | None, path: str | None = None, kind: str = "object"
    ) -> None:
        """`path` is where the object can be had again, if it can, and `kind` what the answer calls it then."""
        self.object = object_
        self.revision = revision
        self.path = path
        self.kind = kind


class Resources(Transport):
    def read_again(self, written: Written) -> Object | None:
        """The object as it is by now; as it was written where it cannot be had again, or is gone."""
        if written.path is None:
            return written.object
        try:
            found: Object = part_of(self._call("GET", written.path), written.kind, dict)
        except ApiError as error:
            if error.status == 404:
                return written.object
            raise
        return found

    def _list(
        self, resource: str, filters: Mapping[str, str | None], identity: str = "id", member: str | None = None
    ) -> list[Object]:
        query = {name: value for name, value in filters.items() if value is not None}
        found: list[Object] = []
        marker: str | None = None
        while True:
            page_query = {**query, "limit": str(PAGE), **({"marker": marker} if marker else {})}
            answer = self._call("GET", f"{resource}?{urlencode(page_query)}")
            page: list[Object] = part_of(answer, member or resource.replace("-", "_"), list)
            found += page
            if len(page) < PAGE:
                return found
            marker = str(page[-1][identity])

    def _get(self, resource: str, kind: str, identity: str) -> Object:
        found: Object = part_of(self._call("GET", path_of(resource, identity)), kind, dict)
        return found

    def _write(self, method: str, path: str, kind: str, fields: Object | None = None) -> Written:
        answer = self._call(method, path, fields)
        made = answer.get(kind)
        where = {"PATCH": path, "POST": path_of(path, str(made["id"])) if made and "id" in made else None}.get(method)
        return Written(made, answer.get("revision"), where, kind)


def path_of(resource: str, identity: str) -> str:
    return f"{resource}/{quote(identity, safe='')}"


def part_of(answer: Object, name: str, type_: type) -> Any:
    """The named part of an answer. Raises ApiError when another server than ours must have answered."""
    part = answer.get(name)
    if not isinstance(part, type_):
        raise ApiError(200, "bad_answer", f"the answer has no {name!r}: is this the address of a Trunkline controller?")
    return part
