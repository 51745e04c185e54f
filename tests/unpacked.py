"""Debian packages that tests use without installing them."""

from __future__ import annotations

import subprocess
from pathlib import Path

_BOOTSTRAP = Path(__file__).parents[1] / "etc" / "bootstrap"


def unpacked(package: str) -> Path:
    """Where a package's files are; fetched once for each checkout."""
    return _place("bootstrap_unpacked", package)


def unpacked_kernel() -> Path:
    """Where the files of a kernel for guests are."""
    return _place("bootstrap_kernel")


def _place(*words: str) -> Path:
    command = ["bash", "-ec", '. "$0"; "$@"', str(_BOOTSTRAP), *words]
    return Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
