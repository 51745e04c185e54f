"""Zones among the sources of the resolver: in wire form, aliases followed to other sources and to upstreams."""

from __future__ import annotations

import struct
import time
from dataclasses import replace
from typing import Any

import pytest
from dnslib import QTYPE, RR, A, DNSRecord

from controller.dns import aliases, domain
from controller.dns.message import Kind, Query, Record, Sections, read
from controller.dns.port_names import PortNames
from controller.dns.reply import parse
from controller.dns.server import NameServer
from controller.dns.sources import Asker
from controller.dns.zone_source import ZoneNames
from flows.snapshot import Snapshot
from tests.unit.dns.cloud import BLUE, port, snapshot, zone

NAMED = replace(BLUE, dns_domain="blue.example")
ASKER = port(1, NAMED, "asker")


class Upstream:
    """In place of the forwarder, and of who chooses whom it asks: `asked`, and what it says of anything."""

    zones: dict[bytes, Any] = {}

    def __init__(self, known: bool) -> None:
        self.asked: list[str] = []
        self._known = known
        self.configured = self

    def zone_of(self, name: bytes) -> None:
        return None

    def choose(self, *about: Any) -> tuple[str]:
        return ("upstream",)

    def known(self, key: Any) -> tuple[int, Sections] | None:
        return self._says(key.name) if self._known else None

    def forward(self, key: Any, query: Query, port_key: int, told: Any) -> bool:
        assert query.name == key.name
        told(*self._says(key.name))
        return True

    def _says(self, name: bytes) -> tuple[int, Sections]:
        self.asked.append(domain.text(name))
        question = DNSRecord.question(domain.text(name))
        reply = question.reply()
        reply.add_answer(*RR.fromZone(f"{domain.text(name)} 30 CNAME cdn.{domain.text(name)}"))
        reply.add_answer(RR(f"cdn.{domain.text(name)}", QTYPE.A, ttl=20, rdata=A("198.51.100.9")))
        query = read(bytes(question.pack()))
        assert isinstance(query, Query)
        return 0, parse(bytes(reply.pack()), query).sections()


def ask(there: Snapshot, name: str, type_: str = "A", known: bool = True) -> tuple[Any, Upstream]:
    upstream = Upstream(known)
    server: Any = NameServer((PortNames(), ZoneNames()), (), upstream, upstream)  # type: ignore[arg-type]
    later: list[bytes] = []
    message = bytes(DNSRecord.question(name, type_).pack())
    answer = server.answer(message, there.ports["port-1"], there, 1232, later.append)
    return DNSRecord.parse(later[0] if answer.pending else answer.reply), upstream


def shown(answer: Any) -> list[str]:
    return [f"{str(one.rname)[:-1]} {QTYPE[one.rtype]} {str(one.rdata).rstrip('.')}" for one in answer.rr]


LAB = zone(
    1,
    "lab.example",
    "www.lab.example A 192.0.2.1",
    "www.lab.example TXT hello",
    "srv.lab.example TXT x",
    "alias.lab.example CNAME www.lab.example",
    "port.lab.example CNAME web.blue.example",
    "out.lab.example CNAME www.example.net",
)


@pytest.fixture
def there() -> Snapshot:
    return snapshot(LAB, ports=(ASKER, port(5, NAMED, "web")), networks=(NAMED,))


def test_records_of_all_types_and_none(there: Snapshot) -> None:
    answer, upstream = ask(there, "WWW.lab.example")
    assert (shown(answer), answer.header.aa, answer.header.rcode) == (["www.lab.example A 192.0.2.1"], 1, 0)
    assert shown(ask(there, "www.lab.example", "TXT")[0]) == ['www.lab.example TXT "hello"']
    empty, _ = ask(there, "www.lab.example", "AAAA")
    assert (empty.header.rcode, empty.rr, str(empty.auth[0].rname)) == (0, [], "lab.example.")
    gone, _ = ask(there, "ftp.lab.example")
    assert (gone.header.rcode, gone.rr) == (3, [])
    assert shown(ask(there, "web.blue.example")[0]) == ["web.blue.example A 10.20.0.5"]
    assert upstream.asked == []


def test_an_alias_within_zones_and_to_a_port(there: Snapshot) -> None:
    answer, upstream = ask(there, "alias.lab.example")
    assert shown(answer) == ["alias.lab.example CNAME www.lab.example", "www.lab.example A 192.0.2.1"]
    answer, upstream = ask(there, "port.lab.example")
    assert shown(answer) == ["port.lab.example CNAME web.blue.example", "web.blue.example A 10.20.0.5"]
    assert upstream.asked == []


def test_an_alias_to_a_port_whose_domain_is_within_the_zone() -> None:
    above = zone(1, "example", "port.example CNAME web.blue.example", "gone.example CNAME none.blue.example")
    there = snapshot(above, ports=(ASKER, port(5, NAMED, "web")), networks=(NAMED,))
    answer, upstream = ask(there, "port.example")
    assert shown(answer) == ["port.example CNAME web.blue.example", "web.blue.example A 10.20.0.5"]
    gone, upstream = ask(there, "gone.example")
    assert (shown(gone), upstream.asked) == (["gone.example CNAME none.blue.example"], [])


@pytest.mark.parametrize("known", [True, False])
def test_an_alias_to_elsewhere_is_asked_for_there(there: Snapshot, known: bool) -> None:
    answer, upstream = ask(there, "out.lab.example", known=known)
    assert upstream.asked == ["www.example.net"]
    assert shown(answer) == [
        "out.lab.example CNAME www.example.net",
        "www.example.net CNAME cdn.www.example.net",
        "cdn.www.example.net A 198.51.100.9",
    ]
    assert [one.ttl for one in answer.rr] == [60, 30, 20]


@pytest.mark.parametrize("data", [b"\xc0\x0c", b"\xc0\xff" + bytes(10), b"\x3fx", b"\xc0\x1d" * 9, b""])
def test_an_answer_whose_names_do_not_end_is_left_out(data: bytes) -> None:
    query = read(bytes(DNSRecord.question("www.example.net").pack()))
    assert isinstance(query, Query)
    alias = Record(Kind.CNAME, 60, query.name, domain.wire("out.lab.example"))
    assert aliases.chained((alias,), query, Sections(data, 1)).answers == 1


def test_names_that_are_nothing_but_pointers_are_not_followed_for_ever() -> None:
    """As often as there is room for them in a message: a tenth of a second of everybody's time."""
    query = read(bytes(DNSRecord.question("www.example.net").pack()))
    assert isinstance(query, Query)
    start = 12 + len(query.asked)
    chain, at = b"\0\0", start + 12
    for _ in range(250):
        chain, at = chain + struct.pack(">H", 0xC000 | at), start + 12 + len(chain)
    text = struct.pack(">HHHIH", 0xC00C, Kind.TXT, 1, 60, len(chain)) + chain
    owners = [struct.pack(">H", 0xC000 | start + 12 + 2 * step) for step in range(250)]
    hostile = Sections(text + b"".join(owner + RECORD for owner in owners), 251)
    began = time.perf_counter()
    assert aliases.chained((), query, hostile).answers == 0
    assert time.perf_counter() - began < 0.01


def test_one_owner_of_many_records_is_read_once() -> None:
    query = read(bytes(DNSRecord.question("www.example.net").pack()))
    assert isinstance(query, Query)
    first = domain.wire("a." * 60 + "example") + RECORD
    again = struct.pack(">H", 0xC000 | 12 + len(query.asked)) + RECORD
    told = aliases.chained((), query, Sections(first + again * 200, 201))
    assert told.answers == 201 and told.data.count(first) == 201


RECORD = struct.pack(">HHIH", Kind.A, 1, 60, 4) + bytes(4)


def test_a_dot_within_a_label_is_another_name(there: Snapshot) -> None:
    odd = b"\x09alias.lab\x07example\x00"
    asker = Asker(ASKER, NAMED, there)
    assert ZoneNames().find(domain.wire("alias.lab.example"), Kind.CNAME, asker)
    assert ZoneNames().find(odd, Kind.CNAME, asker) is None
