"""What a VM without DHCP is configured with."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.api.world import World

SUBNET = {
    "cidr": "10.0.0.0/24",
    "gateway": "10.0.0.254",
    "dns_servers": ["192.0.2.53", "192.0.2.54"],
    "host_routes": [{"destination": "172.16.0.0/12", "next_hop": "10.0.0.9"}],
}


def still(world: World, **fields: Any) -> dict[str, Any]:
    """A flat network without DHCP."""
    values = {"name": "still", "kind": "flat", "dhcp": False, "gateway_mode": "shared", "subnets": [SUBNET]}
    return world.network(**values | {"project_id": "a", "mtu": 1400, "dns_domain": "lab.example"} | fields)


def data(world: World, port: dict[str, Any], token: str = "admin") -> tuple[dict[str, Any], dict[str, Any]]:
    answer = world.ok("GET", f"/v1/ports/{port['id']}/network-data", token=token)
    assert set(answer) == {"network_data", "network_config"}
    return answer["network_data"], answer["network_config"]


def test_everything_is_said_where_there_is_no_dhcp(world: World) -> None:
    network = still(world)
    port = world.port(network["id"], mac="02:00:00:00:00:05", fixed_ips=[{"address": "10.0.0.5"}])
    openstack, config = data(world, port)
    assert openstack["links"] == [
        {
            "id": "eth0",
            "vif_id": port["id"],
            "type": "ovs",
            "mtu": 1400,
            "ethernet_mac_address": "02:00:00:00:00:05",
        }
    ]
    servers = [{"type": "dns", "address": "192.0.2.53"}, {"type": "dns", "address": "192.0.2.54"}]
    assert openstack["networks"] == [
        {
            "id": "eth0-0",
            "type": "ipv4",
            "link": "eth0",
            "network_id": network["id"],
            "ip_address": "10.0.0.5",
            "netmask": "255.255.255.0",
            "routes": [
                {"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.0.254"},
                {"network": "172.16.0.0", "netmask": "255.240.0.0", "gateway": "10.0.0.9"},
            ],
            "services": servers,
        }
    ]
    assert openstack["services"] == servers
    assert config == {
        "version": 2,
        "ethernets": {
            "eth0": {
                "match": {"macaddress": "02:00:00:00:00:05"},
                "set-name": "eth0",
                "mtu": 1400,
                "dhcp4": False,
                "addresses": ["10.0.0.5/24"],
                "routes": [{"to": "0.0.0.0/0", "via": "10.0.0.254"}, {"to": "172.16.0.0/12", "via": "10.0.0.9"}],
                "nameservers": {"addresses": ["192.0.2.53", "192.0.2.54"], "search": ["lab.example"]},
            }
        },
    }


def test_with_dhcp_that_is_all_there_is_to_say(world: World) -> None:
    openstack, config = data(world, world.port(world.network()["id"]))
    assert [(network["type"], network["link"]) for network in openstack["networks"]] == [("ipv4_dhcp", "eth0")]
    assert config["ethernets"]["eth0"]["dhcp4"] is True
    assert "addresses" not in config["ethernets"]["eth0"]


def test_all_ports_of_a_machine_in_their_order_and_no_others(world: World) -> None:
    network, other = still(world), world.network(name="moving", project_id="a", subnets=[{"cidr": "10.1.0.0/24"}])
    first = world.port(network["id"], device_id="vm-1", project_id="a")
    second = world.port(other["id"], device_id="vm-1", project_id="a")
    world.port(network["id"], device_id="vm-2", project_id="a")
    world.port(world.network(name="theirs", project_id="b")["id"], device_id="vm-1", project_id="b")
    openstack, config = data(world, second, "member-a")
    assert [link["vif_id"] for link in openstack["links"]] == [first["id"], second["id"]]
    assert list(config["ethernets"]) == ["eth0", "eth1"]


def test_more_addresses_bring_no_routes_of_their_own(world: World) -> None:
    port = world.port(still(world)["id"], fixed_ips=[{"address": "10.0.0.5"}, {"address": "10.0.0.6"}])
    openstack, config = data(world, port)
    assert [(each["id"], len(each["routes"])) for each in openstack["networks"]] == [("eth0-0", 2), ("eth0-1", 0)]
    assert config["ethernets"]["eth0"]["addresses"] == ["10.0.0.5/24", "10.0.0.6/24"]
    assert len(config["ethernets"]["eth0"]["routes"]) == 2


def test_the_gateway_is_its_own_nodes_else_anothers(world: World) -> None:
    network = still(world, gateway_mode="per_host", subnets=[{"cidr": "10.0.0.0/24"}])
    ports = [world.port(network["id"]) for _ in range(3)]
    held = {}
    for number, port in enumerate(ports[:2], 1):
        world.node(f"n{number}", number)
        shown = {"serial": 1, "uplinks": {}, "interfaces": [{"iface_id": port["id"], "ofport": 100}]}
        world.ok("PUT", f"/v1/nodes/n{number}/interfaces", shown, "agent")
        held[number] = world.ok("GET", f"/v1/nodes/n{number}")["node"]["gateways"][0]["address"]
    gateways = [data(world, port)[1]["ethernets"]["eth0"]["routes"][0]["via"] for port in ports]
    assert gateways == [held[1], held[2], held[1]]


@pytest.mark.parametrize("mode", ["shared", "single", "external"])
def test_the_gateway_is_the_networks_own(world: World, mode: str) -> None:
    port = world.port(still(world, gateway_mode=mode)["id"])
    assert data(world, port)[1]["ethernets"]["eth0"]["routes"][0]["via"] == "10.0.0.254"


def test_without_a_gateway_there_is_no_default_route(world: World) -> None:
    port = world.port(still(world, gateway_mode="none", subnets=[{"cidr": "10.0.0.0/24"}])["id"])
    openstack, config = data(world, port)
    assert openstack["networks"][0]["routes"] == []
    assert "routes" not in config["ethernets"]["eth0"]


def test_a_domain_without_a_name_server_is_said_too(world: World) -> None:
    subnets = [{"cidr": "10.0.0.0/24", "gateway": "10.0.0.254"}]
    _, config = data(world, world.port(still(world, subnets=subnets, gateway_mode="external")["id"]))
    assert config["ethernets"]["eth0"]["nameservers"] == {"search": ["lab.example"]}


def test_anothers_port_does_not_exist(world: World) -> None:
    port = world.port(still(world)["id"], project_id="a")
    refused = world.call("GET", f"/v1/ports/{port['id']}/network-data", token="member-b")
    assert refused.refusal == (404, "port_unknown", None)


def test_addresses_where_there_is_dhcp_for_who_asks(world: World) -> None:
    """As a container has them, which runs no client."""
    port = world.port(still(world, dhcp=True)["id"], fixed_ips=[{"address": "10.0.0.5"}])
    assert data(world, port)[1]["ethernets"]["eth0"]["dhcp4"] is True
    path = f"/v1/ports/{port['id']}/network-data?static="
    ethernet = world.ok("GET", f"{path}true", token="member-a")["network_config"]["ethernets"]["eth0"]
    assert ethernet["addresses"] == ["10.0.0.5/24"] and ethernet["dhcp4"] is False
    assert ethernet["routes"][0] == {"to": "0.0.0.0/0", "via": "10.0.0.254"}
    assert "addresses" not in world.ok("GET", f"{path}false")["network_config"]["ethernets"]["eth0"]
    assert world.call("GET", f"{path}yes").refusal[0] == 400
