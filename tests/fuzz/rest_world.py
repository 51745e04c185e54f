"""An API with something of everything behind it, and what it knows by which id."""

from __future__ import annotations

import re
import zlib
from collections import defaultdict
from typing import Any

from tests.unit.api.world import World

KINDS = {
    "networks": "network",
    "ports": "port",
    "floating-ip-pools": "floating_ip_pool",
    "floating-ips": "floating_ip",
    "port-forwardings": "port_forwarding",
    "security-groups": "security_group",
    "security-group-rules": "security_group_rule",
    "default-security-group-rules": "default_security_group_rule",
    "provider-rules": "provider_rule",
    "dns-zones": "dns_zone",
    "dns-records": "dns_record",
    "tokens": "token",
}
"""The part of a path before an id, and what such an object is called in answers."""

PLACES = {"name": "node", "node": "node", "project": "project"}
"""The variable parts of paths that are no ids."""

FIELDS = {
    "network_id": "network",
    "external_network_id": "network",
    "network": "network",
    "network_ids": "network",
    "port_id": "port",
    "port": "port",
    "ids": "floating_ip",
    "floating_ip_id": "floating_ip",
    "pool": "floating_ip_pool",
    "security_group_id": "security_group",
    "remote_group_id": "security_group",
    "security_groups": "security_group",
    "zone_id": "dns_zone",
    "subnet_id": "subnet",
    "project_id": "project",
    "node": "node",
    "gateway_node": "node",
    "marker": "any",
}
"""Fields of bodies and queries that name an object, and of which kind."""

NONE = "none"
KEPT = 6
"""Ids of each kind that are remembered: the first ones, which others need, and the last."""


class Known:
    """The ids of objects by kind, as answers have told them."""

    def __init__(self) -> None:
        self._ids: dict[str, list[str]] = defaultdict(list)
        self._ids["project"] = ["a", "b"]
        self._ids["node"] = ["n1", "n2"]
        self.forwardings: dict[str, str] = {}
        """Each with its floating IP."""
        self.blue = self.outside = ""
        """A network of project a, and the world."""
        self.machine = ("", "")
        """The node and the key of a port that is there."""

    def learn(self, kind: str, id_: str) -> None:
        ids = self._ids[kind]
        if id_ not in ids:
            ids.append(id_)
            if len(ids) > KEPT:
                del ids[KEPT // 2]

    def hear(self, answer: object) -> None:
        """Takes what is an object with an id out of an answer."""
        if isinstance(answer, dict):
            for kind, one in answer.items():
                if kind in KINDS.values() and isinstance(one, dict):
                    self.learn(kind, one["id"])
                    for subnet in one.get("subnets", ()):
                        self.learn("subnet", subnet["id"])

    def forget(self, id_: str) -> None:
        for ids in self._ids.values():
            if id_ in ids:
                ids.remove(id_)
        for forwarding, floating_ip in list(self.forwardings.items()):
            if id_ in (forwarding, floating_ip):
                del self.forwardings[forwarding]

    @property
    def lacks(self) -> bool:
        """Whether there is some kind of which there soon is none."""
        return not self.forwardings or any(
            len(self._ids[kind]) < 2 for kind in (*KINDS.values(), "node") if kind != "network"
        )

    def one(self, kind: str, salt: str) -> str | None:
        """One of this kind, the same for the same salt."""
        ids = [id_ for some in self._ids.values() for id_ in some] if kind == "any" else self._ids[kind]
        return ids[_number(salt) % len(ids)] if ids else None

    def place(self, path: str, parameters: dict[str, Any], salt: str, *, last: bool) -> None:
        """Has the variable parts of a path lead to what there is; `last`: rather to what came last."""
        if "forwarding" in parameters and self.forwardings:
            parameters["forwarding"], parameters["id"] = list(self.forwardings.items())[-1]
            return
        if {"key", "port_key"} & parameters.keys():
            parameters["node"], parameters["key" if "key" in parameters else "port_key"] = self.machine
            return
        for name in parameters:
            before = re.search(r"([a-z-]+)/\{" + name + "}", path)
            kind = PLACES.get(name) or KINDS.get(before[1] if before else "", "")
            found = self._ids[kind][-1:] if last else [self.one(kind, salt)]
            if name == "address":
                parameters[name] = f"10.200.0.{_number(salt) % 256}"
            elif found and found[0] is not None:
                parameters[name] = found[0]

    def put_into(self, value: Any, salt: str) -> None:
        """Has the texts of a body or query that name objects mostly name some that there are."""
        if not _number(salt) % 8:
            return
        if isinstance(value, list):
            for index, item in enumerate(value):
                self.put_into(item, f"{salt}.{index}")
        elif isinstance(value, dict):
            for name, item in value.items():
                kind = FIELDS.get(name)
                if kind is None:
                    self.put_into(item, f"{salt}.{name}")
                elif isinstance(item, str):
                    value[name] = self.one(kind, f"{salt}.{name}") or item
                elif isinstance(item, list):
                    value[name] = [
                        (self.one(kind, f"{salt}.{name}.{index}") or one) if isinstance(one, str) else one
                        for index, one in enumerate(item)
                    ]


def _number(salt: str) -> int:
    return zlib.crc32(salt.encode("utf-8", "surrogatepass"))


def furnish(world: World, known: Known) -> None:
    """What the rest stands on: nodes, networks of the projects a and b and of the operator, and a machine."""
    for number, name in enumerate(("n1", "n2"), 1):
        world.node(name, number, physical_networks=["physnet1", "physnet-ext"])
    place = {"kind": "vlan", "physical_network": "physnet1"}
    outside = {
        "name": "outside",
        "kind": "flat",
        "physical_network": "physnet-ext",
        "external": True,
        "subnets": [{"cidr": "203.0.0.0/16", "gateway": "203.0.0.1"}],
    }
    both = [{"cidr": "10.200.0.0/16"}, {"cidr": "2001:db8:1::/64"}]
    for body in (
        {"name": "blue", "project_id": "a", "subnets": both, **place},
        {"name": "red", "project_id": "b", "subnets": [{"cidr": "10.201.0.0/16"}], **place},
        outside,
        {"name": "free", "assignable": True, "subnets": [{"cidr": "10.202.0.0/24"}], **place},
    ):
        known.hear(world.ok("POST", "/v1/networks", body))
    known.blue, _, known.outside, _ = (one["id"] for one in world.ok("GET", "/v1/networks")["networks"])
    machine = world.port(known.blue, project_id="a", name="web")
    known.hear({"port": machine})
    known.machine = "n1", str(machine["key"])
    shown = [{"iface_id": machine["id"], "ofport": 100}]
    world.ok("PUT", "/v1/nodes/n1/interfaces", {"serial": 1, "uplinks": {}, "interfaces": shown}, "agent")
    pool = {"name": "public", "network_id": known.outside, "ranges": ["203.0.1.0/24"]}
    known.hear(world.ok("POST", "/v1/floating-ip-pools", pool))


def restock(world: World, known: Known, times: int) -> None:
    """One more of what can be deleted. `times`: how often that was done before."""

    def make(path: str, body: dict[str, Any]) -> str:
        """Its id. What is in the way of it, somebody else has made."""
        reply = world.call("POST", f"/v1/{path}", body)
        if reply.status != 201:
            return NONE
        known.hear(reply.json)
        return str(next(value for value in reply.json.values() if isinstance(value, dict))["id"])

    world.call("PATCH", "/v1/quotas/a", {"floating_ips": -1, "security_groups": -1, "dns_zones": -1, "ports": -1})
    port = make("ports", {"network_id": known.blue, "project_id": "a"})
    make("floating-ips", {"pool": "public", "project_id": "a", "port_id": port})
    floating_ip = make("floating-ips", {"pool": "public", "project_id": "a"})
    forwarding = {"protocol": "tcp", "ports": "2201", "port_id": port, "to": 22}
    made = make(f"floating-ips/{floating_ip}/port-forwardings", forwarding)
    if made != NONE:
        known.forwardings[made] = floating_ip
    group = make("security-groups", {"name": f"web{times}", "project_id": "a"})
    make("security-group-rules", {"security_group_id": group, "direction": "ingress"})
    make("default-security-group-rules", {"direction": "ingress", "protocol": "tcp", "ports": f"{100 + times}"})
    make("provider-rules", {"cidr": "198.51.100.0/24", "protocol": "tcp", "ports": f"{100 + times}"})
    make(
        "floating-ip-pools",
        {"name": f"pool{times}", "network_id": known.outside, "ranges": [f"203.0.{times % 200 + 2}.0/24"]},
    )
    zone = make("dns-zones", {"name": f"lab{times}.example", "project_id": "a", "network_ids": [known.blue]})
    make("tokens", {"name": f"reader{times}", "role": "reader", "scopes": ["networks:read"]})
    make("dns-records", {"zone_id": zone, "name": "www", "type": "A", "data": "192.0.2.1"})
    world.node(f"spare{times}", 100 + times)
    known.learn("node", f"spare{times}")
