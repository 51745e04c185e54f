"""The agent's service port on a real node: a namespace, a pair of devices, and nothing that is not ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from etc.lab import netns
from etc.lab.processes import stop_all, wait_until
from flows.pipeline import SERVICE_OFPORT
from tests.ovs.agent_node import Node, bare_node

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

LISTEN = "0A"  # in /proc/net/tcp6 (proc_net(5)), where ports are hexadecimal
ANY = "0" * 32
OUTER, INNER = "tl-service", "service0"
DEADLINE = 20.0


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with bare_node() as node:
        yield node


@pytest.fixture(autouse=True)
def no_agent_left(node: Node) -> Iterator[None]:
    yield
    stop_all(node.agents)
    node.agents.clear()


def settle(node: Node) -> None:
    node.start_and_settle(heartbeat=0.5)
    wait_until(lambda: listens(node), DEADLINE, "the relay listens")


def listens(node: Node) -> bool:
    if node.service_namespace not in netns.names(node.service_namespace):
        return False
    table = netns.execute(node.service_namespace, "cat", "/proc/net/tcp6").split("\n")
    listening = {line.split()[1] for line in table[1:] if line and line.split()[3] == LISTEN}
    return listening == {f"{ANY}:0050", f"{ANY}:0035"}


def read(node: Node, path: str) -> str:
    with netns.inside(node.service_namespace):
        return Path("/proc/sys/net", path).read_text().strip()


def test_it_is_there_and_nothing_gets_through_it(node: Node) -> None:
    settle(node)
    get = node.ovs.vsctl
    assert get("get", "Interface", OUTER, "ofport") == str(SERVICE_OFPORT)
    assert get("get", "Port", OUTER, "external_ids") == "{trunkline=agent}"
    inner = netns.query(node.service_namespace, "link", "show", INNER)[0]
    assert inner["address"] == "02:54:4c:00:00:02" and {"NOARP", "UP"} <= set(inner["flags"])
    routes = netns.query(node.service_namespace, "route", "show", "table", "local")
    ways = {(route.get("type", "unicast"), route["dst"], route["dev"]) for route in routes}
    assert {("local", "default", "lo"), ("unicast", "100.64.0.0/10", INNER)} <= ways
    assert netns.query(node.service_namespace, "route", "show") == []
    assert (read(node, "ipv4/ip_forward"), read(node, f"ipv4/conf/{INNER}/rp_filter")) == ("0", "0")


IPV6_WAYS = {("local", "default", "lo"), ("local", "fe80::/64", INNER), ("unicast", "64:ff9b:1::/96", INNER)}


def ipv6_ways(node: Node) -> set[tuple[str, str, str]]:
    routes = netns.query(node.service_namespace, "-6", "route", "show", "table", "local")
    return {(route.get("type", "unicast"), route["dst"], route["dev"]) for route in routes}


def test_over_ipv6_too_and_it_says_nothing_by_itself(node: Node) -> None:
    settle(node)
    assert ipv6_ways(node) >= IPV6_WAYS
    assert netns.query(node.service_namespace, "-6", "address", "show", "dev", INNER) == []
    assert netns.query(node.service_namespace, "-6", "route", "show") == []
    assert read(node, "ipv6/conf/all/forwarding") == "0"


def test_an_agent_of_before_had_switched_ipv6_off(node: Node) -> None:
    settle(node)
    off = f"ipv6/conf/{INNER}/disable_ipv6"
    netns.set_sysctl(node.service_namespace, {off: 1})
    wait_until(lambda: ipv6_ways(node) >= IPV6_WAYS and read(node, off) == "0", DEADLINE, "IPv6")


def test_settings_that_somebody_changes_are_put_right(node: Node) -> None:
    settle(node)
    netns.set_sysctl(node.service_namespace, {"ipv4/ip_forward": 1})
    netns.configure(node.service_namespace, f"link set {INNER} down", "route flush table local")

    def right() -> bool:
        routes = netns.query(node.service_namespace, "route", "show", "table", "local")
        ways = {(route.get("type", "unicast"), route["dst"]) for route in routes}
        return {("local", "default"), ("unicast", "100.64.0.0/10")} <= ways and read(node, "ipv4/ip_forward") == "0"

    wait_until(right, DEADLINE, "settings")


def advertisement_rules(node: Node) -> int:
    """How many of tc's rules write an advertisement's flags."""
    show = ("tc", "filter", "show", "dev", INNER, "ingress")
    return netns.execute(node.service_namespace, *show, check=False).count("pedit action pipe")


def test_tc_writes_advertisements_on_the_kernels_datapath_alone(node: Node) -> None:
    """And goes on to, whoever takes its rules away. On the userspace datapath flows write them."""
    settle(node)
    if node.ovs.datapath == "netdev":
        assert advertisement_rules(node) == 0
        return
    wait_until(lambda: advertisement_rules(node) == 6, DEADLINE, "rules")
    netns.execute(node.service_namespace, "tc", "qdisc", "delete", "dev", INNER, "ingress")
    wait_until(lambda: advertisement_rules(node) == 6, DEADLINE, "rules, again")


def test_what_is_not_ours_is_left_alone(node: Node) -> None:
    """A namespace with somebody's device in it, and a device of that name: both are named in the log."""
    netns.delete(node.service_namespace)
    netns.create(node.service_namespace)
    netns.configure(node.service_namespace, "link add theirs type bridge")
    agent = node.start_and_settle(heartbeat=0.5)
    wait_until(lambda: b"has theirs, so it is not ours" in agent.log.read_bytes(), DEADLINE, "a problem")
    assert not listens(node)
    assert [link["ifname"] for link in netns.query(node.service_namespace, "link", "show")] == ["lo", "theirs"]
    netns.configure(node.service_namespace, "link delete theirs")
    wait_until(lambda: listens(node), DEADLINE, "the relay listens")

    stop_all(node.agents)
    netns.configure(node.namespace, f"link delete {OUTER}", f"link add {OUTER} type bridge")
    agent = node.start_and_settle(heartbeat=0.5)
    wait_until(lambda: b"device tl-service that is not ours" in agent.log.read_bytes(), DEADLINE, "a problem")
    kinds = netns.query(node.namespace, "-details", "link", "show", OUTER)
    assert kinds[0]["linkinfo"]["info_kind"] == "bridge"
    netns.configure(node.namespace, f"link delete {OUTER}")
    # --if-exists: the record of the device that was refused goes before the new one comes
    ofport = ("--if-exists", "get", "Interface", OUTER, "ofport")
    wait_until(lambda: node.ovs.vsctl(*ofport) == str(SERVICE_OFPORT), DEADLINE, "a port")


def test_half_of_a_pair_from_an_agent_that_was_killed_is_made_whole(node: Node) -> None:
    settle(node)
    stop_all(node.agents)
    netns.configure(node.service_namespace, f"link set {INNER} down", f'link set {INNER} alias ""')
    settle(node)
    show = (node.service_namespace, "link", "show", INNER)
    wait_until(lambda: "UP" in netns.query(*show)[0]["flags"], DEADLINE, "device up")


def test_within_ip_netns_exec_it_says_what_is_wrong_and_does_the_rest(node: Node) -> None:
    netns.delete(node.service_namespace)
    agent = node.start_agent(inside_exec=True)
    said = b"a namespace cannot be made for others to see"
    agent.wait_for(lambda: said in agent.log.read_bytes(), DEADLINE, "a problem")
    agent.wait_for(lambda: node.uplinks() == {"physnet1": 65001, "physnet2": 65002}, DEADLINE, "no report")
