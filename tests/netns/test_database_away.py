"""PostgreSQL hangs, or dies: VMs are served from memory, changes are refused with a reason, all follows by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from controller.client import Object
from controller.store import Store
from controller.store.specs import PortSpec
from etc.lab.lab import Lab
from etc.lab.postgres import Postgres
from etc.lab.processes import wait_until
from etc.lab.vm import Vm
from tests.netns.cloud import make_network, make_vms, metric, unbroken, want
from tests.netns.names import resolved
from tests.postgres import databases

pytestmark = pytest.mark.root

AWAY = "database_unavailable"


@pytest.fixture(scope="module")
def url(postgres_server: Postgres) -> Iterator[str]:
    with databases(postgres_server) as make:
        yield make()


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab], url: str) -> Lab:
    return make_lab(nodes=1, projects=("blue",), control_options={"database": {"url": url}})


@pytest.fixture(scope="module")
def network(lab: Lab) -> Object:
    return make_network(lab, "net", "10.1.0.0/24", segment=101, dns_domain="net.example")


@pytest.fixture(scope="module")
def vms(lab: Lab, network: Object) -> dict[str, Vm]:
    return make_vms(lab, *(want(name, lab.nodes[0], network) for name in ("v1", "v2", "v3")))


def write(lab: Lab, network: Object, name: str) -> tuple[int, Any]:
    return lab.control.request("PATCH", f"/v1/networks/{network['id']}", {"name": name})


def readiness(lab: Lab) -> tuple[int, str]:
    status, said = lab.control.request("GET", "/readyz", token=None)
    return status, said.get("error", {}).get("details", said)["checks"]["database"]


@contextmanager
def away(server: Postgres, how: str) -> Iterator[None]:
    server.pause() if how == "hangs" else server.kill()
    try:
        yield
    finally:
        server.resume() if how == "hangs" else server.start()


@pytest.mark.parametrize("how", ["hangs", "dies"])
def test_vms_are_served_and_changes_refused_while_it_is_away(
    lab: Lab, network: Object, vms: dict[str, Vm], postgres_server: Postgres, how: str
) -> None:
    first, second = vms["v1"], vms["v2"]
    leased = second.address
    resolver = first.configured().dns_servers[0]  # type: ignore[union-attr]
    with unbroken((first, vms["v3"].address)), away(postgres_server, how):
        refused: list[tuple[int, Any]] = []
        writers = [threading.Thread(target=lambda: refused.append(write(lab, network, "lost"))) for _ in range(3)]
        for writer in writers:
            writer.start()
        # while they wait for their answers
        second.stop_client()
        second.execute("ip", "address", "flush", "dev", "eth0")
        second.start_client()
        assert second.wait_configured().address.ip == leased
        assert resolved(first, resolver, "v2.net.example").data == [str(leased)]
        for writer in writers:
            writer.join()
        assert [(status, said["error"]["code"]) for status, said in refused] == [(503, AWAY)] * 3
        wait_until(lambda: readiness(lab) == (503, AWAY), 20, "it says that it is ready")
        assert lab.control.healthy() and metric(lab, "trunkline_ports") == 3
    wait_until(lambda: write(lab, network, f"after it {how}")[0] == 200, 30, "nothing can be changed")
    wait_until(lambda: readiness(lab) == (200, "ok"), 20, "it is not ready")
    written = lab.client.update_network(network["id"], {"mtu": 1400 if how == "hangs" else 1300})
    lab.confirm(written.revision)


def test_what_another_controller_writes_is_followed(lab: Lab, network: Object, vms: dict[str, Vm], url: str) -> None:
    """At once, by notification, and put on the node."""
    other = Store(url)
    try:
        written = other.create_ports([PortSpec(network["id"], project_id="blue", hostname="new")], "other")
    finally:
        other.close()
    lab.confirm(written.revision)
    first = vms["v1"]
    resolver = first.configured().dns_servers[0]  # type: ignore[union-attr]
    address = str(written.value[0].port.fixed_ips[0].address)
    assert resolved(first, resolver, "new.net.example").data == [address]
