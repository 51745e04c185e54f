"""Metadata and DNS over TCP by IPv6, at link-local addresses and from VMs that have the same one; a real controller."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from controller.client import Object
from etc.lab import netns
from etc.lab.lab import Lab
from etc.lab.processes import in_parallel, wait_until
from etc.lab.vm import INTERFACE, Vm
from flows.rules import Rule
from tests.netns.cloud import ANYCAST_MAC, drops, make_network, wait_dropped

pytestmark = pytest.mark.root

METADATA = "fe80::a9fe:a9fe"
LINK_GATEWAY = "fe80::54:4cff:fe00:1"
MAC = "fa:16:3e:00:00:77"
# network -> (VLAN, prefix, gateway mode, the gateway as an address of the prefix)
NETWORKS = {
    "blue": (160, "2001:db8:60::/64", "shared", "2001:db8:60::1"),
    "red": (161, "2001:db8:61::/64", "shared", None),
    "alone": (162, "2001:db8:62::/64", "none", None),
    "theirs": (163, "2001:db8:63::/64", "external", "2001:db8:63::1"),
}


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=1, projects=tuple(NETWORKS), open_groups=False)


@pytest.fixture(scope="module")
def vms(lab: Lab) -> Iterator[dict[str, Vm]]:
    """One on each network, all with one MAC and so with one link-local address. Their groups let nothing in or out."""
    in_parallel(partial(make, lab, name) for name in NETWORKS)
    for name in NETWORKS:
        vm = lab.vms[name]
        wait_until(partial(has_link_local, vm), 20, f"{name} has no link-local address")
        wait_until(lambda vm=vm: curl(vm)[0] == 200, 20, lambda vm=vm: f"{vm.name}: {curl(vm)}", interval=0.1)
    yield dict(lab.vms)


def make(lab: Lab, name: str) -> None:
    vlan, prefix, mode, gateway = NETWORKS[name]
    group: Object | None = lab.client.create_security_group({"name": "shut", "project_id": name}).object
    assert group
    for rule in group["rules"]:
        lab.client.delete_security_group_rule(rule["id"])
    over_ipv6: Object = {"cidr": prefix, **({"gateway": gateway} if gateway else {})}
    router = {"gateway": "10.60.0.1"} if mode == "external" else {}
    subnets = [{"cidr": "10.60.0.0/24", **router}, over_ipv6]
    fields = {"subnets": subnets, "gateway_mode": mode, "dns_domain": f"{name}.example"}
    network = make_network(lab, name, "", segment=vlan, project_id=name, **fields)
    lab.create_vm(name, lab.nodes[0], network["id"], client=None, mac=MAC, security_groups=[group["id"]])


def has_link_local(vm: Vm) -> bool:
    shown = netns.query(vm.namespace, "-6", "address", "show", "dev", INTERFACE, "scope", "link", "-tentative")
    return any("local" in each for part in shown for each in part.get("addr_info", []))


def curl(vm: Vm, path: str = "latest/meta-data/local-hostname", *options: str) -> tuple[int, str]:
    """Status and body; status 0 without an answer."""
    url = f"http://[{METADATA}%25{INTERFACE}]/{path}"
    text = vm.execute("curl", "-g", "-s", "-m", "3", "-w", "\n%{http_code}", *options, url, check=False)
    body, _, status = text.rpartition("\n")
    return int(status or 0), body


def dig(vm: Vm, server: str, name: str) -> str:
    return vm.execute("dig", "+tcp", "+short", "+tries=1", "+time=3", f"@{server}", name, "AAAA", check=False).strip()


def own(vm: Vm) -> str:
    (address,) = vm.ipv6_addresses
    return str(address)


@pytest.mark.parametrize("name", NETWORKS)
def test_j9_each_is_told_of_itself_from_one_link_local_address(vms: dict[str, Vm], name: str) -> None:
    """Routed, isolated, behind a router of the operator's; whatever the groups say."""
    lies = ("-H", "X-Forwarded-For: 2001:db8:60::9", "-H", "X-Tenant-ID: red")
    assert curl(vms[name], "latest/meta-data/local-hostname", *lies) == (200, f"{name}.{name}.example")


@pytest.mark.parametrize("name", ["blue", "red"])
def test_j9_from_a_global_address_too(vms: dict[str, Vm], name: str) -> None:
    vm = vms[name]
    vm.wait_ipv6(20)
    status, body = curl(vm, "latest/meta-data/local-hostname", "--interface", own(vm))
    assert (status, body) == (200, f"{name}.{name}.example")


def test_j9_it_is_found_as_a_neighbour_that_is_no_router(vms: dict[str, Vm]) -> None:
    vm = vms["alone"]
    netns.configure(vm.namespace, f"neighbour flush dev {INTERFACE}")
    assert curl(vm)[0] == 200
    known = {each["dst"]: each for each in netns.query(vm.namespace, "-6", "neighbour", "show", "dev", INTERFACE)}
    assert known[METADATA]["lladdr"] == ANYCAST_MAC and "router" not in known[METADATA]


def test_j9_a_source_that_is_not_its_own_gets_nothing(vms: dict[str, Vm]) -> None:
    vm, other = vms["blue"], "fe80::77"
    before = drops(vm.node)
    netns.configure(vm.namespace, f"address add {other}/64 dev {INTERFACE} nodad")
    try:
        with netns.inside(vm.namespace):
            scope = socket.if_nametoindex(INTERFACE)
            connection = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        with connection:
            connection.settimeout(1)
            connection.bind((other, 0, 0, scope))
            with pytest.raises(TimeoutError):
                connection.connect((METADATA, 80, 0, scope))
    finally:
        netns.configure(vm.namespace, f"address delete {other}/64 dev {INTERFACE}")
    wait_dropped(vm.node, before, Rule.DROP_SPOOFED, 1)


def test_j9_names_over_tcp_at_each_address_of_the_gateway(vms: dict[str, Vm]) -> None:
    for name, server in (
        ("blue", f"{LINK_GATEWAY}%{INTERFACE}"),
        ("blue", "2001:db8:60::1"),
        ("red", f"{LINK_GATEWAY}%{INTERFACE}"),
    ):
        vms[name].wait_ipv6(20)
        assert dig(vms[name], server, f"{name}.{name}.example") == own(vms[name]), (name, server)


def test_nothing_else_is_there(vms: dict[str, Vm]) -> None:
    vm = vms["blue"]
    before = drops(vm.node)
    for port in (443, 53):
        url = f"http://[{METADATA}%25{INTERFACE}]:{port}/"
        vm.execute("curl", "-g", "-s", "-m", "0.5", url, check=False)
    wait_dropped(vm.node, before, Rule.DROP_METADATA, 2)


def test_large_answers_arrive(lab: Lab, vms: dict[str, Vm]) -> None:
    written = lab.client.update_metadata(vms["red"].port["id"], {"user_data": "eHl6" * 16000})
    lab.client.wait_revision(written.revision, 10)
    assert curl(vms["red"], "latest/user-data") == (200, "xyz" * 16000)


def test_without_a_controller_it_says_so_and_comes_back(lab: Lab, vms: dict[str, Vm]) -> None:
    vm = vms["alone"]
    lab.control.stop()
    try:
        wait_until(lambda: curl(vm)[0] == 503, 20, lambda: str(curl(vm)))
    finally:
        lab.control.restart()
    wait_until(lambda: curl(vm)[0] == 200, 20, lambda: str(curl(vm)))
