"""What is at each path, version by version."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from ipaddress import IPv6Network
from typing import Any

import pytest

from controller.metadata import ec2, openstack
from controller.metadata.machine import Defaults
from controller.store.metadata_specs import MachineMetadata
from flows.model import Ipv6FixedIp, Ipv6Mode, Ipv6Subnet
from tests.unit.metadata.model import GIVEN, KEY, NETWORK, OTHER, WEB, Cloud, port

BASE = ["ami-id", "ami-launch-index", "ami-manifest-path", "hostname", "instance-id", "local-ipv4"]
BASE += ["public-keys/", "reservation-id", "security-groups"]
NAMES = ["local-hostname", "public-hostname", "public-ipv4"]
TYPE, PLACE, ACTION = ["instance-type"], ["placement/"], ["instance-action"]
INTERFACES = ["mac", "network/"]
EC2 = {
    "1.0": BASE,
    "2007-01-19": BASE + NAMES,
    "2007-03-01": BASE + NAMES,
    "2007-08-29": BASE + NAMES + TYPE,
    "2007-10-10": BASE + NAMES + TYPE,
    "2007-12-15": BASE + NAMES + TYPE,
    "2008-02-01": BASE + NAMES + TYPE + PLACE,
    "2008-09-01": BASE + NAMES + TYPE + PLACE + ACTION,
    "2009-04-04": BASE + NAMES + TYPE + PLACE + ACTION,
    "2016-09-02": BASE + NAMES + TYPE + PLACE + ACTION + INTERFACES,
    "latest": BASE + NAMES + TYPE + PLACE + ACTION + INTERFACES,
}
FILES = ["meta_data.json", "user_data"]
FIELDS = {"uuid", "meta", "public_keys", "keys", "hostname", "name", "launch_index", "availability_zone"}
VENDOR, NETWORK_DATA, VENDOR2 = ["password", "vendor_data.json"], ["network_data.json"], ["vendor_data2.json"]
SEED, PROJECT, DEVICES = FIELDS | {"random_seed"}, {"random_seed", "project_id"} | FIELDS, {"devices"}
NEWTON = FILES + VENDOR + NETWORK_DATA + VENDOR2
OPENSTACK: dict[str, tuple[list[str], set[str]]] = {
    "2012-08-10": (FILES, FIELDS),
    "2013-04-04": (FILES + ["password"], SEED),
    "2013-10-17": (FILES + VENDOR, SEED),
    "2015-10-15": (FILES + VENDOR + NETWORK_DATA, PROJECT),
    "2016-06-30": (FILES + VENDOR + NETWORK_DATA, PROJECT | DEVICES),
    "2016-10-06": (NEWTON, PROJECT | DEVICES),
    "2017-02-22": (NEWTON, PROJECT | DEVICES),
    "2018-08-27": (NEWTON, PROJECT | DEVICES),
    "2020-10-14": (NEWTON, PROJECT | DEVICES | {"dedicated_cpus"}),
    "latest": (NEWTON, PROJECT | DEVICES | {"dedicated_cpus"}),
}


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


def document(cloud: Cloud, path: str) -> Any:
    return json.loads(cloud.text(path))


@pytest.mark.parametrize("path", ["", "/", "ec2", "ec2/"])
def test_g6_the_versions_of_ec2(cloud: Cloud, path: str) -> None:
    assert cloud.text(path).split("\n") == list(EC2)
    assert [*ec2.VERSIONS, "latest"] == list(EC2)


@pytest.mark.parametrize("path", ["openstack", "/openstack/", "//openstack//"])
def test_g6_the_versions_of_openstack(cloud: Cloud, path: str) -> None:
    assert cloud.text(path).split("\n") == list(OPENSTACK)
    assert [*openstack.VERSIONS, "latest"] == list(OPENSTACK)


@pytest.mark.parametrize("version", EC2)
def test_g6_what_each_version_of_ec2_has(cloud: Cloud, version: str) -> None:
    assert cloud.text(version) == cloud.text(f"ec2/{version}/") == "meta-data/\nuser-data"
    assert cloud.text(f"{version}/meta-data/").split("\n") == sorted(EC2[version])
    for name in ("instance-type", "placement/availability-zone", "public-ipv4", "instance-action"):
        known = name.partition("/")[0] in {each.rstrip("/") for each in EC2[version]}
        assert cloud.ask(f"{version}/meta-data/{name}")[0] == (200 if known else 404)


def test_g6_ec2_says_what_the_machine_is(cloud: Cloud) -> None:
    values = {
        "ami-launch-index": "0",
        "hostname": "web1.lab.example",
        "local-hostname": "web1.lab.example",
        "public-hostname": "web1.lab.example",
        "local-ipv4": "10.0.0.5",
        "public-ipv4": "203.0.113.9",
        "instance-type": "m1.small",
        "instance-action": "none",
        "security-groups": "default",
        "placement": "availability-zone",
        "placement/availability-zone": "az1",
        "public-keys": "0=alice",
        "public-keys/0": "openssh-key",
        "public-keys/0/openssh-key": KEY,
    }
    assert {name: cloud.text(f"latest/meta-data/{name}") for name in values} == values
    assert cloud.ask("latest/user-data") == (200, GIVEN.user_data)
    assert len(cloud.text("latest/meta-data/instance-id")) == len("i-0123456789abcdef0")
    assert cloud.text("latest/meta-data/reservation-id").startswith("r-")


@pytest.mark.parametrize("version", OPENSTACK)
def test_g6_what_each_version_of_openstack_has(cloud: Cloud, version: str) -> None:
    files, fields = OPENSTACK[version]
    assert set(cloud.text(f"openstack/{version}").split("\n")) == set(files)
    for name in NEWTON:
        assert cloud.ask(f"openstack/{version}/{name}")[0] == (200 if name in files else 404)
    assert set(document(cloud, f"openstack/{version}/meta_data.json")) == fields


def test_g6_openstack_says_what_the_machine_is(cloud: Cloud) -> None:
    said = document(cloud, "openstack/latest/meta_data.json")
    assert len(base64.b64decode(said.pop("random_seed"))) == 512
    assert said == {
        "uuid": "vm-1",
        "meta": {"role": "web"},
        "public_keys": {"alice": KEY},
        "keys": [{"name": "alice", "type": "ssh", "data": KEY}],
        "hostname": "web1.lab.example",
        "name": "web 1",
        "launch_index": 0,
        "availability_zone": "az1",
        "project_id": "p",
        "devices": [],
        "dedicated_cpus": [],
    }
    assert cloud.ask("openstack/latest/user_data") == (200, GIVEN.user_data)
    assert document(cloud, "openstack/latest/vendor_data.json") == {"cloud-init": "#cloud-config\n{}"}
    assert document(cloud, "openstack/latest/vendor_data2.json") == {"static": {"cloud-init": "#cloud-config\n{}"}}
    (link,) = document(cloud, "openstack/latest/network_data.json")["links"]
    assert (link["vif_id"], link["ethernet_mac_address"], link["mtu"]) == (WEB.id, WEB.mac, NETWORK.mtu)
    assert cloud.text("openstack/latest/password") == ""


def test_nocloud_has_the_same_at_the_root(cloud: Cloud) -> None:
    said = document(cloud, "meta-data")
    assert said == {"instance-id": "vm-1", "local-hostname": "web1.lab.example", "public-keys": [KEY]}
    assert cloud.ask("user-data") == (200, GIVEN.user_data)
    assert cloud.text("vendor-data") == "#cloud-config\n{}"
    assert document(cloud, "network-config")["ethernets"]["eth0"]["match"] == {"macaddress": WEB.mac}


def test_ec2_says_of_all_interfaces_by_mac() -> None:
    second = port(6, OTHER, project_id="p", device_id="vm-1")
    cloud = Cloud(WEB, second)
    place = "latest/meta-data/network/interfaces/macs"
    assert cloud.text(place) == f"{WEB.mac}/\n{second.mac}/"
    values = {name: cloud.text(f"{place}/{second.mac}/{name}") for name in cloud.text(f"{place}/{second.mac}").split()}
    assert values == {
        "device-number": "1",
        "interface-id": second.id,
        "local-ipv4s": "10.0.0.6",
        "mac": second.mac,
        "subnet-ipv4-cidr-block": "10.0.0.0/24",
    }
    assert cloud.text("latest/meta-data/mac", 6) == WEB.mac
    stateful = Ipv6Subnet("s6", IPv6Network("2001:db8::/64"), mode=Ipv6Mode.STATEFUL)
    slaac = Ipv6Subnet("s7", IPv6Network("2001:db8:1::/64"))
    addresses = tuple(Ipv6FixedIp(each.id, each.cidr[9]) for each in (stateful, slaac))
    cloud.snapshot = replace(cloud.snapshot, networks={NETWORK.id: replace(NETWORK, ipv6_subnets=(stateful, slaac))})
    cloud.snapshot = replace(cloud.snapshot, ports={WEB.id: replace(WEB, device_id="", ipv6_addresses=addresses)})
    assert cloud.text(f"{place}/{WEB.mac}/ipv6s") == "2001:db8::9"


NOT_THERE = [
    "2010-01-01",
    "latest/meta-data/nothing",
    "latest/meta-data/hostname/more",
    "latest/meta-data/public-keys/1",
    "latest/meta-data/public-keys/0=alice",
    "latest/dynamic",
    "latest/meta-data/../user-data",
    "openstack/2011-01-01/meta_data.json",
    "openstack/latest/meta_data.json/more",
    "openstack/content/0000",
    "openstack/2012-08-10/password",
    "meta-data/hostname",
    "nothing",
    "\u00fc/\u00df",
]


@pytest.mark.parametrize("path", NOT_THERE)
def test_what_is_not_there(cloud: Cloud, path: str) -> None:
    assert cloud.ask(path) == (404, b"404 Not Found\n")


def test_a_machine_that_was_given_nothing() -> None:
    cloud = Cloud(port(6, name="db"))
    assert cloud.text("latest") == "meta-data/"
    listed = cloud.text("latest/meta-data").split("\n")
    assert not {"public-keys/", "instance-type"} & set(listed) and "public-ipv4" in listed
    assert cloud.text("latest/meta-data/public-ipv4") == ""
    assert cloud.text("latest/meta-data/placement/availability-zone") == "nova"
    assert cloud.text("latest/meta-data/hostname") == "host-10-0-0-6.lab.example"
    said = document(cloud, "openstack/latest/meta_data.json")
    assert (said["uuid"], said["name"], "public_keys" in said, "meta" in said) == ("port-6", "db", False, False)
    assert cloud.ask("openstack/latest/user_data")[0] == 404
    assert "user_data" not in cloud.text("openstack/latest")
    assert document(cloud, "openstack/latest/vendor_data2.json") == {}
    assert cloud.ask("user-data") == (200, b"")
    assert cloud.store.asked == []


def test_what_the_configuration_says_of_all() -> None:
    cloud = Cloud(port(6), defaults=Defaults("az9", {"cloud-init": {"packages": []}}))
    assert cloud.text("latest/meta-data/placement/availability-zone") == "az9"
    assert document(cloud, "openstack/latest/vendor_data.json") == {"cloud-init": {"packages": []}}
    assert document(cloud, "vendor-data") == {"packages": []}


def test_all_ports_of_a_machine_say_the_same() -> None:
    first = port(3, OTHER, project_id="p", device_id="vm-1", metadata=7, security_groups=None)
    stranger = port(4, OTHER, device_id="vm-1", hostname="theirs")
    cloud = Cloud(WEB, first, stranger)
    for path in ("latest/meta-data/hostname", "latest/meta-data/local-ipv4", "latest/meta-data/instance-id"):
        assert cloud.text(path, 3) == cloud.text(path, 5) != cloud.text(path, 4)
    assert cloud.text("latest/meta-data/local-ipv4") == "10.0.0.3"  # of the oldest
    links = document(cloud, "openstack/latest/network_data.json")["links"]
    assert [link["vif_id"] for link in links] == [first.id, WEB.id]


def test_long_names_are_what_dhcp_calls_them() -> None:
    cloud = Cloud(port(6, hostname="a" * 80), port(7, hostname="db.inner.example"))
    assert cloud.text("latest/meta-data/hostname", 6) == "aa-" + "a" * 60 + ".lab.example"
    assert cloud.text("latest/meta-data/hostname", 7) == "db.inner.example"


def test_several_keys() -> None:
    cloud = Cloud()
    cloud.store.given["p", "vm-1"] = MachineMetadata(public_keys={"zoe": KEY, "al": KEY}, revision=7)
    assert cloud.text("latest/meta-data/public-keys/") == "0=zoe\n1=al"
    assert list(document(cloud, "openstack/latest/meta_data.json")["public_keys"]) == ["zoe", "al"]
