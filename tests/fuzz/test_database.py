"""Rows that were written past the API, under a controller that then starts on them: named, and no harm to others."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from etc.lab.lab import Lab


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Iterator[Lab]:
    yield make_lab(nodes=1)


def test_threat_29_a_controller_starts_on_bad_rows(lab: Lab) -> None:
    fields = {"name": "net", "kind": "flat", "physical_network": "physnet1", "subnets": [{"cidr": "10.10.0.0/24"}]}
    network = lab.client.create_network(fields).object
    other = lab.client.create_network(
        {"name": "other", "kind": "vlan", "physical_network": "physnet1", "subnets": [{"cidr": "10.11.0.0/24"}]}
    ).object
    assert network and other
    good, bad = (lab.create_vm(name, lab.nodes[0], network["id"]) for name in ("good", "bad"))
    for vm in (good, bad):
        vm.wait_configured()
    lab.control.stop()
    with closing(sqlite3.connect(lab.control.directory / "trunkline.db")) as database, database:
        database.execute("UPDATE ports SET mac = 'not a MAC' WHERE id = ?", (bad.port["id"],))
        database.execute("UPDATE networks SET kind = 'no such kind' WHERE id = ?", (other["id"],))
        database.execute("UPDATE subnets SET gateway = 'x' WHERE network_id = ?", (other["id"],))
        database.execute("INSERT INTO owed VALUES ('n1', 'x', 'y', 'z', 1)")
    lab.control.start()
    lab.wait_connected()
    # the others are served, and what is changed reaches the node
    good.renew()
    assert not good.ping(good.wait_configured().router, count=1).lost
    written = lab.client.update_port(good.port["id"], {"dhcp_options": [{"code": 66, "value": "x"}]})
    lab.confirm(written.revision, 10)
    late = lab.create_vm("late", lab.nodes[0], network["id"])
    assert not late.ping(good.address, count=1).lost if late.wait_configured() else False
    # and what is not is named, everywhere
    found = {(row["kind"], row["id"]): row for row in _status(lab)["quarantine"]}
    assert found.keys() == {("port", bad.port["id"]), ("network", other["id"])}
    assert found["port", bad.port["id"]]["name"] == "bad" and "MAC" in found["port", bad.port["id"]]["why"]
    assert 'trunkline_quarantined_objects{kind="port"} 1.0' in lab.control.request("GET", "/metrics")[1]
    assert lab.control.request("GET", f"/v1/ports/{bad.port['id']}")[0] == 409
    listed = {port["id"] for port in lab.client.list_ports()}
    assert bad.port["id"] not in listed and good.port["id"] in listed
    assert [one["id"] for one in lab.client.list_networks()] == [network["id"]]


def _status(lab: Lab) -> dict[str, Any]:
    command = [str(lab.control.directory.parent / "trunkline"), "status", "-o", "json"]
    status: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    return status
