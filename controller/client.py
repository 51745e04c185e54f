"""A small client of the REST API, for the command line and for scripts.

It imports neither Ryu nor the store, so that a command starts fast. Objects go in and out as plain dictionaries: the
server validates them, and a field that a newer server adds shows up without a new client.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import urllib3

T = TypeVar("T")
Object = dict[str, Any]

PAGE = 500
"""Objects asked for at a time."""

LONGEST_POLL = 60
"""Seconds that the server holds one GET /v1/revisions/N at most."""

LONGEST_PATIENCE = 30.0
"""Seconds for which a call is made again while the server says that it has been asked too much."""

_NOT_CONNECTED = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 30.0


class ClientError(Exception):
    """What a call of `Client` can raise."""


class ApiError(ClientError):
    """The server answered, and the answer is no.

    `code` is for programs, `message` for people; `field` names the offending field if there is one. `request_id` finds
    the request in the server's log.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        field: str | None = None,
        details: Mapping[str, Any] | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(f"{message} ({status} {code})")
        self.status = status
        self.code = code
        self.message = message
        self.field = field
        self.details = dict(details or {})
        self.request_id = request_id


class Unreachable(ClientError):
    """No answer came: wrong address, no listener, a broken or silent connection."""


class Unconfirmed(ClientError):
    """Some nodes have not confirmed a revision in time. `missing` names them."""

    def __init__(self, revision: int, missing: Sequence[str]) -> None:
        nodes = ", ".join(missing) or "unknown"
        super().__init__(f"revision {revision} not confirmed by: {nodes}")
        self.revision = revision
        self.missing = tuple(missing)


class Written:
    """The answer to a write: the object as it is now (None after a delete) and the revision that holds it."""

    __slots__ = ("kind", "object", "path", "revision")

    def __init__(
        self, object_: Object | None, revision: int | None, path: str | None = None, kind: str = "object"
    ) -> None:
        """`path` is where the object can be had again, if it can, and `kind` what the answer calls it then."""
        self.object = object_
        self.revision = revision
        self.path = path
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Tls:
    """For https: PEM files. `ca`: whom to believe, "" for whom this machine believes. `certificate` and `key`: who we
    are, where the server wants to know; "" for nobody.
    """

    ca: str = ""
    certificate: str = ""
    key: str = ""


class Capture:
    """A pcap file that grows: its parts, until it is over. Raises Unreachable when it is cut off."""

    def __init__(self, id_: str, url: str, answer: urllib3.BaseHTTPResponse) -> None:
        self.id = id_
        self._url = url
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._answer.stream(1 << 16)
        except urllib3.exceptions.HTTPError as error:
            raise Unreachable(f"{self._url}: {_reason(error)}") from error


class Client:
    """A REST server, or several that do the same: `url` has their addresses, without the /v1, with commas between them.
    `token` may be empty for `health`. Threads may share it.

    Every method raises ApiError when the server refuses and Unreachable when there is no answer. Asked again, or of
    another server, is only what cannot have been done, as for being too much (429): a write whose answer was lost may
    have been.
    """

    def __init__(
        self, url: str, token: str = "", *, read_timeout: float = READ_TIMEOUT, tls: Tls | None = None
    ) -> None:
        self.urls = tuple(one.strip().rstrip("/") for one in url.split(",") if one.strip())
        self._index = 0
        self._read_timeout = read_timeout
        given = {} if tls is None else {"ca_certs": tls.ca, "cert_file": tls.certificate, "key_file": tls.key}
        files = {name: path for name, path in given.items() if path}
        self._pool = urllib3.PoolManager(retries=False, **files)  # type: ignore[arg-type]  # which urllib3 gives no types
        self._headers = {"Accept": "application/json", "User-Agent": "trunkline"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    @property
    def url(self) -> str:
        """Of the server that is asked."""
        return self.urls[self._index % len(self.urls)]

    # networks

    def list_networks(self, **filters: str | None) -> list[Object]:
        """All networks the token may see. Filters: name, project_id."""
        return self._list("networks", filters)

    def get_network(self, network_id: str) -> Object:
        return self._get("networks", "network", network_id)

    def create_network(self, fields: Object) -> Written:
        return self._write("POST", "networks", "network", fields)

    def create_networks(self, fields: Object) -> tuple[list[Object], int]:
        """Many of one range, by `count` and `network_size`: all or none. Returns them and their revision."""
        answer = self._call("POST", "networks", fields)
        return _member(answer, "networks", list), _member(answer, "revision", int)

    def update_network(self, network_id: str, fields: Object) -> Written:
        return self._write("PATCH", _path("networks", network_id), "network", fields)

    def delete_network(self, network_id: str) -> Written:
        return self._write("DELETE", _path("networks", network_id), "network")

    def associate_network(self, network_id: str, project_id: str) -> Written:
        return self._write("PUT", f"{_path('networks', network_id)}/project", "network", {"project_id": project_id})

    def associate_free_network(self, project_id: str) -> Written:
        return self._write("POST", f"{_path('projects', project_id)}/networks", "network", {})

    def disassociate_network(self, network_id: str) -> Written:
        return self._write("DELETE", f"{_path('networks', network_id)}/project", "network")

    def scrub_project(self, project_id: str) -> Written:
        """`object`: the ids of what it has no more, in `networks` and `security_groups`."""
        return self._write("POST", f"{_path('projects', project_id)}/scrub", "scrubbed")

    # addresses

    def list_addresses(self, network_id: str) -> list[Object]:
        """Those of a network that are, or were, in use or reserved."""
        return self._list(f"{_path('networks', network_id)}/addresses", {}, "address", member="addresses")

    def reserve_address(self, network_id: str, address: str) -> Written:
        return self._write("PUT", f"{_address(network_id, address)}/reservation", "network")

    def unreserve_address(self, network_id: str, address: str) -> Written:
        return self._write("DELETE", f"{_address(network_id, address)}/reservation", "network")

    def release_address(self, network_id: str, address: str) -> Written:
        """Free an address that is kept because of a lease."""
        return self._write("DELETE", f"{_address(network_id, address)}/hold", "address")

    def address_history(self, *, address: str, **filters: str | None) -> list[Object]:
        """Who had an address, newest first, 1000 at most. Filters: network_id, at."""
        query = {"address": address} | {name: value for name, value in filters.items() if value is not None}
        answer = self._call("GET", f"address-history?{urlencode(query)}")
        found: list[Object] = _member(answer, "address_history", list)
        return found

    def apply_address_plan(self, entries: Sequence[Object], check: bool) -> Written:
        """All or none; with `check` only what would be done."""
        return self._write("POST", "address-plans", "address_plan", {"entries": list(entries), "check": check})

    # ports

    def list_ports(self, **filters: str | None) -> list[Object]:
        """All ports the token may see. Filters: name, project_id, network_id, node, address (a pattern)."""
        return self._list("ports", filters)

    def get_port(self, port_id: str) -> Object:
        return self._get("ports", "port", port_id)

    def get_port_counters(self, port_id: str) -> Object:
        """What has passed a port and what has not, as its switch has counted."""
        counters: Object = _member(self._call("GET", _path("ports", port_id) + "/counters"), "counters", dict)
        return counters

    def trace(self, fields: Object) -> Object:
        """What becomes of a packet, in words. `fields`: port, from_address, to, protocol, ... as in POST /v1/trace."""
        return self._call("POST", "trace", fields)

    @contextmanager
    def capture(self, port_id: str, fields: Object) -> Iterator[Capture]:
        """What passes a port from now on: parts of a pcap file, as they come. Fields: seconds, packets, snaplen,
        filter. Leaving the `with` ends it.
        """
        path = f"{_path('ports', port_id)}/captures"
        read_timeout = float(fields.get("seconds", 0)) + READ_TIMEOUT
        answer = self._anywhere("POST", lambda url: self._open(url, path, fields, read_timeout))
        try:
            yield Capture(answer.headers.get("X-Capture-Id", ""), self.url, answer)
        finally:
            answer.close()

    def get_capture(self, port_id: str, capture_id: str) -> Object:
        """How a capture was that is over."""
        path = _path(f"{_path('ports', port_id)}/captures", capture_id)
        found: Object = _member(self._call("GET", path), "capture", dict)
        return found

    def get_network_data(self, port_id: str) -> Object:
        """`network_data` and `network_config`: what the port's machine is configured with when it has no DHCP."""
        return self._call("GET", _path("ports", port_id) + "/network-data")

    def get_metadata(self, port_id: str) -> Object:
        """What the port's machine is told of itself, as far as it was given."""
        metadata: Object = _member(self._call("GET", _path("ports", port_id) + "/metadata"), "metadata", dict)
        return metadata

    def update_metadata(self, port_id: str, fields: Object) -> Written:
        return self._write("PATCH", _path("ports", port_id) + "/metadata", "metadata", fields)

    def create_port(self, fields: Object) -> Written:
        return self._write("POST", "ports", "port", fields)

    def create_ports(self, ports: Sequence[Object]) -> tuple[list[Object], int]:
        """Up to 1000 ports in one transaction: all or none. Returns them and their revision."""
        answer = self._call("POST", "ports", {"ports": list(ports)})
        return _member(answer, "ports", list), _member(answer, "revision", int)

    def create_device_ports(self, fields: Object) -> tuple[list[Object], int]:
        """The ports of a machine (`device_id`) that names no network: all or none. Returns them and their revision."""
        answer = self._call("POST", "ports", fields)
        return _member(answer, "ports", list), _member(answer, "revision", int)

    def update_port(self, port_id: str, fields: Object) -> Written:
        return self._write("PATCH", _path("ports", port_id), "port", fields)

    def delete_port(self, port_id: str) -> Written:
        return self._write("DELETE", _path("ports", port_id), "port")

    def list_port_bindings(self, port_id: str) -> list[Object]:
        found: list[Object] = _member(self._call("GET", _bindings(port_id)), "bindings", list)
        return found

    def create_port_binding(self, port_id: str, node: str) -> Written:
        return self._write("POST", _bindings(port_id), "binding", {"node": node})

    def activate_port_binding(self, port_id: str, node: str) -> Written:
        return self._write("PUT", f"{_path(_bindings(port_id), node)}/activate", "binding")

    def delete_port_binding(self, port_id: str, node: str) -> Written:
        return self._write("DELETE", _path(_bindings(port_id), node), "binding")

    # nodes

    def list_nodes(self, **filters: str | None) -> list[Object]:
        """All nodes, by name."""
        return sorted(self._list("nodes", filters, identity="name"), key=lambda node: str(node["name"]))

    def get_node(self, name: str) -> Object:
        return self._get("nodes", "node", name)

    def delete_node(self, name: str) -> Written:
        return self._write("DELETE", _path("nodes", name), "node")

    def list_quarantine(self) -> list[Object]:
        """What the controller does without, and why."""
        found: list[Object] = _member(self._call("GET", "quarantine"), "quarantine", list)
        return found

    # controllers

    def list_controllers(self) -> list[Object]:
        """Those that are alive, by name."""
        found: list[Object] = _member(self._call("GET", "controllers"), "controllers", list)
        return found

    # floating IPs

    def list_floating_ip_pools(self, **filters: str | None) -> list[Object]:
        """All pools, by name. Filters: name, network_id."""
        return self._list("floating-ip-pools", filters)

    def get_floating_ip_pool(self, reference: str) -> Object:
        """By id or name."""
        return self._get("floating-ip-pools", "floating_ip_pool", reference)

    def create_floating_ip_pool(self, fields: Object) -> Written:
        return self._write("POST", "floating-ip-pools", "floating_ip_pool", fields)

    def delete_floating_ip_pool(self, reference: str) -> Written:
        return self._write("DELETE", _path("floating-ip-pools", reference), "floating_ip_pool")

    def list_floating_ips(self, **filters: str | None) -> list[Object]:
        """All floating IPs the token may see. Filters: project_id, pool, port_id, address, node."""
        return self._list("floating-ips", filters)

    def get_floating_ip(self, floating_ip_id: str) -> Object:
        return self._get("floating-ips", "floating_ip", floating_ip_id)

    def create_floating_ip(self, fields: Object) -> Written:
        return self._write("POST", "floating-ips", "floating_ip", fields)

    def create_floating_ips(self, fields: Object) -> tuple[list[Object], int]:
        """Up to 1000 in one transaction, by `count` or `addresses`: all or none. Returns them and their revision."""
        answer = self._call("POST", "floating-ips", fields)
        return _member(answer, "floating_ips", list), _member(answer, "revision", int)

    def update_floating_ip(self, floating_ip_id: str, fields: Object) -> Written:
        return self._write("PATCH", _path("floating-ips", floating_ip_id), "floating_ip", fields)

    def delete_floating_ip(self, floating_ip_id: str) -> Written:
        return self._write("DELETE", _path("floating-ips", floating_ip_id), "floating_ip")

    def list_port_forwardings(self, floating_ip_id: str) -> list[Object]:
        answer = self._call("GET", _forwardings(floating_ip_id))
        found: list[Object] = _member(answer, "port_forwardings", list)
        return found

    def get_port_forwarding(self, floating_ip_id: str, forwarding_id: str) -> Object:
        return self._get(_forwardings(floating_ip_id), "port_forwarding", forwarding_id)

    def create_port_forwarding(self, floating_ip_id: str, fields: Object) -> Written:
        return self._write("POST", _forwardings(floating_ip_id), "port_forwarding", fields)

    def delete_port_forwarding(self, floating_ip_id: str, forwarding_id: str) -> Written:
        return self._write("DELETE", _path(_forwardings(floating_ip_id), forwarding_id), "port_forwarding")

    # leases

    def list_leases(self, **filters: str | None) -> list[Object]:
        """All leases of ports that the token may see. Filters: project_id, network_id, port_id, address, state."""
        return self._list("leases", filters)

    # tokens, and who has changed what

    def list_tokens(self, **filters: str | None) -> list[Object]:
        """Filters: name, role."""
        return self._list("tokens", filters)

    def get_token(self, token_id: str) -> Object:
        return self._get("tokens", "token", token_id)

    def create_token(self, fields: Object) -> Written:
        """Its `secret` is told this once."""
        return self._write("POST", "tokens", "token", fields)

    def rotate_token(self, token_id: str, grace: int = 0) -> Written:
        """It becomes another one, whose `secret` is told this once; what it was is good for `grace` seconds more."""
        return self._write("POST", f"{_path('tokens', token_id)}/rotate", "token", {"grace": grace})

    def revoke_token(self, token_id: str) -> Written:
        return self._write("DELETE", _path("tokens", token_id), "token")

    def list_audit(self, limit: int | None = None, **filters: str | None) -> list[Object]:
        """The newest first, `limit` of them at most. Filters: kind, object, actor, since."""
        query = {name: value for name, value in filters.items() if value is not None}
        found: list[Object] = []
        while limit is None or len(found) < limit:
            size = PAGE if limit is None else min(PAGE, limit - len(found))
            answer = self._call("GET", f"audit?{urlencode({**query, 'limit': str(size)})}")
            found += _member(answer, "audit", list)
            if answer.get("marker") is None:
                break
            query["marker"] = str(answer["marker"])
        return found

    def list_events(
        self, after: int | None = None, wait: float = 0, filters: Mapping[str, str | None] | None = None
    ) -> tuple[list[Object], int, bool]:
        """What has just happened at the controller that answers, the oldest first: after one that is known, or the
        latest. With `wait` seconds (30 at most) it waits until there is something. Returns the events, the `after` of
        the next call, and whether some are missing. Filters: kind, port_id, network_id, node.
        """
        query = {name: value for name, value in (filters or {}).items() if value is not None}
        if after is not None:
            query |= {"after": str(after), "wait": f"{wait:g}"}
        answer = self._call("GET", f"events?{urlencode(query)}", read_timeout=wait + self._read_timeout)
        return _member(answer, "events", list), _member(answer, "last", int), bool(answer.get("missed"))

    def list_drops(self, port_id: str | None = None, node: str | None = None) -> tuple[list[Object], list[str]]:
        """What switches have dropped since they started, by rule and object; of one port, or node. Also the nodes that
        have not answered.
        """
        given = {"port_id": port_id, "node": node}
        answer = self._call("GET", f"drops?{urlencode({name: text for name, text in given.items() if text})}")
        return _member(answer, "drops", list), _member(answer, "silent", list)

    # quotas

    def get_quota(self, project_id: str) -> Object:
        return self._get("quotas", "quota", project_id)

    def update_quota(self, project_id: str, fields: Object) -> Written:
        return self._write("PATCH", _path("quotas", project_id), "quota", fields)

    # security groups

    def list_security_groups(self, **filters: str | None) -> list[Object]:
        """All groups the token may see, without their rules. Filters: name, project_id."""
        return self._list("security-groups", filters)

    def get_security_group(self, group_id: str) -> Object:
        return self._get("security-groups", "security_group", group_id)

    def create_security_group(self, fields: Object) -> Written:
        return self._write("POST", "security-groups", "security_group", fields)

    def update_security_group(self, group_id: str, fields: Object) -> Written:
        return self._write("PATCH", _path("security-groups", group_id), "security_group", fields)

    def delete_security_group(self, group_id: str) -> Written:
        return self._write("DELETE", _path("security-groups", group_id), "security_group")

    def list_security_group_rules(self, **filters: str | None) -> list[Object]:
        """Filters: security_group_id, project_id."""
        return self._list("security-group-rules", filters)

    def create_security_group_rule(self, fields: Object) -> Written:
        return self._write("POST", "security-group-rules", "security_group_rule", fields)

    def create_security_group_rules(self, rules: Sequence[Object]) -> tuple[list[Object], int]:
        """Up to 1000 in one transaction: all or none. Returns them and their revision."""
        answer = self._call("POST", "security-group-rules", {"security_group_rules": list(rules)})
        return _member(answer, "security_group_rules", list), _member(answer, "revision", int)

    def delete_security_group_rule(self, rule_id: str) -> Written:
        return self._write("DELETE", _path("security-group-rules", rule_id), "security_group_rule")

    def list_default_rules(self, **filters: str | None) -> list[Object]:
        return self._list("default-security-group-rules", filters)

    def create_default_rule(self, fields: Object) -> Written:
        return self._write("POST", "default-security-group-rules", "default_security_group_rule", fields)

    def delete_default_rule(self, rule_id: str) -> Written:
        path = _path("default-security-group-rules", rule_id)
        return self._write("DELETE", path, "default_security_group_rule")

    def list_provider_rules(self, **filters: str | None) -> list[Object]:
        return self._list("provider-rules", filters)

    def create_provider_rule(self, fields: Object) -> Written:
        return self._write("POST", "provider-rules", "provider_rule", fields)

    def delete_provider_rule(self, rule_id: str) -> Written:
        return self._write("DELETE", _path("provider-rules", rule_id), "provider_rule")

    # DNS zones

    def list_dns_zones(self, **filters: str | None) -> list[Object]:
        """All zones the token may see: its project's, and public ones. Filters: name, project_id, scope."""
        return self._list("dns-zones", filters)

    def get_dns_zone(self, zone_id: str) -> Object:
        return self._get("dns-zones", "dns_zone", zone_id)

    def create_dns_zone(self, fields: Object) -> Written:
        return self._write("POST", "dns-zones", "dns_zone", fields)

    def update_dns_zone(self, zone_id: str, fields: Object) -> Written:
        return self._write("PATCH", _path("dns-zones", zone_id), "dns_zone", fields)

    def delete_dns_zone(self, zone_id: str) -> Written:
        """With all its records."""
        return self._write("DELETE", _path("dns-zones", zone_id), "dns_zone")

    def list_dns_records(self, **filters: str | None) -> list[Object]:
        """Filters: zone_id, fqdn, type, data, floating_ip_id, project_id."""
        return self._list("dns-records", filters)

    def get_dns_record(self, record_id: str) -> Object:
        return self._get("dns-records", "dns_record", record_id)

    def create_dns_record(self, fields: Object) -> Written:
        return self._write("POST", "dns-records", "dns_record", fields)

    def update_dns_record(self, record_id: str, fields: Object) -> Written:
        return self._write("PATCH", _path("dns-records", record_id), "dns_record", fields)

    def delete_dns_record(self, record_id: str) -> Written:
        return self._write("DELETE", _path("dns-records", record_id), "dns_record")

    # the rest

    def read_again(self, written: Written) -> Object | None:
        """The object as it is by now; as it was written where it cannot be had again, or is gone."""
        if written.path is None:
            return written.object
        try:
            found: Object = _member(self._call("GET", written.path), written.kind, dict)
        except ApiError as error:
            if error.status == 404:
                return written.object
            raise
        return found

    def health(self) -> Object:
        return self._call("GET", "health")

    def wait_revision(self, revision: int, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Return when every node that the revision concerns has confirmed it.

        Raises Unconfirmed after `timeout` seconds, with the names of the nodes that are missing.
        """
        deadline = clock() + timeout
        while True:
            poll = round(min(LONGEST_POLL, max(0.0, deadline - clock())), 3)
            try:
                self._call(
                    "GET", f"{_path('revisions', str(revision))}?wait={poll:g}", read_timeout=poll + READ_TIMEOUT
                )
                return
            except ApiError as error:
                if error.code != "revision_unconfirmed":
                    raise
                if clock() >= deadline or poll == 0:
                    raise Unconfirmed(revision, [str(name) for name in error.details.get("missing", ())]) from None

    # how a call is made

    def _list(
        self, resource: str, filters: Mapping[str, str | None], identity: str = "id", member: str | None = None
    ) -> list[Object]:
        query = {name: value for name, value in filters.items() if value is not None}
        found: list[Object] = []
        marker: str | None = None
        while True:
            page_query = {**query, "limit": str(PAGE), **({"marker": marker} if marker else {})}
            answer = self._call("GET", f"{resource}?{urlencode(page_query)}")
            page: list[Object] = _member(answer, member or resource.replace("-", "_"), list)
            found += page
            if len(page) < PAGE:
                return found
            marker = str(page[-1][identity])

    def _get(self, resource: str, kind: str, identity: str) -> Object:
        found: Object = _member(self._call("GET", _path(resource, identity)), kind, dict)
        return found

    def _write(self, method: str, path: str, kind: str, fields: Object | None = None) -> Written:
        answer = self._call(method, path, fields)
        made = answer.get(kind)
        where = {"PATCH": path, "POST": _path(path, str(made["id"])) if made and "id" in made else None}.get(method)
        return Written(made, answer.get("revision"), where, kind)

    def _call(self, method: str, path: str, body: Object | None = None, *, read_timeout: float | None = None) -> Object:
        return self._anywhere(method, lambda url: self._ask(url, method, path, body, read_timeout))

    def _anywhere(self, method: str, ask: Callable[[str], T]) -> T:
        """The answer of the first server that gives one."""
        for left in range(len(self.urls) - 1, -1, -1):
            index = self._index
            try:
                return ask(self.url)
            except (ApiError, Unreachable) as error:
                if left == 0 or not _elsewhere(error, method):
                    raise
                if index == self._index:
                    self._index += 1
        raise AssertionError("unreachable")

    def _open(self, url: str, path: str, body: Object, read_timeout: float) -> urllib3.BaseHTTPResponse:
        """An answer that is read as it comes."""
        answer = self._request(url, "POST", path, body, read_timeout, whole=False)
        if answer.status == 200:
            return answer
        data = answer.read()
        answer.close()
        raise _refused(answer, data)

    def _ask(self, url: str, method: str, path: str, body: Object | None, read_timeout: float | None) -> Object:
        answer = self._request(url, method, path, body, read_timeout, whole=True)
        if answer.status == 204:
            return {}
        try:
            content = json.loads(answer.data)
        except ValueError:
            content = None
        if 200 <= answer.status < 300 and isinstance(content, dict):
            return content
        raise _refused(answer, answer.data)

    def _request(
        self, url: str, method: str, path: str, body: Object | None, read_timeout: float | None, *, whole: bool
    ) -> urllib3.BaseHTTPResponse:
        headers = dict(self._headers)
        if body is not None:
            headers["Content-Type"] = "application/json"
        if not whole:
            headers["Accept"] = "*/*"
        deadline = time.monotonic() + LONGEST_PATIENCE
        while True:
            try:
                answer = self._pool.request(
                    method,
                    f"{url}/v1/{path}",
                    body=None if body is None else json.dumps(body).encode(),
                    headers=headers,
                    redirect=False,
                    preload_content=whole,
                    timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT, read=read_timeout or self._read_timeout),
                )
            except (urllib3.exceptions.HTTPError, ValueError, OSError) as error:  # OSError: a file that cannot be read
                raise Unreachable(f"{url}: {_reason(error)}") from error
            wait = answer.headers.get("Retry-After", "")
            # nothing was done, so that it can be asked again
            if answer.status != 429 or not wait.isdigit() or time.monotonic() + int(wait) > deadline:
                return answer
            answer.close()
            time.sleep(int(wait))


def _refused(answer: urllib3.BaseHTTPResponse, data: bytes) -> ApiError:
    try:
        content = json.loads(data)
    except ValueError:
        content = None
    return refusal_of(answer.status, content, answer.headers.get("X-Request-Id"), answer.reason or "")


def _elsewhere(error: ApiError | Unreachable, method: str) -> bool:
    """Another server may do it, and this one has done nothing."""
    if isinstance(error, ApiError):
        return error.code == "database_unavailable"
    return method == "GET" or isinstance(error.__cause__, _NOT_CONNECTED)


def _path(resource: str, identity: str) -> str:
    return f"{resource}/{quote(identity, safe='')}"


def _address(network_id: str, address: str) -> str:
    return _path(f"{_path('networks', network_id)}/addresses", address)


def _bindings(port_id: str) -> str:
    return f"{_path('ports', port_id)}/bindings"


def _forwardings(floating_ip_id: str) -> str:
    return f"{_path('floating-ips', floating_ip_id)}/port-forwardings"


def _member(answer: Object, name: str, type_: type) -> Any:
    """The named part of an answer. Raises ApiError when another server than ours must have answered."""
    part = answer.get(name)
    if not isinstance(part, type_):
        raise ApiError(200, "bad_answer", f"the answer has no {name!r}: is this the address of a Trunkline controller?")
    return part


def refusal_of(status: int, content: object, request_id: str | None = None, reason: str = "") -> ApiError:
    """What an answer that is no success says."""
    error = content.get("error") if isinstance(content, dict) else None
    if not isinstance(error, dict):  # a proxy in between, or another server
        return ApiError(status, "bad_answer", f"HTTP {status} {reason}, and no reason that can be read", None, {}, None)
    details = error.get("details")
    return ApiError(
        status,
        str(error.get("code", "unknown")),
        str(error.get("message", reason)),
        error.get("field"),
        details if isinstance(details, dict) else {},
        error.get("request_id") or request_id,
    )


def _reason(error: Exception) -> str:
    """The innermost reason, in the words of the operating system where it has any."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    match error:
        case urllib3.exceptions.ReadTimeoutError():
            return "no answer in time"
        case urllib3.exceptions.ConnectTimeoutError():
            return "no connection in time"
        case urllib3.exceptions.NameResolutionError():
            return "no such host"
    return str(error)
