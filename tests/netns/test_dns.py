"""Names: those of VMs on all nodes, and everything else by servers of the operator's; asked by a real client, dig."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
from dnslib import DNSRecord

from controller.client import Object
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from tests.netns.cloud import make_network, make_outside, make_vms, metric, udp, wait_outside, want
from tests.netns.names import LARGE, NameServer, dig, resolved, serving

pytestmark = pytest.mark.root

DEAD, GENERAL, CORP, BLUE, RED = (f"192.0.2.{host}" for host in (250, 251, 252, 253, 254))
"""Servers to ask; nobody is at the first address, and the last two are those of one network each."""

ISOLATED_RESOLVER = "169.254.169.253"


@dataclass
class Place:
    lab: Lab
    networks: dict[str, Object]
    vms: dict[str, Vm]
    servers: dict[str, NameServer]
    resolvers: dict[str, str] = field(default_factory=dict)

    def resolver(self, vm: Vm) -> str:
        """What DHCP says."""
        configured = vm.configured()
        assert configured
        (server,) = configured.dns_servers
        return str(server)


@pytest.fixture(scope="module")
def place(make_lab: Callable[..., Lab], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    resolv = tmp_path_factory.mktemp("dns") / "resolv.conf"
    resolv.write_text(f"nameserver {DEAD}\n")
    options = {"dns": {"server": [DEAD, GENERAL, f"/corp.example/{CORP}"], "resolv_conf": resolv, "rate": 100000}}
    lab = make_lab(
        nodes=2, physical_networks=("physnet1", "physnet-ext"), projects=("blue", "red"), control_options=options
    )
    with ExitStack() as stack:
        control = lab.control.namespace
        servers = {address: stack.enter_context(serving(control, address)) for address in (GENERAL, CORP, BLUE, RED)}
        make_outside(lab)
        fields = {"dns_domain": "cloud.example"}
        networks = {
            "blue": make_network(lab, "blue", "10.20.0.0/24", segment=120, dns_upstreams=[BLUE], **fields),
            "red": make_network(
                lab, "red", "10.20.0.0/24", "10.20.0.1", segment=121, project_id="red", gateway_mode="shared",
                dns_upstreams=[RED], **fields,
            ),
            "plain": make_network(lab, "plain", "10.23.0.0/24", segment=123, project_id="plain"),
            "alone": make_network(lab, "alone", "10.22.0.0/24", segment=122, gateway_mode="none", project_id="alone"),
        }  # fmt: skip
        first, second = lab.nodes
        vms = make_vms(
            lab,
            want("blue1", first, networks["blue"], hostname="web1"),
            want("blue2", second, networks["blue"], hostname="web2"),
            want("red1", first, networks["red"], hostname="web1"),
            want("red2", second, networks["red"], hostname="only-red"),
            want("plain1", first, networks["plain"]),
        )
        # Debian's script of udhcpc takes no routes
        for client in ("dhcpcd", "networkd", "dhclient"):
            vms |= make_vms(lab, want(client, second, networks["alone"]), client=client)
        yield Place(lab, networks, vms, servers)


def test_d4_d5_names_and_back_on_all_nodes(place: Place) -> None:
    for asker in ("blue1", "blue2"):
        vm = place.vms[asker]
        server = place.resolver(vm)
        for other, host in (("blue1", "web1"), ("blue2", "web2")):
            address = str(place.vms[other].address)
            full = f"{host}.cloud.example"
            for name in (host, full, full.upper()):
                found = resolved(vm, server, name)
                assert found.status == "NOERROR" and found.data == [address]
                assert {"qr", "aa", "rd", "ra"} <= found.flags
            assert resolved(vm, server, "-x", address).data == [f"{full}."]
            spelled = f"ip-{address.replace('.', '-')}.cloud.example"
            assert resolved(vm, server, spelled).data == [address]


def test_d4_the_guest_finds_them_by_its_own_configuration(place: Place) -> None:
    """The C library, with the search list that DHCP has brought."""
    vm = place.vms["blue2"]
    assert vm.look_up("web1") == vm.look_up("web1.cloud.example") == {place.vms["blue1"].address}


def test_d4_one_name_in_two_networks(place: Place) -> None:
    blue, red = place.vms["blue2"], place.vms["red2"]
    assert resolved(blue, place.resolver(blue), "web1").data == [str(place.vms["blue1"].address)]
    assert resolved(red, place.resolver(red), "web1").data == [str(place.vms["red1"].address)]
    assert resolved(red, place.resolver(red), "web2").status == "NXDOMAIN"
    assert resolved(blue, place.resolver(blue), "only-red.cloud.example").status == "NXDOMAIN"


def test_d4_what_is_ours_is_asked_nowhere_else(place: Place) -> None:
    """AAAA of a name that has IPv4 only, names and addresses that nobody has: at once, without a word outside."""
    vm = place.vms["blue1"]
    server = place.resolver(vm)
    before = {address: len(it.asked) for address, it in place.servers.items()}
    for name in ("web2", "web2.cloud.example"):
        for kind in ("AAAA", "TXT", "HTTPS"):
            found = resolved(vm, server, name, kind)
            assert (found.status, found.answers) == ("NOERROR", ())
            assert [kind for _, kind, _ in found.authority] == ["SOA"] and found.milliseconds < 500
    for name in ("nobody", "nobody.cloud.example", "a.web2.cloud.example", "x.invalid"):
        found = resolved(vm, server, name)
        assert found.status == "NXDOMAIN" and [kind for _, kind, _ in found.authority] == ["SOA"]
    for address in ("10.20.0.77", "192.168.1.1", "10.99.0.1"):
        assert resolved(vm, server, "-x", address).status == "NXDOMAIN"
    assert resolved(vm, server, "localhost").data == ["127.0.0.1"]
    assert before == {address: len(it.asked) for address, it in place.servers.items()}


def test_d1_d3_each_network_asks_its_own_servers(place: Place) -> None:
    for name, server in (("blue1", BLUE), ("blue2", BLUE), ("red1", RED)):
        vm = place.vms[name]
        asked = f"{name}.example.com"
        assert resolved(vm, place.resolver(vm), asked).data == [server]
        assert [address for address, it in place.servers.items() if asked in it.asked] == [server]
        found = resolved(vm, place.resolver(vm), asked)
        assert found.data == [server] and "aa" not in found.flags
        assert place.servers[server].asked.count(asked) == 1  # the second one was kept


def test_d2_the_first_server_dead_a_zone_of_its_own_and_a_poisoned_host(place: Place) -> None:
    vm = place.vms["plain1"]
    server = place.resolver(vm)
    for index in range(3):
        found = resolved(vm, server, f"second-{index}.example.com")
        assert found.data == [GENERAL] and found.milliseconds < 2500
    assert found.milliseconds < 500  # by now it is known
    asked = "host.corp.example"
    assert resolved(vm, server, asked).data == [CORP]
    assert [address for address, it in place.servers.items() if asked in it.asked] == [CORP]
    assert len(place.servers[GENERAL].ports) > 1  # a port of its own for each question


def test_d1_large_answers(place: Place) -> None:
    """By UDP the answer says that it is truncated, whatever the client claims to take; by TCP it is whole."""
    vm = place.vms["blue1"]
    server = place.resolver(vm)
    for options in ((), ("+bufsize=4096",), ("+noedns",)):
        found = resolved(vm, server, LARGE, "TXT", *options)
        assert "tc" in found.flags and not found.answers
    assert place.servers[BLUE].by_tcp == [LARGE]  # once
    for resolver in (server, ISOLATED_RESOLVER):
        for options in (("+tcp",), ("+noignore",)):  # at once, and as clients do when they are told so
            found = resolved(vm, resolver, LARGE, "TXT", *options)
            assert "tc" not in found.flags and len(found.answers) == 10
    other = place.vms["blue2"]
    assert resolved(vm, server, "web2", "A", "+tcp").data == [str(other.address)]
    assert resolved(place.vms["red1"], place.resolver(place.vms["red1"]), "web2", "A", "+tcp").status == "NXDOMAIN"


@pytest.mark.parametrize("client", ["dhcpcd", "networkd", "dhclient"])
def test_names_on_a_network_without_a_gateway(place: Place, client: str) -> None:
    """DHCP brings a route to where they are known."""
    vm = place.vms[client]
    if client != "networkd":  # which writes no resolv.conf
        assert place.resolver(vm) == ISOLATED_RESOLVER
    assert resolved(vm, ISOLATED_RESOLVER, client).data == [str(vm.address)]
    assert resolved(vm, ISOLATED_RESOLVER, "alone.example.com").data == [GENERAL]


def test_the_same_address_answers_on_any_network(place: Place) -> None:
    blue = place.vms["blue1"]
    assert resolved(blue, ISOLATED_RESOLVER, "web2").data == [str(place.vms["blue2"].address)]


def test_nobody_else_is_answered(place: Place) -> None:
    """Not another project's VM at the gateway address, and nobody outside at a node's."""
    red = place.vms["red1"]
    gateway = place.resolver(place.vms["plain1"])
    assert dig(red, gateway, "plain1", wait=1) is None
    wait_outside(place.lab, red)
    question = DNSRecord.question("web1").pack()
    with udp(place.lab.fabric.outside) as outside:
        outside.settimeout(1)
        outside.sendto(question, (str(red.node.snat_address), 53))
        with pytest.raises(TimeoutError):
            outside.recv(512)


def test_d6_a_name_comes_and_goes_within_a_second(place: Place) -> None:
    """On both nodes, and the address's own name as well."""
    lab, network = place.lab, place.networks["blue"]
    askers = [(vm, place.resolver(vm)) for vm in (place.vms["blue1"], place.vms["blue2"])]

    def told(*question: str) -> set[str]:
        """What each of them is told; the status where that is nothing."""
        found = [resolved(vm, server, *question) for vm, server in askers]
        return {data for each in found for data in each.data or [each.status]}

    made = lab.client.create_port({"network_id": network["id"], "hostname": "late", "project_id": "blue"}).object
    assert made
    address = made["fixed_ips"][0]["address"]
    wait_until(lambda: told("late") == {address}, 20, "the new name")
    assert told("-x", address) == {"late.cloud.example."}
    lab.client.update_port(made["id"], {"hostname": "later"})
    wait_until(lambda: told("later") == {address}, 20, "its other name")
    assert told("late") == {"NXDOMAIN"} and told("-x", address) == {"later.cloud.example."}
    lab.client.delete_port(made["id"])
    wait_until(lambda: told("later") == {"NXDOMAIN"}, 20, "the name to go")
    assert told("-x", address) == {"NXDOMAIN"}


def test_questions_are_counted(place: Place) -> None:
    vm = place.vms["red1"]
    before = metric(place.lab, "trunkline_dns_queries_total", 'outcome="dns_local",rcode="noerror"')
    resolved(vm, place.resolver(vm), "only-red")
    assert metric(place.lab, "trunkline_dns_queries_total", 'outcome="dns_local",rcode="noerror"') == before + 1


def test_a_controller_stops_and_comes_back(place: Place) -> None:
    vm = place.vms["blue2"]
    server = place.resolver(vm)
    place.lab.control.stop()
    assert dig(vm, server, "web1", wait=1) is None
    assert vm.ping(place.vms["blue1"].address).answered
    place.lab.control.start()
    place.lab.wait_connected()
    wait_until(lambda: (found := dig(vm, server, "web1", wait=1)) and found.data, 20, "names")
