"""/v1/revisions/N: have the nodes confirmed it?"""

from __future__ import annotations

from controller.api import declared
from controller.api.auth import Resource, Verb
from controller.api.errors import ApiError
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.services import Services

MAX_WAIT = 60.0


def show_revision(services: Services, request: Request) -> Answer:
    revision = declared.bounded_int("revision", request.params["revision"], 0, declared.MAX_REVISION)
    wait: float = request.query.get("wait", 0.0)
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


WAIT = declared.seconds(MAX_WAIT)

ROUTES = (
    Route(
        "/v1/revisions/{revision}",
        Resource.REVISION,
        {
            "GET": Endpoint(
                Verb.SHOW,
                show_revision,
                declared.written(confirmed=bool, missing=list[str]),
                query={"wait": declared.Query(WAIT, "Seconds to wait for the nodes that have not confirmed it yet.")},
                refusals=(504,),
                waits=True,
            )
        },
    ),
)
