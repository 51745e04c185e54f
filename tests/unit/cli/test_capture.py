"""`trunkline capture`: what is asked, where it goes, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from controller.cli.capture import parse_filter
from controller.cli.errors import CliError, ExitCode
from tests.unit.cli.stub import PORT_ID, Stub, port, refusal

PATH = f"/v1/ports/{PORT_ID}/captures"
SUMMARY = {"id": "c1", "port_id": PORT_ID, "packets": 3, "bytes": 48, "dropped": 2, "reason": "seconds"}


@pytest.fixture
def capturing(stub: Stub) -> Stub:
    stub.response_headers["X-Capture-Id"] = "c1"
    stub.on("GET /v1/ports", (200, {"ports": [port()]}))
    stub.on(f"POST {PATH}", (200, "pcap of three"))
    stub.on(f"GET {PATH}/c1", (200, {"capture": SUMMARY}))
    return stub


def test_to_stdout_and_counts_to_stderr(capturing: Stub, run: Any) -> None:
    done = run("capture", "vm1")
    assert (done.exit_code, done.stdout) == (0, "pcap of three")
    assert done.stderr == "3 packets, 13 bytes, 2 packets left out; ended after --seconds\n"
    assert capturing.last("POST").body == {"seconds": 30, "packets": 1000, "snaplen": 128}


def test_to_a_file(capturing: Stub, run: Any, tmp_path: Path) -> None:
    file = tmp_path / "web1.pcap"
    options = ("--seconds", "7", "--packets", "9", "--snaplen", "64", "--filter", "tcp port 80")
    done = run("capture", PORT_ID, *options, "-w", str(file))
    assert (done.exit_code, done.stdout, file.read_text()) == (0, "", "pcap of three")
    body = {"seconds": 7, "packets": 9, "snaplen": 64, "filter": {"protocol": 6, "port": 80}}
    assert capturing.last("POST").body == body


def test_one_that_ended_before_its_time_is_a_failure(capturing: Stub, run: Any) -> None:
    capturing.on(f"GET {PATH}/c1", (200, {"capture": SUMMARY | {"reason": "node_silent"}}))
    done = run("capture", "vm1")
    assert done.exit_code == ExitCode.REFUSED and "node_silent" in done.stderr


def test_a_refusal_writes_nothing(capturing: Stub, run: Any, tmp_path: Path) -> None:
    capturing.on(f"POST {PATH}", (503, refusal("node_not_asking", "the agent of node n1 does not ask")))
    file = tmp_path / "web1.pcap"
    done = run("capture", "vm1", "-w", str(file))
    assert done.exit_code == ExitCode.REFUSED and "node_not_asking" in done.stderr
    assert file.read_bytes() == b""


def test_a_file_that_cannot_be_written(capturing: Stub, run: Any, tmp_path: Path) -> None:
    done = run("capture", "vm1", "-w", str(tmp_path / "nowhere" / "x"))
    assert done.exit_code == ExitCode.USAGE and "No such file" in done.stderr
    assert all(request.method == "GET" for request in capturing.requests), "nothing was begun"


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("tcp port 80", {"protocol": 6, "port": 80}),
        ("tcp and port 80 and host 10.0.0.7", {"protocol": 6, "port": 80, "address": "10.0.0.7"}),
        ("host 2001:DB8::7", {"address": "2001:db8::7"}),
        ("icmp", {"protocol": 1}),
        ("proto 89", {"protocol": 89}),
        ("", {}),
    ],
)
def test_filters(text: str, fields: dict[str, Any]) -> None:
    assert parse_filter(text) == fields


@pytest.mark.parametrize(
    "text", ["not tcp", "tcp udp", "port", "port x", "port 65536", "host web1", "net 10.0.0.0/8", "tcp port 80 or udp"]
)
def test_other_filters_are_refused(text: str) -> None:
    with pytest.raises(CliError) as refused:
        parse_filter(text)
    assert refused.value.exit_code is ExitCode.USAGE
