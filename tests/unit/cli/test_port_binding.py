"""`trunkline port-binding`: what is sent, and what is printed."""

from __future__ import annotations

import json
from typing import Any

from tests.unit.cli.stub import PORT_ID, Stub, port

PATH = f"/v1/ports/{PORT_ID}/bindings"
THERE = {"node": "n2", "status": "prepared", "ofport": 101}


def test_a_move(stub: Stub, run: Any) -> None:
    stub.on("GET /v1/ports", (200, {"ports": [port()]}))
    stub.on(f"POST {PATH}", (201, {"binding": THERE, "revision": 7}))
    stub.on(f"PUT {PATH}/n2/activate", (200, {"binding": THERE | {"status": "active"}, "revision": 8}))
    stub.on(f"DELETE {PATH}/n1", (200, {"binding": THERE | {"status": "active"}, "revision": 9}))
    stub.on("GET /v1/revisions/7", (200, {"revision": 7}))
    made = run("port-binding", "create", "vm1", "n2", "--wait", "-o", "json")
    assert json.loads(made.stdout) == THERE | {"revision": 7}
    assert stub.requests[1].body == {"node": "n2"}
    assert stub.requests[-1].path == "/v1/revisions/7"
    assert json.loads(run("port-binding", "activate", PORT_ID, "n2", "-o", "json").stdout)["status"] == "active"
    assert json.loads(run("port-binding", "delete", PORT_ID, "n1", "-o", "json").stdout)["revision"] == 9


def test_list(stub: Stub, run: Any) -> None:
    stub.on(f"GET {PATH}", (200, {"bindings": [{"node": "n1", "status": "active", "ofport": 3}, THERE]}))
    lines = run("port-binding", "list", PORT_ID).stdout.splitlines()
    assert [line.split()[:2] for line in lines[-2:]] == [["n1", "active"], ["n2", "prepared"]]
