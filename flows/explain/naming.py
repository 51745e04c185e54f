"""How objects are called, and which of them whoever asks may know of."""

from __future__ import annotations

from dataclasses import dataclass, replace

from flows.explain.trace import Object
from flows.model import FloatingIp, Network, Port, PortForwarding, ProviderRule, SecurityGroup, SecurityRule, Service
from flows.pipeline import SAME_NETWORK
from flows.protocols import PROTO_ICMP, PROTO_ICMPV6, PROTOCOL_NAMES
from flows.snapshot import Snapshot

Thing = Port | Network | FloatingIp | PortForwarding | SecurityGroup | SecurityRule | ProviderRule
_RULE_WORDS = {"ingress": "lets in", "egress": "lets out"}


@dataclass(frozen=True, slots=True)
class Names:
    """`project`: only what is of it, or for all, is named; None: everything, also what is the operator's. `nodes`: no
    others are named.
    """

    snapshot: Snapshot
    project: str | None = None
    nodes: frozenset[str] | None = None

    @property
    def operator(self) -> bool:
        return self.project is None

    # what may be known

    def owns(self, project_id: str | None) -> bool:
        return self.operator or project_id == self.project

    def sees_port(self, port: Port) -> bool:
        return self.owns(port.project_id)

    def sees_network(self, network: Network) -> bool:
        return network.shared or network.external or self.owns(network.project_id)

    def sees_group(self, group: SecurityGroup) -> bool:
        return self.owns(group.project_id)

    def sees_floating_ip(self, floating_ip: FloatingIp) -> bool:
        return self.owns(floating_ip.project_id)

    # names

    def port(self, port: Port) -> str:
        return f"port {called(port)}" if self.sees_port(port) else "a port of another project"

    def network(self, network: Network) -> str:
        return f"network {network.name or network.id}" if self.sees_network(network) else "a network of another project"

    def floating_ip(self, floating_ip: FloatingIp) -> str:
        # an address on the wire is no secret, whose it is may be
        return f"floating IP {floating_ip.address}"

    def group(self, group: SecurityGroup) -> str:
        return f"group {group.name or group.id}" if self.sees_group(group) else "a group of another project"

    def towards(self, floating_ip: FloatingIp | None, sender: Port | None) -> Names:
        """For a packet to a floating IP: on which node another project's is, is not told, whoever else is there."""
        if floating_ip is None or self.sees_floating_ip(floating_ip):
            return self
        return replace(self, nodes=frozenset(() if sender is None else (seat.node for seat in sender.bindings)))

    def node(self, name: str) -> str:
        if self.nodes is not None and name not in self.nodes:
            return "another node"
        if self.operator or any(self.sees_port(port) for port in self.snapshot.local_ports(name)):
            return name
        return "another node"

    def wire(self, physical_network: str) -> str:
        """How the cloud is built is its operator's business."""
        return physical_network if self.operator else "the wire"

    def thing(self, about: str, key: int) -> tuple[Object | None, str]:
        """The object of a cookie, and what it is called: None and less of a name for what may not be known."""
        found = self.find(about, key)
        match found:
            case None:
                return None, f"{about.replace('_', ' ')} {key}" if about else ""
            case Port():
                return _if(self.sees_port(found), Object("port", found.id, called(found))), self.port(found)
            case Network():
                known = Object("network", found.id, found.name)
                return _if(self.sees_network(found), known), self.network(found)
            case FloatingIp():
                known = Object("floating_ip", found.id, str(found.address))
                return _if(self.sees_floating_ip(found), known), self.floating_ip(found)
            case PortForwarding():
                owner = next(one for one in self.snapshot.floating_ips.values() if found in one.port_forwardings)
                name = f"{owner.address} {port_range(found.first, found.last)}"
                known = Object("port_forwarding", found.id, name)
                return _if(self.sees_floating_ip(owner), known), f"port forwarding {name}"
            case SecurityGroup():
                known = Object("security_group", found.id, found.name)
                return _if(self.sees_group(found), known), self.group(found)
            case SecurityRule():
                return self.security_rule(found)
            case ProviderRule():
                name = provider_rule_name(found)
                known = Object("provider_rule", found.id, name)
                return _if(self.operator, known), f"provider rule {name}" if self.operator else "a rule"

    def security_rule(self, rule: SecurityRule) -> tuple[Object | None, str]:
        group = self.snapshot.security_groups[self.snapshot.groups_by_rule[rule.key]]
        if not self.sees_group(group):
            return None, "a rule of another project's group"
        name = self.rule_name(rule)
        return Object("security_rule", rule.id, f"{group.name}: {name}"), f"rule of {self.group(group)} ({name})"

    def rule_name(self, rule: SecurityRule) -> str:
        """`lets in tcp 80 from 10.0.0.0/8`."""
        word = "from" if rule.direction == "ingress" else "to"
        remote = "anybody"
        if rule.remote_cidr is not None:
            remote = str(rule.remote_cidr)
        elif rule.remote_group_id is not None:
            group = self.snapshot.security_groups.get(rule.remote_group_id)
            remote = "members of " + (f"group {rule.remote_group_id}" if group is None else self.group(group))
        return f"{_RULE_WORDS[rule.direction]} {service_name(rule.service)} {word} {remote}"

    def find(self, about: str, key: int) -> Thing | None:
        snapshot = self.snapshot
        match about:
            case "port":
                return snapshot.ports.get(snapshot.ports_by_key.get(key, ""))
            case "network":
                return snapshot.networks.get(snapshot.networks_by_key.get(key & ~SAME_NETWORK, ""))
            case "security_rule":
                group = snapshot.security_groups.get(snapshot.groups_by_rule.get(key, ""))
                return None if group is None else next((rule for rule in group.rules if rule.key == key), None)
            case "security_group":
                return next((group for group in snapshot.security_groups.values() if group.key == key), None)
            case "floating_ip":
                return next((one for one in snapshot.floating_ips.values() if one.key == key), None)
            case "port_forwarding":
                all_of = (each for one in snapshot.floating_ips.values() for each in one.port_forwardings)
                return next((each for each in all_of if each.key == key), None)
            case "provider_rule":
                return next((rule for rule in snapshot.provider_rules.values() if rule.key == key), None)
        return None


def _if(known: bool, thing: Object) -> Object | None:
    return thing if known else None


def called(port: Port) -> str:
    """As people call a port: by its name, its host name, its first address, its id."""
    return port.called or next(map(str, port.assigned), port.id)


def service_name(service: Service) -> str:
    """`tcp 80-89`, `icmp`, `everything`."""
    if service.protocol is None:
        return "everything"
    name = PROTOCOL_NAMES.get(service.protocol, f"protocol {service.protocol}")
    if service.first is not None and service.last is not None:
        return f"{name} {port_range(service.first, service.last)}"
    if service.protocol in (PROTO_ICMP, PROTO_ICMPV6) and service.icmp_type is not None:
        return f"{name} type {service.icmp_type}"
    return name


def provider_rule_name(rule: ProviderRule) -> str:
    direction = "both ways" if rule.direction is None else rule.direction.value
    return f"{service_name(rule.service)} {rule.cidr} {direction}"


def port_range(first: int, last: int) -> str:
    """`80`, `80-89`."""
    return str(first) if first == last else f"{first}-{last}"
