"""A cloud to ask names in: two networks of one router, one of another project with the same range, one without gateway.

What is put together by us is taken apart by dnslib.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from dnslib import EDNS0, DNSRecord

from controller.dns import message
from controller.dns.cache import Cache
from controller.dns.forwarder import Forwarder
from controller.dns.message import Query
from controller.dns.port_names import PortNames
from controller.dns.reply import Reply, parse
from controller.dns.server import Answer, NameServer
from controller.dns.sources import Source
from controller.dns.special import SpecialNames
from controller.dns.upstreams import Chooser, Servers, Upstream
from flows.model import FixedIp, GatewayMode, Ipv6FixedIp, Ipv6Subnet, Network, Port
from flows.snapshot import Snapshot
from tests.world import network, node, subnet

DOMAIN = "cloud.example"
GENERAL = Upstream("192.0.2.1")
SECOND = Upstream("192.0.2.2")
PREFIX = IPv6Network("2001:db8:20::/64")


def named(key: int, of: Network, host: str, last: int, **fields: object) -> Port:
    made = Port(f"p{key}", key, of.id, f"fa:16:3e:00:00:{key:02x}", hostname=host, project_id=of.project_id)
    address = of.subnets[0].cidr[last]
    return replace(made, **{"fixed_ips": (FixedIp(of.subnets[0].id, address),), **fields})  # type: ignore[arg-type]


BLUE = network(
    2, "blue", "10.20.0.0/22", project_id="blue", dns_domain=DOMAIN,
    ipv6_subnets=(Ipv6Subnet("s6", PREFIX),),
)  # fmt: skip
NEXT = network(3, "next", "10.21.0.0/24", project_id="blue", dns_domain="next.example", router_key=2)
RED = network(4, "red", "10.20.0.0/22", project_id="red", dns_domain=DOMAIN, carrier_nat=True)
ALONE = network(5, "alone", "10.22.0.0/24", gateway_mode=GatewayMode.NONE, router_key=0)
GATED = network(
    6, "gated", "10.23.0.0/24", subnets=(subnet("10.23.0.0/24", "10.23.0.1"),), gateway_mode=GatewayMode.SHARED,
    dns_upstreams=(IPv4Address("10.23.0.1"), IPv4Address("192.0.2.9")),
)  # fmt: skip
WEB = named(1, BLUE, "Web1", 5)
DUAL = named(2, BLUE, "dual", 6, ipv6_addresses=(Ipv6FixedIp("s6", IPv6Address("2001:db8:20::6")),))
NAMELESS = named(3, BLUE, "", 7)
ELSEWHERE = named(4, NEXT, "web1", 5)
NEIGHBOUR = named(5, NEXT, "db", 6)
OTHERS = named(6, RED, "web1", 9)
LONELY = named(7, ALONE, "alone", 5)
DOTTED = named(8, BLUE, "www.bank.example", 8)
TENANT = named(9, GATED, "tenant", 5)
CLOUD = Snapshot.build(
    7,
    (BLUE, NEXT, RED, ALONE, GATED),
    (WEB, DUAL, NAMELESS, ELSEWHERE, NEIGHBOUR, OTHERS, LONELY, DOTTED, TENANT),
    (node("n1"),),
)


def question(name: str, kind: str = "A", **edns: int) -> bytes:
    made = DNSRecord.question(name, kind)
    if edns:
        flags = "do" if edns.get("do") else ""
        made.add_ar(EDNS0(flags=flags, udp_len=edns.get("size", 1232), version=edns.get("version", 0)))
    return bytes(made.pack())


def query(name: str, kind: str = "A", **edns: int) -> Query:
    read = message.read(question(name, kind, **edns))
    assert isinstance(read, Query)
    return read


@dataclass
class Bench:
    """A resolver whose upstreams are a function, and whose green threads run when the test says so."""

    sources: tuple[Source, ...] = field(default_factory=lambda: (PortNames(),))
    servers: Servers = Servers((GENERAL, SECOND))
    snapshot: Snapshot = CLOUD
    now: float = 0.0
    answers: Callable[[Upstream, Query], bytes] | None = None
    asked: list[Upstream] = field(default_factory=list)
    jobs: list[Callable[[], None]] = field(default_factory=list)
    said: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.forwarder = Forwarder(
            Cache(100),
            exchange=self._exchange,
            spawn=lambda job, *args: self.jobs.append(lambda: job(*args)),
            clock=lambda: self.now,
        )
        chooser = Chooser(self.servers, lambda: ())
        self.server = NameServer(self.sources, (SpecialNames(),), chooser, self.forwarder)

    def _exchange(self, upstream: Upstream, asked: Query, timeout: float) -> Reply:
        self.asked.append(upstream)
        self.now += 0.001
        if self.answers is None:
            raise TimeoutError
        return parse(self.answers(upstream, asked), asked)

    def raw(self, asked: bytes, port: Port = WEB, most: int | None = 1232) -> Answer:
        return self.server.answer(asked, port, self.snapshot, most, self.said.append)

    def ask(self, name: str, kind: str = "A", port: Port = WEB, **edns: int) -> DNSRecord:
        """What is answered at once."""
        answer = self.raw(question(name, kind, **edns), port)
        assert answer.reply is not None, answer.outcome
        return DNSRecord.parse(answer.reply)

    def look_up(self, name: str, kind: str = "A", port: Port = WEB, **edns: int) -> DNSRecord:
        """The same, or after upstreams were asked."""
        answer = self.raw(question(name, kind, **edns), port)
        self.run()
        return DNSRecord.parse(self.said.pop() if answer.pending else answer.reply)

    def run(self) -> None:
        jobs, self.jobs[:] = list(self.jobs), []
        for job in jobs:
            job()


def data(reply: DNSRecord) -> list[str]:
    return [str(record.rdata) for record in reply.rr]
