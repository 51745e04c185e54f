"""tc(8) rules at the far end of the service port: they write neighbour advertisements, and send them back.

The kernel's datapath can write neither the flags of an advertisement nor the type of its option (RFC 4861 §4.4 and
§4.6.1). So the flows send it round the service port, where traffic control does: flows/features/nd_tc.py. The rules
are the kernel's, and work without the agent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import product

from agent import links
from flows.pipeline import nd_code
from flows.protocols import (
    ND_ADVERTISEMENT,
    ND_IS_ROUTER,
    ND_OVERRIDE,
    ND_SOLICITED,
    ND_SOURCE_ADDRESS,
    ND_TARGET_ADDRESS,
    PROTO_ICMPV6,
)

MODULES = "sch_ingress, cls_u32, act_pedit, act_csum and act_mirred"

_FLAGS = (ND_IS_ROUTER | ND_SOLICITED | ND_OVERRIDE, ND_SOLICITED | ND_OVERRIDE, ND_OVERRIDE)
# octets, from the IPv6 header on
_NEXT_HEADER, _TYPE, _CODE, _ADVERTISEMENT_FLAGS, _OPTION = 6, 40, 41, 44, 64


def keep(device: str, namespace: str) -> None:
    """Put the rules in place unless they are there. Raises links.CommandError."""
    rules = list(_rules(device))
    mark = hashlib.blake2b("\n".join(rules).encode(), digest_size=8).hexdigest()
    held = links.traffic_control(namespace, "filter", "show", "dev", device, "ingress")
    if held.count(f"cookie {mark}") == len(rules):
        return
    links.traffic_control(namespace, "qdisc", "delete", "dev", device, "ingress", check=False)
    lines = [f"qdisc add dev {device} ingress", *(rule.format(mark=mark) for rule in rules)]
    links.traffic_control(namespace, "-batch", "-", text="".join(f"{line}\n" for line in lines))


def _rules(device: str) -> Iterator[str]:
    """Yield two rules for each octet of flags: where the solicitation had a source address option, and where not."""
    for pref, (flags, option) in enumerate(product(map(nd_code, _FLAGS), (True, False)), 1):
        is_it = {_NEXT_HEADER: PROTO_ICMPV6, _TYPE: ND_ADVERTISEMENT, _CODE: flags}
        becomes = {_CODE: 0, _ADVERTISEMENT_FLAGS: flags}
        if option:
            is_it[_OPTION] = ND_SOURCE_ADDRESS
            becomes[_OPTION] = ND_TARGET_ADDRESS
        match = " ".join(f"match u8 {value} 0xff at {octet}" for octet, value in is_it.items())
        write = " ".join(f"munge offset {octet} u8 set {value}" for octet, value in becomes.items())
        yield (
            f"filter add dev {device} ingress pref {pref} protocol ipv6 u32 {match}"
            f" action pedit {write} pipe action csum icmp pipe"
            f" action mirred egress redirect dev {device} cookie {{mark}}"
        )
