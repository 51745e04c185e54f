"""Laws that hold for every IPv6 frame that a VM may send, each into what the earlier ones left behind."""

from __future__ import annotations

import random

import pytest

from flows.fabric import Fabric, Journey
from flows.packet import Packet, packet
from flows.pipeline import GATEWAY_MAC, ROUTED_GROUP_MAC, node_mac, teacher_mac
from flows.protocols import (
    ETH_IPV6,
    ND_ADVERTISEMENT,
    ND_REDIRECT,
    ND_ROUTER_ADVERTISEMENT,
    ND_SOLICITATION,
    PROTO_ICMPV6,
    PROTO_TCP,
    PROTO_UDP,
)
from flows.simulate import Reason
from tests.simulate.cloud import EXTERNAL_PHYSNET
from tests.simulate.ipv6 import ALL_NODES, GATEWAY, HOSTS, SERVER6, Host, fabric6, group_mac, ip6, send6

_MACS = [*(host.mac for host in HOSTS), GATEWAY_MAC, node_mac(1), node_mac(2), teacher_mac(2), ROUTED_GROUP_MAC]
_OWN = {host.key: {host.ip, host.local} for host in HOSTS}
_GATEWAYS = {"net-blue": ip6("2001:db8:20::1"), "net-blue2": ip6("2001:db8:21::1"), "net-red": ip6("2001:db8:40::1")}
_ADDRESSES = [*(address for own in _OWN.values() for address in sorted(own)), *_GATEWAYS.values()]
_ADDRESSES += [GATEWAY, 0, SERVER6, ALL_NODES]
_KINDS = [1, 2, 128, 128, 129, 130, 131, 132, 133, 134, 135, 135, 135, 136, 136, 136, 137, 143, 7]
_PROTOCOLS = [PROTO_ICMPV6, PROTO_ICMPV6, PROTO_ICMPV6, PROTO_UDP, PROTO_TCP, 59]
_BY_ROUTER = {"net-blue": {"net-blue", "net-blue2"}, "net-blue2": {"net-blue", "net-blue2"}, "net-red": {"net-red"}}
_PLACES = {(host.node, host.ofport): host for host in HOSTS}


def frame(dice: random.Random, sender: Host) -> Packet:
    """Mostly right, so that it gets somewhere, with a few fields of anybody's."""
    fields: dict[str, int] = {"eth_type": ETH_IPV6, "eth_src": sender.mac, "ip_proto": dice.choice(_PROTOCOLS)}
    fields |= {"ipv6_src": dice.choice([sender.ip, sender.local]), "ipv6_dst": dice.choice(_ADDRESSES)}
    fields["eth_dst"] = dice.choice([GATEWAY_MAC, group_mac(fields["ipv6_dst"]), *_MACS])
    fields["nw_ttl"] = dice.choice([255, 255, 64, 2, 1, 0])
    if dice.random() < 0.1:
        fields["ip_frag"] = dice.choice([1, 3])
    elif fields["ip_proto"] == PROTO_ICMPV6:
        fields |= {"icmpv6_type": dice.choice(_KINDS), "icmpv6_code": dice.choice([0, 0, 0, 1])}
        if fields["icmpv6_type"] in (ND_SOLICITATION, ND_ADVERTISEMENT) and not fields["icmpv6_code"]:
            fields["nd_target"] = dice.choice(_ADDRESSES)
            address = dice.choice([sender.mac, 0, *_MACS])
            fields["nd_sll" if fields["icmpv6_type"] == ND_SOLICITATION else "nd_tll"] = address
    elif fields["ip_proto"] == PROTO_UDP:
        fields |= {"udp_src": dice.choice([546, 547, 9]), "udp_dst": dice.choice([546, 547, 9])}
    if dice.random() < 0.2:
        fields["ipv6_src"] = dice.choice(_ADDRESSES)
    if dice.random() < 0.1:
        fields["eth_src"] = dice.choice(_MACS)
    return packet(**fields)


def lies(sender: Host, sent: Packet) -> bool:
    """Whether it is from another than the sender, or about one."""
    if sent["eth_src"] != sender.mac or sent["ipv6_src"] not in {*_OWN[sender.key], 0}:
        return True
    kind = sent.get("icmpv6_type")
    if kind in (ND_ROUTER_ADVERTISEMENT, ND_REDIRECT) or sent.get("udp_dst") == 546:
        return True
    if kind in (ND_SOLICITATION, ND_ADVERTISEMENT) and sent["icmpv6_code"]:
        return True
    if kind == ND_ADVERTISEMENT:
        return sent["nd_target"] not in _OWN[sender.key] or sent["nd_tll"] not in (sender.mac, 0)
    if kind == ND_SOLICITATION:
        probe = sent["ipv6_src"] == 0
        return sent["nd_sll"] not in (sender.mac, 0) or (probe and sent["nd_target"] not in _OWN[sender.key])
    return False


def hold(sender: Host, sent: Packet, journey: Journey) -> None:
    if lies(sender, sent):
        assert (journey.delivered, journey.wire, journey.punts) == ((), (), ())
    receivers = [_PLACES.get((one.node, one.ofport)) for one in journey.delivered]
    assert {one.network for one in receivers if one} <= _BY_ROUTER[sender.network]
    places = [(one.node, one.ofport) for one in journey.delivered]
    assert len(places) == len(set(places))
    for on_wire in journey.wire:
        assert on_wire.packet["eth_src"] != GATEWAY_MAC
        assert on_wire.packet.get("nd_target") not in (GATEWAY, _GATEWAYS[sender.network])
        if on_wire.physical_network == EXTERNAL_PHYSNET:
            assert on_wire.node == sender.node and on_wire.packet["eth_src"] == node_mac(int(sender.node[1:]))
            assert on_wire.packet["ipv6_src"] == sender.ip
    for hop in journey.hops:
        drop = hop.result.drop
        if drop is not None and sent["eth_dst"] != sender.mac:
            assert drop.reason is Reason.RULE and drop.rule is not None and drop.rule.drop, drop


@pytest.mark.parametrize("seed", range(8))
def test_laws_hold_while_everybody_talks_at_once(seed: int) -> None:
    dice = random.Random(seed)
    through: Fabric = fabric6()
    arrived = lied = 0
    for _ in range(300):
        sender = dice.choice(HOSTS)
        sent = frame(dice, sender)
        journey = send6(sender, sent, through)
        hold(sender, sent, journey)
        through = journey.after
        arrived += bool(journey.delivered)
        lied += lies(sender, sent)
    assert arrived > 5 and lied > 50
