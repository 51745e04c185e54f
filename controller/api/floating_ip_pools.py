"""/v1/floating-ip-pools: made by administrators, used by everybody. A pool is known by its id and by its name."""

from __future__ import annotations

from controller.api import declared, policy_answers
from controller.api import floating_ip_views as views
from controller.api.auth import Resource, Verb
from controller.api.floating_ip_models import FLOATING_IP_POOL_CREATE
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.services import Services
from controller.store.floating_ip_specs import FloatingIpPoolRecord
from controller.store.specs import Written


def list_pools(services: Services, request: Request) -> Answer:
    records = services.store.list_floating_ip_pools(**request.page())
    return Answer.json({"floating_ip_pools": [views.pool(record) for record in records]})


def show_pool(services: Services, request: Request) -> Answer:
    record = services.store.get_floating_ip_pool(request.params["id"])
    return Answer.json({"floating_ip_pool": views.pool(record)})


def create_pool(services: Services, request: Request) -> Answer:
    spec = request.parse(FLOATING_IP_POOL_CREATE).spec()
    return _written(services.store.create_floating_ip_pool(spec, request.caller.actor), 201)


def delete_pool(services: Services, request: Request) -> Answer:
    return _written(services.store.delete_floating_ip_pool(request.params["id"], request.caller.actor))


def _written(written: Written[FloatingIpPoolRecord], status: int = 200) -> Answer:
    return Answer.json({"floating_ip_pool": views.pool(written.value), "revision": written.revision}, status)


_WRITTEN = declared.written(floating_ip_pool=policy_answers.FloatingIpPool)
ROUTES = (
    Route(
        "/v1/floating-ip-pools",
        Resource.FLOATING_IP_POOL,
        {
            "GET": Endpoint(
                Verb.LIST,
                list_pools,
                declared.shown(floating_ip_pools=list[policy_answers.FloatingIpPool]),
                query=declared.page("name", "network_id"),
            ),
            "POST": Endpoint(Verb.CREATE, create_pool, _WRITTEN, status=201, bodies=(FLOATING_IP_POOL_CREATE,)),
        },
    ),
    Route(
        "/v1/floating-ip-pools/{id}",
        Resource.FLOATING_IP_POOL,
        {
            "GET": Endpoint(Verb.SHOW, show_pool, declared.shown(floating_ip_pool=policy_answers.FloatingIpPool)),
            "DELETE": Endpoint(Verb.DELETE, delete_pool, _WRITTEN),
        },
    ),
)
