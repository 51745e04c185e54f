"""/v1/audit: who has changed what, when, and from what to what."""

from __future__ import annotations

from typing import Annotated

from pydantic import PlainValidator, TypeAdapter, WithJsonSchema

from controller.api import declared, operator_answers
from controller.api.address_models import MOMENT
from controller.api.auth import Resource, Verb
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.services import Services
from controller.api.views import Json, time_of
from controller.store.specs import JournalEntry


def list_audit(services: Services, request: Request) -> Answer:
    """The newest first. A page may have less than `limit`, or nothing, and more behind it: `marker` says where."""
    filters = request.page()
    filters["object_id"] = filters.pop("object", None)
    page = services.store.audit(**filters)
    return Answer.json(
        {
            "audit": [_view(entry) for entry in page.entries],
            "marker": None if page.marker is None else str(page.marker),
        }
    )


def _view(entry: JournalEntry) -> Json:
    return {
        "revision": entry.revision,
        "at": time_of(entry.at),
        "kind": entry.kind,
        "object": entry.object_id,
        "action": entry.action,
        "actor": entry.actor,
        "token": entry.token,
        "address": entry.address,
        "request_id": entry.request_id,
        "old": entry.old,
        "new": entry.payload,
    }


def _marker(text: object) -> int:
    return declared.bounded_int("marker", str(text), 1, declared.MAX_REVISION)


_OF_MARKER = {"type": "integer", "minimum": 1, "maximum": declared.MAX_REVISION}
_MARKER: TypeAdapter[int] = TypeAdapter(Annotated[int, PlainValidator(_marker), WithJsonSchema(_OF_MARKER)])
_LIST = Endpoint(
    Verb.LIST,
    list_audit,
    declared.shown(audit=list[operator_answers.Audit], marker=str | None),
    query={
        **declared.texts("kind", "object", "actor"),
        "since": declared.Query(MOMENT, "Not what was before: RFC 3339, of which the end may be left out; UTC."),
        "limit": declared.LIMIT,
        "marker": declared.Query(_MARKER, "That of the page before."),
    },
)
ROUTES = (Route("/v1/audit", Resource.AUDIT, {"GET": _LIST}),)
