"""From the moment an interface is named as a port's to the gateway's first echo reply.

The device, the address and the gateway's MAC are there before, so that what is measured is ours: OVSDB, agent,
controller, database and Open vSwitch. A lost ARP request would cost a second and say nothing.
"""

from __future__ import annotations

import select
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from ipaddress import IPv4Address

from etc.lab import netns
from etc.lab.lab import Lab
from etc.lab.processes import wait_until
from etc.lab.vm import INTERFACE, Vm
from flows.pipeline import GATEWAY_MAC
from tests.bench.figures import Figure, median_ms, spread
from tests.bench.ports import make_network

SAMPLES = 25
DEADLINE_S = 5.0


def run() -> Iterator[Figure]:
    with Lab("bench", nodes=3) as lab:
        lab.wait_connected()
        network = make_network(lab, "plug", 202)
        first = lab.create_vm("p0", lab.nodes[0], network)
        gateway = first.wait_configured().router
        assert gateway
        port = lab.client.create_port({"network_id": network, "name": "p1"}).object
        assert port
        vm = lab.plug("p1", lab.nodes[0], port)
        vm.set_address(f"{vm.address}/16", gateway)
        mac = ":".join(f"{byte:02x}" for byte in GATEWAY_MAC.to_bytes(6))
        netns.configure(vm.namespace, f"neighbour replace {gateway} lladdr {mac} dev {INTERFACE} nud permanent")
        took = [_once(lab, vm, gateway) for _ in range(SAMPLES)]
        print(f"   plug to first ping: {spread(took)}")
        yield Figure("plug_first_ping_ms", median_ms(took), "ms")


def _once(lab: Lab, vm: Vm, gateway: IPv4Address) -> float:
    vm.node.ovs.vsctl("remove", "Interface", vm.device, "external_ids", "iface-id")
    with netns.inside(vm.namespace):
        echo = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    set_id = ["ovs-vsctl", "--no-wait", f"--db={vm.node.ovs.database}", "set", "Interface", vm.device]
    with echo:
        echo.setblocking(False)
        wait_until(lambda: _answer(echo, gateway, 0.05) is None, 10, "it answers without a port")
        began = time.perf_counter()
        plugging = subprocess.Popen([*set_id, f"external_ids:iface-id={vm.port['id']}"])
        answered = _answer(echo, gateway, DEADLINE_S)
        plugging.wait(DEADLINE_S)
    assert answered is not None, "the gateway never answered"
    return answered - began


def _answer(echo: socket.socket, gateway: IPv4Address, seconds: float) -> float | None:
    """Ask every half millisecond; the time of the first reply."""
    end = time.perf_counter() + seconds
    request = struct.pack("!BBHHH", 8, 0, 0, 4711, 1)
    checksum = 0xFFFF - sum(struct.unpack("!4H", request))  # RFC 1071; the sum has no carry
    request = request[:2] + struct.pack("!H", checksum) + request[4:]
    while time.perf_counter() < end:
        echo.sendto(request, (str(gateway), 0))
        if select.select([echo], [], [], 0.0005)[0] and echo.recv(256)[20:21] == b"\0":
            return time.perf_counter()
    return None
