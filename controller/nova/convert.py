"""Nova's rows as what this API takes. Pure: nothing is asked and nothing is written."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

from controller.nova.dump import DumpError, Row, Tables
from controller.nova.model import NEEDED, Choices, Cloud, FloatingIp, Group, Network, Object, Pool, Port, live

_ANY_PORTS: Final = ((-1, -1), (1, 65535), (0, 65535))
_MOST_RANGES: Final = 256
"""Of what is reserved in a subnet (controller.api.subnet_models)."""


def convert(tables: Tables, choices: Choices) -> Cloud:
    """Raises DumpError when the tables are not those of nova-network, or hold what makes no sense."""
    missing = [table for table in NEEDED if table not in tables]
    if missing:
        raise DumpError(f"there is no table {', '.join(missing)}: this is no database of nova-network")
    if not live(tables, "networks"):
        raise DumpError("there is no network in it")
    try:
        return _Conversion(tables, choices).cloud()
    except (KeyError, ValueError, TypeError, ArithmeticError) as error:
        raise DumpError(f"the tables are not as Nova makes them: {type(error).__name__} {error}") from error


class _Conversion:
    def __init__(self, tables: Tables, choices: Choices) -> None:
        self._choices = choices
        self._notes: list[str] = []
        self._networks = live(tables, "networks")
        self._fixed_ips = live(tables, "fixed_ips")
        self._fixed_ips_of = _by(self._fixed_ips, "network_id")
        self._floating_ips = live(tables, "floating_ips")
        self._rules_of = _by(live(tables, "security_group_rules"), "parent_group_id")
        self._groups = live(tables, "security_groups")
        self._instances = {_text(row, "uuid"): row for row in live(tables, "instances")}
        known = {row["id"] for row in self._networks}
        self._interfaces = {
            row["id"]: row
            for row in live(tables, "virtual_interfaces")
            if row.get("instance_uuid") in self._instances and row["network_id"] in known
        }
        self._groups_of = self._memberships(live(tables, "security_group_instance_association"))

    def cloud(self) -> Cloud:
        names = Counter(_text(row, "label") for row in self._networks)
        networks = tuple(self._network(row, alone=names[_text(row, "label")] == 1) for row in self._networks)
        groups = tuple(self._group(row) for row in self._groups)
        ports = tuple(self._ports())
        pools, floating_ips = self._pools()
        return Cloud(networks, groups, ports, pools, floating_ips, tuple(dict.fromkeys(self._notes)))

    # networks

    def _network(self, row: Row, alone: bool) -> Network:
        number, label = _number(row, "id"), _text(row, "label")
        name = label if label and alone else f"{label or 'nova'}-{number}"
        vlan, project = row.get("vlan"), row.get("project_id") or None
        cidr = IPv4Network(_text(row, "cidr"))
        gateway = _text(row, "gateway")
        body: Object = {
            "name": name,
            "kind": "flat" if vlan is None else "vlan",
            "physical_network": self._physical_network(row, name),
            "subnets": [self._subnet(row, cidr, gateway), *self._ipv6(row, name)],
            "project_id": project,
            "mtu": row.get("mtu") or 1500,
            "gateway_mode": "shared" if gateway else "none",
            "dhcp": bool(row.get("enable_dhcp", 1)),
        }
        if vlan is not None:
            body["segment"] = int(vlan)
        if project is None:
            # a flat one is everybody's; a VLAN is kept for the next project that comes
            body["shared" if vlan is None else "assignable"] = True
        if self._choices.domain:
            body["dns_domain"] = self._choices.domain
        if row.get("multi_host"):
            self._notes.append(
                f"network {name}: machines had their own host's address as their gateway. Here all have {gateway}, "
                "which every node answers for: a machine learns of it when its lease is renewed, or by a restart"
            )
        if row.get("vpn_public_address"):
            self._notes.append(f"network {name}: the VPN of its project is not carried over (it was nova-cloudpipe)")
        return Network(number, body)

    def _physical_network(self, row: Row, name: str) -> str:
        known = self._choices.physical_networks
        for column in ("bridge_interface", "bridge"):
            value = row.get(column)
            if isinstance(value, str) and value in known:
                return known[value]
        if "" not in known:
            raise DumpError(
                f"network {name} was on {row.get('bridge_interface') or row.get('bridge')}: "
                "which physical network is that here?"
            )
        return known[""]

    def _subnet(self, row: Row, cidr: IPv4Network, gateway: str) -> Object:
        special = {cidr.network_address, cidr.broadcast_address}
        kept = {
            address
            for fixed_ip in self._fixed_ips_of.get(row["id"], ())
            # reserved by the operator, or taken by a host of nova-network
            if (fixed_ip.get("reserved") or (fixed_ip.get("host") and not fixed_ip.get("instance_uuid")))
            and (address := IPv4Address(_text(fixed_ip, "address"))) in cidr
            and address not in special
            and str(address) != gateway
        }
        ranges = list(_spans(kept))
        if len(ranges) > _MOST_RANGES:
            self._notes.append(f"network {row['id']}: {len(ranges) - _MOST_RANGES} reserved ranges are left out")
        subnet: Object = {
            "cidr": str(cidr),
            "dns_servers": [server for column in ("dns1", "dns2") if (server := _text(row, column))],
            "reserved": [{"first": str(first), "last": str(last)} for first, last in ranges[:_MOST_RANGES]],
        }
        if gateway:
            subnet["gateway"] = gateway
        return subnet

    def _ipv6(self, row: Row, name: str) -> Iterator[Object]:
        if not (cidr := _text(row, "cidr_v6")):
            return
        network = IPv6Network(cidr)
        if network.prefixlen != 64:
            self._notes.append(f"network {name}: {network} is left out, addresses follow from MACs in a /64 only")
            return
        subnet: Object = {"cidr": str(network), "ipv6_mode": "slaac"}
        gateway = _text(row, "gateway_v6")
        if gateway and IPv6Address(gateway) in network:
            subnet["gateway"] = gateway
        yield subnet

    # security groups

    def _memberships(self, rows: Iterable[Row]) -> dict[str, list[int]]:
        found: dict[str, list[int]] = defaultdict(list)
        known = {row["id"] for row in self._groups}
        for row in rows:
            if row["security_group_id"] in known:
                found[_text(row, "instance_uuid")].append(_number(row, "security_group_id"))
        return found

    def _group(self, row: Row) -> Group:
        number, name, project = _number(row, "id"), _text(row, "name"), _text(row, "project_id")
        body = {"name": name, "project_id": project, "description": _text(row, "description")}
        rules = (self._rule(rule, name) for rule in self._rules_of.get(row["id"], ()))
        return Group(number, name, project, body, tuple(rule for rule in rules if rule is not None))

    def _rule(self, row: Row, group: str) -> Object | None:
        """Nova's were about what comes in; all that went out was allowed."""
        rule: Object = {"direction": "ingress"}
        cidr, protocol = _text(row, "cidr"), _text(row, "protocol").lower()
        if row.get("group_id") is not None:
            rule["remote_group"] = _number(row, "group_id")
        elif cidr:
            network = ip_network(cidr, strict=False)
            rule["remote_cidr"] = str(network)
            if network.version == 6:
                rule["family"] = "ipv6"
                protocol = "icmpv6" if protocol == "icmp" else protocol
        first, last = row.get("from_port"), row.get("to_port")
        if protocol:
            rule["protocol"] = protocol
        if protocol.startswith("icmp"):
            rule.update(
                {
                    name: int(value)
                    for name, value in (("icmp_type", first), ("icmp_code", last))
                    if value is not None and int(value) != -1
                }
            )
        elif protocol in ("tcp", "udp") and first is not None and last is not None:
            ports = int(first), int(last)
            if ports not in _ANY_PORTS:
                rule["ports"] = f"{ports[0]}-{ports[1]}"
        elif protocol not in ("", "tcp", "udp"):
            self._notes.append(f"security group {group}: a rule of protocol {protocol} is left out")
            return None
        return rule

    # ports

    def _ports(self) -> Iterator[Port]:
        addresses: dict[object, list[str]] = defaultdict(list)
        for fixed_ip in self._fixed_ips:
            if fixed_ip.get("virtual_interface_id") in self._interfaces:
                addresses[fixed_ip["virtual_interface_id"]].append(_text(fixed_ip, "address"))
        names = {row["id"]: _text(row, "name") for row in self._groups}
        for number, row in self._interfaces.items():
            instance = self._instances[_text(row, "instance_uuid")]
            name = _text(instance, "display_name") or _text(instance, "hostname")
            if not addresses[number]:
                self._notes.append(f"a virtual interface of {name} had no address: it is left out")
                continue
            groups = self._groups_of[_text(instance, "uuid")]
            body: Object = {
                "id": _text(row, "uuid"),
                "mac": _text(row, "address").lower(),
                "fixed_ips": [{"address": address} for address in addresses[number]],
                "name": name,
                "hostname": _text(instance, "hostname"),
                "project_id": _text(instance, "project_id"),
                "device_id": _text(instance, "uuid"),
                "security_groups": sorted({names[group] for group in groups} or {"default"}),
            }
            yield Port(_number(row, "network_id"), _text(instance, "host"), body)

    # floating IPs

    def _pools(self) -> tuple[tuple[Pool, ...], tuple[FloatingIp, ...]]:
        pools: dict[str, list[IPv4Address]] = defaultdict(list)
        used = []
        fixed_ips = {row["id"]: row for row in self._fixed_ips}
        for row in self._floating_ips:
            pool, address = _text(row, "pool") or "nova", IPv4Address(_text(row, "address"))
            pools[pool].append(address)
            fixed_ip = fixed_ips.get(row.get("fixed_ip_id"))
            interface = None if fixed_ip is None else self._interfaces.get(fixed_ip.get("virtual_interface_id"))
            project = _text(row, "project_id") or None
            if fixed_ip is None or interface is None:
                if project is not None:
                    used.append(FloatingIp(pool, address, project, None, None))
                continue
            owner = _text(self._instances[_text(interface, "instance_uuid")], "project_id")
            port, fixed = _text(interface, "uuid"), IPv4Address(_text(fixed_ip, "address"))
            used.append(FloatingIp(pool, address, project or owner, port, fixed))
        return tuple(Pool(name, tuple(sorted(addresses))) for name, addresses in sorted(pools.items())), tuple(used)


def spans(addresses: Iterable[IPv4Address]) -> list[str]:
    """As few ranges FIRST-LAST as hold exactly these."""
    return [str(first) if first == last else f"{first}-{last}" for first, last in _spans(addresses)]


def _spans(addresses: Iterable[IPv4Address]) -> Iterator[tuple[IPv4Address, IPv4Address]]:
    first = last = None
    for address in sorted(set(addresses)):
        if first is not None and last is not None and int(address) == int(last) + 1:
            last = address
            continue
        if first is not None and last is not None:
            yield first, last
        first = last = address
    if first is not None and last is not None:
        yield first, last


def _by(rows: Iterable[Row], column: str) -> dict[object, list[Row]]:
    """Grouped: clouds have many networks, and many addresses in each."""
    found: dict[object, list[Row]] = defaultdict(list)
    for row in rows:
        found[row[column]].append(row)
    return found


def _text(row: Row, column: str) -> str:
    value = row.get(column)
    return "" if value is None else str(value)


def _number(row: Row, column: str) -> int:
    value = row[column]
    if value is None:
        raise ValueError(f"{column} is empty")
    return int(value)
