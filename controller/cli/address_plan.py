"""Files with address plans, CSV or YAML: read with the line of each entry, and written alike.

An entry is a dictionary as POST /v1/address-plans takes it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from controller.cli.subnet import Ipv6Mode
from controller.client import Object

COLUMNS = ("kind", "network", "address", "mac", "name", "hostname", "project", "device_id")
"""Of CSV. The first three are needed."""

NEEDED = COLUMNS[:3]
PORT, RESERVED = "port", "reserved"
_PORT_FIELDS = ("address", "mac", "name", "hostname", "project", "device_id")


class PlanFormat(StrEnum):
    CSV = "csv"
    YAML = "yaml"


@dataclass(frozen=True, slots=True)
class Entry:
    line: int
    fields: Object


@dataclass(frozen=True, slots=True)
class Mistake:
    line: int
    message: str


@dataclass(slots=True)
class Plan:
    entries: list[Entry]
    mistakes: list[Mistake]


def format_of(path: Path) -> PlanFormat:
    """By the name of the file: YAML if it ends so, else CSV."""
    return PlanFormat.YAML if path.suffix.lower() in (".yaml", ".yml") else PlanFormat.CSV


def read(text: str, format_: PlanFormat) -> Plan:
    """What the text says, and every mistake of form in it."""
    return _read_csv(text) if format_ is PlanFormat.CSV else _read_yaml(text)


def _entry(values: Mapping[str, str]) -> Object:
    """The words of files in those of the API. What is empty is left out."""
    fields = {("project_id" if name == "project" else name): value for name, value in values.items() if value}
    return dict(fields)


# CSV (RFC 4180), with a line of titles. Empty lines and those that begin with # say nothing.


def _read_csv(text: str) -> Plan:
    plan = Plan([], [])
    lines = text.removeprefix("\ufeff").splitlines()
    kept = [(number, line) for number, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    if not kept:
        plan.mistakes.append(Mistake(1, "there is no line of titles"))
        return plan
    rows: list[tuple[int, list[str]]] = []
    for number, line in kept:
        try:
            rows.append((number, [cell.strip() for cell in next(csv.reader([line], strict=True))]))
        except csv.Error as error:
            plan.mistakes.append(Mistake(number, str(error)))
    if not rows:
        return plan
    number, titles = rows.pop(0)
    unknown = [title for title in titles if title not in COLUMNS]
    missing = [title for title in NEEDED if title not in titles]
    if unknown or missing or len(set(titles)) < len(titles):
        what = f"unknown: {', '.join(unknown)}" if unknown else f"missing: {', '.join(missing)}"
        what = what if unknown or missing else "one is there twice"
        plan.mistakes.append(Mistake(number, f"the titles are {', '.join(COLUMNS)} ({what})"))
        return plan
    for number, cells in rows:
        if len(cells) != len(titles):
            plan.mistakes.append(Mistake(number, f"{len(cells)} fields under {len(titles)} titles"))
            continue
        _add(plan, number, dict(zip(titles, cells, strict=True)))
    return plan


def _add(plan: Plan, line: int, values: Mapping[str, str]) -> None:
    empty = [name for name in NEEDED if not values.get(name)]
    if empty:
        plan.mistakes.append(Mistake(line, f"{', '.join(empty)}: is needed"))
    elif values["kind"] not in (PORT, RESERVED):
        plan.mistakes.append(Mistake(line, f"kind is {PORT} or {RESERVED}, not {values['kind']!r}"))
    else:
        plan.entries.append(Entry(line, _entry(values)))


# YAML: `networks`, by name: `reserved`, a list of addresses and ranges, and `ports`, a list of mappings.


def _read_yaml(text: str) -> Plan:
    import yaml

    plan = Plan([], [])
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        plan.mistakes.append(Mistake(line, str(error.problem or "is no YAML")))
        return plan
    except RecursionError:
        plan.mistakes.append(Mistake(1, "is nested too deeply"))
        return plan
    except yaml.YAMLError as error:
        plan.mistakes.append(Mistake(1, " ".join(str(error).split())))
        return plan
    for name, node in _members(plan, root, "networks: and below it the networks by name"):
        if name != "networks":
            plan.mistakes.append(Mistake(_line(node), f"{name}: only 'networks' is known here"))
            continue
        for network, parts in _members(plan, node, "networks by name"):
            _read_network(plan, network, parts)
    return plan


def _read_network(plan: Plan, network: str, parts: Any) -> None:
    for name, items in _members(plan, parts, f"{RESERVED} and ports"):
        if name not in (RESERVED, "ports"):
            plan.mistakes.append(Mistake(_line(items), f"{name}: only 'reserved' and 'ports' are known here"))
            continue
        if items.id != "sequence":
            plan.mistakes.append(Mistake(_line(items), f"{name} is a list"))
            continue
        for item in items.value:
            if name == RESERVED:
                if item.id == "scalar":
                    _add(plan, _line(item), {"kind": RESERVED, "network": network, "address": item.value})
                else:
                    plan.mistakes.append(Mistake(_line(item), "an address or FIRST-LAST"))
                continue
            values = {"kind": PORT, "network": network}
            sound = len(plan.mistakes)
            for field, value in _members(plan, item, f"a port with {', '.join(_PORT_FIELDS)}"):
                if field not in _PORT_FIELDS:
                    plan.mistakes.append(Mistake(_line(value), f"{field}: ports have {', '.join(_PORT_FIELDS)}"))
                elif value.id != "scalar":
                    plan.mistakes.append(Mistake(_line(value), f"{field} is one value"))
                elif value.tag != "tag:yaml.org,2002:null":
                    values[field] = value.value
            if len(plan.mistakes) == sound:
                _add(plan, _line(item), values)


def _members(plan: Plan, node: Any, what: str) -> Iterator[tuple[str, Any]]:
    """The members of a mapping; a mistake where it is none."""
    if node is None or node.id != "mapping":
        plan.mistakes.append(Mistake(1 if node is None else _line(node), f"must be {what}"))
        return
    seen: set[str] = set()
    for key, value in node.value:
        if key.id != "scalar":  # nor could it be looked for
            plan.mistakes.append(Mistake(_line(key), f"must be {what}"))
            continue
        if key.value in seen:
            plan.mistakes.append(Mistake(_line(key), f"{key.value}: is there twice"))
            continue
        seen.add(key.value)
        yield key.value, value


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


# writing


def entries_of(network: Object, ports: Sequence[Object]) -> list[dict[str, str]]:
    """What a network reserves, and its ports, as `read` takes it; of IPv6 the addresses that follow from no MAC."""
    subnets = network.get("subnets") or ()
    found = [
        {"kind": RESERVED, "network": network["name"], "address": _span(span)}
        for subnet in subnets
        for span in subnet.get("reserved") or ()
        if subnet.get("ipv6_mode") is None
    ]
    by_mac = {subnet.get("id") for subnet in subnets if subnet.get("ipv6_mode") not in (None, Ipv6Mode.STATEFUL)}
    for port in ports:
        for fixed_ip in port.get("fixed_ips") or ():
            if fixed_ip.get("subnet_id") in by_mac:
                continue
            found.append(
                {
                    "kind": PORT,
                    "network": network["name"],
                    "address": fixed_ip["address"],
                    "mac": port["mac"],
                    "name": port.get("name") or "",
                    "hostname": port.get("hostname") or "",
                    "project": port.get("project_id") or "",
                    "device_id": port.get("device_id") or "",
                }
            )
    return found


def _span(span: Mapping[str, str]) -> str:
    return span["first"] if span["first"] == span["last"] else f"{span['first']}-{span['last']}"


def write(entries: Sequence[Mapping[str, str]], format_: PlanFormat) -> str:
    if format_ is PlanFormat.CSV:
        out = io.StringIO()
        writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(entries)
        return out.getvalue()
    import yaml

    networks: dict[str, dict[str, list[Any]]] = {}
    for entry in entries:
        of = networks.setdefault(entry["network"], {})
        if entry["kind"] == RESERVED:
            of.setdefault(RESERVED, []).append(entry["address"])
        else:
            of.setdefault("ports", []).append({name: entry[name] for name in _PORT_FIELDS if entry.get(name)})
    return str(yaml.safe_dump({"networks": networks}, sort_keys=False, default_flow_style=False))
