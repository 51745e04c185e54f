"""Each of the forty threats has a test with its number in its name, or a line in docs/security.md that says why not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
THREATS = range(1, 41)
_TEST = re.compile(r"^\s*def test_threat_(\d\d)_\w+", re.MULTILINE)
_LINE = re.compile(r"^\* threat (\d\d): (.+)$", re.MULTILINE)
_ROW = re.compile(r"^\| (\d+) \|", re.MULTILINE)
_FILE = re.compile(r"`(tests/[\w/]+(?:\.py)?)`")


def _tests() -> Mapping[int, set[Path]]:
    found: dict[int, set[Path]] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        for number in _TEST.findall(path.read_text()):
            found.setdefault(int(number), set()).add(path.relative_to(ROOT))
    return found


def _document() -> str:
    return (ROOT / "docs/security.md").read_text()


def test_each_threat_has_a_test_or_a_reason() -> None:
    reasons = {int(number) for number, _ in _LINE.findall(_document())}
    assert sorted(set(THREATS) - _tests().keys() - reasons) == []


def test_each_threat_has_a_row_and_each_row_names_tests_of_its_number() -> None:
    tests = _tests()
    rows = {int(row.split("|")[1]): row for row in _document().splitlines() if _ROW.match(row)}
    assert sorted(rows) == list(THREATS)
    for number, row in rows.items():
        for name in _FILE.findall(row):
            path = ROOT / name
            assert path.is_dir() or Path(name) in tests.get(number, set()), f"{name} has no test of threat {number}"


def test_no_test_is_of_a_threat_that_there_is_not() -> None:
    assert set(_tests()) <= set(THREATS)
