"""A controller of its own on the loopback, whose nodes are what somebody reports: without Open vSwitch."""

from __future__ import annotations

import json
import socket
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controller.client import Client, ClientError, Object
from etc.lab.control import PROJECT_ROOT, write_ini
from etc.lab.processes import Process, start, wait_until

ADMIN, READER, MEMBER, AGENT = "page-admin", "page-reader", "page-member", "page-agent"
PROJECT = "blue"
START_DEADLINE = 60.0


class Served:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = f"http://127.0.0.1:{_free_port()}"
        self.process: Process | None = None
        self._shown: dict[str, list[Object]] = {}

    def start(self) -> None:
        file = self.directory / "controller.conf"
        write_ini(
            file,
            {
                "database": {"url": f"sqlite:///{self.directory}/trunkline.db"},
                "api": {"listen": "127.0.0.1", "port": self.url.rpartition(":")[2]},
                "openflow": {"listen": "127.0.0.1", "port": _free_port()},
                "auth": {
                    "token": [f"admin:{ADMIN}", f"reader:{READER}", f"member:{MEMBER}:{PROJECT}", f"agent:{AGENT}"]
                },
            },
        )
        command = [sys.executable, "-m", "controller", "--config-file", str(file)]
        self.process = start("controller", command, self.directory / "controller.log", cwd=PROJECT_ROOT)
        self.process.wait_for(self.healthy, START_DEADLINE, "the API does not answer")

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()
            self.process = None

    def healthy(self) -> bool:
        try:
            return self.client("").health().get("status") == "ok"
        except ClientError:
            return False

    def client(self, token: str = ADMIN) -> Client:
        return Client(self.url, token)

    def network(self, name: str, cidr: str, **fields: object) -> Object:
        body = {
            "name": name,
            "project_id": PROJECT,
            "kind": "vlan",
            "physical_network": "physnet1",
            "subnets": [{"cidr": cidr}],
        }
        made = self.client().create_network(body | fields).object
        assert made
        return made

    def port(self, network: Object, **fields: object) -> Object:
        made = self.client().create_port({"network_id": network["id"], "project_id": PROJECT, **fields}).object
        assert made
        return made

    def show(self, node: str, number: int, *ports: str) -> None:
        """A node says that it has the interfaces of these ports, beside those that it has shown before."""
        physical = ["physnet1", "physnet-ext"]
        self._report(f"nodes/{node}", {"datapath_id": f"{number:016x}", "physical_networks": physical})
        shown = self._shown.setdefault(node, [])
        shown += [{"iface_id": id_, "ofport": len(shown) + index + 1} for index, id_ in enumerate(ports)]
        uplinks = {"physnet1": 60001, "physnet-ext": 60002}
        self._report(f"nodes/{node}/interfaces", {"serial": len(shown) + 1, "uplinks": uplinks, "interfaces": shown})

    def _report(self, path: str, body: Object) -> None:
        """As an agent does."""
        headers = {"Authorization": f"Bearer {AGENT}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/v1/{path}", json.dumps(body).encode(), headers, method="PUT")
        with urllib.request.urlopen(request, timeout=START_DEADLINE):
            pass

    def fill(self, ports: int, nodes: int, networks: int) -> None:
        """Ports by the hundred."""
        made = [self.network(f"net{number}", f"10.{100 + number}.0.0/16") for number in range(networks)]
        ids = [str(uuid.uuid4()) for _ in range(ports)]
        for begin in range(0, ports, 500):
            part = [
                {"id": id_, "network_id": made[number % networks]["id"], "project_id": PROJECT, "name": f"vm{number}"}
                for number, id_ in enumerate(ids[begin : begin + 500], begin)
            ]
            self.client().create_ports(part)
        for number in range(nodes):
            self.show(f"m{number + 1}", 100 + number, *ids[number::nodes])

        def bound() -> bool:
            return sum(port["binding"] is not None for port in self.client().list_ports()) >= ports

        wait_until(bound, 60, "the ports are not bound")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def serving(directory: Path) -> Iterator[Served]:
    served = Served(directory)
    try:
        served.start()
        yield served
    finally:
        served.stop()
