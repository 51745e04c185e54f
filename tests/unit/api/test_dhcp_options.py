from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.dhcp_options import KNOWN, RESERVED, OptionType, encode


@pytest.mark.parametrize(
    ("code", "value", "kind", "payload"),
    [
        (66, "tftp.example", None, b"tftp.example"),
        (6, "192.0.2.1, 192.0.2.2", None, bytes([192, 0, 2, 1, 192, 0, 2, 2])),
        (16, "192.0.2.1", None, bytes([192, 0, 2, 1])),
        (26, "1450", None, b"\x05\xaa"),
        (38, "4294967295", None, b"\xff\xff\xff\xff"),
        (23, "64", None, b"\x40"),
        (43, "01:02:ff", None, b"\x01\x02\xff"),
        (43, "0102 FF", None, b"\x01\x02\xff"),
        (119, "a.example, lab.", None, b"\x01a\x07example\x00\x03lab\x00"),
        (200, "7", OptionType.U8, b"\x07"),
        (26, "68", OptionType.U16, b"\x00\x44"),
        (67, "612f6200", OptionType.HEX, b"a/b\0"),
        (200, "00ff0a", OptionType.HEX, b"\x00\xff\n"),
        (15, "lab.example corp_1.example", None, b"lab.example corp_1.example"),
        (17, "10.0.0.1:/srv/$root,rw", None, b"10.0.0.1:/srv/$root,rw"),
        (3, "192.0.2.1", OptionType.IP_LIST, bytes([192, 0, 2, 1])),
        (200, "0.0.0.0", OptionType.IP, bytes(4)),
        (121, "00 c0000201", None, bytes([0, 192, 0, 2, 1])),
        (121, "18c00002c0000201 190a000080c0000202", None, bytes.fromhex("18c00002c0000201190a000080c0000202")),
        (66, "x" * 255, None, b"x" * 255),
    ],
)
def test_encode(code: int, value: str, kind: OptionType | None, payload: bytes) -> None:
    assert encode(code, value, kind) == payload


@pytest.mark.parametrize(
    ("code", "value", "kind", "says"),
    [
        (66, "", None, "1 to 255"),
        (66, "x" * 256, None, "1 to 255"),
        (66, "a\nb", None, "printable"),
        (66, "a\0", None, "printable"),
        (66, "a\u00e9", None, "printable"),
        (6, "192.0.2.1,", None, "IPv4"),
        (6, "192.0.2.01", None, "IPv4"),
        (6, ",".join(["192.0.2.1"] * 64), None, "1 to 255"),
        (16, "192.0.2.1,192.0.2.2", None, "IPv4"),
        (26, "65536", None, "65535"),
        (26, "-1", None, "65535"),
        (26, "\u0661", None, "65535"),
        (26, "1" * 5000, None, "65535"),
        (43, "0", None, "hexadecimal"),
        (43, "zz", None, "hexadecimal"),
        (43, "", None, "1 to 255"),
        (119, "a..b", None, "domain name"),
        (119, "x" * 64, None, "domain name"),
        (119, "", None, "domain name"),
        (200, "7", None, "needs a type"),
        (26, "05aa", OptionType.HEX, "of type u16"),
        (26, "5", OptionType.U8, "of type u16"),
        (23, "64", OptionType.U32, "of type u8"),
        (6, "c0", OptionType.HEX, "of type ip_list"),
        (3, "192.0.2.1", OptionType.IP, "of type ip_list"),
        (3, "0.0.0.0", None, "0.0.0.0"),
        (6, "192.0.2.1,0.0.0.0", None, "0.0.0.0"),
        (16, "0.0.0.0", None, "0.0.0.0"),
        (26, "67", None, "at least 68"),
        (26, "0", None, "at least 68"),
        (66, "610a62", OptionType.HEX, "printable"),
        (66, "00ff", OptionType.HEX, "printable"),
        (67, "610062", OptionType.HEX, "printable"),
        (114, "687474703a2f2f610d0a", OptionType.HEX, "printable"),
        (15, "6c61620a6e616d65736572766572", OptionType.HEX, "names of"),
        (15, "lab;reboot", None, "names of"),
        (15, "lab  example", None, "names of"),
        (12, "$(reboot)", None, "names of"),
        (12, "`id`", OptionType.STRING, "names of"),
        (40, "nis\u00e9", None, "printable"),
        (119, "016100", OptionType.HEX, "of type domain_list"),
        (119, "lab", OptionType.STRING, "of type domain_list"),
        (121, "21c0000201c0000201", None, "prefix length of 33"),
        (121, "18c00002c00002", None, "within a route"),
        (121, "00c000020100", None, "within a route"),
        (121, "abc", OptionType.STRING, "prefix length"),
        (249, "21c0000201c0000201", None, "prefix length of 33"),
        (249, "00c000020100", None, "option 249 ends within a route"),
        (256, "7", OptionType.U8, "0 to 255"),
        (-1, "7", OptionType.U8, "0 to 255"),
    ],
)
def test_refused(code: int, value: str, kind: OptionType | None, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        encode(code, value, kind)


@pytest.mark.parametrize("code", sorted(RESERVED))
@pytest.mark.parametrize("kind", [None, *OptionType])
def test_reserved_codes(code: int, kind: OptionType | None) -> None:
    with pytest.raises(ValueError, match="cannot be set"):
        encode(code, "1", kind)


def test_the_tables_do_not_contradict() -> None:
    assert not set(KNOWN) & set(RESERVED)
    assert {0, 50, 53, 54, 55, 61, 82, 255} <= set(RESERVED)


@given(st.integers(-1, 300), st.text(max_size=300), st.sampled_from([None, *OptionType]))
def test_any_text_is_encoded_or_refused(code: int, value: str, kind: OptionType | None) -> None:
    try:
        payload = encode(code, value, kind)
    except ValueError:
        return
    assert 1 <= len(payload) <= 255
    if KNOWN.get(code) is OptionType.STRING:
        assert not set(payload.rstrip(b"\0")) - set(range(0x20, 0x7F))
