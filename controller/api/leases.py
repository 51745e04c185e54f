"""/v1/leases: what DHCP has last said to each port, as it stands now."""

from __future__ import annotations

from enum import StrEnum

from pydantic import TypeAdapter

from controller.api import answers, declared
from controller.api.auth import Resource, Verb
from controller.api.fields import ANY_ADDRESS
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.services import Services
from controller.api.views import Json, time_of
from controller.store.specs import Lease


class LiveState(StrEnum):
    """`expired`: bound, and not renewed in time. The address stays the port's all the same."""

    BOUND = "bound"
    EXPIRED = "expired"
    RELEASED = "released"
    DECLINED = "declined"


def list_leases(services: Services, request: Request) -> Answer:
    filters = request.page()
    project = request.caller.project
    if project is not None and filters.setdefault("project_id", project) != project:
        return Answer.json({"leases": []})
    return Answer.json({"leases": [_view(lease) for lease in services.store.list_leases(**filters)]})


def _view(lease: Lease) -> Json:
    return {
        "id": lease.id,
        "address": str(lease.address),
        "state": lease.state,
        "port_id": lease.port_id,
        "network_id": lease.network_id,
        "project_id": lease.project_id,
        "mac": lease.mac,
        "hostname": lease.hostname,
        "node": lease.node,
        "updated_at": time_of(lease.updated_at),
        "expires_at": time_of(lease.expires_at),
    }


ROUTES = (
    Route(
        "/v1/leases",
        Resource.LEASE,
        {
            "GET": Endpoint(
                Verb.LIST,
                list_leases,
                declared.shown(leases=list[answers.Lease]),
                query=declared.page(
                    "project_id",
                    "network_id",
                    "port_id",
                    address=declared.Query(ANY_ADDRESS),
                    state=declared.Query(TypeAdapter(LiveState)),
                ),
            )
        },
    ),
)
