"""Leases outlive whatever is started anew, and are renewed while all else goes on (nova-network C9, C10, C17)."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address

import pytest

from controller.client import Object
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from tests.netns.cloud import metric
from tests.netns.frames import Tap, client_message, sound
from tests.netns.hostile import discover_until_answered
from tests.unit.packet_in import wire
from tests.unit.packet_in.wire import Message, Reply

NETWORKS = 20
PERIODS = 10
RETRY = 4.0
"""Seconds a client waits for an answer before it asks again (RFC 2131, 4.1)."""

PORTS = 1000
RATE = 50


@dataclass
class Client:
    """A VM whose DHCP client is the test, with one lease."""

    vm: Vm
    tap: Tap
    server: IPv4Address = wire.ZERO

    def bind(self) -> None:
        discover_until_answered(self.vm, self.tap)
        ack = self.tap.ask(self._message(0x1000, options=((50, self.vm.address.packed),)))
        assert (ack.type, ack.yiaddr) == (wire.ACK, self.vm.address)
        self.server = IPv4Address(ack.option(54))

    def renew(self, xid: int) -> Reply:
        """By unicast to the server that gave the lease, once (RFC 2131, 4.4.5)."""
        return self.tap.ask(self.renewal(xid), RETRY)

    def renewal(self, xid: int) -> Message:
        address = self.vm.address
        return self._message(xid, ciaddr=address, source=address, destination=self.server)

    def renewed(self, xid: int) -> bool:
        reply = self.renew(xid)
        return (reply.type, reply.yiaddr) == (wire.ACK, self.vm.address)

    def _message(self, xid: int, **fields: object) -> Message:
        return client_message(self.vm, wire.REQUEST, xid=xid, **fields)


def bound(lab: Lab, vm: Vm) -> Client:
    wait_until(lambda: lab.client.get_port(vm.port["id"])["status"] == "active", 20, f"{vm.name} is active")
    client = Client(vm, Tap(vm.namespace))
    client.bind()
    return client


@dataclass
class Cloud:
    lab: Lab
    clients: list[Client]
    """One for each of many networks that all look alike."""

    def leases(self) -> dict[str, tuple[str, str]]:
        return {lease["port_id"]: (lease["address"], lease["state"]) for lease in self.lab.client.list_leases()}

    def wait_bound(self) -> None:
        wanted = {str(client.vm.port["id"]): (str(client.vm.address), "bound") for client in self.clients}
        wait_until(lambda: wanted.items() <= self.leases().items(), 20, lambda: f"{wanted}, and not {self.leases()}")

    def all_renewed(self, xid: int) -> None:
        assert [client.vm.name for client in self.clients if not client.renewed(xid)] == []


@pytest.fixture(scope="module")
def cloud(make_lab: Callable[..., Lab]) -> Iterator[Cloud]:
    """Twenty projects whose networks have the same range and the same gateway, each with a VM, all on one node."""
    lab = make_lab(nodes=1)
    networks = []
    for number in range(NETWORKS):
        fields: Object = {
            "name": f"same-{number}", "kind": "vlan", "segment": 200 + number, "physical_network": "physnet1",
            "project_id": f"p{number}", "lease_time": 60, "gateway_mode": "shared",
            "subnets": [{"cidr": "10.60.0.0/24", "gateway": "10.60.0.1"}],
        }  # fmt: skip
        made = lab.client.create_network(fields).object
        assert made
        networks.append(made)
    with ExitStack() as stack:
        vms = [
            lab.create_vm(f"same{number}", lab.nodes[0], network["id"], client=None)
            for number, network in enumerate(networks)
        ]
        clients = [bound(lab, vm) for vm in vms]
        stack.callback(lambda: [client.tap.close() for client in clients])
        yield Cloud(lab, clients)


def test_c17_every_vm_renews_by_unicast(cloud: Cloud) -> None:
    """For ten periods, each question answered at once and by its own network: nobody has to ask everybody."""
    assert {client.server for client in cloud.clients} == {IPv4Address("10.60.0.1")}
    for period in range(PERIODS):
        cloud.all_renewed(0x2000 + period)
    for client in cloud.clients:
        assert {reply.type for reply in client.tap.dhcp()} == {wire.OFFER, wire.ACK}
        assert {reply.yiaddr for reply in client.tap.dhcp()} == {client.vm.address}


@pytest.mark.parametrize("what", ["controller", "agent", "switch", "node", "everything"])
def test_c9_a_lease_outlives_a_restart(cloud: Cloud, what: str) -> None:
    """Of the controller, which opens its database anew, of the agent, of ovs-vswitchd, and of all: no NAK, ever."""
    lab, node = cloud.lab, cloud.lab.nodes[0]
    cloud.wait_bound()
    before = cloud.leases()
    for client in cloud.clients:
        client.tap.clear()
    if what == "everything":
        lab.control.kill()
    if what in ("agent", "node", "everything"):
        node.stop_agent()
    if what in ("switch", "node", "everything"):
        sessions = metric(lab, "trunkline_sessions_total", '"n1"') if what != "everything" else 0
        node.ovs.restart_switch(kill=True)
        if what != "everything":
            wait_until(lambda: metric(lab, "trunkline_sessions_total", '"n1"') > sessions, 20, "it has connected again")
    if what == "controller":
        lab.control.restart(kill=True)
    elif what == "everything":
        lab.control.start()
    if what in ("agent", "node", "everything"):
        node.start_agent(lab.control)
    lab.wait_connected()
    assert cloud.leases() == before
    cloud.all_renewed(0x3000)
    for client in cloud.clients:
        assert [reply.type for reply in client.tap.dhcp()] == [wire.ACK]


def test_threat_39_leases_that_are_lost_are_known_again(cloud: Cloud) -> None:
    """As with a backup of before there were any: what a port's address is decides, not what was leased."""
    cloud.lab.control.stop()
    with sqlite3.connect(cloud.lab.control.directory / "trunkline.db") as database:
        database.execute("delete from leases")
    cloud.lab.control.start()
    cloud.lab.wait_connected()
    assert cloud.leases() == {}
    renewing, rebooted = cloud.clients[::2], cloud.clients[1::2]
    assert all(client.renewed(0x4000) for client in renewing)
    for client in rebooted:  # INIT-REBOOT: for its own address an ACK, for any other a NAK
        for address, kind in ((client.vm.address, wire.ACK), (IPv4Address("10.60.0.222"), wire.NAK)):
            asked = client_message(client.vm, wire.REQUEST, xid=int(address), options=((50, address.packed),))
            assert client.tap.ask(asked).type == kind
    cloud.wait_bound()


class Renewals(threading.Thread):
    """Renewals at an even rate, by one client after the other. `asked` and `answered` are by transaction."""

    def __init__(self, clients: list[Client]) -> None:
        super().__init__(daemon=True)
        self._clients = clients
        self._over = threading.Event()
        self.asked: dict[int, Client] = {}

    def run(self) -> None:
        begin, number = time.monotonic(), 0
        while not self._over.wait(max(0.0, begin + number / RATE - time.monotonic())):
            client, xid = self._clients[number % len(self._clients)], 0x500000 + number
            self.asked[xid] = client
            client.tap.send(sound(client.renewal(xid).frame()))
            number += 1

    def end(self) -> dict[int, Client]:
        """Those that were asked and have not been answered within a client's own patience."""
        self._over.set()
        self.join(5)

        def silent() -> dict[int, Client]:
            answered = {reply.xid for client in self._clients for reply in client.tap.dhcp() if reply.type == wire.ACK}
            return {xid: client for xid, client in self.asked.items() if xid not in answered}

        end = time.monotonic() + RETRY
        while (left := silent()) and time.monotonic() < end:
            self._over.wait(0.05)
        return left


def test_c10_a_vm_more_among_a_thousand_ports(cloud: Cloud) -> None:
    """Fifty renewals a second go on meanwhile, each is answered the first time, and the node gets a few flows."""
    lab = cloud.lab
    fields: Object = {"name": "big", "kind": "vlan", "segment": 250, "physical_network": "physnet1", "project_id": "p",
                      "subnets": [{"cidr": "10.70.0.0/20"}]}  # fmt: skip
    made = lab.client.create_network(fields).object
    assert made
    network = made["id"]
    lab.client.create_ports([{"network_id": network, "name": f"port{number}"} for number in range(PORTS)])
    first = bound(lab, lab.create_vm("first", lab.nodes[0], network, client=None))
    renewals = Renewals([first, *cloud.clients])
    mods = metric(lab, "of_flowmsgs_sent_total", '"n1"')
    renewals.start()
    wait_until(lambda: len(renewals.asked) > RATE, 20, "a second of renewals")
    added = bound(lab, lab.create_vm("more", lab.nodes[0], network, client=None))
    assert metric(lab, "of_flowmsgs_sent_total", '"n1"') - mods <= 40
    lab.delete_vm(added.vm)
    wait_until(lambda: len(renewals.asked) > 4 * RATE, 20, "four seconds of renewals")
    assert renewals.end() == {}
    added.tap.close()
    first.tap.close()


def test_c11_a_deleted_port_is_answered_no_more(cloud: Cloud) -> None:
    """And its lease is gone before another can get its address, although its VM goes on as if nothing had been."""
    lab, gone = cloud.lab, cloud.clients[-1]
    assert gone.renewed(0x6000)
    address, network = str(gone.vm.address), gone.vm.port["network_id"]
    lab.confirm(lab.client.delete_port(gone.vm.port["id"]).revision)
    assert gone.vm.port["id"] not in cloud.leases()
    gone.tap.clear()
    gone.tap.send(sound(client_message(gone.vm, wire.DISCOVER, xid=0x6001).frame()))
    gone.tap.send(sound(gone.renewal(0x6002).frame()))
    heir = bound(lab, lab.create_vm("heir", lab.nodes[0], network, client=None, fixed_ips=[{"address": address}]))
    assert str(heir.vm.address) == address and heir.renewed(0x6003)
    assert gone.tap.dhcp() == []
    heir.tap.close()
