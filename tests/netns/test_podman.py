"""The plugin for podman: as its own contract has it, and by Debian's podman, as docs/plugging.md has it typed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.version import version
from controller.client import Object
from etc.lab import netns
from etc.lab.capture import Capture
from etc.lab.control import member_token
from etc.lab.lab import Lab
from etc.lab.probes import into, ping
from tests.docs_text import Part, commands, files
from tests.enclosure import enclosed
from tests.netns.cloud import make_network, make_vms, request, saw, want
from tests.programs import write_program
from tests.rootfs import make_rootfs

pytestmark = pytest.mark.root

RUNS = (Part("plugging.md", "podman"),)
# podman's own are there, for all that runs on this machine
LOCKS = "mount -t tmpfs tmpfs /dev/shm"


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab], tmp_path_factory: pytest.TempPathFactory) -> Lab:
    token = tmp_path_factory.mktemp("podman") / "plug.token"
    token.write_text(member_token("blue"))
    return make_lab(nodes=2, projects=("blue",), agent_options={"plug_token_file": token})


@pytest.fixture(scope="module")
def network(lab: Lab) -> Object:
    return make_network(lab, "blue", "10.40.0.0/24", segment=140, dns_domain="blue.example")


@pytest.fixture(scope="module")
def plugin(lab: Lab) -> Path:
    path = lab.directory / "plugins" / "trunkline-netavark"
    path.parent.mkdir()
    write_program(path)
    return path


@pytest.fixture
def containers(lab: Lab) -> Iterator[tuple[str, str]]:
    names = (f"{lab.prefix}-box1", f"{lab.prefix}-box2")
    netns.create(*names)
    yield names
    netns.delete(*names)


def config(lab: Lab, network: Object) -> Object:
    """As podman keeps a network of a plugin."""
    return {
        "name": "podnet",
        "id": "53ce4390f2adb1681eb1a90ec8b48c49c015e0a8d336c197637e7f65e365fa9e",
        "driver": "trunkline-netavark",
        "created": "2026-11-25T00:00:00.000000000Z",
        "network_interface": "",
        "ipv6_enabled": False,
        "internal": False,
        "dns_enabled": False,
        "ipam_options": {"driver": "none"},
        "options": {"network": network["name"], "socket": str(lab.nodes[0].socket)},
    }


def run(command: list[str], given: object = None) -> tuple[int, Any]:
    done = subprocess.run(
        command, input=None if given is None else json.dumps(given), capture_output=True, text=True, timeout=60
    )
    assert not done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout) if done.stdout else None


def test_by_the_contract(lab: Lab, network: Object, plugin: Path, containers: tuple[str, str]) -> None:
    assert run([str(plugin), "info"]) == (0, {"version": version(), "api_version": "1.0.0"})
    made = config(lab, network)
    assert run([str(plugin), "create"], made) == (0, made)
    asked = {
        "container_id": "2d0fe608dc86d7ba65dcec724a335b618328f08daa62afd2ee7fa9d41f74e5a9",
        "container_name": "web",
        "port_mappings": None,
        "network": made,
        "network_options": {"interface_name": "eth3", "static_ips": ["10.40.0.99"], "static_mac": "02:00:00:00:00:99"},
    }
    path = f"/run/netns/{containers[0]}"
    for command, given, why in (
        (["create"], {**made, "ipam_options": {"driver": "host-local"}}, "--ipam-driver none"),
        (["setup", path], {**asked, "port_mappings": [{"container_port": 80, "host_port": 80}]}, "not with -p"),
    ):
        status, said = run([str(plugin), *command], given)
        assert status == 1 and why in said["error"]
    status, said = run([str(plugin), "setup", path], asked)
    assert status == 0, said
    assert said["interfaces"]["eth3"]["mac_address"] == "02:00:00:00:00:99"
    gateway = lab.client.get_node("n1")["gateways"][0]["address"]
    assert said["interfaces"]["eth3"]["subnets"] == [{"ipnet": "10.40.0.99/24", "gateway": gateway}]
    assert said["dns_server_ips"] == [gateway] and said["dns_search_domains"] == ["blue.example"]
    assert ping(into(containers[0]), gateway, count=2).lost == 0
    (port,) = lab.client.list_ports(network_id=network["id"])
    assert (port["hostname"], port["project_id"]) == ("web", "blue")
    for _ in range(2):  # the second finds nothing any more
        assert run([str(plugin), "teardown", path], asked) == (0, None)
    assert not lab.client.list_ports(network_id=network["id"])
    made["options"] = {**made["options"], "network": "none-such"}
    status, said = run([str(plugin), "setup", path], asked)
    assert status == 1 and "none-such" in said["error"]


def test_by_podman(lab: Lab, network: Object) -> None:
    """Two containers; the other one asks for what it is called by."""
    text = RUNS[0].text
    link, create, start = commands(text)
    assert start.endswith(" ...")
    far = make_vms(lab, want("vm", lab.nodes[1], network))["vm"]
    with enclosed(lab, lab.nodes[0], LOCKS) as node:
        for path, content in files(text).items():
            node.run(f"cat >{path}", text=content)
        node.run(f"{link}\n{create}")
        for name, more in (("web", ""), ("db", "--ip 10.40.0.99 --mac-address 02:00:00:00:00:99")):
            make_rootfs(lab.nodes[0].directory / name, "ip", "ping", "sleep")
            words = f"--name {name} --detach --cgroups=disabled --cap-add net_raw {more}"
            node.run(start.replace("...", f"{words} --rootfs /run/trunkline/{name} sleep infinity"))
        ports = {port["hostname"]: port for port in lab.client.list_ports(network_id=network["id"]) if port["hostname"]}
        assert {ports["web"]["status"], ports["db"]["status"]} == {"active"} and ports["web"]["project_id"] == "blue"
        (address,) = (each["address"] for each in ports["web"]["fixed_ips"])
        assert f"inet {address}/24" in node.run("podman exec web ip address show eth0")
        assert ports["db"]["mac"] == "02:00:00:00:00:99" and ports["db"]["fixed_ips"][0]["address"] == "10.40.0.99"
        with Capture(lab.fabric.rack, lab.nodes[0].cable("physnet1"), "", lab.directory / "rack") as rack:
            for target in (far.address, "10.40.0.99"):
                assert " 0% packet loss" in node.run(f"podman exec web ping -c 2 {target}")
            asked = saw(rack, lambda frame: request(frame) and str(frame.src) == address, 2)
        assert {(str(frame.dst), frame.vlan) for frame in asked} == {(str(far.address), 140)}
        node.run("podman rm --force --time 0 web db")
    assert not [port for port in lab.client.list_ports(network_id=network["id"]) if port["name"] != "vm"]
    assert not [name for name in lab.nodes[0].ovs.vsctl("list-ports", "br-int").split() if lab_device(name)]


def lab_device(name: str) -> bool:
    return name.startswith("tl") and name != "tl-service"
