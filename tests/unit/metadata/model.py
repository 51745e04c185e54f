"""A snapshot with machines in it, and what they were given."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from prometheus_client import CollectorRegistry

from controller.metadata.service import MetadataService, MetadataSettings
from controller.store.metadata_specs import MachineMetadata
from controller.store.specs import Conflict
from flows.model import Binding, FixedIp, FloatingIp, Network, NetworkKind, Port, SecurityGroup, Subnet
from flows.snapshot import Snapshot

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDmv7nzVzvdf9sxNXnzFHgXlQtsnrbfMAPG4qTtBHRsj alice@desk"
GIVEN = MachineMetadata(
    public_keys={"alice": KEY},
    user_data=b"#!/bin/sh\n\xff\0",
    vendor_data={"cloud-init": "#cloud-config\n{}"},
    meta={"role": "web"},
    availability_zone="az1",
    instance_type="m1.small",
    revision=7,
)
SUBNET = Subnet("s1", IPv4Network("10.0.0.0/24"))
NETWORK = Network(
    "n", 1, "blue", NetworkKind.VLAN, "physnet1", 1, project_id="p", subnets=(SUBNET,), dns_domain="lab.example"
)
OTHER = Network("o", 2, "green", NetworkKind.VLAN, "physnet1", 2, project_id="q", subnets=(SUBNET,))


def port(key: int = 5, network: Network = NETWORK, **fields: Any) -> Port:
    """On node n1. Its address ends with its key, and so does its id."""
    values: dict[str, Any] = {
        "fixed_ips": (FixedIp("s1", IPv4Address(f"10.0.0.{key}")),),
        "project_id": network.project_id,
        "binding": Binding("n1", 100 + key, key),
        "security_groups": ("g",),
    }
    return Port(f"port-{key}", key, network.id, f"02:00:00:00:00:{key:02x}", **values | fields)


WEB = port(name="web 1", hostname="web1", device_id="vm-1", metadata=7)
FLOATING = FloatingIp("f", 1, "n", IPv4Address("203.0.113.9"), port_id=WEB.id, fixed_ip=WEB.fixed_ips[0].address)
GROUP = SecurityGroup("g", 1, "default", "p")


def snapshot(*ports: Port, **more: Any) -> Snapshot:
    return Snapshot.build(9, (NETWORK, OTHER), ports or (WEB,), (), (FLOATING,), (GROUP,), **more)


@dataclass
class FakeStore:
    """`away`: it raises this."""

    given: dict[tuple[str | None, str], MachineMetadata] = field(default_factory=lambda: {("p", "vm-1"): GIVEN})
    asked: list[str] = field(default_factory=list)
    away: Exception | None = None

    def load_metadata(self, project_id: str | None, machine_id: str) -> MachineMetadata | None:
        if self.away is not None:
            raise self.away
        self.asked.append(machine_id)
        return self.given.get((project_id, machine_id))

    def set_password(self, port_id: str, password: str, actor: str) -> Any:
        if self.away is not None:
            raise self.away
        key = ("p", "vm-1")
        if self.given[key].password is not None:
            raise Conflict("password_set", "", "password")
        self.given[key] = replace(self.given[key], password=password)


class Cloud:
    """A service that answers, for the first port unless another is named; `now` and `snapshot` are to be changed."""

    def __init__(self, *ports: Port, **settings: Any) -> None:
        self.store = FakeStore()
        self.key = (ports or (WEB,))[0].key
        self.snapshot = snapshot(*ports)
        self.now = 0.0
        self.registry = CollectorRegistry()
        self.service = MetadataService(
            self.store, lambda: self.snapshot, MetadataSettings(**settings), self.registry, lambda: self.now
        )

    def ask(
        self, path: str, key: int | None = None, *, node: str = "n1", body: bytes | None = None
    ) -> tuple[int, bytes]:
        reply = self.service.answer(
            node, self.key if key is None else key, "GET" if body is None else "POST", path, body or b""
        )
        return (0, b"") if reply is None else (reply.status.value, reply.body)

    def text(self, path: str, key: int | None = None) -> str:
        status, body = self.ask(path, key)
        assert status == 200, (path, status, body)
        return body.decode()

    def count(self, status: int) -> float:
        return self.registry.get_sample_value("trunkline_metadata_answers_total", {"status": str(status)}) or 0.0
