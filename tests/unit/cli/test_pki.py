"""`trunkline pki` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def pki(run: Any, tmp_path: Path) -> Any:
    return lambda *words: run("pki", *words, "--directory", str(tmp_path / "pki"))


def test_from_nothing_to_a_controller_and_a_node(pki: Any, tmp_path: Path) -> None:
    for words in (("init",), ("controller", "ctl", "--address", "192.0.2.1"), ("node", "n1"), ("client", "op")):
        result = pki(*words)
        assert result.exit_code == 0, result.stderr
    assert (tmp_path / "pki/node-n1/key.pem").exists()
    shown = json.loads(pki("show", "-o", "json").stdout)
    assert [(one["name"], one["state"]) for one in shown] == [
        ("(authority)", "valid"), ("client-op", "valid"), ("controller-ctl", "valid"), ("node-n1", "valid"),
    ]  # fmt: skip
    assert shown[2]["addresses"] == ["ctl", "192.0.2.1"]
    assert pki("revoke", "node-n1").exit_code == 0 and pki("renew").stdout == ""
    assert pki("renew", "controller-ctl", "--days", "10").exit_code == 0
    states = {one["name"]: one["state"] for one in json.loads(pki("show", "-o", "json").stdout)}
    assert (states["node-n1"], states["controller-ctl"]) == ("revoked", "due")
    assert "controller-ctl" in pki("renew").stdout


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("node", "n1"), "begin with pki init"),
        (("node", "a b"), "is no name"),
        (("renew", "node-n1"), "begin with pki init"),
        (("show",), "begin with pki init"),
    ],
)
def test_mistakes_are_one_line(pki: Any, words: tuple[str, ...], complaint: str) -> None:
    result = pki(*words)
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert complaint in result.stderr
