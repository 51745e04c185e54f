"""Frames, ARP and ICMP errors."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

import pytest

from controller.packet_in import frames, icmp, neighbours
from flows.pipeline import GATEWAY_MAC, node_mac
from tests.unit.packet_in import model
from tests.unit.packet_in.wire import internet_sum, ip

VM_MAC = frames.mac_bytes(model.MAC)
GATEWAY = IPv4Address("10.0.0.2")
FAR = ip("198.51.100.9")


@pytest.mark.parametrize(
    "data", [b"\x12\x34", b"\xff\xff" * 9, b"\x00\x01\xf2", bytes(range(256)) * 5, b"\xff\xfe\x00\x01"]
)
def test_checksum_is_that_of_the_rfc(data: bytes) -> None:
    padded = data + b"\0" * (len(data) % 2)
    assert internet_sum(padded + frames.checksum(data).to_bytes(2, "big")) == 0xFFFF


def test_mac_addresses() -> None:
    assert frames.mac_bytes(GATEWAY_MAC) == frames.mac_bytes("02:54:4c:00:00:01") == bytes.fromhex("02544c000001")
    assert frames.mac_text(bytes.fromhex("02544c000001")) == "02:54:4c:00:00:01"
    for wrong in ("02:54:4c:00:00", "zz:54:4c:00:00:01", ""):
        with pytest.raises(ValueError):
            frames.mac_bytes(wrong)


def test_vlan_tag() -> None:
    frame = frames.ethernet(b"\x01" * 6, b"\x02" * 6, 0x0806, b"payload", vlan=101)
    assert frame[12:18].hex() == "810000650806"
    assert frames.parse_ethernet(frame) == (b"\x01" * 6, b"\x02" * 6, 0x0806, 101, 18)
    assert [frames.parse_ethernet(frame[:size]) for size in (0, 13, 14, 17)] == [None] * 4


class TestNeighbours:
    def test_request(self) -> None:
        frame = neighbours.request(node_mac(7), model.SNAT, model.NEXT_HOP)
        assert frame.hex() == (
            "ffffffffffff02544c010007" "0806" "0001080006040001"
            "02544c010007cb00710b" "000000000000cb007101" + "00" * 18
        )  # fmt: skip
        tagged = neighbours.request(node_mac(7), model.SNAT, model.NEXT_HOP, vlan=2000)
        assert tagged[12:18].hex() == "810007d00806" and len(tagged) == 60

    @staticmethod
    def reply(
        sender: str = "203.0.113.1",
        mac: str = "00:11:22:33:44:55",
        eth: str | None = None,
        operation: int = 2,
        vlan: int | None = None,
    ) -> bytes:
        arp = frames.Arp(operation, frames.mac_bytes(mac), ip(sender), b"\x02" * 6, ip("203.0.113.11"))
        return frames.ethernet(b"\x02" * 6, frames.mac_bytes(eth or mac), 0x0806, frames.arp(arp), vlan)

    def test_reply(self) -> None:
        expected = (model.NEXT_HOP, "00:11:22:33:44:55")
        assert neighbours.parse_claim(self.reply()) == expected
        assert neighbours.parse_claim(self.reply(vlan=5) + bytes(14)) == expected

    def test_announcement(self) -> None:
        mac = frames.mac_bytes("00:11:22:33:44:55")
        arp = frames.Arp(frames.ARP_REQUEST, mac, ip("203.0.113.1"), bytes(6), ip("203.0.113.1"))
        frame = frames.ethernet(b"\xff" * 6, mac, 0x0806, frames.arp(arp))
        assert neighbours.parse_claim(frame) == (model.NEXT_HOP, "00:11:22:33:44:55")

    @pytest.mark.parametrize(
        "fields",
        [
            {"operation": 1},
            {"eth": "00:11:22:33:44:56"},
            {"mac": "01:11:22:33:44:55"},
            {"mac": "ff:ff:ff:ff:ff:ff"},
            {"mac": "00:00:00:00:00:00"},
            {"sender": "0.0.0.0"},
            {"sender": "255.255.255.255"},
            {"sender": "127.0.0.1"},
            {"sender": "224.0.0.1"},
        ],
    )
    def test_what_is_no_sound_reply(self, fields: dict[str, object]) -> None:
        assert neighbours.parse_claim(self.reply(**fields)) is None  # type: ignore[arg-type]

    def test_cut_and_changed(self) -> None:
        whole = self.reply()
        assert all(neighbours.parse_claim(whole[:size]) is None for size in range(len(whole)))
        for at in (12, 14, 15, 16, 18, 19, 20):
            assert neighbours.parse_claim(whole[:at] + b"\x77" + whole[at + 1 :]) is None


def packet(
    *,
    payload: bytes = b"\x08\x00\x00\x00\x00\x01\x00\x01ping",
    protocol: int = 1,
    ttl: int = 1,
    fragment: int = 0,
    source: bytes = b"\x0a\x00\x00\x05",
    destination: bytes = FAR,
    total: int | None = None,
    options: bytes = b"",
    eth: bytes = frames.mac_bytes(GATEWAY_MAC),
    version: int = 4,
) -> bytes:
    words = 5 + len(options) // 4
    length = words * 4 + len(payload) if total is None else total
    header = struct.pack(">BBHHHBBH", version << 4 | words, 0, length, 7, fragment, ttl, protocol, 0)
    return eth + VM_MAC + b"\x08\x00" + header + source + destination + options + payload


class TestTimeExceeded:
    def test_reply(self) -> None:
        asked = packet()
        got = icmp.time_exceeded(asked, GATEWAY, GATEWAY_MAC)
        assert got is not None
        assert got[:14] == VM_MAC + bytes.fromhex("02544c0000010800")
        assert got[26:34] == GATEWAY.packed + ip("10.0.0.5") and got[23] == 1
        assert internet_sum(got[14:34]) == 0xFFFF and internet_sum(got[34:]) == 0xFFFF
        assert int.from_bytes(got[16:18], "big") == len(got) - 14
        assert got[34:36] == b"\x0b\x00" and got[38:42] == bytes(4)
        assert got[42:] == asked[14:]

    @pytest.mark.parametrize(
        "asked",
        [
            packet(payload=b"\x35\x82\x82\x9b" + bytes(8), protocol=17),
            packet(payload=bytes(20), protocol=6, ttl=0),
            packet(payload=b"", protocol=17),
            packet(fragment=0x2000),
            packet(options=b"\x01" * 40),
        ],
    )
    def test_what_is_answered(self, asked: bytes) -> None:
        got = icmp.time_exceeded(asked, GATEWAY, GATEWAY_MAC)
        assert got is not None and got[42:] == asked[14:]
        assert internet_sum(got[34:] + b"\0" * (len(got) % 2)) == 0xFFFF

    def test_quote_is_cut_so_that_all_fits_576_bytes(self) -> None:
        asked = packet(payload=b"\x08\x00" + b"x" * 1400)
        got = icmp.time_exceeded(asked, GATEWAY, GATEWAY_MAC)
        assert got is not None and len(got) - 14 == 576 and got[42:] == asked[14 : 14 + 548]

    def test_padding_of_the_frame_is_not_quoted(self) -> None:
        got = icmp.time_exceeded(packet() + b"leak" * 5, GATEWAY, GATEWAY_MAC)
        assert got is not None and b"leak" not in got

    @pytest.mark.parametrize(
        "asked",
        [
            pytest.param(packet(ttl=2), id="not expired"),
            *(
                pytest.param(packet(payload=bytes((kind,)) + bytes(8)), id=f"ICMP {kind}")
                for kind in (3, 4, 5, 11, 12, 40)
            ),
            pytest.param(packet(payload=b""), id="ICMP without a type"),
            pytest.param(packet(fragment=1), id="later fragment"),
            pytest.param(packet(destination=ip("224.0.0.5")), id="to a group"),
            pytest.param(packet(destination=ip("255.255.255.255")), id="to all"),
            pytest.param(packet(eth=b"\xff" * 6), id="to all MACs"),
            pytest.param(packet(source=ip("0.0.0.0")), id="from nobody"),
            pytest.param(packet(source=ip("239.1.1.1")), id="from a group"),
            pytest.param(packet(source=ip("127.0.0.1")), id="from loopback"),
            pytest.param(packet(total=2000), id="total length beyond the frame"),
            pytest.param(packet(total=19), id="total length below the header"),
            pytest.param(packet(total=0), id="total length 0"),
            pytest.param(packet(version=6), id="version 6"),
            pytest.param(packet()[:14], id="no IP at all"),
            pytest.param(packet()[:12] + b"\x81\x00\x00\x05" + packet()[12:], id="tagged"),
        ],
    )
    def test_what_is_met_with_silence(self, asked: bytes) -> None:
        assert icmp.time_exceeded(asked, GATEWAY, GATEWAY_MAC) is None
