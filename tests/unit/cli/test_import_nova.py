"""`trunkline import nova --check`: it makes nothing, and says what would be refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from controller.cli.errors import ExitCode
from tests.unit.cli.stub import NETWORK_ID, Request, Stub, refusal

DUMP = Path(__file__).parents[1] / "nova" / "nova.sql"
OUTSIDE = {"id": NETWORK_ID, "name": "outside", "project_id": None}


@pytest.fixture
def cloud(stub: Stub) -> Stub:
    stub.on(
        "GET /v1/networks", lambda request: (200, {"networks": [OUTSIDE] if request.query.get("name") != "ext" else []})
    )
    for kind in ("nodes", "ports", "security-groups"):
        stub.on(f"GET /v1/{kind}", (200, {kind.replace("-", "_"): []}))
    stub.on("POST /v1/plan", planned)
    return stub


def planned(request: Request) -> tuple[int, Any]:
    """One of Nova's VLANs is somebody else's here."""
    taken = {"status": 409, "body": refusal("vlan_in_use", "VLAN 101 is in use on physnet1")}
    answers = [taken if one["body"].get("segment") == 101 else {"status": 201, "body": {}}
               for one in request.body["requests"]]  # fmt: skip
    return 200, {"answers": answers, "nodes": [], "revision": 7}


def test_what_would_be_refused_is_said(cloud: Stub, run: Any) -> None:
    done = run("import", "nova", str(DUMP), "--physical-network", "physnet1", "--check")
    assert done.exit_code == ExitCode.REFUSED
    refused = [line for line in done.stderr.splitlines() if line.startswith("refused")]
    assert refused == ["refused: network vlan-2: VLAN 101 is in use on physnet1"]
    assert {request.path for request in cloud.requests if request.method != "GET"} == {"/v1/plan"}
    assert done.stdout.splitlines()[2].split() == ["network", "3", "0", "0", "1"]


def test_an_external_network_that_there_is_not(cloud: Stub, run: Any) -> None:
    options = ("--physical-network", "physnet1", "--external-network", "ext", "--check")
    done = run("import", "nova", str(DUMP), *options)
    assert done.exit_code == ExitCode.REFUSED and "no network is called 'ext'" in done.stderr


def test_a_file_that_takes_more_memory_than_it_may(cloud: Stub, run: Any, tmp_path: Path) -> None:
    path = tmp_path / "nova.sql"
    path.write_text(f"INSERT INTO `networks` (`label`) VALUES ('{'x' * (1 << 20)}');\n")
    options = (str(path), "--physical-network", "physnet1", "--check")
    done = run("import", "nova", *options, "--max-memory", "1")
    assert done.exit_code == ExitCode.REFUSED and "more than 1 MiB of memory; --max-memory" in done.stderr
    assert "no table fixed_ips" in run("import", "nova", *options).stderr
