"""What needs no token: whether the process answers, and whether it can do its work. Nothing is said about the cloud.

/v1/health and /healthz say the same: what looks after programs (Kubernetes, load balancers) asks for the latter.
"""

from __future__ import annotations

from controller.api import declared
from controller.api.auth import Resource, Verb
from controller.api.errors import ApiError
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.services import Services
from controller.readiness import OK


def show_health(_services: Services, _request: Request) -> Answer:
    return Answer.json({"status": "ok"})


def show_readiness(services: Services, _request: Request) -> Answer:
    """503 is the answer to who asks, and nothing that has failed: it is not logged as such."""
    checks = services.ready()
    wrong = [f"{name}: {found}" for name, found in checks.items() if found != OK]
    if wrong:
        refusal = ApiError(503, "not_ready", "; ".join(wrong), details={"checks": dict(checks)})
        return Answer.json(refusal.envelope(), refusal.status)
    return Answer.json({"status": "ok", "checks": dict(checks)})


_ANSWERS = declared.shown(status=str)
_HEALTH = {"GET": Endpoint(Verb.SHOW, show_health, _ANSWERS)}
_HEALTHZ = {"GET": Endpoint(Verb.SHOW, show_health, _ANSWERS, name="show_healthz")}
_READY = {"GET": Endpoint(Verb.SHOW, show_readiness, declared.shown(status=str, checks=dict[str, str]))}

ROUTES = (
    Route("/v1/health", Resource.HEALTH, _HEALTH, public=True),
    Route("/healthz", Resource.HEALTH, _HEALTHZ, public=True),
    Route("/readyz", Resource.HEALTH, _READY, public=True),
)
