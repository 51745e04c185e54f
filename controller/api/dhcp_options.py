"""Free DHCP options: what a user writes -> the payload on the wire (RFC 2132 unless said otherwise)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from ipaddress import AddressValueError, IPv4Address

from controller.bounds import LEAST_MTU
from controller.packet_in.dhcp_options import CLASSLESS_ROUTES, INTERFACE_MTU, MICROSOFT_ROUTES, RESERVED

MAX_PAYLOAD = 255


class OptionType(StrEnum):
    STRING = "string"
    IP = "ip"
    IP_LIST = "ip_list"
    U8 = "u8"
    U16 = "u16"
    U32 = "u32"
    HEX = "hex"
    DOMAIN_LIST = "domain_list"


# How a value without a type is read.
KNOWN: Mapping[int, OptionType] = {
    3: OptionType.IP_LIST,  # routers
    4: OptionType.IP_LIST,  # time servers
    6: OptionType.IP_LIST,  # DNS servers
    7: OptionType.IP_LIST,  # log servers
    9: OptionType.IP_LIST,  # LPR servers
    12: OptionType.STRING,  # host name
    13: OptionType.U16,  # boot file size
    15: OptionType.STRING,  # domain name
    16: OptionType.IP,  # swap server
    17: OptionType.STRING,  # root path
    19: OptionType.U8,  # IP forwarding
    22: OptionType.U16,  # maximum reassembly size
    23: OptionType.U8,  # default TTL
    26: OptionType.U16,  # interface MTU
    37: OptionType.U8,  # TCP default TTL
    38: OptionType.U32,  # TCP keepalive interval
    40: OptionType.STRING,  # NIS domain
    41: OptionType.IP_LIST,  # NIS servers
    42: OptionType.IP_LIST,  # NTP servers
    43: OptionType.HEX,  # vendor specific
    44: OptionType.IP_LIST,  # NetBIOS name servers
    46: OptionType.U8,  # NetBIOS node type
    60: OptionType.STRING,  # vendor class, asked back by UEFI HTTP boot
    66: OptionType.STRING,  # TFTP server name
    67: OptionType.STRING,  # boot file name
    69: OptionType.IP_LIST,  # SMTP servers
    70: OptionType.IP_LIST,  # POP3 servers
    72: OptionType.IP_LIST,  # WWW servers
    100: OptionType.STRING,  # POSIX time zone, RFC 4833
    101: OptionType.STRING,  # time zone name, RFC 4833
    108: OptionType.U32,  # IPv6-only preferred, RFC 8925
    114: OptionType.STRING,  # captive portal, RFC 8910
    119: OptionType.DOMAIN_LIST,  # domain search, RFC 3397
    121: OptionType.HEX,  # classless routes, RFC 3442: a subnet's host_routes are the plain way
    150: OptionType.IP_LIST,  # TFTP server addresses, RFC 5859
    249: OptionType.HEX,  # the same in Windows' words; what 121 holds unless set
    252: OptionType.STRING,  # web proxy auto-discovery
}

# A client reads a known code of these types by its form, whatever the user called it.
_OF_ONE_FORM = frozenset(
    {OptionType.IP, OptionType.IP_LIST, OptionType.U8, OptionType.U16, OptionType.U32, OptionType.DOMAIN_LIST}
)

# What scripts of clients write into resolv.conf, hosts and the like, unquoted: names, of which 15 may hold several.
_NAMES = frozenset({12, 15, 40})
_NAME = re.compile(rb"[A-Za-z0-9._-]+")


def encode(code: int, value: str, kind: OptionType | None = None) -> bytes:
    """The payload of an option. Raises ValueError saying what is wrong with code, type or value."""
    check_code(code)
    payload = _ENCODERS[type_of(code, kind)](value)
    if not 1 <= len(payload) <= MAX_PAYLOAD:
        raise ValueError(f"option {code} holds {len(payload)} bytes; 1 to {MAX_PAYLOAD} are possible")
    _check_meaning(code, KNOWN.get(code), payload)
    return payload


def check_code(code: int) -> None:
    """Raises ValueError for a code that is none, or not the user's."""
    if not 0 <= code <= 255:
        raise ValueError("code must be 0 to 255")
    if code in RESERVED:
        raise ValueError(f"option {code} cannot be set: {RESERVED[code]}")


def type_of(code: int, kind: OptionType | None) -> OptionType:
    """How the value is read. Raises ValueError for a type that is missing, or not the code's."""
    known = KNOWN.get(code)
    kind = known if kind is None else kind
    if kind is None:
        raise ValueError(f"option {code} needs a type: {', '.join(OptionType)}")
    if known in _OF_ONE_FORM and kind is not known:
        raise ValueError(f"option {code} is of type {known}")
    return kind


def _check_meaning(code: int, known: OptionType | None, payload: bytes) -> None:
    """Refuses what clients would take and then be without network, or take lines of their configuration from."""
    if known in (OptionType.IP, OptionType.IP_LIST):
        if bytes(4) in (payload[start : start + 4] for start in range(0, len(payload), 4)):
            raise ValueError(f"option {code} cannot hold 0.0.0.0")
    elif code in _NAMES:
        if not all(_NAME.fullmatch(name) for name in payload.split(b" ")):
            raise ValueError(f"option {code} holds names of letters, digits, dots and hyphens")
    elif known is OptionType.STRING:
        text = payload.rstrip(b"\0")  # which some boot ROMs want at the end
        if not (text.isascii() and text.decode("ascii").isprintable()):
            raise ValueError(f"option {code} is text, and holds printable ASCII only")
    elif code == INTERFACE_MTU and int.from_bytes(payload, "big") < LEAST_MTU:
        raise ValueError(f"option {INTERFACE_MTU} must be at least {LEAST_MTU}")
    elif code in (CLASSLESS_ROUTES, MICROSOFT_ROUTES):
        _check_routes(code, payload)


def _check_routes(code: int, payload: bytes) -> None:
    """RFC 3442: each route is a prefix length, the bytes of the destination that it covers, and a router."""
    position = 0
    while position < len(payload):
        prefix = payload[position]
        if prefix > 32:
            raise ValueError(f"option {code} holds a prefix length of {prefix}")
        position += 1 + (prefix + 7) // 8 + 4
    if position != len(payload):
        raise ValueError(f"option {code} ends within a route (RFC 3442)")


def _string(value: str) -> bytes:
    if not (value.isascii() and value.isprintable()):
        raise ValueError("a string option holds printable ASCII only (use type hex for anything else)")
    return value.encode("ascii")


def _address(value: str) -> bytes:
    try:
        return IPv4Address(value.strip()).packed
    except AddressValueError:
        raise ValueError(f"{value.strip()[:40]!r} is not an IPv4 address") from None


def _addresses(value: str) -> bytes:
    return b"".join(_address(part) for part in value.split(","))


def _unsigned(size: int) -> Callable[[str], bytes]:
    def encode_number(value: str) -> bytes:
        # 10 digits hold the largest 32-bit number; longer texts are not worth converting
        if not (value.isascii() and value.isdigit() and len(value) <= 10) or int(value) >= 1 << 8 * size:
            raise ValueError(f"must be a number from 0 to {(1 << 8 * size) - 1}")
        return int(value).to_bytes(size, "big")

    return encode_number


def _hex(value: str) -> bytes:
    try:
        return bytes.fromhex(value.replace(":", ""))
    except ValueError:
        raise ValueError("must be hexadecimal digits, two for each byte") from None


def _domains(value: str) -> bytes:
    return b"".join(_domain(part.strip().rstrip(".")) for part in value.split(","))


def _domain(name: str) -> bytes:
    """RFC 1035 section 3.1, without compression (which RFC 3397 allows but does not ask for)."""
    encoded = b""
    for label in name.split("."):
        if not (1 <= len(label) <= 63 and label.isascii() and label.replace("-", "").replace("_", "").isalnum()):
            raise ValueError(f"{name[:80]!r} is not a domain name")
        encoded += bytes([len(label)]) + label.encode("ascii")
    return encoded + b"\0"


_ENCODERS: Mapping[OptionType, Callable[[str], bytes]] = {
    OptionType.STRING: _string,
    OptionType.IP: _address,
    OptionType.IP_LIST: _addresses,
    OptionType.U8: _unsigned(1),
    OptionType.U16: _unsigned(2),
    OptionType.U32: _unsigned(4),
    OptionType.HEX: _hex,
    OptionType.DOMAIN_LIST: _domains,
}
