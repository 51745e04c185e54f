"""Addresses on real Open vSwitch: when they are free again, and what becomes of whoever had them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from ipaddress import IPv4Address
from typing import Any

import pytest

from controller.cli import address_plan
from controller.cli.address_plan import PlanFormat
from controller.client import ApiError, Object
from etc.lab import netns
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from flows.rules import Rule, decode_cookie
from tests.netns.cloud import (
    SHORT_LEASE,
    drops,
    installed,
    make_network,
    make_outside,
    make_vms,
    wait_dropped,
    wait_reached,
    want,
)
from tests.netns.floating import give, make_pool
from tests.netns.frames import Tap, client_message
from tests.unit.packet_in.wire import ACK, DISCOVER, NAK, OFFER

pytestmark = pytest.mark.root

GATEWAY = "10.40.0.1"
TIMEOUT = SHORT_LEASE + 10
"""Seconds: longer than a lease of the one network, shorter than one of the other."""


@pytest.fixture(scope="module")
def network(lab: Lab) -> Object:
    make_pool(lab, make_outside(lab))
    return make_network(lab, "net", "10.40.0.0/24", segment=140, gateway_mode="shared", gateway=GATEWAY)


def state(lab: Lab, network: Object, address: IPv4Address) -> tuple[str, bool, bool]:
    """State, whether nobody else is given it, whether a client has a lease of it."""
    found = {one["address"]: one for one in lab.client.list_addresses(network["id"])}
    return (it := found[str(address)])["state"], it["associated"], it["leased"]


def wait_leased(lab: Lab, network: Object, vm: Vm) -> None:
    """What DHCP has said is written down within a second or so."""
    wait_until(lambda: state(lab, network, vm.address) == ("allocated", True, True), 20, "its lease is not known")


def refusal(lab: Lab, network: Object, **fields: object) -> str:
    with pytest.raises(ApiError) as refused:
        lab.client.create_port({"network_id": network["id"], "project_id": "blue", **fields})
    return refused.value.code


def test_b19_c11_a_deleted_vm_is_not_answered_and_its_address_is_free_within_five_seconds(
    lab: Lab, network: Object
) -> None:
    vms = make_vms(lab, want("old", lab.nodes[0], network), want("peer", lab.nodes[1], network))
    old, peer = vms.values()
    wait_leased(lab, network, old)
    address, key = old.address, old.port["key"]
    with closing(Tap(old.namespace)) as tap:
        began = time.monotonic()
        lab.confirm(lab.client.delete_port(old.port["id"]).revision)
        served = {decode_cookie(flow.cookie) for flow in installed(lab.nodes[0])}
        assert (Rule.CLASSIFY_PORT, key) not in served
        before = drops(lab.nodes[0])
        tap.send(client_message(old, DISCOVER, xid=7).frame())
        wait_dropped(lab.nodes[0], before, Rule.DROP_UNCLASSIFIED, 1)
        (new,) = make_vms(lab, want("new", lab.nodes[2], network, fixed_ips=[{"address": str(address)}])).values()
        assert new.address == address and time.monotonic() - began < 5 + 5  # of which the VM's boot is the half
        assert tap.dhcp() == []
    wait_reached(peer, address, 5)
    assert not old.ping(peer.address, count=1, wait=0.3).answered  # still runs, still believes in its lease
    assert state(lab, network, address)[:2] == ("allocated", True)
    names = [one["port_name"] for one in lab.client.address_history(address=str(address))]
    assert names == ["new", "old"]
    for vm in (old, new, peer):
        lab.vms.pop(vm.name)
        vm.delete()
        if vm is not old:
            lab.client.delete_port(vm.port["id"])


def test_b17_an_address_that_is_added_works_and_one_that_is_removed_does_not(lab: Lab, network: Object) -> None:
    vms = make_vms(lab, want("one", lab.nodes[0], network), want("two", lab.nodes[1], network))
    one, two = vms.values()
    second = IPv4Address("10.40.0.222")
    add = f"address add {second}/24 dev eth0"
    netns.configure(one.namespace, add)
    before = drops(lab.nodes[0])
    ping = ("ping", "-c1", "-W1", "-I", str(second), str(two.address))
    assert "100% packet loss" in one.execute(*ping, check=False)
    wait_dropped(lab.nodes[0], before, Rule.DROP_SPOOFED, 1, one.port["key"])
    both = [{"address": str(one.address)}, {"address": str(second)}]
    lab.confirm(lab.client.update_port(one.port["id"], {"fixed_ips": both}).revision)
    wait_until(lambda: " 0% packet loss" in one.execute(*ping, check=False), 20, "the second address does not work")
    wait_reached(two, second, 5)
    with closing(Tap(one.namespace, outgoing=True)) as tap:
        one.renew()
        wait_until(lambda: tap.dhcp(), 20, "an answer of the DHCP server")
        assert {reply.yiaddr for reply in tap.dhcp()} == {one.address}  # one address for each MAC
    floating_ip = give(lab, one, fixed_ip=str(second))
    outside = netns.execute(lab.fabric.outside, "ping", "-c3", "-W1", "-i0.3", str(floating_ip["address"]), check=False)
    assert " 0% packet loss" in outside or "33% packet loss" in outside, outside
    first = [{"address": str(one.address)}]
    began = time.monotonic()
    before = drops(lab.nodes[0])
    lab.client.update_port(one.port["id"], {"fixed_ips": first})

    def gone() -> bool:
        return "100% packet loss" in one.execute(*ping, check=False)

    wait_until(gone, 20, "it still gets through")
    assert time.monotonic() - began < 5
    wait_dropped(lab.nodes[0], before, Rule.DROP_SPOOFED, 1, one.port["key"])
    assert not one.ping(two.address).lost
    assert lab.client.get_floating_ip(floating_ip["id"])["port_id"] is None
    assert state(lab, network, second) == ("free", False, False)
    for vm in vms.values():
        lab.delete_vm(vm)


def test_b13_sixteen_clients_fill_a_network_to_the_last_address(lab: Lab) -> None:
    network = make_network(lab, "full", "10.42.0.0/24", segment=142, gateway_mode="shared", gateway="10.42.0.1")
    got: list[Object] = []
    errors: list[Any] = []

    def fill() -> None:
        client = lab.control.client()
        while True:
            try:
                made = client.create_port({"network_id": network["id"], "project_id": "blue"}).object
            except ApiError as error:
                errors.append((error.status, error.code))
                return
            assert made
            got.append(made)

    threads = [threading.Thread(target=fill) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [(409, "subnet_full")] * 16
    given = Counter(port["fixed_ips"][0]["address"] for port in got)
    assert given == Counter(str(IPv4Address("10.42.0.0") + offset) for offset in range(2, 255))
    found = lab.client.list_ports(network_id=network["id"], address=r"^10\.42\.0\.1")
    assert len(found) == len([text for text in given if text.startswith("10.42.0.1")])


PLAN = """\
kind,network,address,mac,name,project
reserved,planned,10.45.0.1-10.45.0.9,,,
port,planned,10.45.0.20,02:00:00:00:45:01,first,red
port,planned,10.45.0.21,02:00:00:00:45:01,first,red
port,planned,10.45.0.30,,second,
"""


@pytest.mark.parametrize("format_", PlanFormat)
def test_a_plan_is_exported_as_it_was_imported_and_once_more_changes_nothing(lab: Lab, format_: PlanFormat) -> None:
    known = lab.client.list_networks(name="planned")
    network = known[0] if known else make_network(lab, "planned", "10.45.0.0/24", segment=145)
    first = [entry.fields for entry in address_plan.read(PLAN, PlanFormat.CSV).entries]
    lab.client.apply_address_plan(first, check=False)
    ports = lab.client.list_ports(network_id=network["id"])
    assert [(port["name"], len(port["fixed_ips"]), port["project_id"]) for port in ports] == [
        ("first", 2, "red"),
        ("second", 1, "blue"),
    ]
    exported = address_plan.write(address_plan.entries_of(lab.client.get_network(network["id"]), ports), format_)
    again = [entry.fields for entry in address_plan.read(exported, format_).entries]
    revision = lab.client.apply_address_plan(first, check=True).revision
    outcome = lab.client.apply_address_plan(again, check=False)
    assert outcome.object == {"actions": ["keep"] * 4, "problems": []}
    assert outcome.revision == revision


# without forced release


@pytest.fixture(scope="module")
def patient(make_lab: Callable[..., Lab]) -> Lab:
    """Addresses of VMs that are gone are kept while their leases are live, or for half a minute."""
    options = {"dhcp": {"force_release": False}, "addresses": {"disassociate_timeout": TIMEOUT}}
    return make_lab(nodes=2, control_options=options)


def few(lab: Lab, name: str, third: int, lease_time: int) -> Object:
    """A network with two addresses."""
    two = [{"first": f"10.{third}.0.20", "last": f"10.{third}.0.21"}]
    subnets = [{"cidr": f"10.{third}.0.0/24", "gateway": f"10.{third}.0.1", "allocation_ranges": two}]
    fields = {"segment": third + 100, "gateway_mode": "shared", "lease_time": lease_time, "subnets": subnets}
    return make_network(lab, name, "", **fields)


def test_b12_b22_the_address_of_a_deleted_vm_is_kept_until_its_lease_ends(patient: Lab) -> None:
    lab, network = patient, few(patient, "short", 41, SHORT_LEASE)
    (vm,) = make_vms(lab, want("alive", lab.nodes[0], network)).values()
    wait_leased(lab, network, vm)
    port = vm.port
    with closing(Tap(vm.namespace)) as tap:
        lab.confirm(lab.client.delete_port(port["id"]).revision)
        assert state(lab, network, vm.address) == ("held", True, True)
        assert refusal(lab, network, fixed_ips=[{"address": str(vm.address)}]) == "address_in_use"
        other = lab.client.create_port({"network_id": network["id"], "project_id": "blue"}).object
        assert other and other["fixed_ips"][0]["address"] != str(vm.address)
        assert refusal(lab, network) == "subnet_full"
        tap.clear()
        tap.send(client_message(vm, DISCOVER, xid=9).frame())  # its client is alive, and is not answered
        lab.control.restart(kill=True)
        lab.wait_connected()
        assert state(lab, network, vm.address) == ("held", True, True)
        wait_until(lambda: state(lab, network, vm.address)[0] == "free", SHORT_LEASE + 10, "it is kept after its lease")
        assert not {OFFER, ACK, NAK} & {reply.type for reply in tap.dhcp()}
    again = lab.client.create_port({"network_id": network["id"], "project_id": "blue"}).object
    assert again and again["fixed_ips"][0]["address"] == str(vm.address)
    lab.vms.pop(vm.name)
    vm.delete()


def test_b23_without_a_dhcp_release_an_address_is_back_after_the_timeout_and_not_before(patient: Lab) -> None:
    lab, network = patient, few(patient, "long", 43, 3600)
    (vm,) = make_vms(lab, want("mute", lab.nodes[1], network)).values()
    wait_leased(lab, network, vm)
    vm.stop_client()  # nothing is ever given back
    assert vm.port["id"] in {port["id"] for port in lab.client.list_ports(network_id=network["id"])}
    began = time.monotonic()
    lab.client.delete_port(vm.port["id"])
    while (kept := state(lab, network, vm.address)[0]) == "held":
        assert time.monotonic() - began < TIMEOUT + 10
        time.sleep(0.2)
    assert kept == "free" and time.monotonic() - began >= TIMEOUT - 1
    lab.vms.pop(vm.name)
    vm.delete()


def test_b22_a_vm_whose_lease_has_ended_keeps_its_address_and_gets_it_again(patient: Lab) -> None:
    lab, network = patient, few(patient, "ended", 44, SHORT_LEASE)
    (vm,) = make_vms(lab, want("ended", lab.nodes[0], network)).values()
    wait_leased(lab, network, vm)
    assert vm.client
    vm.client.kill()
    wait_until(
        lambda: state(lab, network, vm.address) == ("allocated", True, False), SHORT_LEASE + 10, "its lease ends"
    )
    assert refusal(lab, network, fixed_ips=[{"address": str(vm.address)}]) == "address_in_use"
    vm.start_client()
    wait_leased(lab, network, vm)
    assert vm.wait_configured().address.ip == vm.address
    lab.delete_vm(vm)
