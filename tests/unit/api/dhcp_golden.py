"""What each kind of DHCP client asks for, and what it is given, option by option. Used with real clients, too."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from tests.unit.packet_in.wire import Option, ip

ADDRESS: Final = "10.41.0.20"
NETWORK: Final[dict[str, Any]] = {
    "name": "golden", "kind": "vlan", "segment": 109, "physical_network": "physnet1", "project_id": "a",
    "gateway_mode": "shared", "mtu": 1442, "lease_time": 3600, "dns_domain": "cloud.example",
    "ntp_servers": ["10.41.0.2"],
    "subnets": [{
        "cidr": "10.41.0.0/24", "gateway": "10.41.0.1", "dns_servers": ["10.41.0.5", "9.9.9.9"],
        "host_routes": [{"destination": "192.168.0.0/16", "next_hop": "10.41.0.7"}],
    }],
    "dhcp_options": [
        {"code": 43, "value": "010400000002"}, {"code": 44, "value": "10.41.0.8"}, {"code": 46, "value": "8"},
        {"code": 66, "value": "10.41.0.6"}, {"code": 67, "value": "pxelinux.0"},
        {"code": 119, "value": "cloud.example,lab.example"}, {"code": 252, "value": "http://wpad.example/wpad.dat"},
    ],
}  # fmt: skip
PORT: Final[dict[str, Any]] = {"hostname": "golden", "project_id": "a"}

_ROUTES: Final = b"\x10\xc0\xa8" + ip("10.41.0.7") + b"\0" + ip("10.41.0.1")
VALUES: Final[dict[int, bytes]] = {
    1: ip("255.255.255.0"), 3: ip("10.41.0.1"), 6: ip("10.41.0.5") + ip("9.9.9.9"), 12: b"golden",
    15: b"cloud.example", 26: b"\x05\xa2", 28: ip("10.41.0.255"), 42: ip("10.41.0.2"),
    43: b"\x01\x04\0\0\0\x02", 44: ip("10.41.0.8"), 46: b"\x08", 51: b"\0\0\x0e\x10", 54: ip("10.41.0.1"),
    58: b"\0\0\x07\x08", 59: b"\0\0\x0c\x4e", 66: b"10.41.0.6", 67: b"pxelinux.0",
    119: b"\x05cloud\x07example\0\x03lab\x07example\0", 121: _ROUTES, 249: _ROUTES,
    252: b"http://wpad.example/wpad.dat",
}  # fmt: skip


class Client(NamedTuple):
    """`asks`: its option 55. `given`: what is in OFFER and ACK behind 53, 54, 51 and its own 61, if it sends one.
    `says`: what else it sends, where that is not left to a real client.
    """

    asks: bytes
    given: tuple[int, ...]
    says: tuple[Option, ...] = ()
    flags: int = 0


REAL: Final[dict[str, Client]] = {
    "udhcpc": Client(
        bytes((1, 3, 6, 12, 15, 26, 28, 42, 66, 67, 119, 121)),
        (1, 3, 6, 12, 15, 26, 28, 42, 66, 67, 119, 121, 58, 59),
        ((57, b"\x02\x40"), (12, b"golden"), (60, b"udhcp 1.37.0"), (61, b"\x01\xfa\x16\x3e\0\0\x01")),
    ),
    "dhcpcd": Client(
        bytes((1, 121, 3, 6, 12, 15, 26, 28, 33, 42, 51, 54, 58, 59, 119)),
        (1, 121, 3, 6, 12, 15, 26, 28, 42, 58, 59, 119),
        ((57, b"\x05\xd0"), (61, bytes.fromhex("ff3eb495d7000100013299a7ddfa163e000001")), (12, b"golden"),
         (145, b"\x01")),
    ),
    "dhclient": Client(
        bytes((1, 28, 2, 3, 15, 6, 119, 12, 44, 47, 26, 121, 42)), (1, 28, 3, 15, 6, 119, 12, 44, 26, 121, 42, 58, 59),
        ((12, b"golden"),),
    ),
    "networkd": Client(
        bytes((1, 3, 6, 12, 15, 26, 33, 42, 114, 120, 121, 162)), (1, 3, 6, 12, 15, 26, 42, 121, 58, 59),
        ((61, bytes.fromhex("ff79bc0af800020000ab11c740e67d12d0b6cf")), (57, b"\x05\xc0"), (80, b""), (12, b"golden")),
    ),
}  # fmt: skip

_UUID: Final = b"\0" + bytes(range(16))
_VENDOR_TAGS: Final = bytes(range(128, 136))
# RFC 4578: 93 architecture, 94 interface, 97 machine; the lists are those of Intel's boot agent and of EDK II
OTHERS: Final[dict[str, Client]] = {
    "pxe": Client(
        bytes((1, 2, 3, 5, 6, 11, 12, 13, 15, 16, 17, 18, 43, 54, 60, 67)) + _VENDOR_TAGS,
        (1, 3, 6, 12, 15, 43, 67, 58, 59),
        ((57, b"\x04\xec"), (97, _UUID), (93, b"\0\0"), (94, b"\x01\x02\x01"),
         (60, b"PXEClient:Arch:00000:UNDI:002001")),
        0x8000,
    ),
    "uefi": Client(
        bytes((1, 2, 3, 4, 5, 6, 12, 13, 15, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60, 66, 67, 97))
        + _VENDOR_TAGS,
        (1, 3, 6, 12, 15, 28, 42, 43, 58, 59, 66, 67),
        ((57, b"\x05\xb8"), (97, _UUID), (94, b"\x01\x03\x10"), (93, b"\0\x07"),
         (60, b"PXEClient:Arch:00007:UNDI:003016")),
        0x8000,
    ),
    "windows": Client(
        bytes((1, 3, 6, 15, 31, 33, 43, 44, 46, 47, 119, 121, 249, 252)),
        (1, 3, 6, 15, 43, 44, 46, 119, 121, 249, 252, 58, 59),
        ((61, b"\x01\xfa\x16\x3e\0\0\x01"), (12, b"DESKTOP-1"), (60, b"MSFT 5.0")),
    ),
}  # fmt: skip


def golden(kind: int, client: Client, client_id: bytes | None) -> tuple[Option, ...]:
    """The options of OFFER or ACK, in their order."""
    own: tuple[Option, ...] = () if client_id is None else ((61, client_id),)
    head: tuple[Option, ...] = ((53, bytes((kind,))), (54, VALUES[54]), (51, VALUES[51]))
    return (*head, *own, *((code, VALUES[code]) for code in client.given))
