"""What the quickstart builds in its laboratory: networks of two projects, and one VM of each on every node."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Network

from controller.client import Client, Object
from etc.lab.fabric import EXTERNAL_IPV6, EXTERNAL_NETWORK, OUTSIDE_ROUTER
from etc.lab.lab import Lab
from etc.lab.node import Node
from etc.lab.processes import in_parallel
from etc.lab.vm import Vm

PROJECTS = ("blue", "red")
HTTP = 80
IPV6 = {"blue": IPv6Network("2001:db8:20::/64"), "red": IPv6Network("2001:db8:30::/64")}

EXTERNAL: Object = {
    "name": "outside",
    "external": True,
    "kind": "flat",
    "physical_network": "physnet-ext",
    "dhcp": False,
    "subnets": [
        {
            "cidr": str(EXTERNAL_NETWORK),
            "gateway": str(OUTSIDE_ROUTER.ip),
            # what the nodes do not use themselves
            "allocation_ranges": [{"first": str(EXTERNAL_NETWORK[100]), "last": str(EXTERNAL_NETWORK[199])}],
        },
        {"cidr": str(EXTERNAL_IPV6), "gateway": str(EXTERNAL_IPV6[1])},
    ],
}

NETWORKS: tuple[Object, ...] = (
    {
        "name": "shared-flat",
        "shared": True,
        "kind": "flat",
        "physical_network": "physnet1",
        "gateway_mode": "per_host",
        "dns_domain": "flat.lab.example",
        "subnets": [{"cidr": "10.10.0.0/24"}],
    },
    {
        "name": "blue",
        "project_id": "blue",
        "kind": "vlan",
        "segment": 120,
        "physical_network": "physnet1",
        "gateway_mode": "per_host",
        "dns_domain": "blue.lab.example",
        "subnets": [{"cidr": "10.20.0.0/24"}, {"cidr": str(IPV6["blue"])}],
    },
    {
        "name": "red",
        "project_id": "red",
        "kind": "vlan",
        "segment": 130,
        "physical_network": "physnet1",
        "gateway_mode": "shared",
        "dns_domain": "red.lab.example",
        "subnets": [{"cidr": "10.30.0.0/24", "gateway": "10.30.0.1"}, {"cidr": str(IPV6["red"])}],
    },
)


POOL: Object = {"name": "public", "ranges": [f"{EXTERNAL_NETWORK[200]}-{EXTERNAL_NETWORK[249]}"]}


@dataclass(frozen=True)
class Scenario:
    """`vms[network][node]` is the VM of that network on that node."""

    networks: dict[str, Object]
    vms: dict[str, dict[str, Vm]]

    def all_vms(self) -> list[Vm]:
        return [vm for on_nodes in self.vms.values() for vm in on_nodes.values()]

    def full_name(self, vm: Vm) -> str:
        """Its host name in the DNS domain of its network."""
        network = next(network for name, network in self.networks.items() if vm in self.vms.get(name, {}).values())
        return f"{vm.name}.{network['dns_domain']}"


def create_networks(client: Client, networks: tuple[Object, ...] = NETWORKS) -> dict[str, Object]:
    """The external network, and the others with their way out through it; by name."""
    external = client.create_network(EXTERNAL).object
    assert external
    client.create_floating_ip_pool({**POOL, "network_id": external["id"]})
    made: dict[str, Object] = {"outside": external}
    for network in networks:
        answer = client.create_network({**network, "external_network_id": external["id"]}).object
        assert answer
        made[network["name"]] = answer
    return made


def give_floating_ip(lab: Lab, vm: Vm) -> IPv4Address:
    """A floating IP out of the pool for a VM; returns when its node has confirmed it."""
    fields = {"pool": POOL["name"], "project_id": vm.port["project_id"]}
    floating_ip = lab.client.create_floating_ip(fields).object
    assert floating_ip
    written = lab.client.update_floating_ip(floating_ip["id"], {"port_id": vm.port["id"]})
    lab.confirm(written.revision)
    return IPv4Address(floating_ip["address"])


def group_ids(vm: Vm) -> list[str]:
    """The security groups that a VM's port was made with."""
    return [group["id"] for group in vm.port["security_groups"]]


def let_in(lab: Lab, group_id: str, *rules: Object) -> None:
    """More rules for a security group; returns when the nodes have confirmed them."""
    fields = [{"security_group_id": group_id, "direction": "ingress", **rule} for rule in rules]
    lab.confirm(lab.client.create_security_group_rules(fields)[1])


def give_web_group(lab: Lab, vm: Vm) -> None:
    """A group `web` beside those that a VM is in: HTTP and ping, from anybody."""
    group = lab.client.create_security_group({"name": "web", "project_id": vm.port["project_id"]}).object
    assert group
    let_in(lab, group["id"], {"protocol": "tcp", "ports": str(HTTP)}, {"protocol": "icmp"})
    groups = [*group_ids(vm), group["id"]]
    lab.confirm(lab.client.update_port(vm.port["id"], {"security_groups": groups}).revision)


def populate(lab: Lab) -> Scenario:
    """Create the networks, and a port and a VM with a DHCP client for each network on each node."""
    client = lab.client
    # nothing comes in from elsewhere until somebody says so; members of a project's group default reach each other
    for family in ("ipv4", "ipv6"):
        rule = {"direction": "ingress", "own_group": True, "applies_to": "default", "family": family}
        client.create_default_rule(rule)
    lab.fabric.speak_ipv6(*IPV6.values())
    networks = create_networks(client)
    wanted = [
        (
            network,
            node,
            {
                "network_id": networks[network]["id"],
                "project_id": networks[network]["project_id"] or PROJECTS[0],
                "name": f"{network.removeprefix('shared-')}-{node.name}",
                "hostname": f"{network.removeprefix('shared-')}-{node.name}",
            },
        )
        for network in (each["name"] for each in NETWORKS)
        for node in lab.nodes
    ]
    ports, revision = client.create_ports([fields for _, _, fields in wanted])
    vms: dict[str, dict[str, Vm]] = {network["name"]: {} for network in NETWORKS}

    def plug(network: str, node: Node, port: Object) -> None:
        vms[network][node.name] = lab.plug(port["name"], node, port)

    in_parallel(partial(plug, network, node, port) for (network, node, _), port in zip(wanted, ports, strict=True))
    lab.confirm(revision)
    scenario = Scenario(networks, {name: {node.name: vms[name][node.name] for node in lab.nodes} for name in vms})
    for vm in scenario.all_vms():
        vm.start_client()
    return scenario
