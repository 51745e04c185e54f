"""Which Trunkline this is: what the installed package says."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of


def version() -> str:
    try:
        return version_of("trunkline")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"
