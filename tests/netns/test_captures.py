"""Captures of ports: the very packets of one VM, and nothing is lost or left for it."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import pytest

from etc.lab.capture import ICMP
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from tests.netns.capturing import DEADLINE, capturing, logged, packet_sockets, wait_quiet
from tests.netns.cloud import echo, make_network, make_vms, unbroken, wait_reached, want

pytestmark = pytest.mark.root

_CAPTURE = re.compile(r"capture['\"]?[=:] ?['\"]?([0-9a-f]{32})")


@pytest.fixture(scope="module")
def vms(lab: Lab) -> dict[str, Vm]:
    network = make_network(lab, "net", "10.1.0.0/24", segment=101)
    nodes = {"a": "n1", "b": "n2", "c": "n1"}
    return make_vms(lab, *(want(name, lab.node(node), network) for name, node in nodes.items()))


@pytest.fixture(scope="module")
def at_rest(lab: Lab, vms: dict[str, Vm]) -> int:
    """The packet sockets of n1 before anything is captured. Of one capture the agent's stays a moment longer than its
    client, so that a test cannot count them after another.
    """
    return packet_sockets(lab, "n1")


def tried(lab: Lab, vm: Vm, file: Path) -> subprocess.CompletedProcess[str]:
    """A capture that is to be refused: its status, and what it says."""
    command = [str(lab.directory / "trunkline"), "capture", vm.port["id"], "-w", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_sees_the_packets_of_the_port_and_of_no_other(lab: Lab, vms: dict[str, Vm]) -> None:
    a, b, c = vms["a"], vms["b"], vms["c"]
    wait_reached(a, b.address)
    wait_reached(c, b.address)
    with unbroken((c, b.address)), capturing(lab, a, "--packets", "12") as running:
        assert a.ping(b.address, count=6, wait=1).received == 6
        status, said = running.end()
    assert (status, said) == (0, said) and "12 packets" in said and "0 packets left out" in said, said
    frames = [frame for frame in running.frames() if echo(frame)]
    assert len(running.frames()) == 12
    assert len(frames) >= 10, running.frames()  # ARP may be among the twelve
    assert {frame.protocol for frame in frames} == {ICMP}
    assert {(str(frame.src), str(frame.dst)) for frame in frames} == {
        (str(a.address), str(b.address)),
        (str(b.address), str(a.address)),
    }
    assert [frame.icmp_type for frame in frames[:4]] == [8, 0, 8, 0]
    assert all(frame.length == 98 for frame in frames)
    text = subprocess.run(["tcpdump", "-n", "-r", str(running.file)], capture_output=True, text=True, check=True).stdout
    assert f"IP {a.address} > {b.address}: ICMP echo request" in text


def test_a_filter_leaves_out_the_rest(lab: Lab, vms: dict[str, Vm]) -> None:
    a, b, c = vms["a"], vms["b"], vms["c"]
    wait_reached(a, c.address)
    with capturing(lab, a, "--packets", "4", "--filter", f"icmp host {b.address}", "--snaplen", "60") as running:
        assert a.ping(c.address, count=3, wait=1).received == 3
        assert a.ping(b.address, count=2, wait=1).received == 2
        status, said = running.end()
    assert status == 0 and "4 packets" in said, said
    assert [frame.icmp_type for frame in running.frames()] == [8, 0, 8, 0]
    assert {str(frame.src) for frame in running.frames()} == {str(a.address), str(b.address)}
    assert len(running.file.read_bytes()) == 24 + 4 * (16 + 60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_agent_stops_when_the_client_goes(
    lab: Lab, vms: dict[str, Vm], at_rest: int, number: signal.Signals
) -> None:
    wait_quiet(lab, "n1", at_rest)
    with capturing(lab, vms["a"], "--seconds", "300") as running:
        wait_until(lambda: packet_sockets(lab, "n1") == at_rest + 1, DEADLINE, "the agent reads")
        line = logged(lab, "capture_begins")[-1]
        status, said = running.end(number)
        wait_quiet(lab, "n1", at_rest)
    if number is signal.SIGINT:
        assert status == 0 and said.startswith("ended, "), said
    found = _CAPTURE.search(line)
    assert found, line
    ends = wait_until(lambda: [end for end in logged(lab, "capture_ends") if found[0] in end], DEADLINE, "in the log")
    assert len(ends) == 1 and "client_gone" in ends[0], ends
    assert vms["a"].port["id"] in line and "admin" in line and str(lab.control.address.ip) in line


def test_a_killed_agent_leaves_nothing_and_costs_no_packet(lab: Lab, vms: dict[str, Vm], at_rest: int) -> None:
    a, b, n1 = vms["a"], vms["b"], lab.node("n1")
    assert n1.agent
    with unbroken((a, b.address)):
        with capturing(lab, a, "--seconds", "300", "--packets", "100000") as running:
            wait_until(lambda: len(running.frames()) > 100, DEADLINE, "no packets")
            n1.agent.kill()
            wait_quiet(lab, "n1", at_rest)
            status, said = running.end()
        assert status == 1 and "node_silent" in said, said
        refused = tried(lab, a, running.file)
        assert refused.returncode == 1 and "node_not_asking" in refused.stderr, refused.stderr
        assert n1.ovs.vsctl("--bare", "--columns=_uuid", "list", "Mirror") == ""
        n1.start_agent(lab.control)
        lab.wait_connected()

        def captured() -> bool:
            with capturing(lab, a, "--packets", "10", begun=False) as again:
                return again.end()[0] == 0

        wait_until(captured, DEADLINE, "the new agent does no errands")
    wait_quiet(lab, "n1", at_rest)


def test_a_killed_controller_ends_it_for_both(lab: Lab, vms: dict[str, Vm], at_rest: int) -> None:
    with capturing(lab, vms["a"], "--seconds", "300") as running:
        lab.control.kill()
        try:
            status, said = running.end()
            wait_quiet(lab, "n1", at_rest)
        finally:
            lab.control.start()
            lab.wait_connected()
    assert status == 3 and "no answer" in said, said

    def captured() -> bool:
        with capturing(lab, vms["a"], "--seconds", "1", begun=False) as again:
            return again.end()[0] == 0

    wait_until(captured, DEADLINE, "the agent does no errands any more")


def test_an_interface_that_goes_ends_it(lab: Lab, vms: dict[str, Vm]) -> None:
    c = vms["c"]
    with capturing(lab, c, "--seconds", "300") as running:
        c.unplug()
        status, said = running.end()
    assert status == 1 and "interface_gone" in said, said
    refused = tried(lab, c, running.file)
    assert refused.returncode == 1, refused
    assert "not_bound" in refused.stderr or "not in Open vSwitch" in refused.stderr, refused.stderr
