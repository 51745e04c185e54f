"""The commands of pyproject.toml, as pip makes them, for this checkout."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


def program(name: str) -> str:
    """What is in the file. Raises KeyError when there is no command of this name."""
    module, _, function = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]["scripts"][name].partition(
        ":"
    )
    return (
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(_ROOT)!r})\n"
        f"from {module} import {function}\nsys.exit({function}())\n"
    )


def write_program(path: Path) -> None:
    """The command of this name, where it is wanted."""
    path.write_text(program(path.name))
    path.chmod(0o755)
