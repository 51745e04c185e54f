"""What Open vSwitch says to `ofproto/trace` and `ofproto/trace-packet-out` (ovs-vswitchd(8)), read.

Nothing here believes it to be sound: a hostile node may say anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import takewhile
from typing import Final

from flows.explain.following import nothing
from flows.explain.probe import WATCHED, Lookup
from flows.explain.target import Address
from flows.fields import FIELDS
from flows.protocols import VLAN_PRESENT

_BRIDGE: Final = re.compile(r'^ *bridge\("(.*)"\)$')
# a flow whose cookie is 0 is shown without one
_LOOKUP: Final = re.compile(
    r"^ *(?P<table>\d{1,3})\. "
    r"(?:(?P<miss>No match)|.*?(?:priority (?P<priority>\d{1,5}))?(?:, cookie (?P<cookie>0x[0-9a-f]+))?$)"
)
_OUTPUT: Final = re.compile(r"^ +output:(\d{1,5})$")
_TRANSLATION: Final = re.compile(
    r"\bnat\((?:src|dst)=(?:([0-9]{1,3}(?:\.[0-9]{1,3}){3})|\[?([0-9a-f:.]{2,39})\]?)(?::\d{1,5}(?:-\d{1,5})?)?[,)]"
)
_RECIRCULATED: Final = "recirc(0x"
_FLOW: Final = "Flow: "
_FINAL: Final = "Final flow: "
_UNCHANGED: Final = "unchanged"
_ACTIONS: Final = "Datapath actions: "
_TURN: Final = 128  # lines, much less than a millisecond


@dataclass(frozen=True, slots=True)
class Told:
    """`lookups`, and `outputs`, `translations` of the flows: of the bridge where the packet has come in. `after`: what
    there is in the end, None where that cannot be read.
    """

    lookups: tuple[Lookup, ...]
    outputs: frozenset[int]
    translations: frozenset[Address]
    after: Mapping[str, int] | None
    actions: tuple[str, ...]


def parse(output: str, turn: Callable[[], None] = nothing) -> Told:
    """Until conntrack has it: a trace goes on from there as it thinks fit. `turn` as of
    `flows.explain.explain.Explainer`.
    """
    lines = list(takewhile(lambda line: not line.startswith(_RECIRCULATED), output.split("\n")))
    lookups: list[Lookup] = []
    outputs: set[int] = set()
    translations: set[Address] = set()
    for line in _of_first_bridge(lines, turn):
        if (lookup := _lookup(line)) is not None:
            lookups.append(lookup)
        elif (found := _OUTPUT.match(line)) is not None:
            outputs.add(int(found[1]))
        translations.update(_translations(line))
    return Told(
        tuple(lookups),
        frozenset(outputs),
        frozenset(translations),
        _after(lines),
        tuple(line.removeprefix(_ACTIONS) for line in lines if line.startswith(_ACTIONS)),
    )


def _of_first_bridge(lines: list[str], turn: Callable[[], None]) -> Iterator[str]:
    """What other bridges do with the packet stands among it, further to the right; or at the left, and then last."""
    first: str | None = None
    elsewhere: int | None = None  # as far to the right
    for number, line in enumerate(lines):
        if number % _TURN == 0:
            turn()
        header = _BRIDGE.match(line)
        indent = len(line) - len(line.lstrip(" "))
        if header is not None:
            first = first or header[1]
            if header[1] == first:
                elsewhere = None
            elif elsewhere is None:
                elsewhere = indent
            continue
        if elsewhere and indent <= elsewhere and line and line[indent : indent + 1] != "-":
            elsewhere = None
        if first is not None and elsewhere is None:
            yield line


def _lookup(line: str) -> Lookup | None:
    found = _LOOKUP.match(line)
    if found is None:
        return None
    if found["miss"]:
        return Lookup(int(found["table"]), None)
    return Lookup(int(found["table"]), int(found["cookie"] or "0", 16), int(found["priority"] or 0))


def _translations(line: str) -> Iterator[Address]:
    for found in _TRANSLATION.finditer(line):
        try:
            yield ip_address(found[1] or found[2])
        except ValueError:
            continue


def _after(lines: list[str]) -> dict[str, int] | None:
    final = next((line.removeprefix(_FINAL) for line in lines if line.startswith(_FINAL)), None)
    if final == _UNCHANGED:
        final = next((line.removeprefix(_FLOW) for line in lines if line.startswith(_FLOW)), None)
    if final is None:
        return None
    shown = dict(part.partition("=")[::2] for part in final.split(","))
    try:
        return {name: _value(name, shown) for name in WATCHED}
    except ValueError:
        return None


def _value(name: str, shown: Mapping[str, str]) -> int:
    """0 where it is not shown. Raises ValueError."""
    if name == "vlan_vid":
        tag = shown.get("dl_vlan")
        value = 0 if tag is None else VLAN_PRESENT | int(tag)
    else:
        text = shown.get(FIELDS[name].ovs, "0")
        value = _FORMS.get(name, _number)(text) if text != "0" else 0
    if value < 0 or value >> FIELDS[name].bits:
        raise ValueError(f"{name}={value:#x}")
    return value


def _number(text: str) -> int:
    return int(text, 0)


def _mac(text: str) -> int:
    return int(text.replace(":", ""), 16)


def _address(text: str) -> int:
    return int(ip_address(text))


_FORMS: Final[Mapping[str, Callable[[str], int]]] = {
    **dict.fromkeys(("eth_src", "eth_dst"), _mac),
    **dict.fromkeys(("ip_src", "ip_dst", "ipv6_src", "ipv6_dst"), _address),
}
