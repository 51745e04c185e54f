"""Zones as VMs are told them, asked by dig, and handed out to a real name server of the operator's: NSD, with and
without a key, and by a catalog zone.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

import pytest
from dnslib import DNSRecord

from controller.client import Object
from etc.lab import netns
from etc.lab.control import ADDRESS
from etc.lab.lab import Lab
from etc.lab.processes import Process, start, wait_until
from etc.lab.vm import Vm
from tests.netns.cloud import make_network, make_outside, make_vms, want
from tests.netns.floating import give, make_pool
from tests.netns.names import resolved

pytestmark = pytest.mark.root

PLAIN, SIGNED, STRANGER = "192.0.2.53", "192.0.2.54", "192.0.2.55"
SECRET = "c2l4dGVlbiBieXRlcyBvciBtb3JlIG9mIHNlY3JldA=="
CATALOG = "catalog.invalid"
WITHIN = 5.0
"""Seconds until the secondary has what has changed: a notification, a transfer and its own reload."""


@dataclass
class Secondary:
    """NSD in a namespace of its own on the management network."""

    lab: Lab
    name: str
    address: str
    directory: Path
    zones: tuple[str, ...] = ()
    key: str = ""
    process: Process | None = None

    @property
    def namespace(self) -> str:
        return f"{self.lab.prefix}-{self.name}"

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "nsd.conf"
        config.write_text(self._config())
        command = ["nsd", "-d", "-c", str(config)]
        self.process = start(self.name, netns.command(self.namespace, command), self.directory / "nsd.log")
        self.process.wait_for(lambda: self.ask("nobody.invalid") is not None, 20, "NSD does not answer")

    def _config(self) -> str:
        key = self.key or "NOKEY"
        master = f"request-xfr: AXFR {ADDRESS.ip}@53 {key}\n  allow-notify: {ADDRESS.ip} {key}"
        zones = "".join(f'zone:\n  name: "{zone}"\n  {master}\n' for zone in self.zones)
        if not self.zones:
            zones = (
                f'pattern:\n  name: "member"\n  {master}\n'
                f'zone:\n  name: "{CATALOG}"\n  catalog: consumer\n  catalog-member-pattern: "member"\n  {master}\n'
            )
        secret = f'key:\n  name: "{self.key}"\n  algorithm: hmac-sha256\n  secret: "{SECRET}"\n' if self.key else ""
        there = self.directory
        return (
            f'server:\n  ip-address: {self.address}\n  username: ""\n  zonesdir: "{there}"\n  verbosity: 2\n'
            f'  pidfile: "{there}/nsd.pid"\n  xfrdfile: "{there}/xfrd.state"\n  xfrdir: "{there}"\n'
            f'  zonelistfile: "{there}/zone.list"\n  xfrd-reload-timeout: 0\n  server-count: 1\n'
            f"remote-control:\n  control-enable: no\n{secret}{zones}"
        )

    def ask(self, name: str, type_: str = "A") -> DNSRecord | None:
        """None when it says nothing."""
        with netns.inside(self.namespace), suppress(OSError):
            question = DNSRecord.question(name, type_)
            return DNSRecord.parse(question.send(self.address, 53, timeout=1))
        return None

    def data(self, name: str, type_: str = "A") -> list[str]:
        """What it says of a name; [] also when it does not exist."""
        answer = self.ask(name, type_)
        return sorted(str(record.rdata) for record in answer.rr) if answer is not None else []

    def wait(self, name: str, type_: str, *wanted: str) -> float:
        """Until it says just this. Seconds that it took."""
        began = time.monotonic()
        wait_until(
            lambda: self.data(name, type_) == sorted(wanted),
            WITHIN,
            lambda: f"{name} {type_}: {self.data(name, type_)}; {(self.directory / 'nsd.log').read_text()[-2000:]}",
        )
        return time.monotonic() - began


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    options = {
        "transfer_listen": ADDRESS.ip,
        "transfer_secondary": [PLAIN, f"{SIGNED} transfer.key"],
        "transfer_key": f"transfer.key:hmac-sha256:{SECRET}",
        "transfer_name_server": ["ns1.example.net", "ns2.example.net"],
        "transfer_networks": True,
        "transfer_catalog": CATALOG,
    }
    return make_lab(nodes=1, control_options={"dns": options}, projects=("blue", "red"))


@pytest.fixture(scope="module")
def secondaries(lab: Lab) -> Iterator[dict[str, Secondary]]:
    """`plain` is told its zone; `signed` has a key, and takes whatever the catalog names."""
    made = {
        "plain": Secondary(lab, "sec1", PLAIN, lab.directory / "sec1", ("lab.example",)),
        "signed": Secondary(lab, "sec2", SIGNED, lab.directory / "sec2", key="transfer.key"),
    }
    for number, one in enumerate(made.values()):
        netns.create(one.namespace)
        lab.control.connect(one.namespace, f"sec{number}", IPv4Interface(f"{one.address}/24"))
        one.start()
    yield made
    for one in made.values():
        assert one.process
        one.process.stop()


@pytest.fixture(scope="module")
def zone(lab: Lab, secondaries: dict[str, Secondary]) -> Object:
    made = lab.client.create_dns_zone({"name": "lab.example", "scope": "public", "project_id": "blue"}).object
    assert made
    return made


@pytest.fixture(scope="module")
def network(lab: Lab) -> Object:
    subnets = [{"cidr": "10.20.0.0/22"}]
    return make_network(lab, "blue", "", segment=120, dns_domain="blue.example", subnets=subnets)


@pytest.fixture(scope="module")
def vms(lab: Lab, network: Object) -> dict[str, Vm]:
    """One of each project."""
    (node,) = lab.nodes
    red = make_network(lab, "red", "10.20.0.0/24", segment=121, project_id="red")
    return make_vms(lab, want("blue1", node, network, hostname="blue1"), want("red1", node, red))


def ask(vm: Vm, name: str, type_: str = "A") -> list[str]:
    """What the resolver at the VM's gateway says of a name; its status where that is nothing."""
    configured = vm.configured()
    assert configured and configured.router
    found = resolved(vm, configured.router, name, type_)
    return found.data or [found.status]


def told(vm: Vm, name: str, *wanted: str) -> float:
    """Wait until a VM is told this. Seconds that it took."""
    began = time.monotonic()
    wait_until(lambda: ask(vm, name) == sorted(wanted), WITHIN, lambda: f"{name}: {ask(vm, name)}")
    return time.monotonic() - began


def add(lab: Lab, zone: Object, name: str, type_: str, data: str, **fields: object) -> Object:
    body = {"zone_id": zone["id"], "name": name, "type": type_, "data": data, **fields}
    made = lab.client.create_dns_record(body).object
    assert made
    return made


@pytest.mark.parametrize("which", ["plain", "signed"])
def test_d11_a_secondary_has_a_new_name_within_seconds_and_loses_it(
    lab: Lab, secondaries: dict[str, Secondary], zone: Object, which: str
) -> None:
    secondary = secondaries[which]
    secondary.wait("lab.example", "NS", "ns1.example.net.", "ns2.example.net.")
    for type_, data, shown in (
        ("A", "192.0.2.7", "192.0.2.7"),
        ("AAAA", "2001:db8::7", "2001:db8::7"),
        ("TXT", "hello world", '"hello world"'),
        ("MX", "10 mail.example.net", "10 mail.example.net."),
        ("SRV", "0 5 5060 sip.example.net", "0 5 5060 sip.example.net."),
        ("PTR", "vm.example.net", "vm.example.net."),
    ):
        made = add(lab, zone, f"x-{which}", type_, data)
        print(f"{which} {type_}: there after {secondary.wait(made['fqdn'], type_, shown):.2f} s")
    lab.client.update_dns_record(made["id"], {"data": "other.example.net"})
    secondary.wait(made["fqdn"], "PTR", "other.example.net.")
    for record in lab.client.list_dns_records(fqdn=f"x-{which}.lab.example"):
        lab.client.delete_dns_record(record["id"])
    for type_ in ("A", "PTR"):
        print(f"{which}: gone after {secondary.wait(made['fqdn'], type_):.2f} s")
    answer = secondary.ask(made["fqdn"])
    assert answer is not None and answer.header.rcode == 3 and answer.header.aa


def test_d8_names_of_machines_come_and_go_with_their_ports(
    lab: Lab, secondaries: dict[str, Secondary], zone: Object, network: Object
) -> None:
    secondary = secondaries["plain"]
    lab.client.update_dns_zone(zone["id"], {"network_ids": [network["id"]]})
    machine = "7d5ea0a2-5a55-4bd2-b1e0-0d63a3b0a077"
    fields = {"network_id": network["id"], "name": "first", "hostname": "vm1", "device_id": machine}
    port = lab.client.create_port(fields).object
    assert port
    address = port["fixed_ips"][0]["address"]
    for name in ("vm1", machine):
        secondary.wait(f"{name}.lab.example", "A", address)
    # what people call the port is nobody's name
    lab.client.update_port(port["id"], {"name": "renamed", "hostname": "vm2"})
    secondary.wait("vm2.lab.example", "A", address)
    secondary.wait("vm1.lab.example", "A")
    secondary.wait(f"{machine}.lab.example", "A", address)
    assert secondary.data("renamed.lab.example") == secondary.data("first.lab.example") == []
    lab.client.delete_port(port["id"])
    for name in ("vm2", machine):
        secondary.wait(f"{name}.lab.example", "A")


def test_d9_names_of_a_floating_ip_inside_and_outside_and_gone_with_it(
    lab: Lab, secondaries: dict[str, Secondary], zone: Object, vms: dict[str, Vm]
) -> None:
    make_pool(lab, make_outside(lab))
    private = lab.client.create_dns_zone({"name": "in.example", "project_id": "blue"}).object
    floating_ip = give(lab, vms["blue1"])
    assert private
    names = []
    for of, name in ((zone, "web"), (zone, "www"), (private, "web")):
        body = {"zone_id": of["id"], "name": name, "type": "A", "floating_ip_id": floating_ip["id"]}
        made = lab.client.create_dns_record(body).object
        assert made
        names.append(made["fqdn"])
    address = floating_ip["address"]
    for name in names:
        print(f"{name}: a VM is told after {told(vms['blue1'], name, address):.2f} s")
    secondaries["plain"].wait("www.lab.example", "A", address)
    # a public zone is for all, a private one for its own
    assert ask(vms["red1"], "web.lab.example") == [address]
    assert ask(vms["red1"], "web.in.example") != [address]
    add(lab, private, "alias", "CNAME", "www.lab.example")
    told(vms["blue1"], "alias.in.example", "www.lab.example.", address)
    changed = add(lab, zone, "changed", "A", "192.0.2.7")
    told(vms["red1"], changed["fqdn"], "192.0.2.7")
    lab.client.update_dns_record(changed["id"], {"data": "192.0.2.8"})
    told(vms["red1"], changed["fqdn"], "192.0.2.8")
    lab.client.delete_dns_record(changed["id"])
    told(vms["red1"], changed["fqdn"], "NXDOMAIN")
    lab.client.delete_floating_ip(floating_ip["id"])
    for name in names:
        print(f"{name}: gone after {told(vms['blue1'], name, 'NXDOMAIN'):.2f} s")
    secondaries["plain"].wait("www.lab.example", "A")
    answer = secondaries["plain"].ask("www.lab.example")
    assert answer is not None and answer.header.rcode == 3


def test_d8_a_vm_is_told_the_names_of_machines(lab: Lab, zone: Object, network: Object, vms: dict[str, Vm]) -> None:
    lab.client.update_dns_zone(zone["id"], {"network_ids": [network["id"]]})
    told(vms["red1"], "blue1.lab.example", str(vms["blue1"].address))
    assert ask(vms["blue1"], "blue1.lab.example", "AAAA") == ["NOERROR"]
    lab.client.update_dns_zone(zone["id"], {"network_ids": []})
    told(vms["red1"], "blue1.lab.example", "NXDOMAIN")


def test_zones_of_networks_are_found_in_the_catalog(
    lab: Lab, secondaries: dict[str, Secondary], network: Object
) -> None:
    """NSD is told of none of these: the domain of a network, the zones of its range, and one that comes and goes."""
    secondary = secondaries["signed"]
    port = lab.client.create_port(
        {"network_id": network["id"], "hostname": "web", "fixed_ips": [{"address": "10.20.1.9"}]}
    ).object
    assert port
    secondary.wait("web.blue.example", "A", "10.20.1.9")
    secondary.wait("9.1.20.10.in-addr.arpa", "PTR", "web.blue.example.")
    other = lab.client.create_dns_zone({"name": "other.example", "scope": "public"}).object
    assert other
    add(lab, other, "@", "A", "192.0.2.99")
    secondary.wait("other.example", "A", "192.0.2.99")
    lab.client.delete_dns_zone(other["id"])
    wait_until(lambda: (it := secondary.ask("other.example")) is not None and it.header.rcode == 5, WITHIN)
    lab.client.delete_port(port["id"])
    secondary.wait("web.blue.example", "A")
    secondary.wait("9.1.20.10.in-addr.arpa", "PTR")


def test_a_controller_that_restarts_is_believed(lab: Lab, secondaries: dict[str, Secondary], zone: Object) -> None:
    """Serials go on from where they were: what changes afterwards is taken, and nothing is lost meanwhile."""
    secondary = secondaries["plain"]
    kept = add(lab, zone, "kept", "A", "192.0.2.31")
    secondary.wait(kept["fqdn"], "A", "192.0.2.31")
    before = serial(secondary)
    lab.control.stop()
    assert secondary.data(kept["fqdn"]) == ["192.0.2.31"]
    lab.control.start()
    after = add(lab, zone, "after", "A", "192.0.2.32")
    secondary.wait(after["fqdn"], "A", "192.0.2.32")
    assert secondary.data(kept["fqdn"]) == ["192.0.2.31"] and serial(secondary) > before


def serial(secondary: Secondary) -> int:
    answer = secondary.ask("lab.example", "SOA")
    assert answer is not None
    return int(answer.rr[0].rdata.times[0])


def test_nobody_else_is_handed_anything(lab: Lab, secondaries: dict[str, Secondary], zone: Object) -> None:
    """From an address that is no secondary's, and from one that has a key but does not sign."""
    add(lab, zone, "secret", "A", "192.0.2.77")
    stranger = f"{lab.prefix}-sec3"
    netns.create(stranger)
    lab.control.connect(stranger, "sec3", IPv4Interface(f"{STRANGER}/24"))
    question = DNSRecord.question("lab.example", "AXFR").pack()
    soa = DNSRecord.question("lab.example", "SOA").pack()
    assert over_tcp(stranger, question) == b""
    assert over_udp(stranger, soa) is None
    unsigned = DNSRecord.parse(over_tcp(secondaries["signed"].namespace, question)[2:])
    assert (unsigned.header.rcode, unsigned.rr) == (9, [])
    # who may is told, so that the silence above means something
    assert b"secret" in over_tcp(secondaries["plain"].namespace, question)
    answer = over_udp(secondaries["plain"].namespace, soa)
    assert answer is not None and len(DNSRecord.parse(answer).rr) == 1


def over_tcp(namespace: str, message: bytes) -> bytes:
    """One message's worth of what comes back; nothing when the connection is closed."""
    with netns.inside(namespace):
        connection = socket.create_connection((str(ADDRESS.ip), 53), timeout=5)
    with connection, suppress(ConnectionError):
        connection.sendall(len(message).to_bytes(2) + message)
        found = b""
        while len(found) < 2 or len(found) < 2 + int.from_bytes(found[:2]):
            more = connection.recv(65535)
            if not more:
                break
            found += more
        return found
    return b""


def over_udp(namespace: str, message: bytes) -> Any:
    with netns.inside(namespace):
        it = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with it, suppress(TimeoutError):
        it.settimeout(0.5)
        it.sendto(message, (str(ADDRESS.ip), 53))
        return it.recv(65535)
    return None
