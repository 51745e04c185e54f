"""`trunkline metadata`: what is sent, and what is printed."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.stub import PORT_ID, Stub, port

METADATA = {"machine_id": "vm-1", "public_keys": {}, "user_data": "AAEC", "meta": {}, "password": None}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDmv7nzVzvdf9sxNXnzFHgXlQtsnrbfMAPG4qTtBHRsj"


@pytest.fixture(autouse=True)
def objects(stub: Stub) -> None:
    stub.on("GET /v1/ports", (200, {"ports": [port()]}))
    stub.on(f"GET /v1/ports/{PORT_ID}/metadata", (200, {"metadata": METADATA}))
    stub.on(f"PATCH /v1/ports/{PORT_ID}/metadata", (200, {"metadata": METADATA, "revision": 30}))


def test_show(run: Any) -> None:
    assert json.loads(run("metadata", "show", "vm1", "-o", "json").stdout) == METADATA
    table = run("metadata", "show", "vm1").stdout
    assert "3 bytes" in table and "AAEC" not in table


def test_set_all(stub: Stub, run: Any, tmp_path: Path) -> None:
    keys, data, vendor = (tmp_path / name for name in ("id.pub", "data", "vendor.json"))
    keys.write_text(f"# mine\n{KEY} alice@desk\n\n{KEY}\n")
    data.write_bytes(b"\xff\0")
    vendor.write_text('{"a": 1}')
    result = run(
        "metadata", "set", "vm1", f"--public-key={keys}", f"--user-data={data}", f"--vendor-data={vendor}",
        "--meta=role=web", "--meta=tier=a=b", "--availability-zone=az1", "--instance-type=m1", "--forget-password",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert stub.last("PATCH").body == {
        "public_keys": {"alice@desk": f"{KEY} alice@desk", "id": KEY},
        "user_data": base64.b64encode(b"\xff\0").decode(),
        "vendor_data": {"a": 1},
        "meta": {"role": "web", "tier": "a=b"},
        "availability_zone": "az1",
        "instance_type": "m1",
        "password": None,
    }


def test_set_waits_and_shows_what_is_then(stub: Stub, run: Any) -> None:
    stub.on("GET /v1/revisions/30", (200, {}))
    assert run("metadata", "set", "vm1", "--meta=a=b", "--wait", "-o", "json").exit_code == 0


def test_empty_all(stub: Stub, run: Any) -> None:
    names = ("public-key", "user-data", "vendor-data", "meta", "availability-zone", "instance-type")
    assert run("metadata", "set", "vm1", *(f"--{name}=none" for name in names)).exit_code == 0
    assert stub.last("PATCH").body == {
        "public_keys": {},
        "user_data": None,
        "vendor_data": None,
        "meta": {},
        "availability_zone": "",
        "instance_type": "",
    }


def test_mistakes_send_nothing(stub: Stub, run: Any, tmp_path: Path) -> None:
    private, twice = tmp_path / "id", tmp_path / "keys"
    private.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    twice.write_text(f"{KEY} a\n{KEY} a\n")
    for option in (
        None,
        f"--public-key={private}",
        f"--public-key={twice}",
        f"--public-key={tmp_path / 'no'}",
        f"--vendor-data={private}",
        "--user-data=/nonexistent",
        "--meta=role",
        "--meta==x",
    ):
        result = run("metadata", "set", "vm1", *([option] if option else []))
        assert result.exit_code == 2, option
    assert run("metadata", "set", "vm1", "--meta=a=1", "--meta=a=2").exit_code == 2
    assert all(request.method != "PATCH" for request in stub.requests)
