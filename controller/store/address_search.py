"""Ports by an address of theirs, or part of one. All of it is done by the database, in time that no pattern can raise.

Patterns are of three kinds: an address or CIDR; one with `*` and `?`, for the whole address; and the regular
expressions that people used with nova-network, of `^`, `$`, `\\.`, `.` and `.*` alone, which match anywhere in it. One
with a colon is about IPv6 addresses, as they are usually written (RFC 5952).
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, String, cast, literal, or_, select

from controller.store.ipv6_schema import ipv6_addresses
from controller.store.schema import addresses, floating_ips, ports
from controller.store.specs import Invalid

LONGEST: Final = 64

_LIKE: Final = {"*": "%", "?": "_"}


class _Syntax(NamedTuple):
    glob: re.Pattern[str]
    regex: re.Pattern[str]

    @staticmethod
    def of(digits: str) -> _Syntax:
        # in order: an escaped dot, any number of characters, any one character
        parts = rf"(?P<dot>\\\.)|(?P<any>\.\*)|(?P<one>\.)|(?P<digit>[{digits}])"
        return _Syntax(re.compile(rf"[{digits}.*?]+"), re.compile(parts))


_IPV4: Final = _Syntax.of("0-9")
_IPV6: Final = _Syntax.of("0-9a-f:")


def ports_with(pattern: str) -> ColumnElement[bool]:
    """The condition that a port has such a fixed or floating IP. Raises Invalid `address_pattern_invalid`."""
    if ":" in pattern:
        of_ports = ipv6_addresses.c.port_id.is_not(None)
        return ports.c.id.in_(select(ipv6_addresses.c.port_id).where(of_ports, _ipv6(pattern.lower())))
    network = _network(pattern)
    fixed, floating = addresses.c.address, floating_ips.c.address
    if network is not None:
        first, last = int(network[0]), int(network[-1])
        conditions = (fixed.between(first, last), floating.between(first, last))
    else:
        like = _like(pattern, _IPV4)
        conditions = (_text(fixed).like(like), _text(floating).like(like))
    return or_(
        ports.c.id.in_(select(addresses.c.port_id).where(addresses.c.port_id.is_not(None), conditions[0])),
        ports.c.id.in_(select(floating_ips.c.port_id).where(floating_ips.c.port_id.is_not(None), conditions[1])),
    )


def _ipv6(pattern: str) -> ColumnElement[bool]:
    if re.fullmatch(r"[0-9a-f:]+(/[0-9]+)?", pattern):
        try:
            network = IPv6Network(pattern, strict=False)
        except ValueError as error:
            raise _invalid(pattern, str(error)) from None
        return ipv6_addresses.c.address.between(network[0], network[-1])
    return ipv6_addresses.c.shown.like(_like(pattern, _IPV6))


def _network(pattern: str) -> IPv4Network | None:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+){3}(/[0-9]+)?", pattern):
        return None
    try:
        return IPv4Network(pattern, strict=False)
    except ValueError as error:
        raise _invalid(pattern, str(error)) from None


def _like(pattern: str, syntax: _Syntax) -> str:
    """The pattern in SQL's words."""
    if not pattern or len(pattern) > LONGEST:
        raise _invalid(pattern, f"it has 1 to {LONGEST} characters")
    # anything but a glob says so by one of these
    return _of_regex(pattern, syntax) if set(pattern) & set("^$\\") else _of_glob(pattern, syntax)


def _of_glob(pattern: str, syntax: _Syntax) -> str:
    if not syntax.glob.fullmatch(pattern):
        raise _invalid(pattern, "an address, a CIDR, or digits and dots or colons with * and ?")
    return "".join(_LIKE.get(char, char) for char in pattern)


def _of_regex(pattern: str, syntax: _Syntax) -> str:
    body = pattern.removeprefix("^").removesuffix("$")
    parts: list[str] = []
    position = 0
    while position < len(body):
        match = syntax.regex.match(body, position)
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
