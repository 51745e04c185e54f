"""`trunkline drops`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

from controller.cli import drops
from tests.unit.cli.stub import PORT_ID, Request, Stub, refusal


def drop(packets: int, **fields: Any) -> dict[str, Any]:
    return {
        "rule": "drop_spoofed",
        "text": "not its own",
        "normal": False,
        "port_id": PORT_ID,
        "port_name": "web1",
        "network_id": None,
        "network_name": None,
        "node": "n1",
        "packets": packets,
        "bytes": 60 * packets,
    } | fields


def test_what_is_normal_says_so(stub: Stub, run: Callable[..., Result]) -> None:
    usual = drop(9, rule="drop_external", port_id=None, normal=True)
    stub.on("GET /v1/drops", (200, {"drops": [drop(7), usual], "silent": []}))
    title, _, first, second, *_ = run("drops").stdout.split("\n")
    at = title.index("normal")
    assert (first[at : at + 3].strip(), second[at : at + 3]) == ("", "yes")


def test_table(stub: Stub, run: Callable[..., Result]) -> None:
    stub.on("GET /v1/drops", (200, {"drops": [drop(7)], "silent": ["n3"]}))
    result = run("drops", PORT_ID, "--node", "n1")
    assert stub.last("GET").query == {"port_id": PORT_ID, "node": "n1"}
    assert result.stdout.split("\n")[2].split() == ["n1", "web1", "drop_spoofed", "7", "420", "not", "its", "own"]
    assert result.exit_code == 0 and result.stderr == "trunkline: no answer from n3\n"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"port_name": ""}, [PORT_ID]),
        ({"port_id": None, "network_id": "x", "network_name": "green"}, ["network", "green"]),
        ({"port_id": None}, []),
    ],
)
def test_of_what(stub: Stub, run: Callable[..., Result], fields: dict[str, Any], words: list[str]) -> None:
    stub.on("GET /v1/drops", (200, {"drops": [drop(7, **fields)], "silent": []}))
    assert run("drops").stdout.split("\n")[2].split()[:-5] == ["n1", *words, "drop_spoofed"]


@pytest.mark.parametrize("watch", [["--watch", "4"], ["--watch"]])
def test_watch(stub: Stub, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, watch: list[str]) -> None:
    now = [100.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(drops.time, "sleep", sleep)
    monkeypatch.setattr(drops.time, "monotonic", lambda: now[0])
    looks: list[tuple[int, Any]] = [
        (200, {"drops": [drop(7), drop(1, rule="other"), drop(1, rule="usual", normal=True)], "silent": []}),
        (200, {"drops": [drop(9), drop(1, rule="other"), drop(9, rule="usual", normal=True)], "silent": []}),
        (200, {"drops": [], "silent": ["n1"]}),
        (200, {"drops": [drop(3), drop(5, rule="other"), drop(9, rule="usual", normal=True)], "silent": []}),
        (500, refusal("x", "enough")),
    ]

    def answer(request: Request) -> tuple[int, Any]:
        return looks.pop(0)

    stub.on("GET /v1/drops", answer)
    result = run("drops", *watch, "-o", "json")
    seconds = 4.0 if len(watch) == 2 else 2.0
    assert slept[0] == seconds
    decoder, text, shown = json.JSONDecoder(), result.stdout.strip(), []
    while text:
        value, end = decoder.raw_decode(text)
        text = text[end:].strip()
        shown.append([(one["rule"], one["more"], one["per_second"]) for one in value])
    assert shown == [
        [("drop_spoofed", 2, 2 / seconds), ("usual", 8, 8 / seconds)],  # more, and normal: last
        [],
        # one has gone on, the other's switch has begun anew
        [("other", 4, 4 / seconds), ("drop_spoofed", 3, round(3 / seconds, 1))],
    ]
