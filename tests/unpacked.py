"""Debian packages that tests use without installing them."""

from __future__ import annotations

import subprocess
from pathlib import Path

_BOOTSTRAP = Path(__file__).parents[1] / "etc" / "bootstrap"


def unpacked(package: str) -> Path:
    """Where a package's files are; fetched once for each checkout."""
    command = ["bash", "-ec", '. "$0"; bootstrap_unpacked "$1"', str(_BOOTSTRAP), package]
    return Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
