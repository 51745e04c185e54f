"""A machine as its metadata shows it: what the snapshot knows of its ports, and what the API was given for it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from controller import injection
from controller.store.metadata_specs import MachineMetadata
from flows.host_name import host_name
from flows.model import Port
from flows.snapshot import Snapshot

_EC2_DIGITS = 17


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the configuration says of machines that were not given it themselves."""

    availability_zone: str = "nova"
    vendor_data: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """`id` is unique within its project. `hostname` has the domain of its network, if that has one."""

    id: str
    project_id: str | None
    name: str
    hostname: str
    local_ipv4: IPv4Address | None
    public_ipv4: IPv4Address | None
    security_groups: tuple[str, ...]
    interfaces: tuple[injection.Interface, ...]
    availability_zone: str
    vendor_data: Mapping[str, Any]
    given: MachineMetadata

    def ec2_id(self, prefix: str) -> str:
        """An id of the form that EC2 gives: `i-0123456789abcdef0`. The same for as long as the machine is the same."""
        digest = hashlib.sha256(f"{self.project_id or ''}:{self.id}".encode()).hexdigest()
        return f"{prefix}-{digest[:_EC2_DIGITS]}"


def ports_of(snapshot: Snapshot, port: Port) -> list[Port]:
    """The ports of a port's machine, the oldest first."""
    others = snapshot.ports_by_device.get((port.project_id, port.device_id), ()) if port.device_id else (port.id,)
    return sorted((snapshot.ports[id_] for id_ in others), key=lambda each: each.key)


def machine(snapshot: Snapshot, port: Port, given: MachineMetadata, defaults: Defaults) -> Machine:
    """The machine of a port."""
    ports = ports_of(snapshot, port)
    nodes = snapshot.nodes.values()
    addresses = [fixed_ip.address for each in ports for fixed_ip in each.fixed_ips]
    floating = [id_ for each in ports for id_ in snapshot.floating_ips_by_port.get(each.id, ())]
    leading = sorted(
        (snapshot.floating_ips[id_] for id_ in floating if snapshot.floating_ips[id_].port_id is not None),
        key=lambda each: each.key,
    )
    groups = dict.fromkeys(id_ for each in ports for id_ in each.security_groups or ())
    vendor_data = given.vendor_data if given.vendor_data is not None else defaults.vendor_data
    return Machine(
        id=port.machine_id,
        project_id=port.project_id,
        name=next((each.name for each in ports if each.name), ""),
        hostname=_hostname(snapshot, ports, addresses),
        local_ipv4=addresses[0] if addresses else None,
        public_ipv4=leading[0].address if leading else None,
        security_groups=tuple(snapshot.security_groups[id_].name for id_ in groups if id_ in snapshot.security_groups),
        interfaces=tuple(
            injection.interface(index, each, snapshot.networks[each.network_id], nodes)
            for index, each in enumerate(ports)
        ),
        availability_zone=given.availability_zone or defaults.availability_zone,
        vendor_data=vendor_data or {},
        given=given,
    )


def _hostname(snapshot: Snapshot, ports: list[Port], addresses: list[IPv4Address]) -> str:
    """That of the first port that has one, as DHCP and DNS say it; else one made of the address, as in Nova."""
    named = next((port for port in ports if port.hostname), ports[0])
    made = f"host-{str(addresses[0] if addresses else named.key).replace('.', '-')}"
    name = host_name(named.hostname) or made
    domain = snapshot.networks[named.network_id].dns_domain
    return f"{name}.{domain}" if domain and "." not in name else name
