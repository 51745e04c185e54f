"""The plugin for podman: as its own contract has it, and by the netavark of Debian, as podman calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.client import Object
from etc.lab import netns
from etc.lab.control import PROJECT_ROOT, member_token
from etc.lab.lab import Lab
from etc.lab.probes import into, ping
from tests.netns.cloud import make_network

pytestmark = pytest.mark.root

NETAVARK = "/usr/lib/podman/netavark"


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab], tmp_path_factory: pytest.TempPathFactory) -> Lab:
    token = tmp_path_factory.mktemp("podman") / "plug.token"
    token.write_text(member_token("blue"))
    return make_lab(nodes=1, projects=("blue",), agent_options={"plug_token_file": token})


@pytest.fixture(scope="module")
def network(lab: Lab) -> Object:
    return make_network(lab, "containers", "10.40.0.0/24", segment=140, dns_domain="blue.example")


@pytest.fixture(scope="module")
def plugin(lab: Lab) -> Path:
    path = lab.directory / "plugins" / "trunkline-netavark"
    path.parent.mkdir()
    path.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(PROJECT_ROOT)!r})\n"
        "from agent.plugins.netavark import main\nsys.exit(main())\n"
    )
    path.chmod(0o755)
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
    assert run([str(plugin), "info"]) == (0, {"version": "0.1.0", "api_version": "1.0.0"})
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


def test_by_netavark(lab: Lab, network: Object, plugin: Path, containers: tuple[str, str]) -> None:
    """Two containers, each by a call of what podman calls."""
    # in the node's network: it sets forwarding, and whatever else it thinks is needed
    enter = ["nsenter", f"--net=/run/netns/{lab.nodes[0].namespace}"]
    netavark = [*enter, NETAVARK, "--firewall-driver", "none", "--config", str(lab.directory / "netavark")]
    command = [*netavark, "--plugin-directory", str(plugin.parent)]
    (lab.directory / "netavark").mkdir()
    answers = []
    for number, name in enumerate(containers):
        asked = {
            "container_id": f"{number}" * 64,
            "container_name": f"box-{number}",
            "networks": {"podnet": {"interface_name": "eth0"}},
            "network_info": {"podnet": config(lab, network)},
        }
        status, said = run([*command, "setup", f"/run/netns/{name}"], asked)
        assert status == 0, said
        answers.append((asked, said["podnet"]["interfaces"]["eth0"]))
    first, second = (answer["subnets"][0]["ipnet"].partition("/")[0] for _, answer in answers)
    assert first != second and ping(into(containers[0]), second, count=3).lost == 0
    assert {port["status"] for port in lab.client.list_ports(network_id=network["id"])} == {"active"}
    for (asked, _), name in zip(answers, containers, strict=True):
        status, said = run([*command, "teardown", f"/run/netns/{name}"], asked)
        assert status == 0, said
    assert not lab.client.list_ports(network_id=network["id"])
    assert {link["ifname"] for link in netns.query(containers[0], "link", "show")} == {"lo"}
