"""`trunkline floating-ip`, `floating-ip-pool`, `port-forwarding` and `quota`: what is sent, and what is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

from tests.unit.cli.stub import NETWORK_ID, PORT_ID, Stub, network, port, refusal

POOL_ID = "44444444-4444-4444-8444-444444444444"
FLOATING_ID = "55555555-5555-4555-8555-555555555555"
FORWARDING_ID = "66666666-6666-4666-8666-666666666666"
PATH = f"/v1/floating-ips/{FLOATING_ID}"

Run = Callable[..., Result]


def pool(**fields: Any) -> dict[str, Any]:
    ranges = ["203.0.113.200-203.0.113.203"]
    return {"id": POOL_ID, "name": "public", "network_id": NETWORK_ID, "ranges": ranges, "used": 1} | fields


def floating_ip(**fields: Any) -> dict[str, Any]:
    return {
        "id": FLOATING_ID,
        "address": "203.0.113.200",
        "pool": "public",
        "project_id": "p1",
        "port_id": PORT_ID,
        "fixed_ip": "10.0.1.5",
        "port_forwardings": [],
        "node": "n1",
        "status": "active",
    } | fields


@pytest.fixture
def known(stub: Stub) -> Stub:
    stub.on("GET /v1/networks", (200, {"networks": [network()]}))
    stub.on("GET /v1/ports", (200, {"ports": [port()]}))
    stub.on("GET /v1/floating-ip-pools", (200, {"floating_ip_pools": [pool()]}))
    stub.on("GET /v1/floating-ip-pools/public", (200, {"floating_ip_pool": pool()}))
    stub.on("GET /v1/floating-ips", (200, {"floating_ips": [floating_ip()]}))
    stub.on(f"PATCH {PATH}", (200, {"floating_ip": floating_ip(), "revision": 9}))
    stub.on(f"DELETE {PATH}", (200, {"floating_ip": floating_ip(), "revision": 9}))
    stub.on("POST /v1/floating-ips", (201, {"floating_ip": floating_ip(), "revision": 9}))
    stub.on("GET /v1/revisions/9", (200, {"revision": 9, "confirmed": True, "missing": []}))
    return stub


def test_a_pool_is_made_on_a_network_by_name(known: Stub, run: Run) -> None:
    known.on("POST /v1/floating-ip-pools", (201, {"floating_ip_pool": pool(), "revision": 9}))
    ranges = ("--range", "203.0.113.200/30", "--range", "203.0.113.210-203.0.113.219")
    result = run("floating-ip-pool", "create", "public", "--network", "blue", *ranges, "-o", "json")
    assert json.loads(result.stdout) == pool(revision=9)
    assert known.last("POST").body == {"name": "public", "network_id": NETWORK_ID, "ranges": list(ranges[1::2])}


def test_pools_are_listed_with_their_networks_name(known: Stub, run: Run) -> None:
    assert "public   blue      203.0.113.200-203.0.113.203   1" in run("floating-ip-pool", "list").stdout


def test_a_pool_is_shown_and_deleted_by_name(known: Stub, run: Run) -> None:
    assert json.loads(run("floating-ip-pool", "show", "public", "-o", "json").stdout) == pool()
    known.on(f"DELETE /v1/floating-ip-pools/{POOL_ID}", (200, {"floating_ip_pool": pool(), "revision": 9}))
    assert run("floating-ip-pool", "delete", "public").exit_code == 0


@pytest.mark.parametrize(
    ("options", "body"),
    [
        ((), {}),
        (("--address", "203.0.113.201", "--project", "p2"), {"address": "203.0.113.201", "project_id": "p2"}),
        (("--port", "vm1", "--fixed-ip", "10.0.1.6"), {"port_id": PORT_ID, "fixed_ip": "10.0.1.6"}),
    ],
)
def test_create(known: Stub, run: Run, options: tuple[str, ...], body: dict[str, str]) -> None:
    assert run("floating-ip", "create", "--pool", "public", *options).exit_code == 0
    assert known.last("POST").body == {"pool": "public"} | body


def test_create_many(known: Stub, run: Run) -> None:
    known.on("POST /v1/floating-ips", (201, {"floating_ips": [floating_ip()] * 2, "revision": 9}))
    result = run("floating-ip", "create", "--pool", "public", "--count", "2", "--wait", "-o", "json")
    assert json.loads(result.stdout) == [floating_ip()] * 2
    assert known.last("POST").body == {"pool": "public", "count": 2}
    assert known.last("GET").path == "/v1/revisions/9"
    assert run("floating-ip", "create", "--pool", "public", "--count", "2", "--port", "vm1").exit_code == 2


def test_list_asks_for_what_is_wanted(known: Stub, run: Run) -> None:
    options = ("--pool", "public", "--port", "vm1", "--node", "n1", "--project", "p1", "--address", "203.0.113.200")
    assert "203.0.113.200   public   p1        10.0.1.5   vm1" in run("floating-ip", "list", *options).stdout
    query = next(one.query for one in known.requests if one.path == "/v1/floating-ips")
    assert {name: query[name] for name in query if name != "limit"} == {
        "pool": "public",
        "port_id": PORT_ID,
        "node": "n1",
        "project_id": "p1",
        "address": "203.0.113.200",
    }


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        (("associate", "203.0.113.200", "vm1"), {"port_id": PORT_ID}),
        (
            ("associate", FLOATING_ID, PORT_ID, "--fixed-ip", "10.0.1.6"),
            {"port_id": PORT_ID, "fixed_ip": "10.0.1.6"},
        ),
        (("disassociate", "203.0.113.200"), {"port_id": None}),
        (("disassociate", FLOATING_ID, "--port", "vm1"), {"port_id": None, "expected_port_id": PORT_ID}),
    ],
)
def test_associate_and_disassociate(known: Stub, run: Run, arguments: tuple[str, ...], body: Any) -> None:
    assert run("floating-ip", *arguments, "--wait").exit_code == 0
    assert known.last("PATCH").body == body
    assert [one.path for one in known.requests][-2:] == ["/v1/revisions/9", PATH]


def test_a_floating_ip_is_shown_and_deleted_by_address(known: Stub, run: Run) -> None:
    assert json.loads(run("floating-ip", "show", "203.0.113.200", "-o", "json").stdout) == floating_ip()
    assert known.last("GET").query["address"] == "203.0.113.200"
    assert run("floating-ip", "delete", "203.0.113.200", "--wait").exit_code == 0
    assert known.last("DELETE").path == PATH


def test_an_unknown_address_and_a_refusal_are_said(known: Stub, run: Run) -> None:
    known.on("GET /v1/floating-ips", (200, {"floating_ips": []}))
    result = run("floating-ip", "show", "203.0.113.9")
    assert (result.exit_code, "no floating IP is called '203.0.113.9'" in result.stderr) == (1, True)
    known.on("POST /v1/floating-ips", (409, refusal("pool_exhausted", "No more floating IPs in pool public", "pool")))
    result = run("floating-ip", "create", "--pool", "public")
    assert (result.exit_code, "No more floating IPs in pool public" in result.stderr) == (1, True)


def test_port_forwardings(known: Stub, run: Run) -> None:
    forwarding = {"id": FORWARDING_ID, "protocol": "udp", "ports": "53", "port_id": PORT_ID, "to": 5353}
    path = f"{PATH}/port-forwardings"
    known.on(f"POST {path}", (201, {"port_forwarding": forwarding, "revision": 9}))
    known.on(f"GET {path}", (200, {"port_forwardings": [forwarding]}))
    known.on(f"GET {path}/{FORWARDING_ID}", (200, {"port_forwarding": forwarding}))
    known.on(f"DELETE {path}/{FORWARDING_ID}", (200, {"port_forwarding": forwarding, "revision": 9}))
    options = ("--protocol", "udp", "--ports", "53", "--port", "vm1", "--to", "5353", "--fixed-ip", "10.0.1.6")
    assert run("port-forwarding", "create", "203.0.113.200", *options, "--wait").exit_code == 0
    body = {"protocol": "udp", "ports": "53", "port_id": PORT_ID, "to": 5353, "fixed_ip": "10.0.1.6"}
    assert known.last("POST").body == body
    assert run("port-forwarding", "create", "203.0.113.200", "--ports", "22", "--port", "vm1").exit_code == 0
    assert known.last("POST").body == {"protocol": "tcp", "ports": "22", "port_id": PORT_ID}
    assert json.loads(run("port-forwarding", "list", FLOATING_ID, "-o", "json").stdout) == [forwarding]
    shown = run("port-forwarding", "show", FLOATING_ID, FORWARDING_ID, "-o", "json")
    assert json.loads(shown.stdout) == forwarding
    assert run("port-forwarding", "delete", "203.0.113.200", FORWARDING_ID).exit_code == 0
    assert known.last("DELETE").path == f"{path}/{FORWARDING_ID}"


@pytest.mark.parametrize(("text", "limit"), [("12", 12), ("-1", -1), ("none", None)])
def test_quota(known: Stub, run: Run, text: str, limit: int | None) -> None:
    quota = {"project_id": "p1", "floating_ips": 12, "floating_ips_used": 3, "own": True}
    known.on("GET /v1/quotas/p1", (200, {"quota": quota}))
    known.on("PATCH /v1/quotas/p1", (200, {"quota": quota, "revision": 9}))
    assert json.loads(run("quota", "show", "p1", "-o", "json").stdout) == quota
    assert run("quota", "set", "p1", "--floating-ips", text).exit_code == 0
    assert known.last("PATCH").body == {"floating_ips": limit}
    assert run("quota", "set", "p1", "--floating-ips", "many").exit_code == 2
