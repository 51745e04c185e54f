"""What Prometheus, its alerts and the dashboard are told, by Prometheus' own tool and a controller that runs."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from etc.lab.lab import Lab
from tests.netns.cloud import make_network, make_vms, want
from tests.unpacked import unpacked

pytestmark = pytest.mark.root

MONITORING = Path(__file__).parents[2] / "etc" / "monitoring"
OF_PROMETHEUS = {"up", "ALERTS"}
_NAME = re.compile(r"\b(?:trunkline|of|process)_[a-z0-9_]+\b")
_SUFFIX = re.compile(r"_(?:total|bucket|sum|count|info)$")


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=1)


@pytest.fixture(scope="module")
def told(lab: Lab) -> str:
    """All that a controller with a node and a VM tells."""
    network = make_network(lab, "net", "10.40.0.0/24", segment=140)
    make_vms(lab, want("one", lab.nodes[0], network))
    status, text = lab.control.request("GET", "/metrics")
    assert status == 200
    return str(text)


def promtool(*arguments: object, stdin: str | None = None) -> None:
    command = [unpacked("promtool") / "usr/bin/promtool", *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_names_and_forms_are_as_prometheus_wants_them(told: str) -> None:
    promtool("check", "metrics", stdin=told)


def test_each_alert_comes_when_it_should_and_not_when_all_is_well() -> None:
    promtool("check", "rules", MONITORING / "trunkline.rules.yaml")
    promtool("test", "rules", MONITORING / "trunkline.rules.test.yaml")


def test_each_alert_has_a_test() -> None:
    rules = yaml.safe_load((MONITORING / "trunkline.rules.yaml").read_text())["groups"][0]["rules"]
    tests = (MONITORING / "trunkline.rules.test.yaml").read_text()
    assert [rule["alert"] for rule in rules if rule["alert"] not in tests] == []


def expressions(part: Any) -> Iterator[str]:
    """All that is asked of Prometheus in a dashboard or a file of rules."""
    if isinstance(part, dict):
        if isinstance(part.get("expr"), str):
            yield part["expr"]
        for value in part.values():
            yield from expressions(value)
    elif isinstance(part, list):
        for value in part:
            yield from expressions(value)


@pytest.mark.parametrize("file", ["trunkline.rules.yaml", "grafana-trunkline.json"])
def test_only_what_there_is_is_asked_for(told: str, file: str) -> None:
    text = (MONITORING / file).read_text()
    asked = list(expressions(json.loads(text) if file.endswith("json") else yaml.safe_load(text)))
    known = {_SUFFIX.sub("", line.split()[2]) for line in told.splitlines() if line.startswith("# TYPE ")}
    names = {_SUFFIX.sub("", name) for expression in asked for name in _NAME.findall(expression)}
    assert len(asked) > 10 and len(names) > 10
    assert sorted(names - known) == []


def test_the_node_and_the_vm_are_in_it(lab: Lab, told: str) -> None:
    lines = told.splitlines()
    assert f'trunkline_node_live{{node="{lab.nodes[0].name}"}} 1.0' in lines
    assert 'trunkline_ports{status="active"} 1.0' in lines
    assert 'trunkline_check_ok{check="database"} 1.0' in lines
    assert any(line.startswith("trunkline_confirm_seconds_count") and not line.endswith(" 0.0") for line in lines)
    assert any(line.startswith("trunkline_packet_in_seconds_count") and not line.endswith(" 0.0") for line in lines)


def test_ready_for_who_has_no_token(lab: Lab) -> None:
    checks = {"database": "ok", "flows": "ok", "controllers": "ok"}
    assert lab.control.request("GET", "/readyz", token=None) == (200, {"status": "ok", "checks": checks})
    assert lab.control.request("GET", "/healthz", token=None) == (200, {"status": "ok"})
