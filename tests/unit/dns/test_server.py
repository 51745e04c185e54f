"""Who is told what: names of ports, special names, and what is asked elsewhere."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest
from dnslib import CLASS, QTYPE, RCODE, DNSQuestion, DNSRecord

from controller.dns import domain
from controller.dns.message import Kind, Query, Record
from controller.dns.sources import Asker, Found
from controller.dns.upstreams import Servers, Upstream
from controller.packet_in import outcomes
from flows.model import FixedIp, Port, PortChange
from tests.unit.dns import scene
from tests.unit.dns.scene import CLOUD, DUAL, GENERAL, LONELY, NEIGHBOUR, OTHERS, TENANT, WEB, Bench, data, question


def answering(upstream: Upstream, asked: Query) -> bytes:
    """With the server's own address, whatever is asked."""
    record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + IPv4Address(upstream.address).packed
    return b"\0\0\x81\x80\0\1\0\1\0\0\0\0" + asked.asked + record


@pytest.mark.parametrize(
    ("port", "name", "kind", "told"),
    [
        (WEB, "web1", "A", "10.20.0.5"),
        (WEB, "WEB1.cloud.EXAMPLE", "A", "10.20.0.5"),
        (WEB, "dual", "AAAA", "2001:db8:20::6"),
        (WEB, "ip-10-20-0-7", "A", "10.20.0.7"),
        (WEB, "ip-10-20-0-7.cloud.example", "A", "10.20.0.7"),
        (WEB, "ip-2001-db8-20--6.cloud.example", "AAAA", "2001:db8:20::6"),
        (WEB, "5.0.20.10.in-addr.arpa", "PTR", "web1.cloud.example."),
        (WEB, "7.0.20.10.in-addr.arpa", "PTR", "ip-10-20-0-7.cloud.example."),
        (WEB, IPv6Address("2001:db8:20::6").reverse_pointer, "PTR", "dual.cloud.example."),
        (DUAL, "web1", "A", "10.20.0.5"),
        # another network of its router, by its whole name alone
        (WEB, "web1.next.example", "A", "10.21.0.5"),
        (WEB, "6.0.21.10.in-addr.arpa", "PTR", "db.next.example."),
        (NEIGHBOUR, "web1", "A", "10.21.0.5"),
        (NEIGHBOUR, "web1.cloud.example", "A", "10.20.0.5"),
        # another project, with the same domain and range
        (OTHERS, "web1.cloud.example", "A", "10.20.0.9"),
        (OTHERS, "9.0.20.10.in-addr.arpa", "PTR", "web1.cloud.example."),
        (LONELY, "alone", "A", "10.22.0.5"),
        (LONELY, "5.0.22.10.in-addr.arpa", "PTR", "alone."),
        (WEB, "www.bank.example.cloud.example", "A", "10.20.0.8"),
        (WEB, "localhost", "A", "127.0.0.1"),
        (WEB, "x.localhost", "AAAA", "::1"),
    ],
)
def test_names_that_are_known_here(port: Port, name: str, kind: str, told: str) -> None:
    bench = Bench()
    reply = bench.ask(name, kind, port)
    assert data(reply) == [told] and reply.header.aa and not reply.auth
    assert [record.ttl for record in reply.rr] == [0]
    assert bench.server.counts == {(0, outcomes.DNS_LOCAL): 1}


@pytest.mark.parametrize("kind", ["AAAA", "TXT", "MX", "HTTPS"])
@pytest.mark.parametrize("name", ["web1", "web1.cloud.example", "cloud.example", "5.0.20.10.in-addr.arpa"])
def test_what_a_name_does_not_have_is_an_empty_answer_at_once(name: str, kind: str) -> None:
    reply = Bench().ask(name, kind)
    assert (reply.header.rcode, data(reply), reply.header.aa) == (RCODE.NOERROR, [], 1)
    assert [QTYPE[record.rtype] for record in reply.auth] == ["SOA"]


@pytest.mark.parametrize(
    ("port", "name", "kind"),
    [
        (WEB, "nobody", "A"),
        (WEB, "nobody.cloud.example", "AAAA"),
        (WEB, "a.web1.cloud.example", "A"),
        (WEB, "db", "A"),  # a short name is of the own network
        (WEB, "6.0.20.11.in-addr.arpa.invalid", "PTR"),
        (WEB, "99.0.20.10.in-addr.arpa", "PTR"),
        (WEB, "1.1.168.192.in-addr.arpa", "PTR"),  # RFC 6303
        (OTHERS, "5.0.21.10.in-addr.arpa", "PTR"),  # no network of its router
        (OTHERS, "dual.cloud.example", "A"),
        (WEB, "x.onion", "A"),
        (WEB, "resolver.arpa", "A"),
    ],
)
def test_names_that_nobody_has_are_asked_nowhere(port: Port, name: str, kind: str) -> None:
    bench = Bench(answers=answering)
    reply = bench.ask(name, kind, port)
    assert reply.header.rcode == RCODE.NXDOMAIN and [QTYPE[record.rtype] for record in reply.auth] == ["SOA"]
    assert not bench.jobs
    owner = str(reply.auth[0].rname).lower()
    assert f"{name.lower()}.".endswith(owner)  # else nobody would keep it


@pytest.mark.parametrize(
    ("port", "name", "kind"),
    [
        (WEB, "example.com", "A"),
        (WEB, "cloud.example.com", "A"),
        (WEB, "www.bank.example", "A"),  # a host name with dots is no name by itself
        (WEB, "com", "NS"),
        (WEB, "8.8.8.8.in-addr.arpa", "PTR"),
        (OTHERS, "web1.next.example", "A"),
        (LONELY, "web1.cloud.example", "A"),
    ],
)
def test_everything_else_is_asked_elsewhere(port: Port, name: str, kind: str) -> None:
    bench = Bench(answers=answering)
    answer = bench.raw(question(name, kind), port)
    assert answer.pending and answer.outcome == outcomes.DNS_FORWARDED and answer.reply is None
    bench.run()
    reply = DNSRecord.parse(bench.said.pop())
    assert data(reply) == [GENERAL.address] and not reply.header.aa
    assert bench.server.counts == {(0, outcomes.DNS_FORWARDED): 1}


@pytest.mark.parametrize("kind", [Kind.AXFR, Kind.IXFR, Kind.MAILA, Kind.MAILB, Kind.OPT])
def test_transfers_are_refused(kind: Kind) -> None:
    answer = Bench().raw(question("cloud.example")[:-4] + kind.to_bytes(2) + b"\0\1")
    assert answer.outcome == outcomes.DNS_REFUSED and DNSRecord.parse(answer.reply).header.rcode == RCODE.REFUSED


def test_other_classes_and_versions() -> None:
    chaos = DNSRecord(q=DNSQuestion("version.bind", QTYPE.TXT, CLASS.CH)).pack()
    assert DNSRecord.parse(Bench().raw(bytes(chaos)).reply).header.rcode == RCODE.REFUSED
    assert Bench().ask("web1", size=1232, version=3).ar[0].edns_rcode == 1  # BADVERS


def test_what_is_no_question() -> None:
    bench = Bench()
    assert bench.raw(b"\0" * 8) == (outcomes.DNS_MALFORMED, None, False)
    told = bench.raw(b"\0\1\1\0\0\2" + question("a")[6:])
    assert told.outcome == outcomes.DNS_MALFORMED and DNSRecord.parse(told.reply).header.rcode == RCODE.FORMERR


def test_all_that_a_name_has() -> None:
    assert data(Bench().ask("dual", "ANY")) == ["10.20.0.6", "2001:db8:20::6"]
    two = replace(WEB, fixed_ips=(*WEB.fixed_ips, FixedIp("s", IPv4Address("10.20.0.50"))))
    snapshot = CLOUD.apply(8, [PortChange(WEB.id, two)])
    assert data(Bench(snapshot=snapshot).ask("web1")) == ["10.20.0.5", "10.20.0.50"]


def test_names_change_with_the_snapshot() -> None:
    bench = Bench()
    bench.snapshot = CLOUD.apply(8, [PortChange(WEB.id, replace(WEB, hostname="other"))])
    assert data(bench.ask("other")) == ["10.20.0.5"] and bench.ask("web1").header.rcode == RCODE.NXDOMAIN
    bench.snapshot = bench.snapshot.apply(9, [PortChange(WEB.id, None)])
    assert bench.ask("other").header.rcode == RCODE.NXDOMAIN
    assert bench.ask("5.0.20.10.in-addr.arpa", "PTR", DUAL).header.rcode == RCODE.NXDOMAIN


def test_a_name_of_several_projects_is_the_own_projects() -> None:
    """On a shared network nobody takes another's names by calling a machine like it."""
    theirs = replace(scene.named(20, scene.BLUE, "web1", 20), project_id="green")
    bench = Bench(snapshot=CLOUD.apply(8, [PortChange(theirs.id, theirs)]))
    assert data(bench.ask("web1")) == ["10.20.0.5"]
    assert data(bench.ask("web1", port=theirs)) == ["10.20.0.20"]


def test_the_name_of_an_address_is_that_of_the_port_that_has_it() -> None:
    """Whatever another one is called, also of the asker's project."""
    called = replace(WEB, hostname="ip-10-20-0-7")
    for port in (called, replace(scene.named(20, scene.BLUE, "ip-10-20-0-7", 20), project_id="green")):
        bench = Bench(snapshot=CLOUD.apply(8, [PortChange(port.id, port)]))
        for name in ("ip-10-20-0-7", "ip-10-20-0-7.cloud.example"):
            assert data(bench.ask(name)) == ["10.20.0.7"]
    free = replace(WEB, hostname="ip-10-20-0-77")
    assert data(Bench(snapshot=CLOUD.apply(8, [PortChange(free.id, free)])).ask("ip-10-20-0-77")) == ["10.20.0.5"]


@pytest.mark.parametrize(("name", "others", "own"), [("localhost", 0, 0), ("wpad", 0, 1), ("isatap", 0, 1)])
def test_names_that_guests_obey_are_nobody_elses(name: str, others: int, own: int) -> None:
    """Whoever has a machine on a shared network could call it so, and have all others send their traffic by it."""
    theirs = replace(scene.named(20, scene.BLUE, name, 20), project_id="green")
    bench = Bench(snapshot=CLOUD.apply(8, [PortChange(theirs.id, theirs)]))
    for asked in (name, f"{name}.{scene.DOMAIN}"):
        assert data(bench.ask(asked)).count("10.20.0.20") == others
        assert data(bench.ask(asked, port=theirs)).count("10.20.0.20") == own
    assert data(bench.ask("localhost")) == ["127.0.0.1"]


class Zone:
    """A source as one of zones will be."""

    def find(self, name: bytes, kind: int, asker: Asker) -> Found | None:
        if name == b"\5other\5cloud\7example\0":
            return Found(b"\5cloud\7example\0", (Record(Kind.A, 9, bytes(4)),))
        return Found(b"\5cloud\7example\0", exists=False) if name.endswith(b"\5cloud\7example\0") else None


def test_several_sources_have_one_zone() -> None:
    bench = Bench(sources=(scene.PortNames(), Zone()))
    assert data(bench.ask("other.cloud.example")) == ["0.0.0.0"] and data(bench.ask("web1.cloud.example"))
    assert bench.ask("none.cloud.example").header.rcode == RCODE.NXDOMAIN
    assert bench.ask("web1.cloud.example", "AAAA").header.rcode == RCODE.NOERROR


CORP = Upstream("192.0.2.7")


@pytest.mark.parametrize(
    ("name", "kind", "server"),
    [
        ("a.corp.example", "A", CORP),
        ("corp.example", "A", CORP),
        ("1.1.10.10.in-addr.arpa", "PTR", CORP),
        ("intranet", "A", CORP),
        ("nobody.sub.cloud.example", "A", CORP),  # a smaller zone within the network's own
        ("example.com", "A", GENERAL),
        ("xcorp.example", "A", GENERAL),
    ],
)
def test_a_zone_with_servers_of_its_own(name: str, kind: str, server: Upstream) -> None:
    zones = ("corp.example", "10.10.in-addr.arpa", "intranet", "sub.cloud.example")
    servers = Servers((GENERAL,), {domain.wire(zone): (CORP,) for zone in zones})
    bench = Bench(servers=servers, answers=answering)
    assert data(bench.look_up(name, kind)) == [server.address]


def test_a_zone_that_nobody_is_asked_about() -> None:
    bench = Bench(servers=Servers((GENERAL,), {b"\6secret\0": ()}), answers=answering)
    assert bench.ask("a.secret").header.rcode == RCODE.NXDOMAIN


def test_a_network_has_its_own_servers_but_never_itself() -> None:
    bench = Bench(answers=answering)
    assert data(bench.look_up("example.com", port=TENANT)) == ["192.0.2.9"]
    assert bench.asked == [Upstream("192.0.2.9")]  # the other one is its gateway


def test_what_one_networks_servers_say_is_no_answer_for_another() -> None:
    bench = Bench(answers=answering)
    assert data(bench.look_up("example.com", port=TENANT)) == ["192.0.2.9"]
    assert data(bench.look_up("example.com")) == [GENERAL.address]
    assert data(bench.ask("example.com", port=TENANT)) == ["192.0.2.9"]


def test_nobody_to_ask() -> None:
    answer = Bench(servers=Servers()).raw(question("example.com"))
    assert answer.outcome == outcomes.DNS_NO_UPSTREAM and DNSRecord.parse(answer.reply).header.rcode == RCODE.REFUSED


def test_an_upstream_that_is_a_tenants_gateway_serves_all_others() -> None:
    """Nobody stops everybody's names by giving its own network that gateway."""
    bench = Bench(servers=Servers((Upstream("10.23.0.1"),)), answers=answering)
    assert data(bench.look_up("example.com")) == ["10.23.0.1"]
    assert bench.raw(question("example.net"), TENANT).outcome == outcomes.DNS_FORWARDED  # its own servers
