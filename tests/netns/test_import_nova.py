"""A nova-network cloud is taken over: its machines have the addresses that they had, and what they may."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from etc.lab import netns, probes
from etc.lab.fabric import QUIET
from etc.lab.lab import Lab
from etc.lab.processes import run, wait_until
from etc.lab.vm import Vm
from tests.netns.cloud import make_outside, status, wait_reached
from tests.unit.nova.test_convert import DB, LONE, WEB
from tests.unit.nova.test_dump import DUMP

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    lab = make_lab(nodes=2)
    make_outside(lab)
    return lab


def imported(lab: Lab, dump: Path, *options: str) -> dict[str, tuple[int, int, int]]:
    """How many of each kind were made, were there, and were refused."""
    places = ("--physical-network", "physnet1", "--external-network", "outside", *options, "-o", "json")
    said: list[dict[str, Any]] = json.loads(
        run([str(lab.directory / "trunkline"), "import", "nova", str(dump), *places], deadline=120)
    )
    return {row["kind"]: (row["made"], row["there"], row["failed"]) for row in said}


def vm_of(lab: Lab, port_id: str, name: str, node: int) -> Vm:
    namespace = f"{lab.prefix}-{name}"
    netns.create(namespace)
    netns.set_sysctl(namespace, QUIET)
    vm = lab.plug(name, lab.nodes[node], lab.client.get_port(port_id))
    vm.start_client()
    return vm


def test_machines_go_on_where_nova_left_them(lab: Lab, tmp_path: Path) -> None:
    dump = tmp_path / "nova.sql"
    dump.write_text(
        DUMP.read_text().replace("'n1'", f"'{lab.nodes[0].name}'").replace("'n2'", f"'{lab.nodes[1].name}'")
    )
    before = lab.client.list_networks()
    assert set(imported(lab, dump, "--check").values()) == {(0, 0, 0)} and lab.client.list_networks() == before
    assert imported(lab, dump) == {
        "network": (3, 0, 0),
        "security_group": (1, 0, 0),
        "rule": (6, 0, 0),
        "port": (4, 0, 0),
        "floating_ip_pool": (2, 0, 0),
        "floating_ip": (2, 0, 0),
    }
    web, db, lone = vm_of(lab, WEB, "web", 0), vm_of(lab, DB, "db", 1), vm_of(lab, LONE, "lone", 1)
    for vm, address in ((web, "10.0.0.5"), (db, "10.0.0.6"), (lone, "10.0.0.8")):
        assert str(vm.wait_configured().address.ip) == address
    wait_until(lambda: {status(lab, vm) for vm in (web, db, lone)} == {"active"}, 20, "not served")
    # Nova's rules: pings to whoever is in p1's default group, none to p2's
    wait_reached(lone, web.address)
    wait_until(
        lambda: probes.ping(probes.into(lab.fabric.far), "203.0.113.64", count=1).answered, 20, "not from outside"
    )
    floating = {each["address"]: each["fixed_ip"] for each in lab.client.list_floating_ips() if each["port_id"]}
    assert floating == {"203.0.113.64": "10.0.0.5"}
    assert not db.ping("203.0.113.65", count=1, wait=0.3).answered


def test_again_makes_nothing_twice(lab: Lab, tmp_path: Path) -> None:
    assert imported(lab, DUMP) == {
        "network": (0, 3, 0),
        "security_group": (0, 1, 0),
        "rule": (0, 6, 0),
        "port": (0, 4, 0),
        "floating_ip_pool": (0, 2, 0),
        "floating_ip": (0, 2, 0),
    }
