"""What a project may not call its networks, zones and ports: what answers, or would answer, for the names of others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from ipaddress import IPv4Network
from typing import Any

import pytest

from controller.store import Store
from controller.store.dns_specs import DnsRecordSpec, DnsZoneSpec
from controller.store.specs import NetworkSpec, PortSpec, StoreError, SubnetSpec
from flows.model import NetworkKind, RecordType, ZoneScope


def refused(work: Callable[[], Any]) -> tuple[str, str | None]:
    with pytest.raises(StoreError) as error:
        work()
    return error.value.code, error.value.field


def own(world: Any, domain: str, project: str = "green", cidr: str = "10.9.0.0/24") -> Any:
    """A network that a project makes itself."""
    subnets = (SubnetSpec(IPv4Network(cidr)),)
    spec = NetworkSpec("own", NetworkKind.VLAN, "physnet1", subnets, project_id=project, dns_domain=domain)
    return world.store.create_network(spec, "tester", by_project=True).value


def zone(world: Any, name: str, project: str | None, scope: ZoneScope = ZoneScope.PRIVATE, **by: str) -> Any:
    return world.store.create_dns_zone(DnsZoneSpec(name, scope, project), "tester", **by).value


IN_USE = ("dns_domain_in_use", "dns_domain")


@pytest.mark.parametrize(
    "domain", ["blue.cloud.example", "BLUE.cloud.example", "x.blue.cloud.example", "cloud.example"]
)
@pytest.mark.parametrize("taken", ["network", "public"])
def test_a_project_takes_no_domain_of_another(world: Any, domain: str, taken: str) -> None:
    """Nor one above or under it: at creation and later, and it may have any other."""
    if taken == "network":
        world.network(dns_domain="blue.cloud.example")
    else:
        zone(world, "blue.cloud.example", "blue", ZoneScope(taken))
    assert refused(lambda: own(world, domain)) == IN_USE
    network = own(world, "green.cloud.example")
    change = {"dns_domain": domain}
    assert refused(lambda: world.store.update_network(network.id, change, "tester", by_project="green")) == IN_USE
    world.store.update_network(network.id, {"dns_domain": "notblue.cloud.example"}, "tester", by_project="green")
    # the administrator may, and what is there goes on and may be sent again
    world.store.update_network(network.id, change, "tester")
    world.store.update_network(network.id, {"name": "n", **change}, "tester", by_project="green")


def test_a_private_zone_of_another_takes_no_name_but_its_own(world: Any) -> None:
    zone(world, "internal", "blue", by_project="blue")
    assert refused(lambda: own(world, "Internal")) == IN_USE
    own(world, "green.internal")
    zone(world, "lab.cloud.example", "blue", by_project="blue")
    own(world, "cloud.example", cidr="10.10.0.0/24")


def test_a_project_has_a_domain_within_the_operators(world: Any) -> None:
    """But not that itself, nor one above, nor one that holds a name of the operator's zone."""
    world.network(dns_domain="cloud.example", project_id=None, shared=True)
    public = zone(world, "pub.example", None, ZoneScope.PUBLIC)
    world.store.create_dns_record(DnsRecordSpec(public.id, "www.shop", RecordType.A, "192.0.2.1"), "tester")
    for domain in ("cloud.example", "example", "pub.example", "shop.pub.example", "www.shop.pub.example"):
        assert refused(lambda domain=domain: own(world, domain)) == IN_USE
    own(world, "green.cloud.example")
    own(world, "green.pub.example", cidr="10.10.0.0/24")


def test_a_projects_own_domains_are_no_hindrance(world: Any) -> None:
    own(world, "green.example")
    zone(world, "green.example", "green", by_project="green")
    own(world, "green.example", cidr="10.10.0.0/24")
    own(world, "sub.green.example", cidr="10.11.0.0/24")


@pytest.mark.parametrize("name", ["blue.example", "x.blue.example"])
@pytest.mark.parametrize("taken", ["network", "public"])
def test_a_project_makes_no_zone_in_a_domain_of_another(world: Any, name: str, taken: str) -> None:
    if taken == "network":
        world.network(dns_domain="Blue.example")
    else:
        zone(world, "blue.example", "blue", ZoneScope.PUBLIC)
    assert refused(lambda: zone(world, name, "green", by_project="green")) == ("dns_domain_in_use", "name")
    zone(world, name, "green")


def test_private_zones_do_not_see_each_other(world: Any) -> None:
    """Each is told to the VMs of its own project alone."""
    zone(world, "lab.example", "blue", by_project="blue")
    zone(world, "lab.example", "green", by_project="green")
    zone(world, "x.lab.example", "green", by_project="green")


def test_a_project_takes_no_host_name_of_another_on_a_network(world: Any) -> None:
    shared = world.network(project_id=None, shared=True)
    long = "a" * 70
    for name in ("Web", long, "db.lab"):
        world.port(shared, project_id="blue", hostname=name)
    world.port(shared, project_id=None, hostname="router")

    def make(*names: str) -> Any:
        specs = [PortSpec(shared.id, hostname=name, project_id="green") for name in names]
        return world.store.create_ports(specs, "tester", by_project="green").value

    # a long one is cut: flows.host_name
    for name in ("web", "WEB", long, long + ".x", "aa-" + "a" * 60, "db.lab", "router"):
        with pytest.raises(StoreError) as error:
            make("good", name)
        assert (error.value.code, error.value.field, error.value.index) == ("hostname_in_use", "hostname", 1)
    port = make("web2", "", "web2")[0].port
    change = {"hostname": "web"}
    found = refused(lambda: world.store.update_port(port.id, change, "tester", by_project="green"))
    assert found == ("hostname_in_use", "hostname")
    world.store.update_port(port.id, {"hostname": "WEB2"}, "tester", by_project="green")
    # the administrator may, and what is there goes on and may be sent again
    world.store.update_port(port.id, change, "tester")
    world.store.update_port(port.id, {"name": "n", **change}, "tester", by_project="green")
    elsewhere = own(world, "green.example")
    spec = PortSpec(elsewhere.id, hostname="web", project_id="green")
    world.store.create_ports([spec], "tester", by_project="green")


@pytest.mark.parametrize("what", ["domain", "hostname"])
def test_of_many_projects_that_want_one_name_at_once_one_gets_it(make_world: Callable[..., Any], what: str) -> None:
    """By two controllers on PostgreSQL, and by threads of one on SQLite."""
    first = make_world()
    worlds = [first, make_world() if first.store.shared else first]
    shared = first.network(project_id=None, shared=True)
    begin = threading.Barrier(8)
    found: list[str] = []

    def take(number: int) -> None:
        store: Store = worlds[number % 2].store
        begin.wait()
        try:
            if what == "domain":
                own(worlds[number % 2], "wanted.example", f"p{number}", f"10.{number + 50}.0.0/24")
            else:
                spec = PortSpec(shared.id, hostname="wanted", project_id=f"p{number}")
                store.create_ports([spec], "tester", by_project=f"p{number}")
            found.append("taken")
        except StoreError as error:
            found.append(error.code)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(["taken", *["dns_domain_in_use" if what == "domain" else "hostname_in_use"] * 7])
