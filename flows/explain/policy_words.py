"""Why no security group lets a packet through, and which rule comes near to it."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from flows.explain.naming import Names
from flows.explain.target import Address
from flows.model import Direction, Family, Port, SecurityGroup, SecurityRule, Service
from flows.packet import Packet
from flows.protocols import PROTOCOL_NAMES
from flows.snapshot import Snapshot

_TRANSPORT = ("tcp", "udp")
_ICMP = ("icmp", "icmpv6")


def of_service(service: Service, packet: Packet) -> bool:
    """Whether a rule's service is that of a packet."""
    if service.protocol is None:
        return True
    if service.protocol != packet.get("ip_proto"):
        return False
    for kind in _TRANSPORT:
        if service.first is not None and service.last is not None and f"{kind}_dst" in packet:
            return service.first <= packet[f"{kind}_dst"] <= service.last
    for kind in _ICMP:
        if f"{kind}_type" in packet:
            return service.icmp_type in (None, packet[f"{kind}_type"]) and service.icmp_code in (
                None,
                packet[f"{kind}_code"],
            )
    return service.first is None


def of_remote(snapshot: Snapshot, rule: SecurityRule, remote: Address) -> bool:
    """Whether a rule's remote has an address."""
    if rule.remote_cidr is not None:
        return remote.version == rule.remote_cidr.version and remote in rule.remote_cidr
    if rule.remote_group_id is None:
        return True
    itself = ip_network(remote)
    for port_id in snapshot.ports_by_group.get(rule.remote_group_id, ()):
        for own in snapshot.ports[port_id].member_addresses:
            if own.version == remote.version and itself.subnet_of(own):  # type: ignore[arg-type]
                return True
    return False


def deciding(group: SecurityGroup, named: SecurityRule, packet: Packet) -> SecurityRule:
    """Of the rules of a group with one remote, whose flows all name the first: the one that is about the packet."""
    for rule in sorted(group.rules, key=lambda rule: rule.key):
        same = (rule.direction, rule.family, rule.remote_cidr, rule.remote_group_id) == (
            named.direction,
            named.family,
            named.remote_cidr,
            named.remote_group_id,
        )
        if same and of_service(rule.service, packet):
            return rule
    return named


def refused(
    names: Names, port: Port, direction: Direction, packet: Packet, remote: Address
) -> tuple[str, tuple[str, ...]]:
    """What none of a port's groups allows, and what comes near to it, in sentences. Nothing of what others may not
    know.
    """
    what, whom = packet_service(packet), f"{'from' if direction is Direction.INGRESS else 'to'} {remote}"
    if not names.sees_port(port):
        return f"the security groups of {names.port(port)} do not allow {what} {whom}", ()
    way = "in" if direction is Direction.INGRESS else "out"
    known = names.snapshot.security_groups
    groups = [known[id_] for id_ in port.security_groups or () if id_ in known]
    if not port.security_groups:
        return f"{names.port(port)} is in no security group, so nothing lets {way} {what} {whom}", ()
    called = ", ".join(group.name or group.id for group in groups) or "none that can be read"
    text = f"the security groups of {names.port(port)} ({called}) do not let {way} {what} {whom}"
    return text, tuple(_near(names, groups, direction, packet, remote))


def _near(
    names: Names, groups: list[SecurityGroup], direction: Direction, packet: Packet, remote: Address
) -> Iterator[str]:
    family = Family(remote.version)
    for group in groups:
        for rule in group.rules:
            service, whom = of_service(rule.service, packet), of_remote(names.snapshot, rule, remote)
            said = f"{names.group(group)} has a rule that {names.rule_name(rule)}"
            if rule.family is not family:
                if (
                    service
                    and rule.direction is direction
                    and rule.remote_cidr is None
                    and rule.remote_group_id is None
                ):
                    yield f"{said}, but for IPv{rule.family.value} only"
            elif rule.direction is not direction:
                if service and whom and rule.service.protocol is not None:
                    yield f"{said}: that is the other direction ({rule.direction.value}, not {direction.value})"
            elif service:
                yield f"{said}, and {remote} is not among these"
            elif whom and rule.service.protocol == packet.get("ip_proto"):
                yield f"{said}: another port or type"


def packet_service(packet: Packet) -> str:
    """`tcp 80`, `icmp type 8`."""
    number = packet.get("ip_proto")
    if number is None:
        return "it"
    name = PROTOCOL_NAMES.get(number, f"protocol {number}")
    for kind in _TRANSPORT:
        if f"{kind}_dst" in packet:
            return f"{name} port {packet[f'{kind}_dst']}"
    for kind in _ICMP:
        if f"{kind}_type" in packet:
            return f"{name} type {packet[f'{kind}_type']}"
    return name
