"""Puts what was read from Nova into this cloud, by the API. What is there already stays as it is, so that a second run
goes on where the first has ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, TypeVar

from controller.client import ApiError, Client, Written
from controller.nova.convert import spans
from controller.nova.model import Cloud, Group, Network, Object

T = TypeVar("T")
K = TypeVar("K")

DEFAULT_GROUP: Final = "default"
_AT_ONCE: Final = 100
"""Ports of one request: few enough for a request to be short."""


@dataclass
class Outcome:
    """`made` and `there`: how many of each kind. `failed`: what the API refused, and why."""

    made: Counter[str] = field(default_factory=Counter)
    there: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[str, str]] = field(default_factory=list)


class Import:
    """`external_network_id` is for floating IPs. Of `nodes`, machines go where they were. `tell` hears what is done."""

    def __init__(
        self, client: Client, external_network_id: str | None, nodes: Collection[str], tell: Callable[[str], None]
    ) -> None:
        self._client = client
        self._external_network_id = external_network_id
        self._nodes = nodes
        self._tell = tell
        self._outcome = Outcome()

    def run(self, cloud: Cloud) -> Outcome:
        """Raises ClientError when the server does not answer."""
        networks = self._networks(cloud)
        groups = self._groups([group for group in cloud.groups if group.name != DEFAULT_GROUP])
        self._ports(cloud, networks)
        # a project has its group `default` once it has a port
        groups |= self._defaults([group for group in cloud.groups if group.name == DEFAULT_GROUP])
        self._rules(cloud.groups, groups)
        if self._external_network_id is not None:
            self._pools(cloud)
            self._floating_ips(cloud)
        return self._outcome

    def _missing(self, kind: str, wanted: Iterable[T], key: Callable[[T], K], there: Container[K]) -> Iterator[T]:
        """What of it is to be made; the rest is counted."""
        for one in wanted:
            if key(one) in there:
                self._outcome.there[kind] += 1
            else:
                yield one

    def _networks(self, cloud: Cloud) -> dict[int, str]:
        def key(network: Network) -> tuple[str, str | None]:
            return network.body["name"], network.body["project_id"]

        there = {(network["name"], network["project_id"]): network["id"] for network in self._client.list_networks()}
        ids = {network.id: there[key(network)] for network in cloud.networks if key(network) in there}
        for network in self._missing("network", cloud.networks, key, there):
            id_ = self._make("network", network.body["name"], lambda: self._client.create_network(network.body))  # noqa: B023
            if id_ is not None:
                ids[network.id] = id_
        return ids

    def _groups(self, groups: Sequence[Group]) -> dict[int, str]:
        there = self._known_groups()
        ids = _known(groups, there)
        for group in self._missing("security_group", groups, _group_key, there):
            what = f"{group.name} of {group.project_id}"
            id_ = self._make("security_group", what, lambda: self._client.create_security_group(group.body))  # noqa: B023
            if id_ is not None:
                ids[group.id] = id_
        return ids

    def _defaults(self, groups: Sequence[Group]) -> dict[int, str]:
        return _known(groups, self._known_groups())

    def _known_groups(self) -> dict[tuple[str, str], str]:
        return {(group["project_id"], group["name"]): group["id"] for group in self._client.list_security_groups()}

    def _ports(self, cloud: Cloud, networks: dict[int, str]) -> None:
        there = {port["id"] for port in self._client.list_ports()}
        bodies = []
        for port in self._missing("port", cloud.ports, lambda port: port.body["id"], there):
            if port.network not in networks:
                self._outcome.failed.append((f"port {port.body['id']}", "its network could not be made"))
            else:
                place = {"node": port.host} if port.host in self._nodes else {}
                bodies.append({**port.body, "network_id": networks[port.network], **place})
        for start in range(0, len(bodies), _AT_ONCE):
            self._make_ports(bodies[start : start + _AT_ONCE])
            self._tell(f"{min(start + _AT_ONCE, len(bodies))} of {len(bodies)} ports")

    def _make_ports(self, bodies: Sequence[Object]) -> None:
        try:
            self._client.create_ports(bodies)
        except ApiError:
            # one of them is to blame: which?
            for body in bodies:
                self._make("port", words_of_port(body), lambda: self._client.create_port(body))  # noqa: B023
        else:
            self._outcome.made["port"] += len(bodies)

    def _rules(self, groups: Sequence[Group], ids: dict[int, str]) -> None:
        for group in groups:
            for rule in group.rules if group.id in ids else ():
                body: Object = {**rule, "security_group_id": ids[group.id]}
                remote = body.pop("remote_group", None)
                if remote is not None and remote not in ids:
                    self._outcome.failed.append((f"rule of {group.name}", "the group that it names has no machines"))
                    continue
                if remote is not None:
                    body["remote_group_id"] = ids[remote]
                self._make("rule", f"of {group.name}", lambda: self._client.create_security_group_rule(body))  # noqa: B023

    def _pools(self, cloud: Cloud) -> None:
        there = {pool["name"] for pool in self._client.list_floating_ip_pools()}
        for pool in self._missing("floating_ip_pool", cloud.pools, lambda pool: pool.name, there):
            body = {"name": pool.name, "network_id": self._external_network_id, "ranges": spans(pool.addresses)}
            self._make("floating_ip_pool", pool.name, lambda: self._client.create_floating_ip_pool(body))  # noqa: B023

    def _floating_ips(self, cloud: Cloud) -> None:
        there = {floating_ip["address"] for floating_ip in self._client.list_floating_ips()}
        for floating_ip in self._missing("floating_ip", cloud.floating_ips, lambda one: str(one.address), there):
            body: Object = {"pool": floating_ip.pool, "address": str(floating_ip.address)}
            if floating_ip.project_id is not None:
                body["project_id"] = floating_ip.project_id
            if floating_ip.port_id is not None:
                body |= {"port_id": floating_ip.port_id, "fixed_ip": str(floating_ip.fixed_ip)}
            self._make("floating_ip", body["address"], lambda: self._client.create_floating_ip(body))  # noqa: B023

    def _make(self, kind: str, what: str, make: Callable[[], Written]) -> str | None:
        """The id of what was made."""
        try:
            written = make()
        except ApiError as error:
            self._refused(kind, what, error)
            return None
        self._outcome.made[kind] += 1
        return None if written.object is None else str(written.object["id"])

    def _refused(self, kind: str, what: str, error: ApiError) -> None:
        if kind == "rule" and error.status == HTTPStatus.CONFLICT:
            self._outcome.there[kind] += 1
        else:
            self._outcome.failed.append((f"{kind} {what}", error.message))


def words_of_port(body: Object) -> str:
    return f"{body['name']} ({body['fixed_ips'][0]['address']})"


def _group_key(group: Group) -> tuple[str, str]:
    return group.project_id, group.name


def _known(groups: Iterable[Group], there: Mapping[tuple[str, str], str]) -> dict[int, str]:
    return {group.id: there[_group_key(group)] for group in groups if _group_key(group) in there}
