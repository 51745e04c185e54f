"""From the moment an interface is named as a port's to the gateway's first echo reply.

The device, the address and the gateway's MAC are there before, and the name is given over an open OVSDB connection, so
that what is measured is ours: agent, controller, database and Open vSwitch. `ovs-vsctl` alone costs 5 to 13 ms to
start, and a lost ARP request a second; neither says anything about us.
"""

from __future__ import annotations

import json
import select
import socket
import struct
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
    with Lab("bench", nodes=3, open_groups=True) as lab:
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
    database = socket.socket(socket.AF_UNIX)
    database.connect(vm.node.ovs.database.removeprefix("unix:"))
    with echo, database:
        echo.setblocking(False)
        wait_until(lambda: _answer(echo, gateway, 0.05) is None, 10, "it answers without a port")
        began = time.perf_counter()
        database.sendall(_naming(vm))
        answered = _answer(echo, gateway, DEADLINE_S)
    assert answered is not None, "the gateway never answered"
    return answered - began


def _naming(vm: Vm) -> bytes:
    """The OVSDB transaction that names the interface as the port's (RFC 7047 §4.1.3)."""
    named = [["external_ids", "insert", ["map", [["iface-id", vm.port["id"]]]]]]
    mutate = {"op": "mutate", "table": "Interface", "where": [["name", "==", vm.device]], "mutations": named}
    return json.dumps({"id": 0, "method": "transact", "params": ["Open_vSwitch", mutate]}).encode()


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
