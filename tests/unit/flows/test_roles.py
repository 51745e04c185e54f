"""Role messages against Ryu's, byte by byte. tests/ovs/test_roles.py asks Open vSwitch."""

from __future__ import annotations

import struct

import pytest
from ryu.ofproto import ofproto_v1_4 as ofp
from ryu.ofproto import ofproto_v1_4_parser as parser

from flows import roles
from flows.roles import Held, Role


class _Datapath:
    ofproto = ofp
    ofproto_parser = parser


@pytest.mark.parametrize("role", Role)
def test_a_request(role: Role) -> None:
    message = parser.OFPRoleRequest(_Datapath, role, 2**63 + 5)
    message.serialize()
    assert roles.request(role, 2**63 + 5, 0) == bytes(message.buf)
    assert roles.request(role, 1, 0x80000001)[4:8] == bytes.fromhex("80000001")


def test_a_reply_and_a_status() -> None:
    reply = struct.pack("!BBHI", 5, ofp.OFPT_ROLE_REPLY, 24, 7) + struct.pack("!I4xQ", ofp.OFPCR_ROLE_MASTER, 3)
    assert roles.parse(reply) == Held(Role.MASTER, 3)
    status = struct.pack("!BBHI", 5, ofp.OFPT_ROLE_STATUS, 24, 0)
    status += struct.pack("!IB3xQ", ofp.OFPCR_ROLE_SLAVE, ofp.OFPCRR_MASTER_REQUEST, 4)
    assert roles.parse(status) == Held(Role.SLAVE, 4)
    assert roles.parse(reply[:16] + b"\xff" * 8) == Held(Role.MASTER, None)


@pytest.mark.parametrize(
    "message",
    [bytes(24), bytes.fromhex("0519000800000001"), bytes.fromhex("0519001800000001") + b"\0\0\0\x09" + bytes(12)],
)
def test_what_is_none(message: bytes) -> None:
    with pytest.raises(ValueError):
        roles.parse(message)
