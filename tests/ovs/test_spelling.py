"""Flows as text, read by Open vSwitch's own parser: they are what is sent to switches, word by word."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from flows import wire
from flows.compile import compile_node
from flows.ir import Flow, MeterConfig
from flows.spelling import flow_text, meter_text
from tests.property.test_compile import worlds_of_every_rule


def told(*command: str) -> list[str]:
    """The flows that Open vSwitch tells of, without transaction ids."""
    done = subprocess.run(["ovs-ofctl", *command], capture_output=True, text=True, check=True, timeout=60)
    assert not done.stderr, done.stderr
    lines = [line for line in done.stdout.splitlines() if "FLOW_MOD" in line]
    return [re.sub(r"\(xid=0x[0-9a-f]+\)", "", line) for line in lines]


def test_what_is_spelled_is_what_is_sent(tmp_path: Path) -> None:
    flows: dict[Flow, None] = {}
    for snapshot in worlds_of_every_rule():
        flows |= dict.fromkeys(compile_node(snapshot, "n1").flows())
    sent, spelled = tmp_path / "sent", tmp_path / "spelled"
    sent.write_bytes(b"".join(map(wire.encode_add, flows)))
    spelled.write_text("".join(f"{flow_text(flow)}\n" for flow in flows))
    ours, theirs = told("-O", "OpenFlow14", "parse-flows", str(spelled)), told("ofp-parse", str(sent))
    assert len(theirs) == len(flows) > 500
    for our, their in zip(ours, theirs, strict=True):
        assert our == their


@pytest.mark.parametrize("meter", [MeterConfig(30_001, 10_000, 4000), MeterConfig(1, 50, 100, packets=True)])
def test_a_meter(meter: MeterConfig) -> None:
    shown = subprocess.run(
        ["ovs-ofctl", "ofp-print", wire.encode_meter(meter).hex()], capture_output=True, text=True, check=True
    ).stdout
    spelled = meter_text(meter).replace(",", " ").replace("bands=", "bands= ")
    assert " ".join(shown.split()).endswith(spelled), shown
