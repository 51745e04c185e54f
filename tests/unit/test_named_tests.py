"""The tests that the documents name are there, in the files that they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_TEST = re.compile(r"^\s*def (test_\w+)", re.MULTILINE)
# `tests/FILE.py`, `tests/FILE.py::test_NAME`, or `test_NAME`; a name that ends in dots stands for all that begin so
_NAMED = re.compile(r"`(?:(tests/[\w/]+\.py)(?:::(test_\w+)(\.\.\.)?)?|(test_\w+)(\.\.\.)?)`")
_FORM = "test_threat_NN_"


@pytest.fixture(scope="module")
def tests() -> dict[str, set[str]]:
    """By file."""
    files = (ROOT / "tests").rglob("*.py")
    return {str(path.relative_to(ROOT)): set(_TEST.findall(path.read_text())) for path in files}


@pytest.mark.parametrize("document", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_what_is_named_is_there(document: Path, tests: dict[str, set[str]]) -> None:
    missing = []
    for file, in_file, many_in_file, alone, many in _NAMED.findall(document.read_text()):
        name = in_file or alone
        known = tests.get(file, set()) if file else set().union(*tests.values())
        fits = str.startswith if many_in_file or many else str.__eq__
        if (file and file not in tests) or (name and name != _FORM and not any(fits(one, name) for one in known)):
            missing.append(f"{file} {name}")
    assert missing == []
