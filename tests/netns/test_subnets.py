"""Several subnets on one VLAN: real DHCP in each, routed to each other and to the outside; and how they come and go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network

import pytest

from controller.client import ApiError, Object
from etc.lab import netns, probes
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import wait_until
from etc.lab.vm import INTERFACE, Vm
from flows.rules import Rule
from tests.netns.cloud import (
    ANYCAST_MAC,
    drops,
    installed,
    make_network,
    make_outside,
    make_vms,
    program,
    resolve,
    send_frames,
    udp_frame,
    unbroken,
    wait_dropped,
    wait_outside,
    wait_reached,
    want,
)
from tests.netns.floating import at, far, give, make_pool, wait_talk

pytestmark = pytest.mark.root

FIRST, SECOND, LATER = "10.30.0.0/24", "10.31.0.0/25", "10.34.0.0/24"
SHARED = ("10.32.0.0/24", "10.33.0.0/25")
SECOND_DNS = "10.31.0.53"
NEW = "10.34.0."


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2, physical_networks=("physnet1", "physnet-ext"))


@pytest.fixture(scope="module")
def networks(lab: Lab) -> dict[str, Object]:
    make_pool(lab, make_outside(lab))
    subnets = [{"cidr": FIRST}, {"cidr": SECOND, "dns_servers": [SECOND_DNS]}]
    of_shared = [{"cidr": SHARED[0]}, {"cidr": SHARED[1], "gateway": "10.33.0.100"}]
    return {
        "own": make_network(lab, "own", "", segment=130, subnets=subnets),
        "shared": make_network(lab, "shared", "", segment=131, gateway_mode="shared", subnets=of_shared),
    }


@pytest.fixture(scope="module")
def vms(lab: Lab, networks: dict[str, Object]) -> dict[str, Vm]:
    """a are in the first subnet, b in the second; 1 on n1, 2 on n2. `both` has an address in each, b's first."""
    n1, n2 = lab.nodes
    own, shared = networks["own"], networks["shared"]

    def of(network: Object, *numbers: int) -> list[Object]:
        return [{"subnet_id": network["subnets"][number]["id"]} for number in numbers]

    made = make_vms(
        lab,
        want("a1", n1, own),
        want("a2", n2, own),
        want("b1", n1, own, fixed_ips=of(own, 1)),
        want("b2", n2, own, fixed_ips=of(own, 1)),
        want("both", n1, own, fixed_ips=of(own, 1, 0)),
        want("closed", n2, own, security_groups=[]),
        want("s1", n1, shared),
        want("s2", n2, shared, fixed_ips=of(shared, 1)),
    )
    netns.configure(made["both"].namespace, f"address add {second_address(made['both'])}/24 dev {INTERFACE}")
    wait_outside(lab, *(vm for vm in made.values() if vm.name != "closed"))
    return made


def second_address(vm: Vm) -> str:
    return str(vm.port["fixed_ips"][1]["address"])


def held(lab: Lab, node: Node, cidr: str) -> str:
    """The node's gateway address in a subnet."""
    gateways = [str(each["address"]) for each in lab.client.get_node(node.name)["gateways"]]
    (found,) = [address for address in gateways if IPv4Address(address) in IPv4Network(cidr)]
    return found


def test_dhcp_hands_out_what_the_subnet_has(lab: Lab, vms: dict[str, Vm]) -> None:
    for name, cidr in (("a1", FIRST), ("a2", FIRST), ("b1", SECOND), ("b2", SECOND), ("both", SECOND)):
        vm = vms[name]
        configured = vm.wait_configured()
        assert configured.address.ip == vm.address
        assert configured.address.network == IPv4Network(cidr)
        assert str(configured.router) == held(lab, vm.node, cidr)
        servers = [IPv4Address(SECOND_DNS)] if cidr == SECOND else [configured.router]
        assert list(configured.dns_servers) == servers
    for name, router in (("s1", "10.32.0.1"), ("s2", "10.33.0.100")):
        assert str(vms[name].wait_configured().router) == router


def test_all_reach_each_other_their_gateways_and_the_outside(lab: Lab, vms: dict[str, Vm], controller: str) -> None:
    """Within a subnet and between subnets, on one node and across nodes; the first packet of each, too."""
    talking = [vm for vm in vms.values() if vm.name != "closed"]
    for source in talking:
        assert not source.ping(source.configured().router).lost  # type: ignore[union-attr]
        for target in talking:
            if source is not target:
                assert not source.ping(target.address, count=2).lost, (source.name, target.name)
        assert not source.ping(lab.fabric.far_host).lost


def test_the_second_address_of_a_port(lab: Lab, vms: dict[str, Vm], controller: str) -> None:
    both = vms["both"]
    address = second_address(both)
    for peer in ("a1", "a2", "b1", "b2", "s2"):
        assert not vms[peer].ping(address, count=2).lost
    for target in (vms["a2"].address, vms["b2"].address, lab.fabric.far_host):
        pinged = probes.ping(probes.into(both.namespace), target, options=("-S", address))
        assert not pinged.lost, target


def test_arp_for_the_gateways_of_each_subnet(lab: Lab, vms: dict[str, Vm], controller: str) -> None:
    own = {name: [vm for vm in vms.values() if vm.name.startswith(name)] for name in ("a", "b")}
    for name, cidr in (("a", FIRST), ("b", SECOND)):
        gateways = {vm.configured().router for vm in own[name]}  # type: ignore[union-attr]
        assert len(gateways) == 2, cidr  # of both nodes
        for vm in own[name]:
            assert resolve(vm, *gateways) == {str(address): [ANYCAST_MAC] for address in gateways}, cidr


def test_the_outside_sees_the_nodes_address_whatever_the_subnet(lab: Lab, vms: dict[str, Vm], controller: str) -> None:
    for name in ("a1", "b1", "b2", "both", "s2"):
        vm = vms[name]
        if controller != "stopped":
            vm.port["snat"] = lab.client.get_node(vm.node.name)["external_addresses"][0]["address"]
        for kind in ("tcp", "udp"):
            wait_talk(at(vm), far(lab), lab.fabric.far_host, kind, vm.port["snat"])


def test_an_address_of_another_subnet_is_spoofed(lab: Lab, vms: dict[str, Vm], controller: str) -> None:
    a1 = vms["a1"]
    before = drops(a1.node)
    for source in (vms["b1"].address, second_address(vms["both"]), "10.31.0.120"):
        send_frames(a1, udp_frame(a1, vms["b2"].address, source=source))
    wait_dropped(a1.node, before, Rule.DROP_SPOOFED, 3, a1.port["key"])


def test_the_network_itself_is_all_of_its_subnets(lab: Lab, vms: dict[str, Vm], controller: str) -> None:
    """What comes from there needs no security group; what comes from another network does."""
    closed = vms["closed"]
    for name in ("a1", "b1", "b2"):
        assert not vms[name].ping(closed.address).lost
    before = drops(closed.node)
    assert not vms["s1"].ping(closed.address, count=2, wait=0.5).answered
    wait_dropped(closed.node, before, Rule.DROP_INGRESS, 2, closed.port["key"])


def test_floating_ips_lead_to_addresses_of_any_subnet(lab: Lab, vms: dict[str, Vm]) -> None:
    leads = [(vms["b2"], None), (vms["both"], second_address(vms["both"]))]
    for vm, fixed_ip in leads:
        fields = {} if fixed_ip is None else {"fixed_ip": fixed_ip}
        floating_ip = give(lab, vm, **fields)
        wait_until(
            lambda found=floating_ip: probes.ping(probes.into(lab.fabric.far), found["address"], count=1).answered,
            20,
            "the floating IP is not reached",
        )
        lab.confirm(lab.client.delete_floating_ip(floating_ip["id"]).revision)


@contextmanager
def undisturbed(lab: Lab, vms: dict[str, Vm]) -> Iterator[None]:
    """Within the network, out of it, and between its subnets not a packet is lost."""
    paths = [
        (vms["a1"], vms["a2"].address),
        (vms["a1"], vms["b2"].address),
        (vms["b2"], vms["both"].address),
        (vms["b1"], lab.fabric.far_host),
        (vms["s2"], vms["a2"].address),
    ]
    with unbroken(*paths):
        yield


def of_later(node: Node) -> list[str]:
    return [flow.match for flow in installed(node) if NEW in flow.match]


def put(lab: Lab, network: Object, *subnets: Object) -> Object:
    written = lab.client.update_network(network["id"], {"subnets": list(subnets)})
    lab.confirm(written.revision)
    assert written.object
    return written.object


def test_a_subnet_comes_and_goes_and_nobody_else_notices(
    lab: Lab, networks: dict[str, Object], vms: dict[str, Vm]
) -> None:
    n1, n2 = lab.nodes
    own = networks["own"]
    before = [program(node) for node in lab.nodes]
    kept = [{"cidr": FIRST}, {"cidr": SECOND, "dns_servers": [SECOND_DNS]}]
    with undisturbed(lab, vms):
        grown = put(lab, own, *kept, {"cidr": LATER, "dns_servers": ["10.34.0.53"]})
        assert [subnet["id"] for subnet in grown["subnets"][:2]] == [subnet["id"] for subnet in own["subnets"]]
        third = {"fixed_ips": [{"subnet_id": grown["subnets"][2]["id"]}]}
        new = make_vms(lab, want("c1", n1, grown, **third), want("c2", n2, grown, **third))
        for vm in new.values():
            assert str(vm.wait_configured().router) == held(lab, vm.node, LATER)
        for peer in ("a1", "a2", "b1", "both", "s2"):
            wait_reached(new["c2"], vms[peer].address)
            wait_reached(vms[peer], new["c1"].address)
        wait_reached(new["c1"], new["c2"].address)
        wait_outside(lab, *new.values())
        with pytest.raises(ApiError) as refused:
            lab.client.update_network(own["id"], {"subnets": kept})
        assert (refused.value.status, refused.value.code) == (409, "subnet_in_use")
        assert of_later(n1) and of_later(n2)
        for vm in new.values():
            lab.delete_vm(vm)
        put(lab, own, *kept)
        assert not of_later(n1) and not of_later(n2)
    assert [program(node) for node in lab.nodes] == before


def test_b17_an_address_more_and_one_less_while_it_runs(
    lab: Lab, networks: dict[str, Object], vms: dict[str, Vm]
) -> None:
    kept = [{"cidr": FIRST}, {"cidr": SECOND, "dns_servers": [SECOND_DNS]}]
    a1 = vms["a1"]
    with undisturbed(lab, vms):
        put(lab, networks["own"], *kept, {"cidr": LATER})
        wanted = [{"address": str(a1.address)}, {"address": f"{NEW}77"}]
        lab.confirm(lab.client.update_port(a1.port["id"], {"fixed_ips": wanted}).revision)
        netns.configure(a1.namespace, f"address add {NEW}77/24 dev {INTERFACE}")
        for peer in ("a2", "b2", "s2"):
            wait_reached(vms[peer], f"{NEW}77")
        # its node is the gateway there now
        gateway = held(lab, a1.node, LATER)
        assert probes.ping(probes.into(a1.namespace), gateway, options=("-S", f"{NEW}77")).answered
        netns.configure(a1.namespace, f"address del {NEW}77/24 dev {INTERFACE}")
        lab.confirm(lab.client.update_port(a1.port["id"], {"fixed_ips": wanted[:1]}).revision)
        before = drops(a1.node)
        send_frames(a1, udp_frame(a1, vms["b2"].address, source=f"{NEW}77"), 3)
        wait_dropped(a1.node, before, Rule.DROP_SPOOFED, 3, a1.port["key"])
        put(lab, networks["own"], *kept)
        assert not any(of_later(node) for node in lab.nodes)
