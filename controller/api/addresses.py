"""/v1/networks/ID/addresses, /v1/address-history, /v1/address-plans: who has, had and is to have an address."""

from __future__ import annotations

from ipaddress import IPv4Address

from pydantic import ValidationError

from controller.api import answers, declared, networks, views
from controller.api.address_models import MOMENT, PLAN
from controller.api.auth import Resource, Verb
from controller.api.errors import ApiError, from_validation, invalid
from controller.api.fields import ADDRESS, ANY_ADDRESS
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.services import Services
from controller.store.address_specs import AddressRecord, HistoryRecord, PlanOutcome

_WRITTEN = declared.written(network=answers.Network)


def list_addresses(services: Services, request: Request) -> Answer:
    """A member sees all of its own network, of others what its own ports have."""
    network = networks.visible(services, request.caller, request.params["id"])
    page = request.page()
    project_id = None if request.caller.owns(network.spec.project_id) else request.caller.project
    records = services.store.list_addresses(network.id, project_id=project_id, **page)
    return Answer.json({"addresses": [_address(record, request.caller.operates) for record in records]})


def reserve_address(services: Services, request: Request) -> Answer:
    network = networks.changeable(services, request.caller, request.params["id"])
    written = services.store.reserve_address(network.id, _of_path(request), request.caller.actor)
    return Answer.json({"network": networks.view(services, request, written.value), "revision": written.revision})


def unreserve_address(services: Services, request: Request) -> Answer:
    network = networks.changeable(services, request.caller, request.params["id"])
    written = services.store.unreserve_address(network.id, _of_path(request), request.caller.actor)
    return Answer.json({"network": networks.view(services, request, written.value), "revision": written.revision})


def end_hold(services: Services, request: Request) -> Answer:
    address = _of_path(request)
    written = services.store.end_hold(request.params["id"], address, request.caller.actor)
    return Answer.json({"address": {"address": str(address)}, "revision": written.revision})


def list_history(services: Services, request: Request) -> Answer:
    """A member sees what its project had."""
    query = request.query
    records = services.store.address_history(
        address=query["address"],
        network_id=query.get("network_id"),
        project_id=request.caller.project,
        at=query.get("at"),
        limit=query.get("limit", declared.MAX_PAGE),
    )
    return Answer.json({"address_history": [_history(record) for record in records]})


def apply_plan(services: Services, request: Request) -> Answer:
    """With problems nothing is written, and the answer says so: 409, or 200 where that was all that was asked."""
    body = request.parse(PLAN)
    entries = [entry.spec() for entry in body.entries]
    written = services.store.apply_plan(entries, body.check, request.caller.actor)
    outcome = written.value
    if outcome.problems and not body.check:
        first = outcome.problems[0]
        details = {"problems": _problems(outcome)}
        message = f"{first.message}; nothing of the plan was done ({len(outcome.problems)} problems)"
        raise ApiError(409, "plan_refused", message, f"entries.{first.entry}", details)
    view = {"actions": [None if action is None else action.value for action in outcome.actions]}
    return Answer.json({"address_plan": {**view, "problems": _problems(outcome)}, "revision": written.revision})


def _problems(outcome: PlanOutcome) -> list[views.Json]:
    return [{"entry": one.entry, "code": one.code, "message": one.message} for one in outcome.problems]


def _of_path(request: Request) -> IPv4Address:
    try:
        return ADDRESS.validate_python(request.params["address"])
    except ValidationError as error:
        raise invalid("address", from_validation(error).message) from None


def _address(record: AddressRecord, whole: bool) -> views.Json:
    """`whole`: also where it is, which is up to who runs the cloud."""
    return {
        "address": str(record.address),
        "subnet_id": record.subnet_id,
        "state": record.state.value,
        "associated": record.associated,
        "leased": record.leased,
        "reserved": record.reserved,
        "owner": record.owner,
        "port_id": record.port_id,
        "port_name": record.port_name,
        "project_id": record.project_id,
        "device_id": record.device_id,
        "mac": record.mac,
        "node": record.node if whole else None,
        "lease_expires_at": _time(record.lease_expires_at),
        "held_until": _time(record.held_until),
    }


def _history(record: HistoryRecord) -> views.Json:
    return {
        "address": str(record.address),
        "network_id": record.network_id,
        "network_name": record.network_name,
        "kind": record.kind,
        "id": record.object_id,
        "project_id": record.project_id,
        "port_id": record.port_id,
        "port_name": record.port_name,
        "device_id": record.device_id,
        "mac": record.mac,
        "from": _time(record.began_at),
        "until": _time(record.ended_at),
    }


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else views.time_of(seconds)


ROUTES = (
    Route(
        "/v1/networks/{id}/addresses",
        Resource.ADDRESS,
        {
            "GET": Endpoint(
                Verb.LIST, list_addresses, declared.shown(addresses=list[answers.Address]), query=declared.page()
            )
        },
    ),
    Route(
        "/v1/networks/{id}/addresses/{address}/reservation",
        Resource.ADDRESS,
        {
            "PUT": Endpoint(Verb.UPDATE, reserve_address, _WRITTEN),
            "DELETE": Endpoint(Verb.DELETE, unreserve_address, _WRITTEN),
        },
    ),
    Route(
        "/v1/networks/{id}/addresses/{address}/hold",
        Resource.ADDRESS_HOLD,
        {"DELETE": Endpoint(Verb.DELETE, end_hold, declared.written(address=answers.FreedAddress))},
    ),
    Route(
        "/v1/address-history",
        Resource.ADDRESS_HISTORY,
        {
            "GET": Endpoint(
                Verb.LIST,
                list_history,
                declared.shown(address_history=list[answers.History]),
                query={
                    "address": declared.Query(ANY_ADDRESS, "Whose history it is.", required=True),
                    "network_id": declared.Query(declared.TEXT),
                    "at": declared.Query(
                        MOMENT, "Only who had it then: RFC 3339, of which the end may be left out; UTC."
                    ),
                    "limit": declared.LIMIT,
                },
            )
        },
    ),
    Route(
        "/v1/address-plans",
        Resource.ADDRESS_PLAN,
        {
            "POST": Endpoint(
                Verb.CREATE, apply_plan, declared.written(address_plan=answers.AddressPlan), bodies=(PLAN,), many=True
            )
        },
    ),
)
