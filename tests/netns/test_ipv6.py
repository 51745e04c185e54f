"""IPv6 on real Open vSwitch: switched, routed, to the outside and back; who may say what; security groups.

Guests come by their addresses by the kernel alone, with duplicate address detection. All of it goes on without a
controller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv6Address, IPv6Network

import pytest

from controller.client import Object
from etc.lab import netns
from etc.lab.fabric import EXTERNAL_IPV6, FAR_HOST_IPV6, OUTSIDE_INTERFACE
from etc.lab.lab import Lab
from etc.lab.probes import into, ping
from etc.lab.processes import in_parallel, wait_until
from etc.lab.vm import INTERFACE, Vm
from flows.packet import Packet
from flows.pipeline import GATEWAY_MAC
from flows.protocols import MLD2_REPORT, ND_REDIRECT, ND_ROUTER_ADVERTISEMENT
from flows.rules import Rule
from flows.view import mac_to_int
from tests.netns.cloud import drops, make_network, status, wait_dropped
from tests.netns.frames import Tap
from tests.netns.policy import add, ingress, make_group
from tests.ovs.frames import encode
from tests.ovs.ipv6_frames import HIDING, checksum, hidden, in_two
from tests.simulate.ipv6 import ALL_NODES, GATEWAY, Host, group_mac, ip6

pytestmark = pytest.mark.root

BLUE, BLUE2 = (IPv6Network(f"2001:db8:{part}::/64") for part in ("50", "51"))
FAMILY = {"family": "ipv6"}
PINGED = ingress("icmpv6", **FAMILY, remote_cidr=str(BLUE))
MARK = 0xA77AC4EDA77AC4ED
"""In the payload of what nobody is to hear."""
POOL = {"first": "203.0.113.100", "last": "203.0.113.150"}


@dataclass
class Cloud:
    lab: Lab
    vms: dict[str, Vm]
    groups: dict[str, Object]
    network_key: int
    """Of blue."""
    taps: dict[str, Tap] = field(default_factory=dict)

    def host(self, name: str) -> Host:
        """A VM that frames are made for by hand."""
        vm = self.vms[name]
        link = next(each["local"] for each in addresses(vm) if each["scope"] == "link")
        mac = mac_to_int(vm.mac)
        return Host(int(vm.port["key"]), vm.node.name, 0, mac, int(own(vm)), ip6(link), str(vm.port["network_id"]))


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab(nodes=2, physical_networks=("physnet1", "physnet-ext"), open_groups=False)


@pytest.fixture(scope="module")
def cloud(lab: Lab) -> Iterator[Cloud]:
    """a1, a2 of blue and b1, b2 of blue2, which is routed to it: 1 on n1, 2 on n2. c1 is a second of blue on n1, and
    `web` is one of blue on n2 whose group lets in little.
    """
    make_outside(lab)
    subnets = [{"cidr": "10.50.0.0/24"}, {"cidr": str(BLUE), "ipv6_mode": "slaac", "gateway": str(BLUE[1])}]
    blue = make_network(lab, "blue", "", segment=150, subnets=subnets)
    subnets = [{"cidr": "10.51.0.0/24"}, {"cidr": str(BLUE2), "ipv6_mode": "slaac"}]
    blue2 = make_network(lab, "blue2", "", segment=151, subnets=subnets, allow_same_net_traffic=False)
    lab.client.update_network(blue["id"], {"allow_same_net_traffic": False})
    groups = {"open": make_group(lab, "open", ingress(**FAMILY)), "web": make_group(lab, "web", PINGED)}
    add(lab, groups["web"], ingress("udp", 80, **FAMILY, remote_group_id=groups["open"]["id"]))
    n1, n2 = lab.nodes
    wanted = [
        ("a1", n1, blue),
        ("a2", n2, blue),
        ("b1", n1, blue2),
        ("b2", n2, blue2),
        ("c1", n1, blue),
        ("web", n2, blue),
    ]

    def make(name: str, node: object, network: Object) -> None:
        of = [groups["web" if name == "web" else "open"]["id"]]
        fields = {"project_id": "blue", "security_groups": of}
        lab.create_vm(name, node, network["id"], client=None, **fields)  # type: ignore[arg-type]

    in_parallel(partial(make, *each) for each in wanted)
    made = Cloud(lab, {name: lab.vms[name] for name, _, _ in wanted}, groups, int(blue["key"]))
    wait_until(lambda: all(status(lab, vm) == "active" for vm in made.vms.values()), 20, "VMs are not served")
    for name, vm in made.vms.items():
        vm.wait_ipv6(20)
        made.taps[name] = Tap(vm.namespace)
    for name in ("a1", "a2", "b1", "b2"):
        wait_until(lambda name=name: reaches(made.vms[name], FAR_HOST_IPV6), 20, f"{name} does not reach the outside")
    yield made
    for tap in made.taps.values():
        tap.close()


def make_outside(lab: Lab) -> None:
    """A router that has both networks on-link outside, and a host behind it."""
    lab.fabric.speak_ipv6(BLUE, BLUE2)
    subnets = [
        {
            "cidr": "203.0.113.0/24",
            "gateway": "203.0.113.1",
            "allocation_ranges": [POOL],
        },
        {"cidr": str(EXTERNAL_IPV6), "gateway": str(EXTERNAL_IPV6[1])},
    ]
    fields = {"project_id": None, "external": True, "dhcp": False, "physical_network": lab.fabric.external}
    make_network(lab, "outside", "", subnets=subnets, **fields)


def addresses(vm: Vm) -> list[Object]:
    shown = netns.query(vm.namespace, "-6", "address", "show", "dev", INTERFACE)
    return [each for part in shown for each in part.get("addr_info", []) if "local" in each]


def own(vm: Vm) -> IPv6Address:
    (address,) = vm.ipv6_addresses
    return address


def reaches(vm: Vm, address: object) -> bool:
    return vm.ping(address, count=1, wait=0.5).answered


def test_addresses_are_in_use_and_the_apis(cloud: Cloud) -> None:
    def checked(vm: Vm) -> bool:
        """Whether duplicate address detection is over (RFC 4862, 5.4)."""
        return not any(each.get("tentative") for each in addresses(vm))

    for vm in cloud.vms.values():
        wait_until(partial(checked, vm), 20, "addresses are tentative")
        assert sorted(each["scope"] for each in addresses(vm) if not each.get("dadfailed")) == ["global", "link"]
        assert vm.ipv6_configured().router == IPv6Address(GATEWAY)


def test_all_reach_each_other_their_gateways_and_the_outside(cloud: Cloud, controller: str) -> None:
    """On one node and across, switched and routed; and from outside."""
    vms = [vm for vm in cloud.vms.values() if vm.name != "web"]

    def talk(source: Vm) -> None:
        assert not source.ping(f"{IPv6Address(GATEWAY)}%{INTERFACE}", count=1).lost
        for target in (BLUE[1], FAR_HOST_IPV6, *(own(vm) for vm in vms if vm is not source)):
            assert not source.ping(target, count=1).lost, (source.name, target)
        assert not ping(into(cloud.lab.fabric.far), own(source), count=1).lost, source.name

    in_parallel(partial(talk, vm) for vm in vms)
    a2 = cloud.host("a2")
    assert not cloud.vms["a1"].ping(f"{IPv6Address(a2.local)}%{INTERFACE}", count=1).lost


def test_neighbours_are_found_anew(cloud: Cloud, controller: str) -> None:
    """What a VM, the outside router and other VMs have forgotten, they find again."""
    for namespace, device in ((cloud.lab.fabric.outside, OUTSIDE_INTERFACE), (cloud.vms["a1"].namespace, INTERFACE)):
        netns.configure(namespace, f"neighbour flush dev {device}")
    assert not cloud.vms["a1"].ping(own(cloud.vms["a2"]), count=2).lost
    assert not cloud.vms["a1"].ping(FAR_HOST_IPV6, count=2).lost
    (known,) = [
        each for each in netns.query(cloud.lab.fabric.outside, "-6", "neighbour", "show")
        if each["dst"] == str(own(cloud.vms["a1"]))
    ]  # fmt: skip
    assert known["lladdr"].startswith("02:54:4c:01"), "the node's MAC, not the VM's"


def lies(attacker: Host, victim: Host) -> dict[str, tuple[Packet, Rule]]:
    router = attacker.icmp(
        ND_ROUTER_ADVERTISEMENT, ALL_NODES, group_mac(ALL_NODES), nw_ttl=255, ipv6_src=attacker.local
    )
    return {
        "source": (attacker.udp(victim.ip, victim.mac, ipv6_src=victim.ip ^ 1), Rule.DROP_SPOOFED),
        "link-local source": (attacker.udp(victim.ip, victim.mac, ipv6_src=ip6("fe80::1")), Rule.DROP_SPOOFED),
        "advertises the victim's": (attacker.advertises(victim.ip), Rule.DROP_ND_SPOOFED),
        "advertises the gateway": (attacker.advertises(GATEWAY), Rule.DROP_ND_SPOOFED),
        "another MAC": (attacker.advertises(attacker.ip, nd_tll=victim.mac), Rule.DROP_ND_SPOOFED),
        "asks with another MAC": (attacker.solicits(victim.ip, nd_sll=GATEWAY_MAC), Rule.DROP_ND_SPOOFED),
        "router": (router, Rule.DROP_ROUTER_ADVERTISEMENT),
        "DHCPv6 server": (attacker.udp(victim.local, victim.mac, 547, 546), Rule.DROP_DHCPV6_SERVER),
    }  # fmt: skip


def test_lies_are_dropped_by_name_and_heard_by_nobody(cloud: Cloud, controller: str) -> None:
    """On the same node and on another."""
    attacker, victim = cloud.host("a1"), cloud.host("a2")
    vm, tap = cloud.vms["a1"], cloud.taps["a1"]
    before = drops(vm.node)
    for watched in cloud.taps.values():
        watched.clear()
    made = lies(attacker, victim)
    sent = {name: encode(packet) for name, (packet, _) in made.items()}
    tap.send(*sent.values())
    honest = encode(attacker.udp(ALL_NODES, group_mac(ALL_NODES), payload=0x1234567890ABCDEF))
    tap.send(honest)
    for name in ("a2", "c1"):
        cloud.taps[name].wait_for(lambda frame: honest[14:] in frame, what=f"the honest frame at {name}")
        heard = [lie for lie, frame in sent.items() if any(frame[14:] in seen for seen in cloud.taps[name].frames())]
        assert not heard, (name, heard)
    for rule in {rule for _, rule in made.values()}:
        key = cloud.network_key if rule.value.about == "network" else attacker.key
        wait_dropped(vm.node, before, rule, sum(rule is each for _, each in made.values()), key)


def crooked(attacker: Host, victim: Host) -> dict[str, list[bytes]]:
    """What is not as it should be, so that one might take it for something else."""
    everybody = (ALL_NODES, group_mac(ALL_NODES))
    router = attacker.icmp(ND_ROUTER_ADVERTISEMENT, *everybody, nw_ttl=255, ipv6_src=attacker.local, payload=MARK)
    straight = {name: encode(packet.but(payload=MARK)) for name, (packet, _) in lies(attacker, victim).items()}
    straight["redirect"] = encode(
        attacker.icmp(ND_REDIRECT, victim.ip, victim.mac, nw_ttl=255, ipv6_src=GATEWAY, payload=MARK)
    )
    sent = {f"{name}, {behind}": [hidden(frame, behind)] for name, frame in straight.items() for behind in HIDING}
    long = encode(router.but(size=1400))
    sent["router, in parts"] = in_two(long, 1)
    sent["router, in small parts"] = in_two(encode(router), 2, 8)
    sent["router, in the second part"] = in_two(hidden(encode(router), "destination options"), 3, 8)
    other = victim.mac.to_bytes(6)
    sent["an option twice"] = [longer(encode(attacker.advertises(attacker.ip)), bytes((2, 1)) + other)]
    sent["an option twice, asked"] = [longer(encode(attacker.solicits(victim.ip)), bytes((1, 1)) + other)]
    sent["no payload"] = [(made := encode(router))[:18] + bytes(2) + made[20:]]
    jumbo = bytes((58, 0, 0xC2, 4)) + (1 << 16).to_bytes(4)  # RFC 2675
    sent["jumbo"] = [made[:18] + bytes(3) + made[21:54] + jumbo + made[54:]]
    sent["groups of another's"] = [encode(attacker.icmp(MLD2_REPORT, *everybody, nw_ttl=1, ipv6_src=victim.local))]
    sent["routed"] = [encode(attacker.solicits(victim.ip, nw_ttl=254))]
    return sent


def longer(frame: bytes, option: bytes) -> bytes:
    """With one more option; the checksum is wrong, which Open vSwitch does not look at."""
    return frame[:18] + (int.from_bytes(frame[18:20]) + len(option)).to_bytes(2) + frame[20:] + option


def test_what_is_crooked_is_heard_by_nobody(cloud: Cloud, controller: str) -> None:
    """RFC 6980, RFC 7113: behind other headers, in parts, with options and lengths that do not fit."""
    attacker, victim = cloud.host("a1"), cloud.host("a2")
    tap = cloud.taps["a1"]
    for watched in cloud.taps.values():
        watched.clear()
    sent = crooked(attacker, victim)
    tap.send(*(frame for parts in sent.values() for frame in parts))
    honest = [encode(attacker.udp(ALL_NODES, group_mac(ALL_NODES), payload=0x1234567890ABCDEF))]
    honest += in_two(encode(attacker.udp(victim.ip, victim.mac, payload=0x1234567890ABCDEF, size=1400)), 9)
    tap.send(*honest)
    cloud.taps["c1"].wait_for(lambda frame: honest[0][14:] in frame, what="the honest frame at c1")
    for frame in honest:
        cloud.taps["a2"].wait_for(lambda seen, frame=frame: frame[62:] in seen, what="honest frames and parts at a2")
    for name in ("a2", "c1"):
        seen = cloud.taps[name].frames()
        heard = [lie for lie, parts in sent.items() if any(part[14:] in each for part in parts for each in seen)]
        heard += [each.hex() for each in seen if MARK.to_bytes(8) in each]
        assert not heard, (name, heard)


def with_options(packet: Packet, *options: bytes) -> bytes:
    """Neighbour discovery with these options behind its own, and a right checksum."""
    frame = longer(encode(packet), b"".join(options))
    pseudo = frame[22:54] + (len(frame) - 54).to_bytes(4) + bytes((0, 0, 0, 58))
    return frame[:56] + checksum(pseudo + frame[54:56] + bytes(2) + frame[58:]).to_bytes(2) + frame[58:]


def test_threat_05_an_option_of_a_wrong_length_is_dropped_by_name(cloud: Cloud, controller: str) -> None:
    """Open vSwitch stops reading there, and shows the message as one without that option. A guest may read on."""
    attacker, victim = cloud.host("a1"), cloud.host("a2")
    forged = victim.mac.to_bytes(6)
    asks, says = attacker.solicits(victim.ip, nd_sll=0), attacker.advertises(attacker.ip, nd_tll=0)
    known, said = attacker.solicits(victim.ip), attacker.advertises(attacker.ip)
    probes, nonce = attacker.probes(attacker.ip), b"\x0e\1" + MARK.to_bytes(8)[:6]
    attack = [
        with_options(asks, b"\1\0" + forged),
        with_options(asks, b"\1\2" + forged),
        with_options(asks, b"\1\2" + forged + bytes(8)),
        with_options(asks, b"\1\1" + forged[:2]),
        with_options(asks, b"\5\0" + bytes(6), b"\1\1" + forged),
        with_options(known, b"\x0e\0" + forged),
        with_options(known, b"\1\2" + forged + bytes(8)),
        with_options(says, b"\2\0" + forged),
        with_options(says, b"\2\2" + forged + bytes(8)),
        with_options(said, b"\2\3" + forged),
        with_options(probes, nonce, b"\1\2" + forged),
        with_options(attacker.solicits(GATEWAY, nd_sll=0), b"\1\2" + forged + bytes(8)),
    ]
    tap, before = cloud.taps["a1"], drops(cloud.vms["a1"].node)
    for watched in cloud.taps.values():
        watched.clear()
    tap.send(*attack)
    allowed = [encode(asks), encode(known), encode(says), encode(said), encode(probes), with_options(probes, nonce)]
    tap.send(*allowed)
    for sent in allowed:
        cloud.taps["c1"].wait_for(lambda frame, sent=sent: frame[14:] == sent[14:], what=sent.hex())
    for name in ("a2", "c1"):
        seen = {frame[14:] for frame in cloud.taps[name].frames()}
        assert not [frame.hex() for frame in attack if frame[14:] in seen], name
    assert not [frame for frame in tap.frames() if frame[22:38] == GATEWAY.to_bytes(16)], "the gateway answered"
    wait_dropped(cloud.vms["a1"].node, before, Rule.DROP_ND_OPTION, len(attack), cloud.network_key)


def test_an_address_that_is_taken_is_not_even_probed_for(cloud: Cloud) -> None:
    """A guest that takes another's address: nobody hears of it."""
    vm, victim = cloud.vms["c1"], own(cloud.vms["a2"])
    before = drops(vm.node)
    netns.configure(vm.namespace, f"address add {victim}/64 dev {INTERFACE}")
    try:
        wait_dropped(vm.node, before, Rule.DROP_ND_SPOOFED, 1, int(vm.port["key"]))
    finally:
        netns.configure(vm.namespace, f"address delete {victim}/64 dev {INTERFACE}")
    assert reaches(cloud.vms["a1"], victim)


def test_a_router_on_the_wire_is_not_heard(cloud: Cloud, controller: str) -> None:
    attacker, node = cloud.host("a2"), cloud.vms["a1"].node
    rack = Tap(cloud.lab.fabric.rack, node.cable("physnet1"))
    before = drops(node)
    machine = 0x020000000099
    said = attacker.icmp(
        ND_ROUTER_ADVERTISEMENT, ALL_NODES, group_mac(ALL_NODES), nw_ttl=255,
        eth_src=machine, ipv6_src=ip6("fe80::99"), vlan_vid=0x1000 | 150,
    )  # fmt: skip
    claims = attacker.advertises(GATEWAY, eth_src=machine, ipv6_src=ip6("fe80::99"), vlan_vid=0x1000 | 150)
    try:
        rack.send(encode(said), encode(claims))
    finally:
        rack.close()
    wait_dropped(node, before, Rule.DROP_UPLINK_RA, 1, cloud.network_key)
    wait_dropped(node, before, Rule.DROP_UPLINK_GATEWAY, 1, cloud.network_key)
    assert {each.ipv6_configured().router for each in cloud.vms.values()} == {IPv6Address(GATEWAY)}


def udp_arrives(cloud: Cloud, source: str, port: int) -> bool:
    """True if a datagram of a VM gets to `web`, False if its group drops it."""
    sender, target, web = cloud.host(source), cloud.host("web"), cloud.vms["web"]
    frame = encode(sender.udp(target.ip, GATEWAY_MAC if sender.network != target.network else target.mac, port=port))
    refusal, tap, before = (Rule.DROP_INGRESS, target.key), cloud.taps["web"], drops(web.node)
    tap.clear()
    cloud.taps[source].send(frame)

    def arrived() -> bool:
        return any(frame[54:] in seen for seen in tap.frames())

    wait_until(lambda: arrived() or drops(web.node)[refusal] > before[refusal], 20, "it neither arrives nor is refused")
    return arrived()


def test_security_groups(cloud: Cloud, controller: str) -> None:
    """Open for pings of its own network, and for one port of members of a group; and for what it begins itself."""
    web, a1, b1 = (cloud.vms[name] for name in ("web", "a1", "b1"))
    assert reaches(a1, own(web))
    assert not reaches(b1, own(web))
    assert not ping(into(cloud.lab.fabric.far), own(web), count=1, wait=0.5).answered
    assert udp_arrives(cloud, "a1", 80) and udp_arrives(cloud, "b1", 80)
    assert not udp_arrives(cloud, "a1", 81) and not udp_arrives(cloud, "b1", 81)
    assert reaches(web, own(a1)) and reaches(web, own(b1)) and reaches(web, FAR_HOST_IPV6)


def test_a_rule_that_goes_and_comes(cloud: Cloud) -> None:
    lab, group, web, a1 = cloud.lab, cloud.groups["web"], cloud.vms["web"], cloud.vms["a1"]
    assert reaches(a1, own(web))
    (rule,) = [each for each in lab.client.get_security_group(group["id"])["rules"] if each["remote_cidr"] == str(BLUE)]
    lab.client.delete_security_group_rule(rule["id"])
    wait_until(lambda: not reaches(a1, own(web)), 20, "it is refused")
    assert udp_arrives(cloud, "a1", 80) and reaches(web, own(a1))
    add(lab, group, PINGED)
    wait_until(lambda: reaches(a1, own(web)), 20, "it is let in again")
