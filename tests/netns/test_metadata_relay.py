"""Metadata and DNS over TCP from VMs to what a controller answers, by the relay of their node."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from controller.client import Object
from etc.lab import netns
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import CommandFailed, wait_until
from etc.lab.vm import INTERFACE, Vm
from flows.pipeline import SERVICE_OFPORT
from flows.rules import Rule
from tests.netns.cloud import ANYCAST_MAC, drops, make_network, resolve, tcp, wait_dropped
from tests.netns.node_api import NodeApi

pytestmark = pytest.mark.root

METADATA = "169.254.169.254"
QUESTION = bytes.fromhex("1234 0100 0001 0000 0000 0000 03 777777 00 0001 0001")
SERVFAIL = bytes.fromhex("1234 8102 0001 0000 0000 0000 03 777777 00 0001 0001")


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2, projects=("blue", "red"))


@pytest.fixture(scope="module")
def api(lab: Lab) -> Iterator[NodeApi]:
    api = NodeApi(lab)
    api.start()
    for node in lab.nodes:
        node.stop_agent()
        node.start_agent(lab.control, {"api_url": api.url, "metadata_rate": 0, "heartbeat_interval": 1})
    yield api
    api.stop()


@pytest.fixture(scope="module")
def blue(lab: Lab, api: NodeApi) -> list[Vm]:
    """One on each node; the first two lines of defence say no to everything."""
    group = lab.client.create_security_group({"name": "shut", "project_id": "blue"}).object
    assert group
    for rule in group["rules"]:
        lab.client.delete_security_group_rule(rule["id"])
    network = make_network(lab, "blue", "10.20.0.0/24", segment=120, mtu=1400)
    return ready(pair(lab, "blue", network, security_groups=[group["id"]]))


@pytest.fixture(scope="module")
def red(lab: Lab, api: NodeApi) -> list[Vm]:
    """With the addresses of the blue ones."""
    network = make_network(lab, "red", "10.20.0.0/24", segment=121, project_id="red", mtu=1400)
    return ready(pair(lab, "red", network))


def pair(lab: Lab, name: str, network: Object, **fields: object) -> Iterator[Vm]:
    for n, node in enumerate(lab.nodes, 1):
        fixed_ips = [{"address": f"10.20.0.10{n}"}]
        yield lab.create_vm(f"{name}{n}", node, network["id"], fixed_ips=fixed_ips, **fields)


def ready(vms: Any) -> list[Vm]:
    made = list(vms)
    for vm in made:
        vm.wait_configured(router=False)
        wait_until(lambda vm=vm: curl(vm)[0] == 200, 20, lambda vm=vm: f"{vm.name}: {curl(vm)}", interval=0.1)
    return made


def key(lab: Lab, vm: Vm) -> int:
    status, found = lab.control.request("GET", f"/v1/ports/{vm.port['id']}")
    assert status == 200
    return int(found["port"]["key"])


def curl(vm: Vm, path: str = "latest/meta-data/", *options: str) -> tuple[int, str]:
    """Status and body; status 0 without an answer."""
    url = f"http://{METADATA}/{path}"
    text = vm.execute("curl", "-s", "-m", "5", "--path-as-is", "-w", "\n%{http_code}", *options, url, check=False)
    body, _, status = text.rpartition("\n")
    return int(status or 0), body


def asked(vm: Vm, *options: str) -> dict[str, Any]:
    status, body = curl(vm, "latest/meta-data/hostname", *options)
    assert status == 200, (status, body)
    said: dict[str, Any] = json.loads(body)
    return said


def gateway(vm: Vm) -> str:
    configured = vm.configured()
    assert configured and configured.router
    return str(configured.router)


def dns(vm: Vm, address: object, *questions: bytes) -> list[bytes]:
    """The answers over one connection, all questions sent at once."""
    with tcp(vm.namespace) as connection:
        connection.connect((str(address), 53))
        connection.sendall(b"".join(len(each).to_bytes(2) + each for each in questions))
        with connection.makefile("rb") as answers:
            return [answers.read(int.from_bytes(answers.read(2))) for _ in questions]


def test_g1_g4_each_port_is_known_by_itself_whatever_its_address(
    lab: Lab, api: NodeApi, blue: list[Vm], red: list[Vm]
) -> None:
    """In pairs that share an address, on one node; no header says who asks."""
    assert [vm.address for vm in blue] == [vm.address for vm in red]
    for vm in (*blue, *red):
        expected = {"node": vm.node.name, "method": "GET", "path": "latest/meta-data/hostname"}
        lies = ("X-Forwarded-For: 10.20.0.9", "X-Instance-ID: 7", "X-Tenant-ID: red", "Authorization: Bearer mine")
        said = asked(vm, *(part for lie in lies for part in ("-H", lie)))
        assert said == {"key": said["key"], **expected}
        headers = api.asked[-1].headers
        assert headers["authorization"] == "Bearer lab-agent" and not any(name.startswith("x-") for name in headers)
    keys = [asked(vm)["key"] for vm in (*blue, *red)]
    assert len(set(keys)) == 4
    # what is open at once stays apart
    open_at_once = [start_request(vm) for vm in (*blue, *red)]
    assert [finish_request(connection)["key"] for connection in open_at_once] == keys


def start_request(vm: Vm) -> socket.socket:
    with netns.inside(vm.namespace):
        connection = socket.create_connection((METADATA, 80), 5)
    connection.sendall(b"GET /latest/meta-data/hostname HTTP/1.1\r\nHost: x\r\n")
    return connection


def finish_request(connection: socket.socket) -> dict[str, Any]:
    with connection:
        connection.sendall(b"Connection: close\r\n\r\n")
        with connection.makefile("rb") as answer:
            said: dict[str, Any] = json.loads(answer.read().partition(b"\r\n\r\n")[2])
            return said


def test_g4_a_source_that_is_not_its_own_gets_nothing(lab: Lab, blue: list[Vm]) -> None:
    vm, other = blue
    before = drops(vm.node)
    netns.configure(vm.namespace, f"address add {other.address}/32 dev {INTERFACE}")
    try:
        assert curl(vm, "latest/", "--interface", str(other.address), "-m", "1")[0] == 0
    finally:
        netns.configure(vm.namespace, f"address delete {other.address}/32 dev {INTERFACE}")
    wait_dropped(vm.node, before, Rule.DROP_SPOOFED, 1)


def test_g1_a_guest_that_has_it_on_link_reaches_it(blue: list[Vm]) -> None:
    vm = blue[0]
    assert resolve(vm, METADATA) == {METADATA: [ANYCAST_MAC]}
    netns.configure(vm.namespace, f"route add 169.254.0.0/16 dev {INTERFACE}")
    try:
        assert asked(vm)["node"] == vm.node.name
    finally:
        netns.configure(vm.namespace, f"route delete 169.254.0.0/16 dev {INTERFACE}")


@pytest.mark.parametrize(("mode", "client"), [("none", "dhclient"), ("external", "networkd")])
def test_g1_a_network_without_our_gateway_has_it_too(lab: Lab, api: NodeApi, mode: str, client: str) -> None:
    """By a route of DHCP; of the router, with mode external, there is no sign."""
    segment, cidr = (122, "10.30.0.0/24") if mode == "none" else (123, "10.31.0.0/24")
    router = None if mode == "none" else "10.31.0.1"
    network = make_network(lab, f"without-{mode}", cidr, router, segment=segment, gateway_mode=mode)
    (vm,) = ready([lab.create_vm(f"w{mode[:2]}", lab.nodes[0], network["id"], client=client)])
    assert asked(vm)["node"] == "n1"
    routes = netns.query(vm.namespace, "-4", "route", "show", "169.254.169.252/30")
    assert [route["dev"] for route in routes] == [INTERFACE] and "gateway" not in routes[0]
    lab.delete_vm(vm)


def test_nothing_else_is_there(lab: Lab, blue: list[Vm]) -> None:
    vm = blue[0]
    before = drops(vm.node)
    for address, port in ((METADATA, 443), (METADATA, 53), (gateway(vm), 80), (gateway(vm), 22)):
        with tcp(vm.namespace) as connection:
            connection.settimeout(0.3)
            with pytest.raises(TimeoutError):
                connection.connect((address, port))
    wait_dropped(vm.node, before, Rule.DROP_METADATA, 2)
    wait_dropped(vm.node, before, Rule.DROP_GATEWAY, 2)


def test_d1_dns_over_tcp_to_the_gateway(api: NodeApi, blue: list[Vm], red: list[Vm]) -> None:
    keys = set()
    for vm in (blue[0], red[0]):
        answers = dns(vm, gateway(vm), QUESTION, b"\x99\x99" + QUESTION[2:])
        assert [answer[:4] for answer in answers] == [b"\x12\x34\x81\x80", b"\x99\x99\x81\x80"]
        assert api.asked[-1].headers["content-type"] == "application/dns-message"
        assert api.asked[-1].body == b"\x99\x99" + QUESTION[2:]
        keys.add(api.asked[-1].port_key)
    assert keys == {asked(vm)["key"] for vm in (blue[0], red[0])}


def test_large_answers_fit_a_small_mtu_and_large_bodies_arrive(
    api: NodeApi, blue: list[Vm], monkeypatch: pytest.MonkeyPatch
) -> None:
    vm, sizes = blue[0], []

    def large(self: NodeApi, asked: Any) -> tuple[int, str, bytes]:
        sizes.append(len(asked.body))
        return 200, "application/octet-stream", b"x" * 500_000

    monkeypatch.setattr(NodeApi, "answer", large)
    # else the kernel's datapath hands over many segments as one frame, which a network card would cut
    netns.execute(vm.node.namespace, "ethtool", "-K", vm.device, "tso", "off", "gso", "off")
    with vm.capture("inbound") as watched:
        status, body = curl(vm, "latest/user-data")
        assert (status, len(body)) == (200, 500_000)
        assert max(frame.length for frame in watched.seen()) <= 1414
    assert curl(vm, "password", "-d", "p" * 60_000)[0] == 200
    assert curl(vm, "password", "-d", "p" * 70_000)[0] == 413
    assert sizes == [0, 60_000]


def test_threat_18_one_vm_that_takes_all_it_can(api: NodeApi, blue: list[Vm], red: list[Vm]) -> None:
    """Hundreds of connections that say little: a few stay, the others are reset, and a neighbour is served as ever."""
    greedy, other = red[0], blue[0]
    with ExitStack() as stack:
        kept = [stack.enter_context(connection) for _ in range(300) if (connection := begun(greedy)) is not None]
        assert 1 <= len([each for each in kept if not is_reset(each)]) <= 8
        for _ in range(10):
            assert asked(other)["node"] == other.node.name
        assert curl(greedy)[0] == 0, "it has had its share"
    wait_until(lambda: curl(greedy)[0] == 200, 20, "its own requests, once it has hung up", interval=0.1)


def begun(vm: Vm) -> socket.socket | None:
    """A connection with half a head on it; None when it was reset at once."""
    try:
        return start_request(vm)
    except ConnectionError:
        return None


def is_reset(connection: socket.socket) -> bool:
    connection.settimeout(0.05)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_g8_without_a_controller_it_says_so_at_once_and_comes_back(api: NodeApi, blue: list[Vm]) -> None:
    vm = blue[0]
    api.stop()
    wait_until(lambda: curl(vm)[0] == 503, 20, lambda: str(curl(vm)))
    text = vm.execute("curl", "-s", "-i", "-m", "2", f"http://{METADATA}/")
    assert re.search(r"(?m)^Retry-After: 1$", text), text
    assert dns(vm, gateway(vm), QUESTION) == [SERVFAIL]
    api.start()
    wait_until(lambda: curl(vm)[0] == 200, 20, lambda: str(curl(vm)))


@pytest.mark.parametrize("kill", [False, True])
def test_the_next_agent_takes_the_namespace_over(lab: Lab, api: NodeApi, blue: list[Vm], kill: bool) -> None:
    vm, node = blue[0], blue[0].node
    before = place(node)
    stream = vm.ping_stream(gateway(vm))
    node.restart_agent(lab.control, kill=kill)
    wait_until(lambda: curl(vm)[0] == 200, 20, lambda: str(curl(vm)), interval=0.1)
    assert stream.stop().lost == 0
    assert place(node) == before


def place(node: Node) -> tuple[int, int, str]:
    """Namespace, device and OpenFlow port."""
    inode = (netns.DIRECTORY / node.service_namespace).stat().st_ino
    index = netns.query(node.namespace, "link", "show", "tl-service")[0]["ifindex"]
    return inode, index, node.ovs.vsctl("get", "Interface", "tl-service", "ofport")


def test_what_is_taken_away_is_put_back(lab: Lab, api: NodeApi, blue: list[Vm]) -> None:
    vm, node = blue[0], blue[0].node

    def works_again(what: str) -> None:
        def works() -> bool:
            with suppress(OSError, CommandFailed):  # something of it may not be there yet
                return place(node)[2] == str(SERVICE_OFPORT) and curl(vm, "", "-m", "1")[0] == 200
            return False

        wait_until(works, 20, lambda: f"{what}: {curl(vm)}", interval=0.1)

    node.ovs.vsctl("del-port", "tl-service")
    works_again("the port")
    netns.configure(node.namespace, "link delete tl-service")
    works_again("the device")
    netns.configure(node.service_namespace, "link delete service0")
    works_again("its other end")
    netns.delete(node.service_namespace)
    works_again("the namespace")
    node.ovs.restart_switch(kill=True)
    works_again("Open vSwitch")
    lab.wait_connected()


def test_where_the_vm_moves_to_it_is_served(lab: Lab, api: NodeApi, blue: list[Vm]) -> None:
    """What is open ends; the next one is answered by the new node."""
    vm, target = blue[0], lab.nodes[1]
    was = vm.configured()
    assert was
    vm.stop_client()
    vm.unplug()
    vm.node = target
    vm.plug()
    vm.set_address(str(was.address), was.router)
    wait_until(lambda: curl(vm, "", "-m", "1")[0] == 200, 20, lambda: str(curl(vm)), interval=0.1)
    assert asked(vm)["node"] == target.name
