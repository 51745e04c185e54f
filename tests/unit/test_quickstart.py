"""etc/quickstart, before it has installed anything."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

from etc.lab.scenario import Scenario

QUICKSTART = Path(__file__).parents[2] / "etc" / "quickstart"
LAB = QUICKSTART.parent / "lab" / "quickstart.py"


def test_help_tells_all_options_and_installs_nothing(tmp_path: Path) -> None:
    for name in ("apt-get", "dpkg-query", "python3"):  # what it installs with
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/called\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "TRUNKLINE_VENV": str(tmp_path / "venv")}
    done = subprocess.run([QUICKSTART, "--help"], env=environment, capture_output=True, text=True, check=True)
    assert not (tmp_path / "called").exists() and not (tmp_path / "venv").exists()
    options = set(re.findall(r'add_argument\("(--[a-z]+)"', LAB.read_text()))
    assert options and options < set(re.findall(r"--[a-z]+", done.stdout))


def test_a_vm_is_told_the_domain_of_its_own_network() -> None:
    class Named:
        name = "web"

    first: Any
    first, second = Named(), Named()
    networks: dict[str, Any] = {name: {"dns_domain": f"{name}.example"} for name in ("outside", "blue", "red")}
    scenario = Scenario(networks, {"blue": {"n1": first}, "red": {"n1": second}})
    assert [scenario.full_name(vm) for vm in (first, second)] == ["web.blue.example", "web.red.example"]
