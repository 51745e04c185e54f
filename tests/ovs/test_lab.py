"""The laboratory itself: its wires carry packets, and it leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent import namespaces as named
from etc.lab import machine, netns, probes
from etc.lab.capture import ICMP, parse_frame
from etc.lab.dhcp_clients import CLIENTS
from etc.lab.lab import Lab, free_prefix, sweep
from etc.lab.processes import interruptible, start, wait_until
from etc.lab.vm import Vm
from tests.conftest import PREFIX

NETWORK = "10.99.0"

# A laboratory that says when it is built, then waits for whatever ends it, at the latest for the end of who started it.
WAITING = """
import sys
from etc.lab.lab import Lab
with Lab(sys.argv[1], nodes=1, controller=False):
    print("built", flush=True)
    sys.stdin.read()
"""


def plain_vm(lab: Lab, number: int, name: str = "") -> Vm:
    """A VM on node n<number>, on a bridge that behaves like a plain switch."""
    mac = f"02:00:00:00:00:{number:02x}"
    address = f"{NETWORK}.{number}"
    port = {"id": str(uuid.uuid4()), "mac": mac, "fixed_ips": [{"address": address}]}
    vm = lab.plug(name or f"vm{number}", lab.node(f"n{number}"), port)
    vm.set_address(f"{address}/24")
    return vm


@pytest.fixture(scope="module")
def plain(make_lab: Callable[..., Lab]) -> Lab:
    """Two nodes without agent and controller; their integration bridges are plain switches on physnet1."""
    lab = make_lab(nodes=2, controller=False)
    for node in lab.nodes:
        node.ovs.vsctl(
            "add-br",
            "br-int",
            "--",
            "set",
            "Bridge",
            "br-int",
            f"datapath_type={lab.datapath}",
            "fail_mode=standalone",
            "--",
            "add-port",
            "br-int",
            node.nics["physnet1"],
        )
    return lab


@pytest.fixture(scope="module")
def vms(plain: Lab) -> tuple[Vm, Vm]:
    return plain_vm(plain, 1), plain_vm(plain, 2)


def test_ping_passes_the_rack_switch_and_is_captured(vms: tuple[Vm, Vm]) -> None:
    first, second = vms
    with second.capture("icmp or arp") as watched:
        pinged = first.ping(second.address)
        seen = watched.wait_for(lambda frame: frame.protocol == ICMP and frame.src == first.address)
    assert pinged.lost == 0
    assert {frame.eth_src for frame in seen} == {first.mac}
    assert first.arping(second.address) == {second.mac}


def test_tcp_needs_no_offload_settings_in_the_guests(plain: Lab, vms: tuple[Vm, Vm]) -> None:
    first, second = vms
    log = plain.directory / "iperf3.log"
    enter = [probes.into(vm.namespace) for vm in (second, first)]
    assert probes.tcp_throughput(*enter, second.address, log, seconds=1) > 100


def test_a_pulled_cable_loses_packets_and_they_are_counted(plain: Lab, vms: tuple[Vm, Vm]) -> None:
    first, second = vms
    cable = plain.node("n2").cable("physnet1")
    stream = first.ping_stream(second.address)
    plain.fabric.set_cable(cable, up=False)
    assert not first.ping(second.address, count=1, wait=0.3).answered
    plain.fabric.set_cable(cable, up=True)
    wait_until(lambda: first.ping(second.address, count=1, wait=0.3).answered, 20, "the cable is back")
    assert stream.stop().lost > 0


def test_open_vswitch_survives_a_crash_of_its_daemons(plain: Lab, vms: tuple[Vm, Vm]) -> None:
    first, second = vms
    plain.node("n1").ovs.restart_switch(kill=True)
    plain.node("n2").ovs.restart_database(kill=True)
    wait_until(lambda: first.ping(second.address, count=1, wait=0.3).answered, 20, "ping after the crash")
    assert plain.node("n2").ovs.ofport(second.device) > 0


def test_the_far_host_is_one_hop_behind_the_router(plain: Lab) -> None:
    plain.fabric.connect(plain.node("n1").namespace, "probe0", plain.fabric.external, "probe")
    netns.configure(
        plain.node("n1").namespace, "address add 203.0.113.200/24 dev probe0", "route add default via 203.0.113.1"
    )
    assert probes.ping(probes.into(plain.node("n1").namespace), plain.fabric.far_host).lost == 0


@pytest.mark.parametrize("client", sorted(CLIENTS))
def test_a_dhcp_client_gets_a_lease_and_leaves_the_machine_alone(
    plain: Lab, vms: tuple[Vm, Vm], client: str, request: pytest.FixtureRequest
) -> None:
    resolv_conf = Path("/etc/resolv.conf").read_bytes()
    server = dhcp_server(plain, vms[1])
    request.addfinalizer(server.stop)
    vm = plain_vm(plain, 1, name=f"c-{client}")
    request.addfinalizer(vm.delete)
    netns.configure(vm.namespace, "address flush dev eth0")
    vm.start_client(client)
    configured = vm.wait_configured()
    assert str(configured.address).startswith(f"{NETWORK}.")
    assert str(configured.router) == f"{NETWORK}.254"
    assert Path("/etc/resolv.conf").read_bytes() == resolv_conf


def dhcp_server(lab: Lab, vm: Vm) -> Any:
    """A DHCP server that is not ours: the laboratory's clients are tested here, not Trunkline."""
    files = lab.directory / "udhcpd"
    files.mkdir(exist_ok=True)
    (files / "leases").touch()
    (files / "conf").write_text(
        f"start {NETWORK}.100\nend {NETWORK}.120\ninterface eth0\nlease_file {files}/leases\npidfile {files}/pid\n"
        f"option router {NETWORK}.254\noption subnet 255.255.255.0\noption lease 600\n"
    )
    command = netns.command(vm.namespace, ["busybox", "udhcpd", "-f", "-I", str(vm.address), str(files / "conf")])
    return start("udhcpd", command, files / "log")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_however_it_ends(root: None, number: signal.Signals) -> None:
    prefix = free_prefix(f"{PREFIX}e")
    buffers = Path("/proc/sys/net/core/rmem_default").read_text()
    command = interruptible([sys.executable, "-c", WAITING, prefix])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "built\n"
        started = netns.pids(netns.names(f"{prefix}-"))
        assert len(started) == 2  # ovsdb-server and ovs-vswitchd
        named.make(f"{prefix}-vm")  # as `trunkline plug` does, when it is told that name
        process.send_signal(number)
        process.wait(20)
    if number == signal.SIGKILL:
        assert netns.names(f"{prefix}-")
        sweep(prefix)
    assert not (machine.HOME / prefix).exists()
    assert netns.names(f"{prefix}-") == []
    assert named.with_resolver(f"{prefix}-") == []
    assert not [pid for pid in started if is_running(pid)]
    assert Path("/proc/sys/net/core/rmem_default").read_text() == buffers


def is_running(pid: int) -> bool:
    """False also for one that has ended and that nobody has asked for its exit status yet."""
    try:
        return "(zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_a_command_in_a_vm_cannot_write_the_machines_resolv_conf(vms: tuple[Vm, Vm]) -> None:
    resolv_conf = Path("/etc/resolv.conf").read_bytes()
    written = vms[0].execute("sh", "-c", "echo nameserver 192.0.2.53 >/etc/resolv.conf; cat /etc/resolv.conf")
    try:
        assert Path("/etc/resolv.conf").read_bytes() == resolv_conf
    finally:
        Path("/etc/resolv.conf").write_bytes(resolv_conf)
    assert written == "nameserver 192.0.2.53\n"


def test_ovs_appctl_on_a_node_finds_its_switch(plain: Lab) -> None:
    node = plain.node("n1")
    assert "br-int" in node.execute("ovs-appctl", "dpif/show")
    assert "ovsdb-server" in node.execute("ovs-appctl", "-t", "ovsdb-server", "version")


def test_two_laboratories_with_one_prefix_do_not_meet(plain: Lab) -> None:
    with pytest.raises(machine.PrefixInUse), Lab(plain.prefix, nodes=1, controller=False):
        pass
    with pytest.raises(machine.PrefixInUse):
        sweep(plain.prefix)
    assert plain.node("n1").ovs.vsctl("list-br") == "br-int"


def test_frames_are_told_apart() -> None:
    ethernet = bytes.fromhex("ffffffffffff 020000000001")
    arp = bytes.fromhex("0806 0001 0800 06 04 0001 020000000001 0a000001 000000000000 0a000002")
    udp = bytes.fromhex("8100 0078 0800 4500001c 00000000 40110000 0a000001 0a000002 00440043 00080000")
    asked, sent = parse_frame(ethernet + arp), parse_frame(ethernet + udp)
    assert (str(asked.src), str(asked.dst), asked.protocol, asked.vlan) == ("10.0.0.1", "10.0.0.2", 1, None)
    assert (sent.vlan, sent.ttl, sent.src_port, sent.dst_port) == (120, 64, 68, 67)
    assert parse_frame(ethernet + b"\x08\x00\x45").src is None
