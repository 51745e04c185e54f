"""What VMs are told of themselves, with cloud-init's datasources as the client."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controller.client import Object
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from tests.netns.cloud import make_network, make_vms, want
from tests.netns.cloud_init import DATASOURCES, METADATA, USER_DATA, boot
from tests.unpacked import unpacked

pytestmark = pytest.mark.root

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDmv7nzVzvdf9sxNXnzFHgXlQtsnrbfMAPG4qTtBHRsj alice@desk"


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2, projects=("blue", "red"))


@pytest.fixture(scope="module")
def blue(lab: Lab) -> Object:
    return make_network(lab, "blue", "10.20.0.0/24", segment=120, dns_domain="blue.example")


@pytest.fixture(scope="module")
def vms(lab: Lab, blue: Object) -> list[Vm]:
    """One in each project, on a node each, with one address; each is given its own name as user data."""
    red = make_network(lab, "red", "10.20.0.0/24", segment=121, project_id="red")
    wanted = [
        want(name, node, network, fixed_ips=[{"address": "10.20.0.100"}], hostname=name, device_id="vm")
        for name, node, network in zip(("azure", "ruby"), lab.nodes, (blue, red), strict=True)
    ]
    made = make_vms(lab, *wanted)
    for vm in made.values():
        give(lab, vm, user_data=vm.name.encode())
    return list(made.values())


def give(lab: Lab, vm: Vm, *, user_data: bytes, **fields: Any) -> None:
    fields["user_data"] = base64.b64encode(user_data).decode()
    written = lab.client.update_metadata(vm.port["id"], fields)
    assert written.revision
    lab.client.wait_revision(written.revision, 10)


def curl(vm: Vm, path: str, *options: str) -> tuple[int, str]:
    """Status and body; status 0 without an answer."""
    text = vm.execute("curl", "-s", "-m", "5", "-w", "\n%{http_code}", *options, f"{METADATA}/{path}", check=False)
    body, _, status = text.rpartition("\n")
    return int(status or 0), body


def answered(vm: Vm) -> bool:
    return curl(vm, "latest")[0] == 200


@pytest.mark.parametrize("name", DATASOURCES)
def test_g6_cloud_init_boots_clean(lab: Lab, vms: list[Vm], tmp_path: Path, name: str) -> None:
    vm = vms[0]
    give(lab, vm, user_data=USER_DATA, public_keys={"alice": KEY})
    wait_until(lambda: answered(vm), 20, lambda: str(curl(vm, "latest")))
    booted = boot(vm, unpacked("cloud-init"), name, tmp_path)
    assert booted.complaints == []
    assert booted.datasource.startswith(f"DataSource{name}")
    assert booted.instance_id == (curl(vm, "latest/meta-data/instance-id")[1] if name == "Ec2" else "vm")
    assert (booted.hostname, booted.keys, booted.ran) == ("azure", [KEY], "yes\n")
    data = bytes(range(256)) * 256
    give(lab, vm, user_data=data)
    (tmp_path / "data").write_bytes(data)
    vm.execute("sh", "-c", f"curl -s {METADATA}/latest/user-data | cmp - {tmp_path}/data")


def test_g4_two_machines_with_one_address_are_told_of_themselves(lab: Lab, vms: list[Vm]) -> None:
    assert vms[0].address == vms[1].address
    for vm in vms:
        wait_until(lambda vm=vm: answered(vm), 20, lambda vm=vm: str(curl(vm, "latest")))
        lies = ("-H", f"X-Forwarded-For: {vms[0].address}", "-H", f"X-Instance-ID: {vms[0].port['id']}")
        hostname = "azure.blue.example" if vm is vms[0] else "ruby"
        assert curl(vm, "latest/meta-data/hostname", *lies) == (200, hostname)
        assert json.loads(curl(vm, "openstack/latest/meta_data.json", *lies)[1])["hostname"] == hostname
    assert curl(vms[1], "latest/user-data") == (200, "ruby")


def test_g7_a_machine_tells_its_password_once(lab: Lab, vms: list[Vm]) -> None:
    vm, path = vms[1], "openstack/latest/password"
    wait_until(lambda: answered(vm), 20, lambda: str(curl(vm, "latest")))
    assert curl(vm, path) == (200, "")
    assert curl(vm, path, "-d", "x" * 1021)[0] == 400
    assert curl(vm, path, "-d", "c2VjcmV0")[0] == 200
    assert curl(vm, path, "-d", "other")[0] == 409
    assert curl(vm, path) == (200, "c2VjcmV0")
    assert lab.client.get_metadata(vm.port["id"])["password"] == "c2VjcmV0"
    assert curl(vms[0], path) == (200, "")


def test_g5_a_new_machine_with_the_address_of_an_old_one_never_sees_its_data(lab: Lab, blue: Object) -> None:
    fields = {"fixed_ips": [{"address": "10.20.0.77"}], "device_id": "again", "hostname": "again"}
    for number in range(2):
        vm = make_vms(lab, want(f"g5{number}", lab.nodes[number], blue, **fields))[f"g5{number}"]
        wait_until(lambda vm=vm: answered(vm), 20, lambda vm=vm: str(curl(vm, "latest")))
        assert curl(vm, "latest") == (200, "meta-data/")
        assert curl(vm, "openstack/latest/password") == (200, "")
        give(lab, vm, user_data=b"old")
        assert curl(vm, "latest/user-data") == (200, "old")
        assert curl(vm, "openstack/latest/password", "-d", "old")[0] == 200
        lab.delete_vm(vm)


def test_g8_without_a_controller_there_is_none_and_it_comes_back_with_it(lab: Lab, vms: list[Vm]) -> None:
    vm = vms[1]
    wait_until(lambda: answered(vm), 20, lambda: str(curl(vm, "latest")))
    lab.control.kill()
    wait_until(lambda: curl(vm, "latest/user-data")[0] == 503, 20, lambda: str(curl(vm, "latest")))
    lab.control.start()
    wait_until(lambda: curl(vm, "latest/user-data") == (200, "ruby"), 20, lambda: str(curl(vm, "latest/user-data")))
