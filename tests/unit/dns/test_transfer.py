"""What a secondary is answered, byte by byte, and what anybody may send without harm."""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import eventlet
import pytest
from dnslib import DNSRecord
from eventlet.green import socket as green

from controller.dns import domain, tsig
from controller.dns import transfer as module
from controller.dns.notifier import MOST_TRIES, Notifier
from controller.dns.transfer import TransferServer
from controller.dns.transfer_messages import Exported, Zones, serial_of
from controller.dns.transfer_request import MAX_REQUEST, Malformed, parse
from controller.dns.transfer_settings import Secondary, TransferSettings
from controller.dns.zone_export import Entry
from controller.session_counters import Counters
from flows.model import RecordType
from tests.unit.dns.cloud import snapshot, zone

KEY = tsig.parse_key("k.example:hmac-sha256:c2l4dGVlbiBieXRlcyBvciBtb3Jl")
OTHER = tsig.parse_key("k.example:hmac-sha256:YW5vdGhlciBzZWNyZXQgb2YgaXRz")
PLAIN = Secondary(ip_address("192.0.2.53"))
SIGNED = Secondary(ip_address("192.0.2.54"), key=KEY)
SETTINGS = TransferSettings(
    "127.0.0.1", 0, (PLAIN, SIGNED), ("ns1.example.net", "ns2.example.net"), "hostmaster.example.net"
)
NOW = 1_800_000_000.0
LAB = zone(
    1,
    "lab.example",
    "lab.example A 192.0.2.9",
    "www.lab.example A 192.0.2.1 30",
    "www.lab.example AAAA 2001:db8::1",
    "txt.lab.example TXT " + "x" * 300,
    "alias.lab.example CNAME www.lab.example",
    public=True,
)


@pytest.fixture
def server() -> Iterator[TransferServer]:
    made = TransferServer(SETTINGS, lambda: snapshot(LAB))
    made.look()
    yield made
    made.close()


def ask(name: str, type_: str) -> bytes:
    return bytes(DNSRecord.question(name, type_).pack())


def replies(server: TransferServer, message: bytes, secondary: Secondary = PLAIN, stream: bool = True) -> list[Any]:
    return [DNSRecord.parse(reply) for reply in server.replies(message, secondary, stream=stream)]


@pytest.mark.parametrize("type_", ["AXFR", "IXFR"])
def test_a_whole_zone(server: TransferServer, type_: str) -> None:
    (answer,) = replies(server, ask("LAB.example", type_))
    rows = [f"{str(one.rname).lower()} {one.ttl} {one.rdata}" for one in answer.rr]
    soa = rows[0]
    assert soa.startswith("lab.example. 3600 ns1.example.net. hostmaster.example.net. 7 ")
    assert (answer.header.aa, answer.header.rcode, rows[-1]) == (1, 0, soa)
    assert sorted(rows[1:-1]) == sorted(
        [
            "lab.example. 3600 ns1.example.net.",
            "lab.example. 3600 ns2.example.net.",
            "lab.example. 60 192.0.2.9",
            "www.lab.example. 30 192.0.2.1",
            "www.lab.example. 60 2001:db8::1",
            f'txt.lab.example. 60 "{"x" * 255}","{"x" * 45}"',
            "alias.lab.example. 60 www.lab.example.",
        ]
    )


def test_a_large_zone_is_several_messages_and_each_is_signed() -> None:
    texts = [f"h{number}.lab.example A 10.0.{number >> 8}.{number & 255}" for number in range(3000)]
    there = snapshot(zone(1, "lab.example", *texts, public=True))
    server = TransferServer(SETTINGS, lambda: there)
    server.look()
    question = ask("lab.example", "AXFR")
    plain = replies(server, question)
    assert len(plain) > 3
    assert sum(len(answer.rr) for answer in plain) == 3000 + 2 + 2
    request, prior = tsig.sign(question, KEY, time.time())
    count = 0
    for message in server.replies(request, SIGNED, stream=True):
        prior = verify_next(message, prior, following=count > 0)
        count += 1
    assert count == len(plain)
    server.close()


def verify_next(message: bytes, prior: bytes, *, following: bool) -> bytes:
    """As the other side does it: the MAC of the one before, the message, and of all but the first only the times."""
    at = message.rindex(KEY.name + struct.pack(">HH", 250, 255))
    counted = bytearray(message[:at])
    counted[10:12] = bytes(2)
    rest = message[at + len(KEY.name) + 10 + len(domain.wire(KEY.algorithm)) :]
    times, mac = rest[:8], rest[10 : 10 + int.from_bytes(rest[8:10])]
    if not following:
        wanted = tsig.sign(bytes(counted), KEY, int.from_bytes(times[:6]), prior)[1]
    else:
        wanted = tsig._mac(KEY, len(prior).to_bytes(2) + prior + bytes(counted) + times)
    assert wanted == mac
    return mac


def test_by_udp_there_is_only_the_soa(server: TransferServer) -> None:
    for type_ in ("SOA", "IXFR"):
        (answer,) = replies(server, ask("lab.example", type_), stream=False)
        assert [one.rtype for one in answer.rr] == [6]
    (refused,) = replies(server, ask("lab.example", "AXFR"), stream=False)
    assert (refused.header.rcode, refused.rr) == (5, [])


def test_what_is_not_there_is_refused(server: TransferServer) -> None:
    for name, type_, rcode in (
        ("other.example", "AXFR", 9),
        ("www.lab.example", "AXFR", 9),
        ("other.example", "SOA", 5),
        ("lab.example", "A", 5),
    ):
        (answer,) = replies(server, ask(name, type_))
        assert (answer.header.rcode, answer.rr) == (rcode, []), name
    update = bytearray(ask("lab.example", "SOA"))
    update[2] = 5 << 3
    (answer,) = replies(server, bytes(update))
    assert answer.header.rcode == 4


@pytest.mark.parametrize("message", ["unsigned", "other key", "other name", "changed", "late"])
def test_a_secondary_with_a_key_must_sign(server: TransferServer, message: str) -> None:
    question = ask("lab.example", "AXFR")
    now = time.time()
    sent = {
        "unsigned": question,
        "other key": tsig.sign(question, OTHER, now)[0],
        "other name": tsig.sign(question, replace(KEY, name=b"\x01x\0"), now)[0],
        "changed": tsig.sign(question, KEY, now)[0].replace(b"\x03lab", b"\x03lib", 1),
        "late": tsig.sign(question, KEY, now - 400)[0],
    }[message]
    (answer,) = replies(server, sent, SIGNED)
    assert (answer.header.rcode, answer.rr) == (9, [])
    good = list(server.replies(tsig.sign(question, KEY, now)[0], SIGNED, stream=True))
    assert len(good) == 1 and len(DNSRecord.parse(good[0]).rr) > 5


def test_nothing_that_is_sent_harms(server: TransferServer) -> None:
    rng = random.Random(5)
    sound = [ask("lab.example", "AXFR"), tsig.sign(ask("lab.example", "IXFR"), KEY, time.time())[0]]
    for _ in range(4000):
        message = bytearray(rng.choice(sound))
        for _ in range(rng.randrange(1, 6)):
            message[rng.randrange(len(message))] = rng.randrange(256)
        cut = bytes(message[: rng.randrange(len(message) + 1)]) + rng.randbytes(rng.choice((0, 0, 5, 300)))
        for secondary in (PLAIN, SIGNED):
            for _ in server.replies(cut, secondary, stream=bool(rng.randrange(2))):
                pass
    chain = struct.pack(">HHHHHH", 1, 0, 1, 0, 0, 0) + b"\xc0\x0c" * 600
    for message in (b"", b"x" * 11, chain, b"\0" * MAX_REQUEST, b"\xff" * (MAX_REQUEST + 1)):
        with pytest.raises(Malformed):
            parse(message)


# -- serials, and telling of changes


def test_a_zone_keeps_its_serial_while_its_content_is_the_same() -> None:
    zones = Zones()
    entry = (Entry(RecordType.A, "192.0.2.1", 60),)
    first = zones.replace({"a.example": {"x.a.example": entry}, "b.example": {}}, 5)
    assert [(one.name, one.serial) for one in first] == [("a.example", 5), ("b.example", 5)]
    changed = zones.replace({"a.example": {"x.a.example": entry}, "b.example": {"y.b.example": entry}}, 9)
    assert [(one.name, one.serial) for one in changed] == [("b.example", 9)]
    assert zones.replace({"a.example": {"x.a.example": entry}}, 12) == [] and len(zones) == 1
    assert serial_of(2**32 + 1) == 1


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def told() -> tuple[Notifier, Clock, list[tuple[Secondary, Any]]]:
    clock, sent = Clock(), []
    notifier = Notifier(SETTINGS, lambda message, to: sent.append((to, message)), lambda: NOW, clock)
    notifier.tell([Exported("lab.example", 7, {})])
    return notifier, clock, sent


def test_secondaries_are_told_until_they_have_heard() -> None:
    notifier, clock, sent = told()
    assert notifier.send_due() == pytest.approx(1.0)
    assert {to for to, _ in sent} == {PLAIN, SIGNED}
    message = DNSRecord.parse(dict(sent)[PLAIN])
    assert (message.header.opcode, str(message.q.qname), message.rr[0].rdata.times[0]) == (4, "lab.example.", 7)
    signed = parse(dict(sent)[SIGNED])
    assert tsig.verify(dict(sent)[SIGNED], signed, KEY, NOW)
    answer = bytearray(dict(sent)[PLAIN])
    answer[2] |= 0x80
    wrong = bytearray(answer)
    wrong[1] ^= 1
    notifier.heard(parse(bytes(wrong)), PLAIN)
    assert notifier.waiting == 2
    notifier.heard(parse(bytes(answer)), PLAIN)
    assert notifier.waiting == 1
    sent.clear()
    assert notifier.send_due() == pytest.approx(1.0) and sent == []
    times = []
    while (wait := notifier.send_due()) is not None:
        times += [clock.now] * len(sent)
        sent.clear()
        clock.now += wait
    assert (times, notifier.waiting) == ([1.0, 3.0, 7.0, 15.0, 31.0][: MOST_TRIES - 1], 0)


def test_a_newer_change_takes_the_place_of_the_older() -> None:
    notifier, clock, sent = told()
    notifier.send_due()
    notifier.tell([Exported("lab.example", 8, {})])
    sent.clear()
    notifier.send_due()
    assert [DNSRecord.parse(message).rr[0].rdata.times[0] for to, message in sent if to is PLAIN] == [8]


def test_look_tells_what_is_new_and_only_that() -> None:
    now = [snapshot(LAB)]
    server = TransferServer(SETTINGS, lambda: now[0])
    server.look()
    first = server.notifier.waiting
    server.notifier._waiting.clear()
    server.look()
    now[0] = replace(now[0], revision=99, ports={})
    server.look()
    assert (first, server.notifier.waiting) == (2, 0)
    found = server.zones.get(domain.wire("lab.example"))
    assert found is not None and found.serial == serial_of(7)
    now[0] = snapshot(replace(LAB, records={}))
    server.look()
    assert server.notifier.waiting == 2
    server.close()


def test_a_server_of_both_families_tells_secondaries_of_both() -> None:
    hearing = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    hearing.bind(("127.0.0.1", 0))
    hearing.settimeout(5)
    secondary = Secondary(ip_address("127.0.0.1"), hearing.getsockname()[1])
    server = TransferServer(replace(SETTINGS, listen="::", secondaries=(secondary,)), lambda: snapshot(LAB))
    server.look()
    server.notifier.send_due()
    with hearing:
        message, place = hearing.recvfrom(512)
    assert (parse(message).name, place[1]) == (domain.wire("lab.example"), server.port)
    assert server._settings.secondary("::ffff:127.0.0.1") is secondary
    server.close()


def test_a_secondary_has_so_many_connections_and_keeps_none_of_them_by_dribbling(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_OF_ONE", 2)
    monkeypatch.setattr(module, "IDLE", 0.5)
    here = replace(SETTINGS, secondaries=(Secondary(ip_address("127.0.0.1")), Secondary(ip_address("127.0.0.2"))))
    server = TransferServer(here, lambda: snapshot(LAB))
    server.look()
    threads = server.start(Counters())
    try:
        with eventlet.Timeout(30):
            first, second, third = (connected(server) for _ in range(3))
            began = time.monotonic()
            assert third.recv(1) == b"" and time.monotonic() - began < 0.3  # one too many
            other = connected(server, "127.0.0.2")  # who has nothing to do with it
            question = ask("lab.example", "SOA")
            other.sendall(len(question).to_bytes(2) + question)
            assert other.recv(2) != b""
            began = time.monotonic()
            with pytest.raises(OSError):
                for byte in b"\x01" + bytes(60):
                    first.sendall(bytes((byte,)))
                    eventlet.sleep(0.1)
            assert second.recv(1) == b"" and time.monotonic() - began < 3
            again = connected(server)
            again.sendall(len(question).to_bytes(2) + question)
            assert again.recv(2) != b""
    finally:
        for thread in threads:
            thread.kill()
        server.close()


def connected(server: TransferServer, source: str = "127.0.0.1") -> Any:
    return green.create_connection(("127.0.0.1", server.port), source_address=(source, 0))


def test_a_flood_of_datagrams_leaves_others_their_turn() -> None:
    """As long as there is one more to be received, nothing waits, and a loop that does nothing else never ends."""
    server = TransferServer(replace(SETTINGS, secondaries=()), lambda: snapshot(LAB))
    received = 0

    class Endless:
        def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int]]:
            nonlocal received
            received += 1
            if received > 5_000_000:
                raise SystemExit
            return b"x", ("192.0.2.99", 1)

        def close(self) -> None: ...

    server._udp.close()
    server._udp = Endless()
    thread = eventlet.spawn(server._serve_udp)
    try:
        began = time.monotonic()
        eventlet.sleep(0.01)
        assert time.monotonic() - began < 0.5 and received
    finally:
        thread.kill()
        server.close()


def test_a_signature_in_another_section_is_none() -> None:
    """Whoever knows the key's name alone can put one there: it is counted out of a section that has nothing."""
    signed = bytearray(tsig.sign(ask("lab.example", "AXFR"), KEY, NOW)[0])
    assert parse(bytes(signed)).signature is not None
    for counts in ((1, 0, 0), (0, 1, 0)):
        signed[6:12] = b"".join(count.to_bytes(2) for count in counts)
        with pytest.raises(Malformed, match="another section"):
            parse(bytes(signed))
