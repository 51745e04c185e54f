"""`trunkline lease`: what is asked, and what is printed."""

from __future__ import annotations

from typing import Any

from tests.unit.cli.stub import NETWORK_ID, PORT_ID, Stub, port

LEASE = {
    "id": f"{PORT_ID}-10.0.0.5", "address": "10.0.0.5", "state": "bound", "mac": "fa:16:3e:00:00:05",
    "hostname": "web", "port_id": PORT_ID, "node": "n1", "updated_at": "2030-01-01T00:00:00Z",
    "expires_at": "2030-01-02T00:00:00Z",
}  # fmt: skip


def test_list(stub: Stub, run: Any) -> None:
    stub.on("GET /v1/leases", (200, {"leases": [LEASE]}))
    stub.on("GET /v1/ports", (200, {"ports": [port()]}))
    ran = run(
        "lease", "list", "--network", NETWORK_ID, "--port", PORT_ID, "--state", "bound", "--address", "10.0.0.5",
        "--project", "blue",
    )  # fmt: skip
    assert ran.stdout.splitlines()[-1].split()[:4] == ["10.0.0.5", "bound", "fa:16:3e:00:00:05", "web"]
    query = next(one.query for one in stub.requests if one.path == "/v1/leases")
    assert {name: query[name] for name in query if name != "limit"} == {
        "network_id": NETWORK_ID, "port_id": PORT_ID, "state": "bound", "address": "10.0.0.5", "project_id": "blue",
    }  # fmt: skip
