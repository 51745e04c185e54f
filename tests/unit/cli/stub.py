"""A stub of the REST API that records what it is asked, and objects for it to answer with."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

NETWORK_ID = "11111111-1111-4111-8111-111111111111"
OTHER_NETWORK_ID = "22222222-2222-4222-8222-222222222222"
PORT_ID = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
OTHER_PORT_ID = "aaaaaaaa-bbbb-4ccc-8ddd-ffffffffffff"
TOKEN = "s3cret"


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]


Reply = tuple[int, Any] | Callable[[Request], tuple[int, Any]]


@dataclass
class Stub:
    """`replies`: "METHOD /v1/path" -> (status, body) or a function of the request. A str body is sent as it is."""

    url: str = ""
    replies: dict[str, Reply] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    response_headers: dict[str, str] = field(default_factory=dict)

    def on(self, route: str, reply: Reply) -> None:
        self.replies[route] = reply

    def answer(self, request: Request) -> tuple[int, Any]:
        self.requests.append(request)
        reply = self.replies.get(f"{request.method} {request.path}")
        if reply is None:
            return 404, refusal("not_found", f"stub has no {request.method} {request.path}")
        return reply(request) if callable(reply) else reply

    def last(self, method: str) -> Request:
        return next(request for request in reversed(self.requests) if request.method == method)


def refusal(code: str, message: str, field_: str | None = None, **details: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "field": field_, "details": details}}


class Handler(BaseHTTPRequestHandler):
    stub: Stub

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(
            self.command,
            parts.path,
            dict(parse_qsl(parts.query)),
            json.loads(body) if body else None,
            dict(self.headers),
        )
        status, content = self.stub.answer(request)
        data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in self.stub.response_headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle

    def log_message(self, format: str, *args: Any) -> None:
        pass


def network(**fields: Any) -> dict[str, Any]:
    subnet: dict[str, Any] = {
        "id": "33333333-3333-4333-8333-333333333333",
        "cidr": "10.0.1.0/24",
        "gateway": None,
        "dns_servers": [],
        "allocation_ranges": [],
        "reserved": [],
        "host_routes": [],
    }
    return {
        "id": NETWORK_ID,
        "name": "blue",
        "project_id": "p1",
        "kind": "vlan",
        "physical_network": "physnet1",
        "segment": 101,
        "mtu": 1450,
        "gateway_mode": "per_host",
        "dhcp": True,
        "shared": False,
        "external": False,
        "subnets": [subnet],
    } | fields


def port(**fields: Any) -> dict[str, Any]:
    return {
        "id": PORT_ID,
        "key": 5,
        "name": "vm1",
        "network_id": NETWORK_ID,
        "mac": "02:00:00:00:00:05",
        "fixed_ips": [{"subnet_id": "33333333-3333-4333-8333-333333333333", "address": "10.0.1.5"}],
        "node": None,
        "binding": {"node": "n1", "ofport": 100, "zone": 7},
        "status": "active",
    } | fields


def node(**fields: Any) -> dict[str, Any]:
    return {
        "name": "n1",
        "datapath_id": "0000020000000001",
        "physical_networks": ["physnet1"],
        "snat_addresses": {"physnet1": "203.0.113.11"},
        "external_addresses": [{"network_id": NETWORK_ID, "address": "203.0.113.57"}],
        "state": "live",
        "flows": 40,
        "unconfirmed_since": 13,
        "quarantined_flows": 0,
    } | fields
