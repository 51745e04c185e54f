"""An errand reaches its node from every controller, whoever masters it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from etc.lab import netns
from etc.lab.capture import parse_pcap
from etc.lab.control import ADMIN_TOKEN, PROJECT_ROOT, Control
from etc.lab.processes import wait_until
from tests.ha.cluster import DEADLINE, Cloud
from tests.netns.cloud import echo, wait_reached

pytestmark = pytest.mark.root


def capture(control: Control, port_id: str, file: Path) -> tuple[int, str]:
    """Ten packets of a port, by the command line and that controller: its status, and what it has said."""
    options = ["--url", control.url, "--token", ADMIN_TOKEN]
    command = [*options, "capture", port_id, "--packets", "10", "--seconds", "20", "-w", str(file)]
    enter = netns.joined(control.namespace, [sys.executable, "-m", "controller.cli.main", *command])
    done = subprocess.run(enter, capture_output=True, text=True, check=False, cwd=PROJECT_ROOT)
    return done.returncode, done.stderr


def test_from_each_controller(cloud: Cloud) -> None:
    east, west = cloud.vms["east"], cloud.vms["west"]
    wait_reached(east, west.address)
    stream = east.ping_stream(west.address)
    try:
        for name in ("bob", "pam"):
            file = cloud.lab.directory / f"{name}.pcap"
            status, said = capture(cloud.control(name), east.port["id"], file)
            assert status == 0 and "10 packets" in said, (name, said)
            frames = parse_pcap(file.read_bytes())
            assert len(frames) == 10 and any(map(echo, frames)), frames
    finally:
        assert stream.stop().lost == 0


def test_by_the_other_while_one_is_down(cloud: Cloud) -> None:
    east, west = cloud.vms["east"], cloud.vms["west"]
    file = cloud.lab.directory / "alone.pcap"
    wait_reached(east, west.address)
    stream = east.ping_stream(west.address)
    try:
        with cloud.stopped(cloud.control("bob")):
            status, said = capture(cloud.control("pam"), east.port["id"], file)
            assert status == 0, said
        cloud.control("bob").kill()
        cloud.start("bob")
        wait_until(
            lambda: capture(cloud.control("bob"), east.port["id"], file)[0] == 0, DEADLINE, "bob's errands are not done"
        )
    finally:
        assert stream.stop().lost == 0
