"""What real clients ask for and are given, option by option, and what a guest makes of it (nova-network C1, C6)."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address

import pytest

from agent import plugging
from controller.client import Object
from etc.lab import netns
from etc.lab.dhcp_clients import Guest, start_client
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from tests.netns.frames import Tap, is_dhcp
from tests.unit.api import dhcp_golden
from tests.unit.api.dhcp_golden import REAL, golden
from tests.unit.packet_in import wire

Place = tuple[Lab, Object]


@pytest.fixture(scope="module")
def place(make_lab: Callable[..., Lab]) -> Place:
    lab = make_lab(nodes=1)
    made = lab.client.create_network(dhcp_golden.NETWORK).object
    assert made
    return lab, made


def sent(tap: Tap, kind: int) -> dict[int, bytes]:
    """The options of the client's last message of a type."""
    for frame in reversed([frame for frame in tap.frames() if is_dhcp(frame, 68, 67)]):
        options: dict[int, bytes] = {}
        data = frame[42 + 240 :]
        while data and data[0] != 255:
            size = 1 if data[0] == 0 else 2 + data[1]
            if data[0]:
                options[data[0]] = options.get(data[0], b"") + data[2:size]
            data = data[size:]
        if options[53] == bytes((kind,)):
            return options
    raise AssertionError(f"the client has sent no message of type {kind}")


@pytest.mark.parametrize("client", REAL)
def test_c1_each_client_is_given_what_it_asks_for(place: Place, client: str) -> None:
    lab, network = place
    vm = lab.create_vm(client, lab.nodes[0], network["id"], client=None, **dhcp_golden.PORT)
    tap = Tap(vm.namespace, outgoing=True)
    try:
        vm.start_client(client)
        configured = vm.wait_configured(30)
        wait_until(lambda: [reply for reply in tap.dhcp() if reply.type == wire.ACK], 20, "an ACK")
        asked = sent(tap, wire.DISCOVER)
        assert asked.get(55) == REAL[client].asks
        for kind in (wire.OFFER, wire.ACK):
            reply = next(reply for reply in tap.dhcp() if reply.type == kind)  # its sums and lengths are right
            assert reply.options == golden(kind, REAL[client], asked.get(61))
            assert reply.yiaddr == vm.address
        routes = netns.query(vm.namespace, "-4", "route", "show")
        metrics = [metric.get("mtu") for route in routes for metric in route.get("metrics", [])]
        assert 1442 in (configured.mtu, *metrics)  # dhcpcd gives it to the routes
        assert str(configured.router) == "10.41.0.1"
    finally:
        tap.close()


# what a guest makes of it


@contextmanager
def name_server(namespace: str, address: str, names: dict[str, str]) -> Iterator[None]:
    """Answers questions for A records (RFC 1035) of these names, in lower case; of everything else there is nothing."""
    with netns.inside(namespace):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, 53))

    def serve() -> None:
        while True:
            try:
                question, client = server.recvfrom(512)
            except OSError:
                return
            if not question:
                return
            labels, at = [], 12
            while question[at]:
                labels.append(question[at + 1 : at + 1 + question[at]].decode().lower())
                at += 1 + question[at]
            found = names.get(".".join(labels)) if question[at + 1 : at + 3] == b"\0\1" else None
            flags, count = (b"\x85\x80", 1) if found else (b"\x85\x83", 0)
            record = b"" if found is None else struct.pack("!HHHIH", 0xC00C, 1, 1, 60, 4) + IPv4Address(found).packed
            server.sendto(
                question[:2] + flags + struct.pack("!HHHH", 1, count, 0, 0) + question[12 : at + 5] + record, client
            )

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)  # wakes the thread
        server.close()
        thread.join(5)


@pytest.mark.parametrize(("name", "given"), [("web1", "web1"), ("a1" + "b" * 18 + "c" * 60, "a1-" + "c" * 60)])
def test_c6_the_name_in_the_guest(place: Place, name: str, given: str) -> None:
    """A name of 80 characters is cut to a label; with the domain it is the guest's name, as `hostname -f` says."""
    lab, network = place
    node = lab.nodes[0]
    server = lab.create_vm(f"dns-{name[:4]}", node, network["id"], client=None)
    server.set_address(f"{server.address}/24")
    port = {"project_id": "a", "hostname": name, "dhcp_options": [{"code": 6, "value": str(server.address)}]}
    vm = lab.create_vm(f"named-{name[:4]}", node, network["id"], client=None, **port)
    vm.start_client()
    vm.wait_configured(30)
    got = vm.lease()
    assert (got["hostname"], got["domain"]) == (given, "cloud.example")
    resolver = vm.directory / "etc/resolv.conf"
    script = f"mount --bind {resolver} /etc/resolv.conf && hostname {got['hostname']} && hostname -f"
    with name_server(server.namespace, str(server.address), {f"{given}.cloud.example": str(vm.address)}):
        said = vm.execute("unshare", "--uts", "--mount", "sh", "-ec", script)
    assert said.strip() == f"{given}.cloud.example"


# C5: one default route


def default_routes(namespace: str) -> list[tuple[str, str]]:
    routes = netns.query(namespace, "-4", "route", "show", "default")
    return sorted((route["dev"], route["gateway"]) for route in routes)


@pytest.mark.parametrize("single", [True, False])
def test_c5_a_machine_with_two_ports(make_lab: Callable[..., Lab], single: bool) -> None:
    """Its first port, by creation, leads out; without the option each does. The option is read when it starts."""
    lab = make_lab(nodes=1, control_options={"dhcp": {"use_single_default_gateway": single}})
    networks = []
    for number in (1, 2):
        fields = {"name": f"c5-{number}", "kind": "vlan", "segment": 150 + number, "physical_network": "physnet1",
                  "project_id": "a", "subnets": [{"cidr": f"10.{number}.0.0/24"}]}  # fmt: skip
        made = lab.client.create_network(fields).object
        assert made
        networks.append(made)
    vm = lab.create_vm("two", lab.nodes[0], networks[0]["id"], client=None, device_id="vm-1", project_id="a")
    second = lab.client.create_port({"network_id": networks[1]["id"], "device_id": "vm-1", "project_id": "a"}).object
    assert second
    with netns.inside(lab.nodes[0].namespace):
        plugged = plugging.PlugPort(str(second["id"]), str(second["mac"]), 1500, "two")
        plugging.plug(plugged, namespace=vm.namespace, guest_ifname="eth1", ovsdb=lab.nodes[0].ovs.database)
    first = vm.address
    other = IPv4Address(second["fixed_ips"][0]["address"])
    guests = [Guest(vm.namespace, name, "two", vm.directory / name) for name in ("eth0", "eth1")]
    clients = []
    try:
        for guest in guests:
            guest.directory.mkdir()
            clients.append(start_client("udhcpc", guest))
        given = [guest.wait_lease() for guest in guests]
        links = netns.query(vm.namespace, "-4", "address", "show")
        addresses = {each["local"] for link in links for each in link.get("addr_info", [])}
        assert {str(first), str(other)} <= addresses
        assert [lease.get("router") for lease in given] == ["10.1.0.2", None if single else "10.2.0.2"]
        # the second client's script has no metric for a second one
        wait_until(lambda: netns.query(vm.namespace, "-4", "route", "show", "default"), 20, "a default route")
        assert not single or default_routes(vm.namespace) == [("eth0", "10.1.0.2")]
    finally:
        for client in clients:
            client.stop()
