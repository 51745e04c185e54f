"""/v1/ports/{id}/network-data"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from pydantic import TypeAdapter

from controller import injection
from controller.api import declared
from controller.api.auth import Resource, Verb
from controller.api.http import Answer, Endpoint, Request, Route
from controller.api.ports import owned
from controller.api.services import Services
from controller.store.network_loader import network_of
from controller.store.quarantine import UNREADABLE_OBJECT
from controller.store.specs import Conflict


def show_network_data(services: Services, request: Request) -> Answer:
    """What the port's VM is to be configured with: all ports of its device, the oldest first."""
    record = owned(services, request.caller, request.params["id"])
    ports = [record]
    if record.device_id:
        of_device = services.store.list_ports(device_id=record.device_id)
        ports = [port for port in of_device if port.port.project_id == record.port.project_id]
    networks = {id_: network_of(services.store.get_network(id_)) for id_ in {port.port.network_id for port in ports}}
    if request.query.get("static") == "true":
        networks = {id_: replace(network, dhcp=False) for id_, network in networks.items()}
    nodes = [node.node for node in services.store.list_nodes()]
    try:
        interfaces = [
            injection.interface(index, port.port, networks[port.port.network_id], nodes)
            for index, port in enumerate(ports)
        ]
    except LookupError:
        why = "a subnet of it is not there"
        raise Conflict(UNREADABLE_OBJECT, f"port {record.port.id} cannot be used: {why}") from None
    documents = {
        "network_data": injection.network_data(interfaces),
        "network_config": injection.network_config(interfaces),
    }
    return Answer.json(documents)


_SHOWN = declared.shown(network_data=dict[str, Any], network_config=dict[str, Any])
_STATIC = declared.Query(TypeAdapter(Literal["true", "false"]), "Addresses also where there is DHCP.")
ROUTES = (
    Route(
        "/v1/ports/{id}/network-data",
        Resource.PORT,
        {"GET": Endpoint(Verb.SHOW, show_network_data, _SHOWN, query={"static": _STATIC})},
    ),
)
