"""/v1/revisions/N: have the nodes confirmed it?"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import PlainValidator, TypeAdapter, WithJsonSchema

from controller.api import declared
from controller.api.auth import Resource, Verb
from controller.api.errors import ApiError
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.services import Services

MAX_WAIT = 60.0
_SECONDS = re.compile(r"[0-9]{1,3}(\.[0-9]{1,20})?(e-[0-9]{1,3})?")


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


def _seconds(text: object) -> float:
    if not isinstance(text, str) or not _SECONDS.fullmatch(text) or float(text) > MAX_WAIT:
        raise ValueError(f"must be seconds from 0 to {MAX_WAIT:.0f}")
    return float(text)


WAIT: TypeAdapter[float] = TypeAdapter(
    Annotated[float, PlainValidator(_seconds), WithJsonSchema({"type": "number", "minimum": 0, "maximum": MAX_WAIT})]
)

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
