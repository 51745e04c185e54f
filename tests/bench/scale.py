"""Many ports from many clients at once, and how a controller starts with a large database."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

from controller.client import Client
from controller.store import Store
from controller.store.specs import NetworkSpec, PortSpec, SubnetSpec
from etc.lab import netns
from etc.lab.control import ADMIN_TOKEN
from etc.lab.lab import Lab
from etc.lab.processes import in_parallel
from flows.model import NetworkKind
from tests.bench.figures import Figure
from tests.bench.ports import make_network, rss_mb

CREATES = 10_000
CLIENTS = 8
NETWORKS = 4_000
PORTS_PER_NETWORK = 5
PROJECTS = 400
_BATCH = 500


def run() -> Iterator[Figure]:
    yield from _creates()
    yield from _start()


def _creates() -> Iterator[Figure]:
    with Lab("bench", nodes=1) as lab:
        lab.wait_connected()
        network = make_network(lab, "creates", 206)

        def create() -> None:
            with netns.inside(lab.control.namespace):
                client = Client(lab.control.url, ADMIN_TOKEN)
                for _ in range(CREATES // CLIENTS):
                    client.create_port({"network_id": network})

        began = time.perf_counter()
        in_parallel([create] * CLIENTS, CLIENTS)
        took = time.perf_counter() - began
        yield Figure("port_creates_per_s", CREATES / took, "1/s")


def _start() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="bench") as directory:
        url = f"sqlite:///{Path(directory, 'large.db')}"
        began = time.perf_counter()
        fill(url)
        print(
            f"   {NETWORKS} networks, {NETWORKS * PORTS_PER_NETWORK} ports made in {time.perf_counter() - began:.0f} s"
        )
        with Lab("bench", nodes=1, control_options={"database": {"url": url}}) as lab:
            lab.wait_connected()
            lab.control.kill()
            began = time.perf_counter()
            lab.control.start()
            lab.wait_connected()
            yield Figure("start_20k_s", time.perf_counter() - began, "s")
            assert lab.control.process
            yield Figure("start_20k_rss_mb", rss_mb(lab.control.process.pid), "MB")


def fill(url: str) -> None:
    """Ten networks for each project, with ports on each."""
    store = Store(url, vlan_range=(1, 4094))
    ids = []
    for number in range(NETWORKS):
        project = f"p{number % PROJECTS}"
        cidr = IPv4Network(f"10.{number // PROJECTS}.0.0/24")  # other projects have the same
        spec = NetworkSpec(f"net{number}", NetworkKind.VLAN, "physnet1", (SubnetSpec(cidr),), project_id=project)
        ids.append(store.create_network(spec, "bench").value.id)
    specs = [PortSpec(id_) for id_ in ids for _ in range(PORTS_PER_NETWORK)]
    for begin in range(0, len(specs), _BATCH):
        store.create_ports(specs[begin : begin + _BATCH], "bench")
    store.close()
