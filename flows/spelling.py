"""Flows and meters in ovs-ofctl(8)'s spelling: what is told of them can be given to Open vSwitch as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from flows.fields import FIELDS
from flows.ir import (
    CheckLarger,
    Conjunction,
    Controller,
    Ct,
    CtClear,
    DecTtl,
    Flow,
    Goto,
    Learn,
    Meter,
    MeterConfig,
    Move,
    Nat,
    NoInPort,
    Output,
    OutputInPort,
    PopVlan,
    PushVlan,
    Restart,
    Resubmit,
    SetField,
    Swap,
)
from flows.protocols import ETH_ARP, ETH_IP, ETH_IPV6, PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP

_VLAN_PRESENT: Final = 0x1000
_LOCAL: Final = 0xFFFFFFFE


def flow_text(flow: Flow) -> str:
    """A line of a file that `ovs-ofctl -O OpenFlow14 add-flows` takes."""
    actions = ",".join(text for action in flow.actions for text in _SPELL[type(action)](action))
    match = "".join(f",{part}" for part in _match(flow))
    place = f"cookie={flow.cookie:#x},table={int(flow.table)},priority={int(flow.priority)}"
    return f"{place}{match} actions={actions or 'drop'}"


def meter_text(meter: MeterConfig) -> str:
    """What `ovs-ofctl -O OpenFlow14 add-meter` takes."""
    unit = "pktps" if meter.packets else "kbps"
    return f"meter={meter.id},{unit},burst,stats,bands=type=drop,rate={meter.rate},burst_size={meter.burst}"


def _match(flow: Flow) -> Iterator[str]:
    exact = {name: value for name, value, mask in flow.match if mask is None}
    protocol = _PROTOCOLS.get((exact.get("eth_type", 0), exact.get("ip_proto", 0)))
    for name, value, mask in flow.match:
        match name:
            case "eth_type":
                yield protocol or _PROTOCOLS.get((value, 0), f"eth_type={value:#x}")
            case "ip_proto" if protocol:
                continue
            case "ip_frag":
                yield f"ip_frag={_FRAGMENTS[value, 3 if mask is None else mask]}"
            case "ct_state" if mask is not None:
                yield "ct_state=" + "".join(
                    f"{'+' if value & bit else '-'}{flag}" for flag, bit in _STATES if mask & bit
                )
            case _ if mask is not None:
                spell = _ADDRESSES.get(name, hex)
                yield f"{FIELDS[name].ovs}={spell(value)}/{spell(mask)}"
            case _:
                yield f"{FIELDS[name].ovs}={_value(name, value)}"


# Ethernet type and IP protocol in one word
_PROTOCOLS: Final[Mapping[tuple[int, int], str]] = {
    (ETH_IP, 0): "ip",
    (ETH_ARP, 0): "arp",
    (ETH_IPV6, 0): "ipv6",
    (ETH_IP, PROTO_ICMP): "icmp",
    (ETH_IP, PROTO_TCP): "tcp",
    (ETH_IP, PROTO_UDP): "udp",
    (ETH_IPV6, PROTO_ICMPV6): "icmp6",
    (ETH_IPV6, PROTO_TCP): "tcp6",
    (ETH_IPV6, PROTO_UDP): "udp6",
}
_STATES: Final = tuple(
    (name, 1 << bit) for bit, name in enumerate(("new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"))
)
_FRAGMENTS: Final[Mapping[tuple[int, int], str]] = {
    (0, 3): "no",
    (1, 3): "first",
    (3, 3): "later",
    (1, 1): "yes",
    (0, 1): "no",
    (0, 2): "not_later",
    (2, 2): "later",
}


def _mac(value: int) -> str:
    return ":".join(f"{byte:02x}" for byte in value.to_bytes(6))


def _port(value: int) -> str:
    return "LOCAL" if value == _LOCAL else str(value)


_ADDRESSES: Final[Mapping[str, Callable[[int], str]]] = {
    **dict.fromkeys(("eth_dst", "eth_src", "arp_sha", "arp_tha", "nd_sll", "nd_tll"), _mac),
    **dict.fromkeys(
        ("ip_src", "ip_dst", "arp_spa", "arp_tpa", "ct_nw_src", "ct_nw_dst"), lambda it: str(IPv4Address(it))
    ),
    **dict.fromkeys(
        ("ipv6_src", "ipv6_dst", "nd_target", "ct_ipv6_src", "ct_ipv6_dst"), lambda it: str(IPv6Address(it))
    ),
}
_DECIMALS: Final = (
    *("nw_ttl", "ip_dscp", "ip_proto", "tcp_src", "tcp_dst", "udp_src", "udp_dst", "icmp_type", "icmp_code"),
    *("icmpv6_type", "icmpv6_code", "nd_options_type", "arp_op", "ct_zone", "ct_nw_proto", "ct_tp_src", "ct_tp_dst"),
    "conj_id",
)
_VALUES: Final[Mapping[str, Callable[[int], str]]] = {**_ADDRESSES, **dict.fromkeys(_DECIMALS, str), "in_port": _port}


def _value(name: str, value: int) -> str:
    spell = _VALUES.get(name)
    return hex(value) if spell is None else spell(value)


def _set(name: str, value: int) -> str:
    return f"set_field:{_value(name, value)}->{FIELDS[name].ovs}"


def _push_vlan(action: PushVlan) -> Iterator[str]:
    yield "push_vlan:0x8100"
    yield _set("vlan_vid", action.vid | _VLAN_PRESENT)


def _swap(action: Swap) -> Iterator[str]:
    for step in ("push", "pop"):
        for name in (action.first, action.second):
            yield f"{step}:{FIELDS[name].ovs}[]"


def _controller(action: Controller) -> Iterator[str]:
    yield f"controller(max_len={action.max_len}" + (f",meter_id={action.meter})" if action.meter else ")")


def _ct(action: Ct) -> Iterator[str]:
    parts = [name for name, given in (("commit", action.commit), ("force", action.force)) if given]
    if action.table is not None:
        parts.append(f"table={int(action.table)}")
    zone = action.zone
    parts.append(f"zone={zone}" if isinstance(zone, int) else f"zone={FIELDS[zone].ovs}[0..15]")
    if action.nat is not None:
        parts.append(_nat(action.nat))
    elif action.translate:
        parts.append("nat")
    if action.mark is not None:
        value, mask = action.mark
        first = (mask & -mask).bit_length() - 1
        parts.append(f"exec(load:{value >> first:#x}->ct_mark[{first}..{mask.bit_length() - 1}])")
    yield f"ct({','.join(parts)})"


def _nat(nat: Nat) -> str:
    end = "dst" if nat.destination else "src"
    if nat.family == ETH_IPV6:
        address = str(IPv6Address(nat.address))
        address = f"[{address}]" if nat.ports else address
    else:
        address = str(IPv4Address(nat.address))
    ports = "" if nat.ports is None else f":{nat.ports[0]}-{nat.ports[1]}"
    return f"nat({end}={address}{ports})"


def _learn(action: Learn) -> Iterator[str]:
    parts = [f"table={int(action.table)}"]
    parts += [f"{name}={value}" for name, value in (
        ("idle_timeout", action.idle_timeout), ("hard_timeout", action.hard_timeout)) if value]  # fmt: skip
    parts += [f"priority={int(action.priority)}", f"cookie={action.cookie:#x}"]
    if action.limit:
        parts.append(f"limit={action.limit}")
    for target, source in action.match:
        name = FIELDS[target].ovs
        parts.append(
            f"{name}={_value(target, source)}" if isinstance(source, int) else f"{name}[]={FIELDS[source].ovs}[]"
        )
    parts += [f"load:{FIELDS[source].ovs}[]->{FIELDS[target].ovs}[]" for source, target in action.load]
    yield f"learn({','.join(parts)})"


def _restart(action: Restart) -> Iterator[str]:
    yield from _SPELL[NoInPort](action)
    yield f"resubmit(,{int(action.table)})"


# what each kind of action is, in one word or several
_SPELL: Final[Mapping[type, Callable[[Any], Iterator[str]]]] = {
    SetField: lambda action: iter((_set(action.field, action.value),)),
    Move: lambda action: iter((f"move:{FIELDS[action.source].ovs}[]->{FIELDS[action.target].ovs}[]",)),
    Swap: _swap,
    Output: lambda action: iter((f"output:{_port(action.port)}",)),
    OutputInPort: lambda action: iter(("IN_PORT",)),
    Controller: _controller,
    PushVlan: _push_vlan,
    PopVlan: lambda action: iter(("pop_vlan",)),
    DecTtl: lambda action: iter(("dec_ttl",)),
    Ct: _ct,
    CtClear: lambda action: iter(("ct_clear",)),
    Resubmit: lambda action: iter((f"resubmit(,{int(action.table)})",)),
    Restart: _restart,
    NoInPort: lambda action: iter(("load:0->NXM_OF_IN_PORT[]",)),
    CheckLarger: lambda action: iter((f"check_pkt_larger({action.size})->{action.register}[{action.bit}]",)),
    Learn: _learn,
    Conjunction: lambda action: iter((f"conjunction({action.id},{action.clause}/{action.clauses})",)),
    Meter: lambda action: iter((f"meter:{action.id}",)),
    Goto: lambda action: iter((f"goto_table:{int(action.table)}",)),
}
