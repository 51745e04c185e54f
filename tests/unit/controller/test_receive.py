"""From a stream to messages, and what is refused."""

from __future__ import annotations

import os
import struct

import pytest

from controller import receive
from controller.receive import BadMessage, Splitter

HELLO = struct.pack("!BBHIHHI", 5, 0, 16, 7, 1, 8, 1 << 5)
ECHO = struct.pack("!BBHI", 5, 2, 12, 9) + b"ping"


def test_whole_messages_come_out_as_they_went_in() -> None:
    assert Splitter().feed(HELLO + ECHO) == HELLO + ECHO


def test_any_cut_gives_the_same_messages() -> None:
    stream = HELLO + ECHO + HELLO
    for first in range(len(stream)):
        for second in range(first, len(stream)):
            splitter = Splitter()
            pieces = (stream[:first], stream[first:second], stream[second:])
            assert b"".join(splitter.feed(piece) for piece in pieces) == stream


def test_a_long_message_in_single_bytes_comes_out_once() -> None:
    message = struct.pack("!BBHI", 5, 2, 65535, 1) + os.urandom(65527)
    splitter = Splitter()
    got = [splitter.feed(message[index : index + 1]) for index in range(len(message))]
    assert got[-1] == message and not any(got[:-1])


@pytest.mark.parametrize("length", range(8))
def test_a_length_below_the_header_is_refused(length: int) -> None:
    with pytest.raises(BadMessage, match=f"length {length}"):
        Splitter().feed(struct.pack("!BBHI", 5, 0, length, 0))


def test_hello_is_rebuilt_with_its_bitmap_alone() -> None:
    unknown = struct.pack("!HH", 7, 12) + b"whatever" + bytes(4)
    hello = struct.pack("!BBHI", 6, 0, 8 + 16 + 8, 7) + unknown + struct.pack("!HHI", 1, 8, 0b1100000)
    assert receive.clean_hello(hello) == struct.pack("!BBHIHHI", 6, 0, 16, 7, 1, 8, 0b1100000)


def test_hello_without_elements_stays_without() -> None:
    bare = struct.pack("!BBHI", 4, 0, 8, 7)
    assert receive.clean_hello(bare) == bare


@pytest.mark.parametrize(
    "body",
    [
        bytes.fromhex("0001000000000010"),
        bytes.fromhex("00000000"),
        bytes.fromhex("0001000300000000"),
        bytes.fromhex("0001ffff00000000"),
        bytes.fromhex("0001"),
        bytes.fromhex("0001000800000020000000"),
    ],
)
def test_hello_with_a_wrong_element_is_refused(body: bytes) -> None:
    with pytest.raises(BadMessage):
        receive.clean_hello(struct.pack("!BBHI", 5, 0, 8 + len(body), 1) + body)


@pytest.mark.parametrize("version", [0, 2, 7, 0x99, 0xFF])
def test_hello_of_an_unknown_version_is_refused(version: int) -> None:
    with pytest.raises(BadMessage, match="version"):
        receive.clean_hello(struct.pack("!BBHI", version, 0, 8, 1))


def test_port_descriptions_are_left_out() -> None:
    reply = struct.pack("!BBHIHH4x", 5, 19, 96, 3, receive.MULTIPART_PORT_DESC, 1) + bytes(80)
    assert receive.empty_port_desc(reply) == struct.pack("!BBHIHH4x", 5, 19, 16, 3, receive.MULTIPART_PORT_DESC, 1)


def test_echo_reply_returns_what_came() -> None:
    assert receive.echo_reply(ECHO) == struct.pack("!BBHI", 5, 3, 12, 9) + b"ping"


@pytest.mark.parametrize("kind", receive.MINIMUM)
def test_a_message_below_its_least_length_is_refused(kind: int) -> None:
    receive.check_length(kind, receive.MINIMUM[kind])
    with pytest.raises(BadMessage):
        receive.check_length(kind, receive.MINIMUM[kind] - 1)


def test_threat_22_features_that_are_longer_than_they_may_be() -> None:
    sent = struct.pack("!BBHIQIBB2xII", 5, receive.FEATURES_REPLY, 100, 9, 7, 1, 2, 0, 3, 0) + bytes(68)
    clean = receive.clean_features(sent)
    assert len(clean) == 32 == int.from_bytes(clean[2:4])
    assert clean[4:] == sent[4:32]
