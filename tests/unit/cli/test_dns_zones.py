"""`trunkline zone` and `trunkline record`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

from tests.unit.cli.stub import NETWORK_ID, Stub, network

ZONE_ID = "99999999-9999-4999-8999-999999999999"
RECORD_ID = "99999999-9999-4999-8999-aaaaaaaaaaaa"
FLOATING_ID = "99999999-9999-4999-8999-bbbbbbbbbbbb"
ZONE = f"/v1/dns-zones/{ZONE_ID}"
RECORD = f"/v1/dns-records/{RECORD_ID}"

Run = Callable[..., Result]


def zone(**fields: Any) -> dict[str, Any]:
    return {"id": ZONE_ID, "name": "lab.example", "scope": "private", "project_id": "p1", "ttl": 60} | fields


def record(**fields: Any) -> dict[str, Any]:
    return {"id": RECORD_ID, "fqdn": "www.lab.example", "type": "A", "data": "192.0.2.1", "ttl": None} | fields


@pytest.fixture
def known(stub: Stub) -> Stub:
    stub.on("GET /v1/networks", (200, {"networks": [network()]}))
    stub.on("GET /v1/floating-ips", (200, {"floating_ips": [{"id": FLOATING_ID, "address": "203.0.113.9"}]}))
    stub.on("GET /v1/dns-zones", (200, {"dns_zones": [zone()]}))
    stub.on("POST /v1/dns-zones", (201, {"dns_zone": zone(), "revision": 9}))
    stub.on("GET /v1/dns-records", (200, {"dns_records": [record()]}))
    stub.on("POST /v1/dns-records", (201, {"dns_record": record(), "revision": 9}))
    for method in ("GET", "PATCH", "DELETE"):
        stub.on(f"{method} {ZONE}", (200, {"dns_zone": zone(), "revision": 9}))
        stub.on(f"{method} {RECORD}", (200, {"dns_record": record(), "revision": 9}))
    return stub


def test_zones(known: Stub, run: Run) -> None:
    options = ("--project", "p1", "--scope", "public", "--ttl", "30", "--network", "blue")
    assert run("zone", "create", "lab.example", *options).exit_code == 0
    body = {"name": "lab.example", "project_id": "p1", "scope": "public", "ttl": 30, "network_ids": [NETWORK_ID]}
    assert known.last("POST").body == body
    assert "lab.example" in run("zone", "list", "--scope", "private", "--project", "p1").stdout
    assert {"scope": "private", "project_id": "p1"}.items() <= known.last("GET").query.items()
    assert "lab.example" in run("zone", "show", "lab.example").stdout
    assert run("zone", "set", "lab.example", "--network", "none", "--to-project", "none").exit_code == 0
    assert known.last("PATCH").body == {"network_ids": [], "project_id": None}
    assert run("zone", "set", "lab.example").exit_code == 2
    assert run("zone", "delete", "lab.example", "--project", "p1").exit_code == 0
    assert known.last("DELETE").path == ZONE


def test_records(known: Stub, run: Run) -> None:
    assert run("record", "create", "lab.example", "@", "mx", "10 mail.example.net", "--ttl", "5").exit_code == 0
    body = {"zone_id": ZONE_ID, "name": "@", "type": "MX", "data": "10 mail.example.net", "ttl": 5}
    assert known.last("POST").body == body
    assert run("record", "create", ZONE_ID, "www", "--floating-ip", "203.0.113.9").exit_code == 0
    body = {"zone_id": ZONE_ID, "name": "www", "type": "A", "floating_ip_id": FLOATING_ID}
    assert known.last("POST").body == body
    for both_or_none in (("A", "192.0.2.1", "--floating-ip", "203.0.113.9"), ()):
        assert run("record", "create", "lab.example", "www", *both_or_none).exit_code == 2
    result = run("record", "list", "--zone", "lab.example", "--data", "192.0.2.1", "--floating-ip", "203.0.113.9")
    assert "www.lab.example" in result.stdout
    wanted = {"zone_id": ZONE_ID, "data": "192.0.2.1", "floating_ip_id": FLOATING_ID}
    assert wanted.items() <= known.last("GET").query.items()
    assert "192.0.2.1" in run("record", "show", "www.lab.example").stdout
    assert run("record", "set", "www.lab.example", "--data", "192.0.2.2", "--ttl", "none").exit_code == 0
    assert known.last("PATCH").body == {"data": "192.0.2.2", "ttl": None}
    assert run("record", "set", RECORD_ID, "--floating-ip", "none", "--ttl", "7").exit_code == 0
    assert known.last("PATCH").body == {"floating_ip_id": None, "ttl": 7}
    assert run("record", "set", RECORD_ID, "--ttl", "x").exit_code == 2
    assert run("record", "set", RECORD_ID).exit_code == 2
    assert run("record", "delete", "www.lab.example").exit_code == 0
    assert known.last("DELETE").path == RECORD


def test_several_records_of_one_name(known: Stub, run: Run) -> None:
    other = record(id=FLOATING_ID, data="192.0.2.2")
    known.on("GET /v1/dns-records", (200, {"dns_records": [record(), other]}))
    result = run("record", "delete", "www.lab.example")
    assert result.exit_code == 2 and "2 DNS records are called 'www.lab.example'" in result.stderr
    assert all(request.method == "GET" for request in known.requests)
