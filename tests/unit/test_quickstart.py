"""etc/quickstart, before it has installed anything."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

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
