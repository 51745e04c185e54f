"""The check before all else, and answers as dnslib reads them."""

from __future__ import annotations

import random
import struct
import time

import pytest
from dnslib import RCODE, DNSRecord

from controller.dns import message as dns
from controller.dns.message import Kind, Query, Rcode, Record, Refusal, read, respond, sections
from tests.unit.dns.scene import question

GOOD = question("Web1.Cloud.example")
HEADER = struct.Struct(">HHHHHH")


def header(flags: int = 0x0100, counts: tuple[int, int, int, int] = (1, 0, 0, 0), rest: bytes | None = None) -> bytes:
    return HEADER.pack(0x1234, flags, *counts) + (GOOD[12:] if rest is None else rest)


def test_a_question() -> None:
    found = read(GOOD)
    assert isinstance(found, Query)
    assert found.name == b"\x04web1\x05cloud\x07example\0" and found.kind == Kind.A and found.size == 0
    assert found.asked == GOOD[12:]
    with_edns = read(question("x.example", "AAAA", size=4096, do=1))
    assert isinstance(with_edns, Query) and (with_edns.size, with_edns.dnssec) == (4096, True)
    assert isinstance(read(question("x.example", size=1)), Query)  # RFC 6891, 6.2.3: as if it were 512
    assert read(question("x.example", size=1)).size == 512  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "message",
    [b"", b"\0" * 11, header(0x8180), header(0x8100)],
    ids=["nothing", "short", "an answer", "an answer of nobody"],
)
def test_what_gets_no_answer(message: bytes) -> None:
    assert read(message) == Refusal(None)


POINTER = b"\xc0\x0c\0\1\0\1"
OPT = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"


@pytest.mark.parametrize(
    ("message", "rcode"),
    [
        (header(0x2800), Rcode.NOTIMP),
        (header(0x0800), Rcode.NOTIMP),
        (header(counts=(0, 0, 0, 0)), Rcode.FORMERR),
        (header(counts=(2, 0, 0, 0)), Rcode.FORMERR),
        (header(counts=(1, 1, 0, 0)), Rcode.FORMERR),
        (header(counts=(1, 0, 1, 0)), Rcode.FORMERR),
        (header(counts=(1, 0, 0, 3), rest=GOOD[12:] + OPT * 3), Rcode.FORMERR),
        (header(counts=(1, 0, 0, 2), rest=GOOD[12:] + OPT * 2), Rcode.FORMERR),
        (header(counts=(1, 0, 0, 1)), Rcode.FORMERR),
        (header(counts=(1, 0, 0, 1), rest=GOOD[12:] + OPT[:-1]), Rcode.FORMERR),
        (header(counts=(1, 0, 0, 1), rest=GOOD[12:] + OPT[:-1] + b"\x01"), Rcode.FORMERR),
        (header(counts=(1, 0, 0, 1), rest=GOOD[12:] + b"\x01a" + OPT), Rcode.FORMERR),
        (header(rest=GOOD[12:] + b"x"), Rcode.FORMERR),
        (header(rest=POINTER), Rcode.FORMERR),
        (header(rest=b"\x01a" + POINTER), Rcode.FORMERR),
        (header(rest=b"\x80a\0\0\1\0\1"), Rcode.FORMERR),
        (header(rest=b"\x3f" + b"a" * 62), Rcode.FORMERR),
        (header(rest=(b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1"), Rcode.FORMERR),
        (header(rest=b"\x01a\0\0\1\0"), Rcode.FORMERR),
        (header(rest=b"\x40" + b"a" * 64 + b"\0\0\1\0\1"), Rcode.FORMERR),
        (header(rest=b"\xc0" + b"a" * 192 + b"\0\0\1\0\1"), Rcode.FORMERR),
    ],
)
def test_what_is_no_question_is_told_so(message: bytes, rcode: Rcode) -> None:
    refusal = read(message)
    assert isinstance(refusal, Refusal) and refusal.reply is not None
    told = DNSRecord.parse(refusal.reply)
    assert (told.header.id, told.header.qr, told.header.rcode) == (0x1234, 1, rcode) and len(refusal.reply) == 12


def test_a_key_name_of_tsig_is_passed_over() -> None:
    tsig = b"\x03key\0" + struct.pack(">HHIH", 250, 255, 0, 3) + b"abc"
    assert isinstance(read(header(counts=(1, 0, 0, 1), rest=GOOD[12:] + tsig)), Query)
    found = read(header(counts=(1, 0, 0, 2), rest=GOOD[12:] + OPT + tsig))
    assert isinstance(found, Query) and found.size == 1232


def test_hostile_messages_cost_microseconds() -> None:
    """What takes dnslib a tenth of a second: pointers to pointers. And whatever else there may be."""
    chained = b"".join(b"\xc0" + bytes((12 + 2 * n,)) for n in range(100))
    random_ = random.Random(53)
    messages = [header(counts=(1, 0, 0, 0), rest=chained * 7), header(rest=b"\x01a" * 700), b"\xff" * 1400]
    for _ in range(3000):
        mutated = bytearray(question("web1.cloud.example", size=1232))
        for _ in range(random_.randrange(1, 6)):
            mutated[random_.randrange(len(mutated))] = random_.randrange(256)
        messages.append(bytes(mutated[: random_.randrange(len(mutated) + 1)]))
    took = []
    for message in messages:
        began = time.perf_counter()
        found = read(message)
        took.append(time.perf_counter() - began)
        if isinstance(found, Query):
            assert respond(found, 0)[:2] == message[:2]
    assert sorted(took)[len(took) // 2] < 50e-6 and sorted(took)[-3] < 0.01


def test_an_answer() -> None:
    asked = read(question("Web1.cloud.example", size=1232, do=1))
    assert isinstance(asked, Query)
    found = sections((Record(Kind.A, 5, b"\x0a\0\0\5"), Record(Kind.A, 5, b"\x0a\0\0\6")), (dns.soa(asked.name, 9, 3),))
    reply = DNSRecord.parse(respond(asked, Rcode.NOERROR, found, authoritative=True))
    assert (reply.header.qr, reply.header.aa, reply.header.ra, reply.header.rd, reply.header.tc) == (1, 1, 1, 1, 0)
    assert str(reply.q.qname) == "Web1.cloud.example."  # as it was asked
    assert [(str(each.rname).lower(), each.ttl, str(each.rdata)) for each in reply.rr] == [
        ("web1.cloud.example.", 5, "10.0.0.5"),
        ("web1.cloud.example.", 5, "10.0.0.6"),
    ]
    (soa,) = reply.auth
    assert str(soa.rdata).startswith("web1.cloud.example. hostmaster.web1.cloud.example. 9 ") and soa.ttl == 3
    (opt,) = reply.ar
    assert opt.edns_len == 1232 and opt.edns_do == 1


@pytest.mark.parametrize(("records", "truncated"), [(10, False), (30, False), (31, True), (200, True)])
def test_what_does_not_fit_is_truncated(records: int, truncated: bool) -> None:
    asked = read(question("a.example"))
    assert isinstance(asked, Query)
    found = sections([Record(Kind.A, 0, bytes(4))] * records)
    limit = dns.udp_limit(asked, 1232)
    raw = respond(asked, 0, found, limit=limit)
    reply = DNSRecord.parse(raw)
    assert limit == 512 and len(raw) <= limit
    assert bool(reply.header.tc) is truncated and len(reply.rr) == (0 if truncated else records)
    whole = DNSRecord.parse(respond(asked, 0, found, limit=dns.MAX_MESSAGE))
    assert not whole.header.tc and len(whole.rr) == records


def test_a_client_never_gets_a_fragment() -> None:
    asked = read(question("a.example", size=65535))
    assert isinstance(asked, Query) and dns.udp_limit(asked, 1232) == 1232 and dns.udp_limit(asked, 900) == 900


def test_another_version_of_edns() -> None:
    asked = read(question("a.example", size=1232, version=1))
    assert isinstance(asked, Query) and asked.version == 1
    reply = DNSRecord.parse(respond(asked, Rcode.BADVERS))
    (opt,) = reply.ar
    assert opt.edns_rcode << 4 | reply.header.rcode == Rcode.BADVERS and opt.edns_ver == 0
    assert RCODE.get(reply.header.rcode) == "NOERROR"
