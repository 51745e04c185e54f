"""/stats: Ryu's own `ofctl_rest`, reading only.

Ryu's `StatsController` finds its switches in a DPSet and its answers in a table of waiters. A DPSet closes the old
connection of a datapath_id for any newcomer, so a view of our sessions takes its place, and `deliver` does what the
RyuApp of `ofctl_rest` would do with an answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ryu.app.ofctl_rest import StatsController
from ryu.app.wsgi import WSGIApplication

from controller.api import declared
from controller.api.auth import Resource, Verb
from controller.api.errors import ApiError, invalid
from controller.api.http import JSON, Answer, Endpoint, Handler, Headers, Request, Route
from controller.api.services import Services

Waiters = dict[int, dict[int, Any]]

# ofctl_rest's read paths -> its methods; those OpenFlow 1.4 does not have are left out, and so is tablefeatures: Ryu
# takes 40 s to read Open vSwitch's answer, and nothing else runs meanwhile
ACTIONS: Mapping[str, str] = {
    "/stats/switches": "get_dpids",
    "/stats/desc/{dpid}": "get_desc_stats",
    "/stats/flow/{dpid}": "get_flow_stats",
    "/stats/aggregateflow/{dpid}": "get_aggregate_flow_stats",
    "/stats/table/{dpid}": "get_table_stats",
    "/stats/port/{dpid}": "get_port_stats",
    "/stats/port/{dpid}/{port}": "get_port_stats",
    "/stats/portdesc/{dpid}": "get_port_desc",
    "/stats/queue/{dpid}": "get_queue_stats",
    "/stats/queue/{dpid}/{port}": "get_queue_stats",
    "/stats/queue/{dpid}/{port}/{queue_id}": "get_queue_stats",
    "/stats/queuedesc/{dpid}": "get_queue_desc",
    "/stats/meterfeatures/{dpid}": "get_meter_features",
    "/stats/meterconfig/{dpid}": "get_meter_config",
    "/stats/meterconfig/{dpid}/{meter_id}": "get_meter_config",
    "/stats/meter/{dpid}": "get_meter_stats",
    "/stats/meter/{dpid}/{meter_id}": "get_meter_stats",
    "/stats/groupfeatures/{dpid}": "get_group_features",
    "/stats/groupdesc/{dpid}": "get_group_desc",
    "/stats/group/{dpid}": "get_group_stats",
    "/stats/group/{dpid}/{group_id}": "get_group_stats",
    "/stats/role/{dpid}": "get_role",
}

NUMBER = r"0x[0-9a-fA-F]+|0|[1-9][0-9]*"
_NUMBER = re.compile(NUMBER)

_REFUSALS: Mapping[int, tuple[str, str]] = {
    400: ("bad_request", "Ryu refuses the request"),
    404: ("switch_unknown", "no switch with this datapath_id is connected"),
    501: ("not_supported", "OpenFlow 1.4 does not have this request"),
}


class SwitchView:
    """What `StatsController` asks of a DPSet."""

    def __init__(self, datapaths: Callable[[], Mapping[int, Any]]) -> None:
        self._datapaths = datapaths

    @property
    def dps(self) -> Mapping[int, Any]:
        return self._datapaths()

    def get(self, datapath_id: int) -> Any | None:
        return self._datapaths().get(datapath_id)


def connect(application: WSGIApplication, services: Services) -> None:
    """Lets Ryu's WSGI serve the paths of `ACTIONS`."""
    application.registory[StatsController.__name__] = {
        "dpset": SwitchView(services.datapaths),
        "waiters": services.stats_waiters,
    }
    for path, action in ACTIONS.items():
        application.mapper.connect("stats", path, controller=StatsController, action=action)


def deliver(waiters: Waiters, message: Any) -> bool:
    """Hands a multipart or role reply of a switch to the request that waits for it. True when there was one."""
    waiting = waiters.get(message.datapath.id, {})
    if message.xid not in waiting:
        return False
    lock, messages = waiting[message.xid]
    messages.append(message)
    more = message.datapath.ofproto.OFPMPF_REPLY_MORE
    if not getattr(message, "flags", 0) & more:  # a role reply has no flags
        del waiting[message.xid]
        lock.set()
    return True


def forwarder(application: WSGIApplication) -> Callable[[Services, Request], Answer]:
    """The handler of every path here: passes the request on and translates Ryu's answer."""

    def forward(_services: Services, request: Request) -> Answer:
        for name, text in request.params.items():
            _check_number(name, text)
        got: list[str] = []

        def start_response(status: str, _headers: Headers, _exc_info: Any = None) -> None:
            got.append(status)

        # a body would be read as a flow filter, in Python's syntax for some paths
        environ = {**request.environ, "REQUEST_METHOD": "GET", "CONTENT_LENGTH": "0"}
        environ.pop("wsgi.input", None)
        body = b"".join(application(environ, start_response))
        status = int(got[0].split(" ", 1)[0])
        if status != 200:
            code, message = _REFUSALS.get(status, ("bad_request", got[0]))
            raise ApiError(status, code, message)
        return Answer(200, body, JSON)

    return forward


def _check_number(name: str, text: str) -> None:
    """`ofctl_rest` takes what `int(text, 0)` takes, and ALL; the rest raises there, or while it is being packed."""
    bits = 64 if name == "dpid" else 32
    if text == "ALL" and name != "dpid":
        return
    if not (len(text) <= 22 and _NUMBER.fullmatch(text) and int(text, 0) < 1 << bits):
        raise invalid(name, f"must be a number of {bits} bits")


def routes(application: WSGIApplication) -> tuple[Route, ...]:
    forward = forwarder(application)
    return tuple(Route(path, Resource.STATS, {"GET": _endpoint(path, forward)}) for path in ACTIONS)


def _endpoint(path: str, handler: Handler) -> Endpoint:
    name = "_".join(re.findall(r"\w+", path))
    answer = declared.Media(("application/json",), "As Ryu's `ofctl_rest` has it.")
    return Endpoint(Verb.SHOW, handler, answer, refusals=(501,), name=name)
