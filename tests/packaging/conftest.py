"""The packages that these tests install."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.docs_text import ROOT

OLD_VERSION = "0.0.9"
NEW_VERSION = ""
"""What the build calls it."""


def build(version: str, place: Path) -> list[Path]:
    option = ["--version", version] if version else []
    done = subprocess.run([ROOT / "etc/build-deb", *option, place], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    made = [Path(line) for line in done.stdout.splitlines()]
    names = [file.name.partition("_")[0] for file in made]
    assert names == ["trunkline-common", "trunkline-controller", "trunkline-agent"]
    return made


@pytest.fixture(scope="session")
def packages(root: None, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return build(NEW_VERSION, tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="session")
def old_packages(root: None, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of an older version. Its programs are the same, its database is made older by the test."""
    return build(OLD_VERSION, tmp_path_factory.mktemp("old"))
