"""What upstreams are asked, and what is made of what they say."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from dnslib import EDNS0, QTYPE, RCODE, RR, SOA, A, DNSRecord

from controller.dns import domain
from controller.dns import forwarder as module
from controller.dns.cache import Cache
from controller.dns.exchange import encode
from controller.dns.message import Query
from controller.dns.reply import MOST_RECORDS, Reply, Truncated, Unusable, belongs, parse
from controller.dns.upstreams import Upstream
from controller.packet_in import outcomes
from tests.unit.dns.scene import DUAL, GENERAL, SECOND, WEB, Bench, data, query, question


def made(asked: Query, *records: RR, rcode: str = "NOERROR", authority: tuple[RR, ...] = (), **header: int) -> bytes:
    reply = DNSRecord.parse(encode(asked, b"\0\7")).reply(aa=0, ra=1)
    reply.header.rcode = getattr(RCODE, rcode)
    for name, value in header.items():
        setattr(reply.header, name, value)
    reply.add_answer(*records)
    reply.add_auth(*authority)
    return bytes(reply.pack())


def address(name: str = "example.com", value: str = "192.0.2.80", ttl: int = 60) -> RR:
    return RR(name, QTYPE.A, ttl=ttl, rdata=A(value))


def absence(ttl: int = 300, minimum: int = 30) -> RR:
    return RR("example.com", QTYPE.SOA, ttl=ttl, rdata=SOA("ns.example.com", "h.example.com", (1, 2, 3, 4, minimum)))


# the question that is passed on


def test_nothing_of_the_clients_is_passed_on_but_the_question() -> None:
    client = question("Example.COM", size=4096, do=1)
    asked = query("Example.COM", size=4096, do=1)
    sent = DNSRecord.parse(encode(asked, b"\x12\x34"))
    assert sent.header.id == 0x1234 and sent.header.id != int.from_bytes(client[:2])
    assert (str(sent.q.qname), QTYPE[sent.q.qtype], sent.header.rd) == ("example.com.", "A", 1)
    (opt,) = sent.ar
    assert (opt.edns_len, opt.edns_do) == (1232, 1)


# the answer


ASKED = query("example.com")


@pytest.mark.parametrize(
    ("change", "believed"),
    [
        (lambda m: m, True),
        (lambda m: m[:12] + m[12:].replace(b"example", b"eXAMPLe", 1), True),
        (lambda m: b"\0\x08" + m[2:], False),
        (lambda m: m[:2] + b"\x01" + m[3:], False),
        (lambda m: m[:2] + b"\x91" + m[3:], False),
        (lambda m: m[:12] + m[12:].replace(b"example", b"exbmple", 1), False),
        (lambda m: m.replace(b"\3com\0\0\1\0\1", b"\3com\0\0\x1c\0\1", 1), False),
        (lambda m: m[:5] + b"\0" + m[6:], False),
        (lambda m: m[:20], False),
    ],
    ids=["right", "other case", "id", "no answer", "opcode", "name", "type", "no question", "short"],
)
def test_threat_10_only_the_answer_to_the_question_is_one(change: object, believed: bool) -> None:
    message = made(ASKED, address())
    assert belongs(change(message), b"\0\7", ASKED) is believed  # type: ignore[operator]


def test_an_answer_is_cut_to_what_can_be_given_on() -> None:
    raw = DNSRecord.parse(made(ASKED, address(ttl=100), address(value="192.0.2.81", ttl=50)))
    raw.add_ar(RR("ns.example.com", QTYPE.A, ttl=9, rdata=A("192.0.2.1")), EDNS0(udp_len=4096))
    found = parse(bytes(raw.pack()), ASKED)
    assert (found.answers, found.authority, found.additional, found.lifetime) == (2, 0, 1, 50)
    later = found.sections(age=20).data
    assert [int.from_bytes(later[at : at + 4]) for at in found.ttls] == [80, 30, 0]


@pytest.mark.parametrize(
    ("message", "lifetime"),
    [
        (made(ASKED, address(ttl=0)), 0),
        (made(ASKED, address(ttl=10**6)), 86400),
        (made(ASKED, rcode="NXDOMAIN", authority=(absence(300, 30),)), 30),
        (made(ASKED, rcode="NXDOMAIN", authority=(absence(20, 30),)), 20),
        (made(ASKED, authority=(absence(10**6, 10**6),)), 3600),
        (made(ASKED, rcode="NXDOMAIN"), 0),
        (made(ASKED), 0),
        (made(ASKED, rcode="SERVFAIL"), 0),
        (made(ASKED, rcode="REFUSED", authority=(absence(),)), 0),
    ],
)
def test_how_long_an_answer_is_true(message: bytes, lifetime: int) -> None:
    assert parse(message, ASKED).lifetime == lifetime


def test_what_is_truncated_is_asked_for_again() -> None:
    with pytest.raises(Truncated):
        parse(made(ASKED, tc=1), ASKED)


def test_unsound_answers() -> None:
    whole = made(ASKED, address())
    for end in range(len(whole) - 1, 28, -1):
        with pytest.raises(Unusable):
            parse(whole[:end], ASKED)
    looped = whole[:29] + b"\xc0\x1d" + struct.pack(">HHIH", 1, 1, 60, 4) + bytes(4)
    assert parse(looped, ASKED).answers == 1  # nobody follows it
    with pytest.raises(Unusable):
        parse(whole[:29] + b"\x80" + whole[30:], ASKED)


# the cache


def reply(size: int = 100, lifetime: int = 60) -> Reply:
    return Reply(0, b"\0" * size, 1, 0, 0, (), lifetime)


def test_the_cache_forgets_in_time() -> None:
    cache = Cache(10)
    cache.put("a", reply(lifetime=60), 0.0)
    cache.put("b", reply(lifetime=0), 0.0)
    assert cache.get("b", 0.0) is None
    assert cache.get("a", 59.9) is not None and cache.get("a", 60.0) is None and len(cache) == 0 and cache.size == 0


def test_the_cache_is_bounded() -> None:
    cache = Cache(3)
    for key in "abc":
        cache.put(key, reply(), 0.0)
    cache.get("a", 1.0)
    cache.put("d", reply(), 1.0)
    assert [cache.get(key, 1.0) is not None for key in "abcd"] == [True, False, True, True]
    cache.put("large", reply(5000), 1.0)
    assert cache.get("large", 1.0) is not None and cache.size <= 3 * 2048
    cache.put("too large", reply(60000), 1.0)
    assert cache.get("too large", 1.0) is None
    none = Cache(0)
    none.put("a", reply(), 0.0)
    assert none.get("a", 0.0) is None


# who is asked, and how often


def ok(upstream: Upstream, asked: Query) -> bytes:
    return made(asked, address("example.com", upstream.address))


def test_one_question_at_a_time_however_many_ask() -> None:
    bench = Bench(answers=ok)
    for port in (WEB, DUAL, WEB):
        assert bench.raw(question("Example.com"), port).pending
    assert len(bench.jobs) == 1 and bench.forwarder.under_way == 1
    bench.raw(question("example.com", "AAAA"))
    bench.raw(question("example.com", do=1))
    assert len(bench.jobs) == 3  # those are others
    bench.run()
    assert bench.asked == [GENERAL] * 3 and len(bench.said) == 5 and bench.forwarder.under_way == 0
    assert len({told[:2] for told in bench.said}) == 5  # each has its own id


def test_what_is_known_is_told_at_once_with_the_time_that_is_left() -> None:
    bench = Bench(answers=ok)
    bench.look_up("example.com")
    bench.now += 20
    answer = bench.raw(question("EXAMPLE.com", size=1232))
    assert answer.outcome == outcomes.DNS_CACHED
    told = DNSRecord.parse(answer.reply)
    assert data(told) == [GENERAL.address] and told.rr[0].ttl == 40 and str(told.q.qname) == "EXAMPLE.com."
    bench.now += 41
    assert bench.raw(question("example.com")).pending


def test_the_next_server_when_the_first_is_silent() -> None:
    bench = Bench(answers=lambda upstream, asked: ok(upstream, asked) if upstream == SECOND else missing())
    assert data(bench.look_up("a.example.com")) == [SECOND.address] and bench.asked == [GENERAL, SECOND]
    bench.look_up("b.example.com")
    assert bench.forwarder.health.suspects() == 1
    bench.asked.clear()
    bench.look_up("c.example.com")
    assert bench.asked == [SECOND]  # for a while
    bench.now += module.SUSPECT_FOR + 1
    bench.asked.clear()
    bench.look_up("d.example.com")
    assert bench.asked == [GENERAL, SECOND]  # in their order again, for it may be back


def missing() -> bytes:
    raise ConnectionRefusedError


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED", "FORMERR", "NOTIMP"])
def test_the_next_server_when_the_first_cannot_say(rcode: str) -> None:
    def answers(upstream: Upstream, asked: Query) -> bytes:
        return ok(upstream, asked) if upstream == SECOND else made(asked, rcode=rcode)

    assert data(Bench(answers=answers).look_up("example.com")) == [SECOND.address]
    neither = Bench(answers=lambda upstream, asked: made(asked, rcode=rcode))
    assert neither.look_up("example.com").header.rcode == getattr(RCODE, rcode)
    assert neither.asked == [GENERAL, SECOND]  # that settles it


def test_a_name_that_does_not_exist_is_an_answer() -> None:
    bench = Bench(answers=lambda upstream, asked: made(asked, rcode="NXDOMAIN", authority=(absence(),)))
    assert bench.look_up("none.example.com").header.rcode == RCODE.NXDOMAIN and bench.asked == [GENERAL]
    assert bench.ask("none.example.com").header.rcode == RCODE.NXDOMAIN  # kept


def test_when_all_are_silent() -> None:
    bench = Bench()
    told = bench.look_up("example.com", size=1232)
    assert told.header.rcode == RCODE.SERVFAIL and bench.asked == [GENERAL, SECOND] * 2
    assert sum(module.PATIENCE) * 2 < 5  # a client waits so long


def test_no_port_and_not_all_of_them_ask_without_end() -> None:
    bench = Bench(answers=ok)
    several = [bench.raw(question(f"n{index}.example.com")) for index in range(module.MOST_OF_PORT + 1)]
    assert [answer.pending for answer in several] == [True] * module.MOST_OF_PORT + [False]
    assert several[-1].outcome == outcomes.DNS_TOO_MANY
    assert DNSRecord.parse(several[-1].reply).header.rcode == RCODE.SERVFAIL
    assert bench.raw(question("n0.example.com"), DUAL).pending  # others still may
    bench.run()
    assert bench.raw(question("again.example.com")).pending


def test_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_QUESTIONS", 2)
    bench = Bench(answers=ok)
    ports = (WEB, DUAL, replace(WEB, key=1000))
    asked = [bench.raw(question(f"n{index}.example.com"), port).pending for index, port in enumerate(ports)]
    assert asked == [True, True, False]
    assert bench.raw(question("n1.example.com"), WEB).pending  # nothing more to ask


def test_several_ports_that_take_all_they_can_leave_some_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_QUESTIONS", 100)
    bench = Bench(answers=ok)
    greedy = range(1000, 1030)
    for index in range(module.MOST_OF_PORT):
        for key in greedy:
            bench.raw(question(f"n{index}.p{key}.example.com"), replace(WEB, key=key))
    assert bench.forwarder.under_way < 100
    assert bench.raw(question("mine.example.com"), DUAL).pending


def test_who_answers_others_is_not_silent() -> None:
    """A VM asks for names whose own servers never answer: the upstream goes on being asked first."""

    def answers(upstream: Upstream, asked: Query) -> bytes:
        if not asked.name.endswith(domain.wire("silent.example")):
            return ok(upstream, asked)
        if upstream == SECOND:
            return made(asked, rcode="REFUSED")
        if bench.jobs:  # meanwhile
            bench.jobs.pop(0)()
        raise TimeoutError

    bench = Bench(answers=answers)
    for index in range(3):
        bench.raw(question(f"n{index}.silent.example"))
    bench.raw(question("example.com"), DUAL)
    bench.jobs.pop(0)()
    assert not bench.jobs and bench.asked.count(GENERAL) == 4 and bench.forwarder.health.suspects() == 0
    assert data(bench.look_up("web.example.com")) == [GENERAL.address]


def test_an_answer_that_is_no_good_does_not_make_its_server_silent() -> None:
    def answers(upstream: Upstream, asked: Query) -> bytes:
        return made(asked, address())[:-1] if asked.name.startswith(b"\4bad") else ok(upstream, asked)

    bench = Bench(answers=answers)
    for index in range(3):
        assert bench.look_up(f"bad{index}.example.com").header.rcode == RCODE.SERVFAIL
    assert bench.forwarder.health.suspects() == 0


def test_what_has_too_many_records_is_not_walked_through() -> None:
    """An answer of 64 KiB costs its walk for each who asks, also where he is sent nothing but that it is truncated."""
    many = made(ASKED, address())
    record = many[-16:]
    assert parse(counted(many, MOST_RECORDS) + record * (MOST_RECORDS - 1), ASKED).answers == MOST_RECORDS
    reply = parse(counted(many, 4000) + record * 3999, ASKED)
    assert (reply.rcode, reply.data, reply.ttls, reply.lifetime) == (RCODE.SERVFAIL, b"", (), 0)
    bench = Bench(answers=lambda upstream, asked: counted(many, 4000) + record * 3999)
    assert bench.look_up("example.com").header.rcode == RCODE.SERVFAIL and bench.asked == [GENERAL, SECOND]
    assert bench.forwarder.health.suspects() == 0


def counted(message: bytes, answers: int) -> bytes:
    return message[:6] + answers.to_bytes(2) + bytes(4) + message[12:]


def test_an_rcode_that_nobody_knows_is_a_failure() -> None:
    """A metric for each would be four thousand."""
    opt = b"\0" + struct.pack(">HHIH", 41, 1232, 0x7F000000, 0)
    message = made(ASKED)
    asked = message[12 : 12 + len(ASKED.asked)]
    assert parse(message[:6] + bytes(4) + b"\0\1" + asked + opt, ASKED).rcode == RCODE.SERVFAIL


def test_a_fault_of_ours_leaves_nobody_waiting() -> None:
    def broken(upstream: Upstream, asked: Query) -> bytes:
        raise RuntimeError("a bug")

    bench = Bench(answers=broken)
    assert bench.look_up("example.com").header.rcode == RCODE.SERVFAIL
    assert bench.forwarder.under_way == 0 and bench.raw(question("example.com")).pending
