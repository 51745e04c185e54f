"""docs/parity.md names a test for each thing that nova-network did, and each of them exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
_ROW = re.compile(r"^\| ([A-Z]+\d+(?:, [A-Z]+\d+)*) \|", re.MULTILINE)
_LAST = {"C": 17, "D": 11, "E": 15, "F": 15, "G": 9, "H": 12, "J": 9, "K": 8}
WANTED = {
    "A14",
    "L1",
    "X4",
    "X6",
    *(f"A{number}" for number in (1, 2, 3, 4, 6, 7, 8, 10, 13)),
    *(f"B{number}" for number in range(1, 29)),
    *(f"{group}{number}" for group, last in _LAST.items() for number in range(1, last + 1)),
}


def _tests(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_test_that_is_named_exists() -> None:
    named = _NAMED.findall((ROOT / "docs/parity.md").read_text())
    missing = [f"{path}::{name}" for path, name in named if name not in _tests(ROOT / path)]
    assert named and not missing


def test_every_row_names_a_test_and_every_id_has_a_row() -> None:
    rows = [line for line in (ROOT / "docs/parity.md").read_text().splitlines() if _ROW.match(line)]
    assert [line for line in rows if not _NAMED.search(line)] == []
    assert {id_ for line in rows if (match := _ROW.match(line)) for id_ in match[1].split(", ")} >= WANTED
