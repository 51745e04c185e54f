"""The CNI plugin as a container runtime calls it: two containers on real Open vSwitch, from ADD to GC."""

from __future__ import annotations

import json
import re
import shlex
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controller.client import Object
from etc.lab import netns
from etc.lab.control import member_token
from etc.lab.lab import Lab
from etc.lab.probes import into, ping
from etc.lab.processes import run, wait_until
from tests.docs_text import Part, blocks
from tests.netns.cloud import make_network, make_outside, make_vms, want
from tests.netns.cni_caller import CniError, Result, Runtime

pytestmark = pytest.mark.root

RUNS = (Part("plugging.md", "CNI"),)
TRY_LATER, UNAVAILABLE, MISMATCH = 11, 50, 100


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2, projects=("blue",))


@pytest.fixture(scope="module")
def network(lab: Lab) -> Object:
    make_outside(lab)
    subnets = [{"cidr": "10.40.0.0/24"}, {"cidr": "2001:db8:40::/64", "ipv6_mode": "slaac"}]
    fields = {"segment": 140, "dns_domain": "blue.example", "subnets": subnets}
    return make_network(lab, "containers", "10.40.0.0/24", **fields)


@pytest.fixture(scope="module")
def token_file(lab: Lab) -> Path:
    path = lab.directory / "cni.token"
    path.write_text(member_token("blue") + "\n")
    return path


def conf(lab: Lab, network: Object, token_file: Path, number: int = 0, version: str = "1.1.0") -> Object:
    """As a runtime makes it of one plugin of a list."""
    return {
        "cniVersion": version,
        "name": "podnet",
        "type": "trunkline-cni",
        "network": network["name"],
        "tokenFile": str(token_file),
        "socket": str(lab.nodes[number].socket),
    }


@pytest.fixture
def runtime(lab: Lab, network: Object, token_file: Path) -> Iterator[Runtime]:
    """Nothing of it is left in the end."""
    runtime = Runtime(lab.directory / "cni", conf(lab, network, token_file))
    yield runtime
    runtime.results.clear()
    runtime.collect()
    assert not lab.client.list_ports(network_id=network["id"])


@pytest.fixture
def containers(lab: Lab) -> Iterator[tuple[str, str]]:
    """The names of two network namespaces."""
    names = (f"{lab.prefix}-pod1", f"{lab.prefix}-pod2")
    netns.create(*names)
    yield names
    netns.delete(*names)


def path(name: str) -> str:
    return f"/run/netns/{name}"


def devices(name: str) -> set[str]:
    return {link["ifname"] for link in netns.query(name, "link", "show")}


def plugged(lab: Lab) -> set[str]:
    """What is in br-int for a container."""
    return {name for name in lab.nodes[0].ovs.vsctl("list-ports", "br-int").split() if name.startswith("tl")} - {
        "tl-service"
    }


def test_from_add_to_del(lab: Lab, network: Object, runtime: Runtime, containers: tuple[str, str]) -> None:
    assert runtime.version() == ["0.4.0", "1.0.0", "1.1.0"]
    runtime.status()
    one, two = containers
    first = runtime.add("web-1", path(one), runtimeConfig={"ips": ["10.40.0.77/24"]})
    second = runtime.add("web-2", path(two))
    ports = {port["device_id"]: port for port in lab.client.list_ports(network_id=network["id"])}
    assert {port["status"] for port in ports.values()} == {"active"} and set(ports) == {"web-1", "web-2"}
    assert ports["web-1"]["hostname"] == "web-1" and ports["web-1"]["project_id"] == "blue"
    assert ports["web-1"]["name"] == "cni:podnet:n1:web-1:eth0"
    addresses = [ip.address for ip in first.ips]
    assert addresses[0] == "10.40.0.77/24" and addresses[1].startswith("2001:db8:40:")
    assert (first.interfaces[1].mac, first.interfaces[1].mtu) == (ports["web-1"]["mac"], network["mtu"])
    assert first.interfaces[0].name in plugged(lab)
    gateway = lab.client.get_node("n1")["gateways"][0]["address"]
    assert first.ips[0].gateway == gateway and ("0.0.0.0/0", gateway) in [(r.dst, r.gw) for r in first.routes]
    assert first.dns.nameservers == [gateway] and first.dns.search == ["blue.example"]
    # at once: ADD has waited until it is ready
    assert ping(into(one), second.ips[0].address.partition("/")[0], count=3).lost == 0
    assert ping(into(one), second.ips[1].address.partition("/")[0], count=3).lost == 0
    assert ping(into(two), lab.fabric.far_host, count=3).answered
    runtime.check("web-1", path(one))
    runtime.delete("web-1", path(one))
    assert devices(one) == {"lo"} and len(plugged(lab)) == 1
    runtime.delete("web-1", path(one))
    runtime.delete("web-2", None, known=False)
    assert devices(two) == {"lo"} and not plugged(lab)
    assert not lab.client.list_ports(network_id=network["id"])


def test_by_hand(lab: Lab, tmp_path: Path) -> None:
    """As docs/plugging.md has it typed, from the token on. Only places and the namespace are others."""
    text = RUNS[0].text
    (create, install, link), conflist, by_hand = blocks(text)
    pod, token = f"{lab.prefix}-pod1", tmp_path / "plug.token"
    ours = {
        "/run/trunkline-lab/qs/": f"{lab.directory}/",
        "qs-pod1": pod,
        "/etc/trunkline/plug.token": str(token),
        "/opt/cni/bin": str(tmp_path / "bin"),
    }

    def written(line: str) -> str:
        return re.sub("|".join(ours), lambda found: ours[found[0]], line)

    blue = make_network(lab, "blue", "10.20.0.0/24", segment=120)
    lab.client.create_security_group({"name": "web", "project_id": "blue"})
    make_vms(lab, want("vm", lab.nodes[1], blue, fixed_ips=[{"address": "10.20.0.2"}]))
    secret = json.loads(run([str(lab.directory / "trunkline"), *shlex.split(create)[1:], "-o", "json"]))["secret"]
    run(["bash", "-ec", written(install)], text=f"{secret}\n")
    run(["bash", "-ec", written(link)])
    whole = json.loads(written("\n".join(conflist)))
    (plugin,) = whole.pop("plugins")
    added = re.search(r'`("socket": "[^"]+")`', text)
    assert added
    (tmp_path / "blue.conf").write_text(json.dumps(whole | plugin | json.loads(written(f"{{{added[1]}}}"))))
    try:
        said = run(["bash", "-ec", "\n".join(("cd " + str(tmp_path), *map(written, by_hand)))], deadline=60)
        assert said.startswith("{"), "STATUS is silent"
        result, end = json.JSONDecoder().raw_decode(said)
        assert Result.model_validate(result).ips[0].address.startswith("10.20.0.") and " 0% packet loss" in said[end:]
        assert devices(pod) == {"lo"} and [p["name"] for p in lab.client.list_ports(network_id=blue["id"])] == ["vm"]
    finally:
        netns.delete(pod)


def test_two_interfaces_and_an_older_version(
    lab: Lab, network: Object, token_file: Path, runtime: Runtime, containers: tuple[str, str]
) -> None:
    one, _ = containers
    runtime.conf = conf(lab, network, token_file, version="1.0.0")
    result = runtime.add("web-1", path(one), "eth0")
    assert all(each.mtu == 0 for each in result.interfaces)
    runtime.add("web-1", path(one), "net1")
    assert devices(one) == {"lo", "eth0", "net1"}
    runtime.delete("web-1", path(one), "net1")
    assert devices(one) == {"lo", "eth0"}
    runtime.check("web-1", path(one))
    runtime.conf = conf(lab, network, token_file)


@pytest.mark.parametrize(
    "damage",
    ["link delete eth0", "link set eth0 down", "address flush dev eth0", "link set eth0 address 02:00:00:00:00:77"],
)
def test_check_sees_what_is_missing(runtime: Runtime, containers: tuple[str, str], damage: str) -> None:
    one, _ = containers
    runtime.add("web-1", path(one))
    runtime.check("web-1", path(one))
    netns.configure(one, damage)
    with pytest.raises(CniError) as refused:
        runtime.check("web-1", path(one))
    assert refused.value.code == MISMATCH


def test_check_sees_a_port_that_is_gone(
    lab: Lab, network: Object, runtime: Runtime, containers: tuple[str, str]
) -> None:
    one, _ = containers
    runtime.add("web-1", path(one))
    (port,) = lab.client.list_ports(network_id=network["id"])
    lab.client.delete_port(port["id"])
    with pytest.raises(CniError) as refused:
        runtime.check("web-1", path(one))
    assert refused.value.code == 3
    runtime.delete("web-1", path(one))
    assert not plugged(lab)


def test_gc_leaves_what_is_valid(
    lab: Lab, network: Object, token_file: Path, runtime: Runtime, containers: tuple[str, str]
) -> None:
    one, two = containers
    kept = lab.client.create_port({"network_id": network["id"], "name": "no-container"}).object
    assert kept
    elsewhere = Runtime(lab.directory / "cni", conf(lab, network, token_file, number=1))
    elsewhere.add("far", path(two), "eth9")
    runtime.add("stays", path(one))
    runtime.add("lost", path(two))
    del runtime.results["lost", "eth0"]
    runtime.collect()
    names = {port["name"] for port in lab.client.list_ports(network_id=network["id"])}
    assert names == {"no-container", "cni:podnet:n1:stays:eth0", "cni:podnet:n2:far:eth9"}
    assert devices(two) == {"lo", "eth9"} and devices(one) == {"lo", "eth0"}
    elsewhere.delete("far", path(two), "eth9")
    lab.client.delete_port(kept["id"])


def test_without_a_controller(lab: Lab, network: Object, runtime: Runtime, containers: tuple[str, str]) -> None:
    one, two = containers
    runtime.add("web-1", path(one))
    lab.control.stop()
    try:
        with pytest.raises(CniError) as refused:
            runtime.status()
        assert refused.value.code == UNAVAILABLE
        with pytest.raises(CniError) as refused:
            runtime.add("web-2", path(two))
        assert refused.value.code == TRY_LATER and devices(two) == {"lo"}
        with pytest.raises(CniError) as refused:
            runtime.delete("web-1", path(one))
        assert refused.value.code == TRY_LATER
        assert devices(one) == {"lo"} and not plugged(lab), "the container is cut off all the same"
    finally:
        lab.control.start()
        lab.wait_connected()
    runtime.status()
    runtime.delete("web-1", path(one))
    assert not lab.client.list_ports(network_id=network["id"])
    runtime.add("web-2", path(two))


def test_without_an_agent(lab: Lab, runtime: Runtime, containers: tuple[str, str]) -> None:
    one, _ = containers
    lab.nodes[0].stop_agent()
    try:
        for call, code in (
            (runtime.status, UNAVAILABLE),
            (lambda: runtime.add("web-1", path(one)), TRY_LATER),
            (lambda: runtime.delete("web-1", path(one)), TRY_LATER),
        ):
            with pytest.raises(CniError) as refused:
                call()
            assert refused.value.code == code and "agent" in str(refused.value)
    finally:
        lab.nodes[0].start_agent(lab.control)
        lab.wait_connected()
        wait_until(lab.nodes[0].socket.exists, 20, "the agent does not listen")


def test_what_is_wrong_is_named(lab: Lab, runtime: Runtime, containers: tuple[str, str]) -> None:
    one, two = containers

    def code(call: Callable[[], object]) -> int:
        with pytest.raises(CniError) as refused:
            call()
        return refused.value.code

    assert code(lambda: runtime.add("-x", path(one))) == 4
    assert code(lambda: runtime.add("web-1", path(one), "a/b")) == 4
    assert code(lambda: runtime.add("web-1", "/run/netns/none-such")) == 4
    assert code(lambda: runtime.add("web-1", path(one), network="none-such")) == 7
    assert code(lambda: runtime.add("web-1", path(one), tokenFile="/none/such")) == 7
    assert code(lambda: runtime.add("web-1", path(one), ipam={"type": "host-local"})) == 7
    assert code(lambda: runtime.add("web-1", path(one), cniVersion="0.3.1")) == 1
    assert code(lambda: runtime._run("GC", {}, runtime.conf)) == 7
    assert code(lambda: runtime._run("NONE", {}, runtime.conf)) == 4
    assert code(lambda: runtime._run("ADD", {}, runtime.conf)) == 4
    assert code(lambda: runtime.add("web-1", path(one), runtimeConfig={"ips": ["10.99.0.1/24"]})) == 101
    netns.configure(two, "link add eth0 type veth peer name eth1")
    assert code(lambda: runtime.add("web-2", path(two))) == 102
    assert devices(two) == {"lo", "eth0", "eth1"} and devices(one) == {"lo"} and not plugged(lab)


def test_the_plugin_starts_fast(runtime: Runtime) -> None:
    """The figure is `tests/run bench plugins`; here only that nobody has it import what is big."""
    took = []
    for _ in range(5):
        began = time.monotonic()
        runtime.version()
        took.append(time.monotonic() - began)
    assert statistics.median(took) < 1
    script = "import sys; import agent.plugins.cni; print([m for m in sys.modules if 'agent.' in m or m == 'asyncio'])"
    shebang = runtime.plugin.read_text().splitlines()[0][2:]
    root = Path(__file__).resolve().parents[2]
    said = subprocess.run([shebang, "-c", script], cwd=root, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "['agent.plugins', 'agent.plugins.asking', 'agent.plugins.cni']"
