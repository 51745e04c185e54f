"""A host's half of the wire in IPv6, written apart from the nodes': messages out, answers taken to pieces."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv6Address, IPv6Network

from flows.model import Ipv6FixedIp, Ipv6Mode, Ipv6Subnet, Network, Port
from tests.unit.packet_in import model
from tests.unit.packet_in.wire import internet_sum

MAC = bytes.fromhex("fa163e000001")
GATEWAY_MAC = bytes.fromhex("02544c000001")
GATEWAY = IPv6Address("fe80::54:4cff:fe00:1")
LINK_LOCAL = IPv6Address("fe80::f816:3eff:fe00:1")
ALL_NODES, ALL_ROUTERS = IPv6Address("ff02::1"), IPv6Address("ff02::2")
SERVERS = IPv6Address("ff02::1:2")
ANY = IPv6Address("::")
SLAAC, STATELESS, STATEFUL = Ipv6Mode.SLAAC, Ipv6Mode.STATELESS, Ipv6Mode.STATEFUL
PREFIXES = {SLAAC: "2001:db8:1::/64", STATELESS: "2001:db8:2::/64", STATEFUL: "2001:db8:3::/64"}
ADDRESSES = {
    SLAAC: IPv6Address("2001:db8:1::f816:3eff:fe00:1"),
    STATELESS: IPv6Address("2001:db8:2::f816:3eff:fe00:1"),
    STATEFUL: IPv6Address("2001:db8:3::9"),
}


def subnet(mode: Ipv6Mode, **fields: object) -> Ipv6Subnet:
    return replace(Ipv6Subnet(f"six-{mode}", IPv6Network(PREFIXES[mode]), mode=mode), **fields)  # type: ignore[arg-type]


def network(*modes: Ipv6Mode, **fields: object) -> Network:
    return model.network(**{"ipv6_subnets": tuple(map(subnet, modes)), **fields})


def port(*modes: Ipv6Mode, **fields: object) -> Port:
    own = tuple(Ipv6FixedIp(f"six-{mode}", ADDRESSES[mode]) for mode in modes)
    return model.port(**{"ipv6_addresses": own, **fields})


def ipv6(source: IPv6Address, destination: IPv6Address, protocol: int, payload: bytes, hops: int = 255) -> bytes:
    head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, hops)
    return head + source.packed + destination.packed + payload


def summed(source: IPv6Address, destination: IPv6Address, protocol: int, payload: bytes) -> int:
    return internet_sum(source.packed + destination.packed + struct.pack("!II", len(payload), protocol) + payload)


@dataclass(frozen=True)
class Nd:
    """An ICMPv6 message of a host, by default a router solicitation with its link-layer address."""

    kind: int = 133
    source: IPv6Address = LINK_LOCAL
    destination: IPv6Address = ALL_ROUTERS
    body: bytes = bytes(4)
    options: bytes = b"\x01\x01" + MAC
    code: int = 0
    hops: int = 255
    mac: bytes = MAC
    checksum: int | None = None

    def change(self, **fields: object) -> Nd:
        return replace(self, **fields)  # type: ignore[arg-type]

    def frame(self) -> bytes:
        message = struct.pack("!BBH", self.kind, self.code, 0) + self.body + self.options
        found = 0xFFFF - summed(self.source, self.destination, 58, message)
        checksum = found if self.checksum is None else self.checksum
        message = message[:2] + checksum.to_bytes(2, "big") + message[4:]
        group = b"\x33\x33" + self.destination.packed[12:]
        return group + self.mac + b"\x86\xdd" + ipv6(self.source, self.destination, 58, message, self.hops)


@dataclass(frozen=True)
class Advertised:
    eth_destination: bytes
    destination: IPv6Address
    hop_limit: int
    flags: int
    lifetime: int
    options: tuple[tuple[int, bytes], ...]

    def option(self, kind: int) -> list[bytes]:
        return [payload for kind_, payload in self.options if kind_ == kind]

    @property
    def prefixes(self) -> dict[str, tuple[int, int, int]]:
        """Prefix -> flags, valid and preferred lifetime."""
        found = {}
        for payload in self.option(3):
            length, flags, valid, preferred = struct.unpack_from("!BBII", payload)
            found[f"{IPv6Address(payload[14:30])}/{length}"] = flags, valid, preferred
        return found

    @property
    def servers(self) -> list[str]:
        return [str(IPv6Address(one[at : at + 16])) for one in self.option(25) for at in range(6, len(one), 16)]


def advertised(frame: bytes) -> Advertised:
    """Asserts what RFC 4861, 6.1.2 has a host assert, and that it is from the gateway."""
    assert frame[6:14] == GATEWAY_MAC + b"\x86\xdd" and frame[14] >> 4 == 6
    size, protocol, hops = struct.unpack_from("!HBB", frame, 18)
    source, destination = IPv6Address(frame[22:38]), IPv6Address(frame[38:54])
    message = frame[54:]
    assert (len(message), protocol, hops, source) == (size, 58, 255, GATEWAY) and message[:2] == b"\x86\0"
    assert summed(source, destination, 58, message) == 0xFFFF
    hop_limit, flags, lifetime, reachable, retransmit = struct.unpack_from("!BBHII", message, 4)
    assert (reachable, retransmit) == (0, 0)
    return Advertised(frame[:6], destination, hop_limit, flags, lifetime, tuple(_units(message[16:])))


def _units(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        size = data[1] * 8
        assert 0 < size <= len(data)
        yield data[0], data[2:size]
        data = data[size:]


# DHCPv6

SOLICIT, ADVERTISE, REQUEST, CONFIRM, RENEW, REBIND, REPLY, RELEASE, DECLINE, RECONFIGURE, INFORMATION = range(1, 12)
RELAY_FORWARD = 12
DUID = bytes.fromhex("00010001") + bytes(range(10))
SERVER_DUID = bytes.fromhex("0003000102544c000001")
Option = tuple[int, bytes]


def encoded(*options: Option) -> bytes:
    return b"".join(struct.pack("!HH", code, len(payload)) + payload for code, payload in options)


def address(value: IPv6Address, times: tuple[int, int] = (0, 0)) -> Option:
    return 5, value.packed + struct.pack("!II", *times)


def ia(*inner: Option, code: int = 3, iaid: int = 7) -> Option:
    return code, struct.pack("!I", iaid) + (b"" if code == 4 else bytes(8)) + encoded(*inner)


@dataclass(frozen=True)
class Message:
    """A client's DHCPv6 message."""

    kind: int = SOLICIT
    options: tuple[Option, ...] = (ia(),)
    client: bytes | None = DUID
    server: bytes | None = None
    xid: int = 0x123456
    source: IPv6Address = LINK_LOCAL
    destination: IPv6Address = SERVERS
    ports: tuple[int, int] = (546, 547)
    mac: bytes = MAC
    tail: bytes = b""

    def change(self, **fields: object) -> Message:
        return replace(self, **fields)  # type: ignore[arg-type]

    def frame(self) -> bytes:
        named = [(code, duid) for code, duid in ((1, self.client), (2, self.server)) if duid is not None]
        message = bytes((self.kind,)) + self.xid.to_bytes(3, "big") + encoded(*named, *self.options) + self.tail
        datagram = struct.pack("!HHHH", *self.ports, 8 + len(message), 0) + message
        return b"\x33\x33\0\1\0\2" + self.mac + b"\x86\xdd" + ipv6(self.source, self.destination, 17, datagram, 1)


@dataclass(frozen=True)
class Answer:
    kind: int
    xid: int
    destination: IPv6Address
    eth_destination: bytes
    options: tuple[Option, ...]

    def option(self, code: int) -> bytes | None:
        found = [payload for code_, payload in self.options if code_ == code]
        assert len(found) <= 1
        return found[0] if found else None

    @property
    def status(self) -> int | None:
        return _status(self.options)

    @property
    def associations(self) -> list[Association]:
        return [_association(code, payload) for code, payload in self.options if code in (3, 4, 25)]


@dataclass(frozen=True)
class Association:
    """`leases`: address -> preferred and valid lifetime."""

    code: int
    iaid: int
    times: tuple[int, int]
    leases: dict[str, tuple[int, int]]
    status: int | None


def take_apart(frame: bytes | None) -> Answer:
    """Asserts that every length and checksum is right, and that it is from the one server to its client's port."""
    assert frame is not None and frame[6:14] == GATEWAY_MAC + b"\x86\xdd" and frame[14] >> 4 == 6
    size, protocol = struct.unpack_from("!HB", frame, 18)
    source, destination = IPv6Address(frame[22:38]), IPv6Address(frame[38:54])
    datagram = frame[54:]
    assert (len(datagram), protocol, source) == (size, 17, GATEWAY)
    assert summed(source, destination, 17, datagram) == 0xFFFF and datagram[6:8] != b"\0\0"
    assert struct.unpack_from("!HHH", datagram) == (547, 546, size)
    message = datagram[8:]
    assert len(datagram) + 40 <= 1280
    answer = Answer(message[0], int.from_bytes(message[1:4]), destination, frame[:6], tuple(_options(message[4:])))
    assert answer.option(2) == SERVER_DUID
    return answer


def _options(data: bytes) -> Iterator[Option]:
    while data:
        code, size = struct.unpack_from("!HH", data)
        assert 4 + size <= len(data)
        yield code, data[4 : 4 + size]
        data = data[4 + size :]


def _status(options: tuple[Option, ...]) -> int | None:
    return next((int.from_bytes(payload[:2]) for code, payload in options if code == 13), None)


def _association(code: int, payload: bytes) -> Association:
    head = 4 if code == 4 else 12
    inner = tuple(_options(payload[head:]))
    leases = {str(IPv6Address(one[:16])): struct.unpack_from("!II", one, 16) for code_, one in inner if code_ == 5}
    times = (0, 0) if code == 4 else struct.unpack_from("!II", payload, 4)
    return Association(code, int.from_bytes(payload[:4]), times, leases, _status(inner))  # type: ignore[arg-type]
