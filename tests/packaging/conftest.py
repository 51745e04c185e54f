"""The packages that these tests install."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.docs_text import ROOT

OLD_VERSION = "0.0.9"


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def packages(root: None, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    made = [Path(line) for line in run(ROOT / "etc/build-deb", tmp_path_factory.mktemp("packages")).splitlines()]
    names = [file.name.partition("_")[0] for file in made]
    assert names == ["trunkline-common", "trunkline-controller", "trunkline-agent"]
    return made


@pytest.fixture(scope="session")
def old_packages(packages: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same under an older version's name, which takes less than to build them again. The test makes the database
    older, and has the agent run as one did.
    """
    return [_older(file, tmp_path_factory.mktemp("old")) for file in packages]


def _older(package: Path, place: Path) -> Path:
    name, version, architecture = package.stem.split("_")
    tree = place / name
    run("dpkg-deb", "--raw-extract", package, tree)
    control = tree / "DEBIAN" / "control"
    control.write_text(control.read_text().replace(version, OLD_VERSION))
    for known in tree.glob("usr/lib/trunkline/lib/python3*/site-packages/trunkline-*.dist-info"):
        about = known / "METADATA"
        about.write_text(re.sub(r"(?m)^Version: .*", f"Version: {OLD_VERSION}", about.read_text()))
        known.rename(known.with_name(f"trunkline-{OLD_VERSION}.dist-info"))
    older = place / f"{name}_{OLD_VERSION}_{architecture}.deb"
    run("dpkg-deb", "--root-owner-group", "-Zzstd", "-z1", "--build", tree, older)
    return older
