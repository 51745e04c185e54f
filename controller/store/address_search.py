"""Ports by an address of theirs, or part of one. All of it is done by the database, in time that no pattern can raise.

Patterns are of three kinds: an address or CIDR; one with `*` and `?`, for the whole address; and the regular
expressions that people used with nova-network, of `^`, `$`, `\\.`, `.` and `.*` alone, which match anywhere in it.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network
from typing import Final

from sqlalchemy import ColumnElement, String, cast, literal, or_, select

from controller.store.schema import addresses, floating_ips, ports
from controller.store.specs import Invalid

LONGEST: Final = 64

_GLOB = re.compile(r"[0-9.*?]+")
_LIKE: Final = {"*": "%", "?": "_"}
# in order: an escaped dot, any number of characters, any one character
_REGEX = re.compile(r"(?P<dot>\\\.)|(?P<any>\.\*)|(?P<one>\.)|(?P<digit>[0-9])")


def ports_with(pattern: str) -> ColumnElement[bool]:
    """The condition that a port has such a fixed or floating IP. Raises Invalid `address_pattern_invalid`."""
    network = _network(pattern)
    fixed, floating = addresses.c.address, floating_ips.c.address
    if network is not None:
        first, last = int(network[0]), int(network[-1])
        conditions = (fixed.between(first, last), floating.between(first, last))
    else:
        like = _like(pattern)
        conditions = (_text(fixed).like(like), _text(floating).like(like))
    return or_(
        ports.c.id.in_(select(addresses.c.port_id).where(addresses.c.port_id.is_not(None), conditions[0])),
        ports.c.id.in_(select(floating_ips.c.port_id).where(floating_ips.c.port_id.is_not(None), conditions[1])),
    )


def _network(pattern: str) -> IPv4Network | None:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+){3}(/[0-9]+)?", pattern):
        return None
    try:
        return IPv4Network(pattern, strict=False)
    except ValueError as error:
        raise _invalid(pattern, str(error)) from None


def _like(pattern: str) -> str:
    """The pattern in SQL's words."""
    if not pattern or len(pattern) > LONGEST:
        raise _invalid(pattern, f"it has 1 to {LONGEST} characters")
    # anything but a glob says so by one of these
    return _of_regex(pattern) if set(pattern) & set("^$\\") else _of_glob(pattern)


def _of_glob(pattern: str) -> str:
    if not _GLOB.fullmatch(pattern):
        raise _invalid(pattern, "an address, a CIDR, or digits and dots with * and ?")
    return "".join(_LIKE.get(char, char) for char in pattern)


def _of_regex(pattern: str) -> str:
    body = pattern.removeprefix("^").removesuffix("$")
    parts: list[str] = []
    position = 0
    while position < len(body):
        match = _REGEX.match(body, position)
        if match is None:
            raise _invalid(pattern, "of regular expressions only ^ $ \\. . and .* are known")
        match match.lastgroup:
            case "dot":
                parts.append(".")
            case "any":
                parts.append("%")
            case "one":
                parts.append("_")
            case _:
                parts.append(match[0])
        position = match.end()
    start = "" if pattern.startswith("^") else "%"
    end = "" if pattern.endswith("$") else "%"
    return f"{start}{''.join(parts)}{end}"


def _text(number: ColumnElement[int]) -> ColumnElement[str]:
    """The dotted text of an address."""
    octets = [cast(number.bitwise_rshift(shift).bitwise_and(255), String) for shift in (24, 16, 8, 0)]
    dot = literal(".")
    return octets[0].concat(dot).concat(octets[1]).concat(dot).concat(octets[2]).concat(dot).concat(octets[3])


def _invalid(pattern: str, why: str) -> Invalid:
    return Invalid("address_pattern_invalid", f"{pattern[:LONGEST]!r} is no address pattern: {why}", "address")
