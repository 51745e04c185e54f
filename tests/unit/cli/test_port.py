"""`trunkline port`: what is sent, and what is printed."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
import yaml

from tests.unit.cli.stub import NETWORK_ID, OTHER_PORT_ID, PORT_ID, Stub, network, port


@pytest.fixture(autouse=True)
def objects(stub: Stub) -> None:
    stub.on("GET /v1/networks", (200, {"networks": [network()]}))
    stub.on(f"GET /v1/networks/{NETWORK_ID}", (200, {"network": network()}))
    stub.on("GET /v1/ports", (200, {"ports": [port()]}))
    stub.on(f"GET /v1/ports/{PORT_ID}", (200, {"port": port()}))
    stub.on("POST /v1/ports", (201, {"port": port(), "revision": 21}))
    stub.on(f"PATCH /v1/ports/{PORT_ID}", (200, {"port": port(), "revision": 22}))
    stub.on(f"DELETE /v1/ports/{PORT_ID}", (200, {"port": port(), "revision": 23}))


def test_create(stub: Stub, run: Any) -> None:
    result = run("port", "create", "vm1", "--network", "blue", "-o", "yaml")
    assert yaml.safe_load(result.stdout) == port() | {"revision": 21}
    assert stub.last("POST").body == {"name": "vm1", "network_id": NETWORK_ID}


def test_create_with_everything(stub: Stub, run: Any) -> None:
    result = run(
        "port", "create", "vm1", "--network", NETWORK_ID, "--fixed-ip=10.0.1.5", "--mac=02:00:00:00:00:05",
        "--hostname=vm1", "--device-id=machine-7", "--project=p1", "--node=n1", "--dhcp-option=67=boot.efi",
        f"--id={OTHER_PORT_ID}",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert stub.last("POST").body == {
        "name": "vm1",
        "network_id": NETWORK_ID,
        "fixed_ips": [{"address": "10.0.1.5"}],
        "mac": "02:00:00:00:00:05",
        "hostname": "vm1",
        "device_id": "machine-7",
        "project_id": "p1",
        "node": "n1",
        "dhcp_options": [{"code": 67, "value": "boot.efi"}],
        "id": OTHER_PORT_ID,
    }
    assert [request.method for request in stub.requests] == ["POST"], "an id needs no look-up"


def test_list_in_three_formats(stub: Stub, run: Any) -> None:
    arguments = ("port", "list", "--network", "blue", "--node", "n1", "--project", "p1", "--name", "vm1")
    assert json.loads(run(*arguments, "-o", "json").stdout) == [port()]
    assert stub.last("GET").query.items() >= {
        ("network_id", NETWORK_ID), ("node", "n1"), ("project_id", "p1"), ("name", "vm1")
    }  # fmt: skip
    assert yaml.safe_load(run(*arguments, "-o", "yaml").stdout) == [port()]
    row = run(*arguments).stdout.splitlines()[2]
    assert row.split() == [PORT_ID, "vm1", "blue", "02:00:00:00:00:05", "10.0.1.5", "n1", "active"]


def test_names_of_a_hostile_tenant_are_shown_harmless(stub: Stub, run: Any) -> None:
    evil = port(name="\x1b[2J\x9b31m[red]vm[/red]\n", status="unbound")
    stub.on("GET /v1/ports", (200, {"ports": [evil]}))
    shown = run("port", "list").stdout
    assert "\\x1b[2J\\x9b31m[red]vm[/red]\\n" in shown
    assert not set(shown) & {"\x1b", "\x9b"}
    assert json.loads(run("port", "list", "-o", "json").stdout) == [evil]
    assert yaml.safe_load(run("port", "list", "-o", "yaml").stdout) == [evil]
    assert not set(run("port", "list", "-o", "yaml").stdout) & {"\x1b", "\x9b"}


def test_set(stub: Stub, run: Any) -> None:
    result = run("port", "set", "vm1", "--name=vm2", "--node=none", "--dhcp-option=none", "--fixed-ip=10.0.1.9")
    assert result.exit_code == 0, result.stderr
    assert stub.last("PATCH").body == {
        "name": "vm2", "node": None, "dhcp_options": [], "fixed_ips": [{"address": "10.0.1.9"}]
    }  # fmt: skip


def test_delete(stub: Stub, run: Any) -> None:
    result = run("port", "delete", "vm1")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[2].split() == ["vm1", PORT_ID, "23"]
    assert stub.last("DELETE").body is None


def test_xml_is_what_libvirt_takes(stub: Stub, run: Any) -> None:
    interface = ElementTree.fromstring(run("port", "xml", "vm1").stdout)
    assert (interface.tag, interface.attrib) == ("interface", {"type": "bridge"})
    found = {"/".join((child.tag, *(grand.tag for grand in child))): child for child in interface}
    assert {path: child.attrib for path, child in found.items()} == {
        "mac": {"address": "02:00:00:00:00:05"},
        "source": {"bridge": "br-int"},
        "virtualport/parameters": {"type": "openvswitch"},
        "target": {"dev": "tapaaaaaaaa-bb"},
        "model": {"type": "virtio"},
        "mtu": {"size": "1450"},
    }
    assert found["virtualport/parameters"][0].attrib == {"interfaceid": PORT_ID}


def test_xml_in_other_formats_and_for_another_bridge(stub: Stub, run: Any) -> None:
    answer = json.loads(run("port", "xml", PORT_ID, "--bridge", "br-'x'&", "-o", "json").stdout)
    source = ElementTree.fromstring(answer["xml"]).find("source")
    assert answer["id"] == PORT_ID
    assert source is not None and source.attrib == {"bridge": "br-'x'&"}


def test_counters(stub: Stub, run: Any) -> None:
    traffic = {"packets": 5, "bytes": 500, "dropped": 0}
    found = {"port_id": PORT_ID, "node": "n1", "received": traffic, "sent": traffic, "drops": {"drop_spoofed": 7}}
    stub.on("GET /v1/ports", (200, {"ports": [port()]}))
    stub.on(f"GET /v1/ports/{PORT_ID}/counters", (200, {"counters": found}))
    assert json.loads(run("port", "counters", "vm1", "-o", "json").stdout) == found
    assert "drop_spoofed" in run("port", "counters", "vm1").stdout


def test_network_data(stub: Stub, run: Any) -> None:
    answer = {"network_data": {"links": []}, "network_config": {"version": 2, "ethernets": {}}}
    stub.on(f"GET /v1/ports/{PORT_ID}/network-data", (200, answer))
    assert json.loads(run("port", "network-data", "vm1").stdout) == {"links": []}
    as_yaml = run("port", "network-data", "vm1", "--format", "network-config").stdout
    assert yaml.safe_load(as_yaml) == answer["network_config"]
