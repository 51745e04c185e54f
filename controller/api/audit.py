"""/v1/audit: who has changed what, when, and from what to what."""

from __future__ import annotations

from typing import Any

from controller.api.address_models import moment
from controller.api.auth import Resource, Verb
from controller.api.http import MAX_REVISION, Answer, Endpoint, Request, Route, bounded_int
from controller.api.services import Services
from controller.api.views import Json, time_of
from controller.store.specs import JournalEntry


def list_audit(services: Services, request: Request) -> Answer:
    """The newest first. A page may have less than `limit`, or nothing, and more behind it: `marker` says where."""
    filters: dict[str, Any] = request.page("kind", "object", "actor", "since")
    filters["object_id"] = filters.pop("object", None)
    if "since" in filters:
        filters["since"] = moment("since", filters["since"])
    if "marker" in filters:
        filters["marker"] = bounded_int("marker", filters["marker"], 1, MAX_REVISION)
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


ROUTES = (Route("/v1/audit", Resource.AUDIT, {"GET": Endpoint(Verb.LIST, list_audit)}),)
