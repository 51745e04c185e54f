"""What would become of an import, without making any of it: all is done in one plan, which the server undoes. So what
does not go together is seen, too: a VLAN that two networks have, a quota that is used up on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Final

from controller.client import ApiError, Written, refusal_of
from controller.nova.apply import Import, Outcome, words_of_port
from controller.nova.model import Cloud, Group, Object
from controller.planning_client import CollectingClient, planned_request

_TOO_MUCH: Final = ("plan_too_long", "body_too_large")
_OF_PORTS: Final = ("port", "floating_ip")
_OF_NETWORKS: Final = ("network", *_OF_PORTS)
"""What is in one part only, where a cloud is checked in parts: of its ports, or of its networks."""

_LATER: Final = "@default"
"""In place of the id of a group `default` that comes with the first port of its project, and is not known before."""

Collecting = Callable[[], CollectingClient]
Tell = Callable[[str], None]


def check(
    cloud: Cloud, collecting: Collecting, external_network_id: str | None, nodes: Collection[str], tell: Tell
) -> Outcome:
    """What is there already, and what would be refused; nothing is made. `collecting` makes clients; the rest as of
    `Import`. A cloud that is too large for one plan is checked in parts. Raises ClientError as `Import.run` does.
    """
    projects = frozenset(port.body["project_id"] for port in cloud.ports)

    def whole(part: Cloud) -> Outcome:
        return _Check(collecting(), external_network_id, nodes, projects).outcome(part)

    return _in_parts(cloud, whole, tell)


def _in_parts(cloud: Cloud, whole: Callable[[Cloud], Outcome], tell: Tell) -> Outcome:
    try:
        return whole(cloud)
    except ApiError as error:
        if not _is_too_much(error):
            raise
        if max(len(cloud.networks), len(cloud.ports)) < 2:
            message = "groups, rules, pools and unused floating IPs are checked in one plan; they are too many for it"
            raise ApiError(error.status, error.code, message, error.field, error.details, error.request_id) from error
    kinds = _OF_NETWORKS if len(cloud.networks) > 1 else _OF_PORTS
    tell("note: too much for one plan: halves are checked apart, and what of both does not go together is not seen")
    outcome = Outcome()
    for half in _halves(cloud):
        found = _in_parts(half, whole, _silent)
        for kind, count in found.there.items():
            outcome.there[kind] = outcome.there[kind] + count if kind in kinds else count
        outcome.failed += [one for one in found.failed if one not in outcome.failed]
    return outcome


def _halves(cloud: Cloud) -> Iterator[Cloud]:
    """Each with half of the networks and what is on them, or of the only one's ports, and with all groups and pools,
    which are for both.
    """
    middle = len(cloud.networks) // 2
    numbers = {network.id for network in cloud.networks[:middle]}
    some = {port.body["id"] for port in cloud.ports if port.network in numbers}
    networks = (cloud.networks[:middle], cloud.networks[middle:])
    if middle == 0:
        some = {port.body["id"] for port in cloud.ports[: len(cloud.ports) // 2]}
        networks = (cloud.networks, cloud.networks)
    for first, of_half in zip((True, False), networks, strict=True):
        yield replace(
            cloud,
            networks=of_half,
            ports=tuple(port for port in cloud.ports if (port.body["id"] in some) is first),
            floating_ips=tuple(
                one for one in cloud.floating_ips if (one.port_id is None or one.port_id in some) is first
            ),
        )


class _Check(Import):
    """Collects what the import would ask for. `_asked` says of each request what it is about: a kind, and words for
    one object, or the bodies of many ports.
    """

    def __init__(
        self,
        client: CollectingClient,
        external_network_id: str | None,
        nodes: Collection[str],
        projects: Collection[str],
    ) -> None:
        """`projects` get ports by the import, of which this may be a part."""
        super().__init__(client, external_network_id, nodes, _silent)
        self._collected = client
        self._asked: list[tuple[str, str | Sequence[Object]]] = []
        self._projects = projects

    def outcome(self, cloud: Cloud) -> Outcome:
        self.run(cloud)
        answers = self._collected.plan()
        refused = self._refused_together(answers)
        while refused:
            before = self._collected.requests, self._asked
            self._take_apart(refused)
            try:
                answers = self._collected.plan()
            except ApiError as error:
                if not _is_too_much(error):
                    raise
                self._collected.requests, self._asked = before
                refused = refused[: len(refused) // 2]
            else:
                # one that was taken before may be what those are refused for that were made first now
                refused = self._refused_together(answers)
        self._judge(answers)
        return self._outcome

    def _make(self, kind: str, what: str, make: Callable[[], Written]) -> str | None:
        written = make()
        requests = self._collected.requests
        if _LATER in requests[-1]["body"].values():
            requests.pop()
            return None
        self._asked.append((kind, what))
        return None if written.object is None else str(written.object["id"])

    def _make_ports(self, bodies: Sequence[Object]) -> None:
        self._client.create_ports(bodies)
        self._asked.append(("port", bodies))

    def _defaults(self, groups: Sequence[Group]) -> dict[int, str]:
        later = {group.id: _LATER for group in groups if group.project_id in self._projects}
        return later | super()._defaults(groups)

    def _refused_together(self, answers: Sequence[Object]) -> list[int]:
        """The places of many ports that were refused."""
        asked = zip(self._asked, answers, strict=True)
        return [
            index
            for index, ((_, what), answer) in enumerate(asked)
            if not isinstance(what, str) and _is_refusal(answer)
        ]

    def _take_apart(self, refused: Collection[int]) -> None:
        """Ports that were refused together are asked for one by one: which is to blame? Nothing refers to ports by
        their place, and what is referred to comes before them.
        """
        requests = []
        asked: list[tuple[str, str | Sequence[Object]]] = []
        for index, (request, (kind, what)) in enumerate(zip(self._collected.requests, self._asked, strict=True)):
            if index in refused and not isinstance(what, str):
                requests += [planned_request("POST", "ports", body) for body in what]
                asked += [(kind, words_of_port(body)) for body in what]
            else:
                requests.append(request)
                asked.append((kind, what))
        self._collected.requests, self._asked = requests, asked

    def _judge(self, answers: Sequence[Object]) -> None:
        refused: set[str] = set()
        for index, (request, (kind, what), answer) in enumerate(
            zip(self._collected.requests, self._asked, answers, strict=True)
        ):
            if not _is_refusal(answer):
                continue
            refused.add(f"@{index}")
            if not isinstance(what, str):
                what = f"{words_of_port(what[0])} or one of {len(what) - 1} after it"
            if refused.intersection(map(str, request["body"].values())):
                self._outcome.failed.append((f"{kind} {what}", "what it belongs to could not be made"))
            else:
                self._refused(kind, what, refusal_of(answer["status"], answer["body"]))


def _is_too_much(error: ApiError) -> bool:
    return error.code in _TOO_MUCH or error.field == "requests"


def _is_refusal(answer: Object) -> bool:
    return int(answer["status"]) >= HTTPStatus.BAD_REQUEST


def _silent(text: str) -> None:
    """Nothing is done that could be told of."""
