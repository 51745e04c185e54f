"""What names and the data of DNS records may look like. A normal form comes out, so that equal ones are equal texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from flows.model import RecordType

MAX_NAME: Final = 253
"""Characters of a whole name (RFC 1035, 2.3.4: 255 octets with the length of each label and of the root)."""

MAX_TEXT: Final = 1024
LEAST_TTL: Final = 0
MOST_TTL: Final = 2**31 - 1
"""RFC 2181, 8."""

APEX: Final = "@"
"""The zone's own name, relative to it."""

_HOST_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
# what is no host may begin with an underscore (RFC 8552), and does elsewhere, too
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"{_HOST_LABEL}(\.{_HOST_LABEL})*")
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,4}")
_HOSTS = frozenset({RecordType.A, RecordType.AAAA})


def zone_name(text: str) -> str:
    """A zone's name in lower case, without the dot at its end. Raises ValueError."""
    name = text.lower().removesuffix(".")
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise ValueError(
            "must be labels of 1 to 63 letters, digits, hyphens and underscores, joined by dots, "
            f"{MAX_NAME} characters at most"
        )
    return name


def whole_name(name: str, zone: str, type_: RecordType) -> str:
    """The whole name of a record that is called `name` within a zone: `@` is the zone's own. Raises ValueError."""
    relative = name.lower()
    if relative == APEX:
        return zone
    pattern, what = (_HOST, "") if type_ in _HOSTS else (_NAME, " and underscores")
    if not pattern.fullmatch(relative):
        raise ValueError(
            f"must be labels of 1 to 63 letters, digits and hyphens{what}, joined by dots: it is within the zone, "
            f"whose own name is {APEX}"
        )
    whole = f"{relative}.{zone}"
    if len(whole) > MAX_NAME:
        raise ValueError(f"has more than {MAX_NAME} characters together with the zone's name")
    return whole


def relative_name(name: str, zone: str) -> str:
    """What `whole_name` was given."""
    return APEX if name == zone else name.removesuffix(f".{zone}")


def normal_data(type_: RecordType, text: str) -> str:
    """The data of a record, as flows.model.DnsRecord holds it. Raises ValueError."""
    return _NORMAL[type_](text)


def _ipv4(text: str) -> str:
    try:
        return str(IPv4Address(text))
    except ValueError:
        raise ValueError("must be an IPv4 address such as 192.0.2.1") from None


def _ipv6(text: str) -> str:
    try:
        address = IPv6Address(text)
    except ValueError:
        address = None
    if address is None or address.scope_id is not None:
        raise ValueError("must be an IPv6 address such as 2001:db8::1")
    return str(address)


def _target(text: str) -> str:
    """A name elsewhere or here. It is whole: "web" alone would be one of the root's."""
    name = text.lower().removesuffix(".")
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME or "." not in name:
        raise ValueError("must name its target whole, such as web.example.net")
    return name


def _mx(text: str) -> str:
    parts = text.split(" ")
    if len(parts) != 2:
        raise ValueError('must be PREFERENCE and TARGET, such as "10 mail.example.net"')
    return f"{_number(parts[0])} {_target_or_none(parts[1])}"


def _srv(text: str) -> str:
    parts = text.split(" ")
    if len(parts) != 4:
        raise ValueError('must be PRIORITY, WEIGHT, PORT and TARGET, such as "0 5 5060 sip.example.net"')
    return " ".join([*map(_number, parts[:3]), _target_or_none(parts[3])])


def _number(text: str) -> str:
    if not _NUMBER.fullmatch(text) or int(text) > 0xFFFF:
        raise ValueError("must hold numbers from 0 to 65535")
    return text


def _target_or_none(text: str) -> str:
    """`.`: there is no such service here (RFC 2782, RFC 7505)."""
    return text if text == "." else _target(text)


def _txt(text: str) -> str:
    if not 1 <= len(text) <= MAX_TEXT or not (text.isascii() and text.isprintable()):
        raise ValueError(f"must be 1 to {MAX_TEXT} printable ASCII characters")
    return text


_NORMAL: Mapping[RecordType, Callable[[str], str]] = {
    RecordType.A: _ipv4,
    RecordType.AAAA: _ipv6,
    RecordType.CNAME: _target,
    RecordType.MX: _mx,
    RecordType.PTR: _target,
    RecordType.SRV: _srv,
    RecordType.TXT: _txt,
}
