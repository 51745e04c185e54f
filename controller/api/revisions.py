"""/v1/revisions/N: have the nodes confirmed it?"""

from __future__ import annotations

import re

from controller.api.auth import Resource, Verb
from controller.api.errors import ApiError, invalid
from controller.api.http import MAX_REVISION, Answer, Endpoint, Request, Route, bounded_int
from controller.api.services import Services

MAX_WAIT = 60.0
_SECONDS = re.compile(r"[0-9]{1,3}(\.[0-9]{1,6})?")


def show_revision(services: Services, request: Request) -> Answer:
    revision = bounded_int("revision", request.params["revision"], 0, MAX_REVISION)
    wait = _seconds(request.filters("wait").get("wait", "0"))
    if revision > services.snapshot().revision and revision > services.store.revision():
        raise ApiError(404, "revision_unknown", f"there is no revision {revision} yet")
    missing = services.confirmations.missing(revision)
    if missing and wait:
        missing = services.confirmations.wait(revision, wait)
    if missing:
        raise ApiError(
            504,
            "revision_unconfirmed",
            f"revision {revision} is not confirmed by {len(missing)} of the nodes",
            details={"revision": revision, "missing": sorted(missing)},
        )
    return Answer.json({"revision": revision, "confirmed": True, "missing": []})


def _seconds(text: str) -> float:
    if not _SECONDS.fullmatch(text) or float(text) > MAX_WAIT:
        raise invalid("wait", f"must be seconds from 0 to {MAX_WAIT:.0f}")
    return float(text)


ROUTES = (
    Route("/v1/revisions/{revision}", Resource.REVISION, {"GET": Endpoint(Verb.SHOW, show_revision, waits=True)}),
)
