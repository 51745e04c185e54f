"""What VMs ask by TCP, as their node's agent hands it on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from dnslib import RCODE, DNSRecord
from prometheus_client import CollectorRegistry, generate_latest

from controller.dns.build import build
from controller.dns.metrics import DnsCollector
from controller.dns.tcp import Questions
from tests.unit.api.world import NO_UPSTREAMS, World, make_app
from tests.unit.dns.scene import Bench

DNS_MESSAGE = "application/dns-message"


def question(name: str, kind: str = "A") -> bytes:
    return bytes(DNSRecord.question(name, kind).pack())


def path(port: dict[str, object], node: str = "n2") -> str:
    return f"/v1/nodes/{node}/dns/{port['key']}"


@pytest.fixture
def port(world: World) -> dict[str, object]:
    """On n2, and expected by n3."""
    network = world.network(project_id="a", dns_domain="cloud.example")
    made = world.moving(network["id"], "n2", "n3")
    world.ok("PATCH", f"/v1/ports/{made['id']}", {"hostname": "web1"})
    return {"key": made["key"], "address": made["fixed_ips"][0]["address"]}


@pytest.mark.parametrize("node", ["n2", "n3"])
def test_a_question_is_answered_for_the_port(world: World, port: dict[str, object], node: str) -> None:
    reply = world.call("POST", path(port, node), raw=question("web1"), token="agent")
    assert (reply.status, reply.headers["Content-Type"]) == (200, DNS_MESSAGE)
    assert [str(record.rdata) for record in DNSRecord.parse(reply.data).rr] == [port["address"]]


def test_nobody_is_there_to_be_asked(world: World, port: dict[str, object]) -> None:
    reply = world.call("POST", path(port), raw=question("example.com"), token="agent")
    assert DNSRecord.parse(reply.data).header.rcode == RCODE.REFUSED


def test_only_for_ports_of_the_node(world: World, port: dict[str, object]) -> None:
    world.node("n1", 1)
    for where in (path(port, "n1"), path({"key": 999}), path(port, "n9")):
        assert world.call("POST", where, raw=question("web1"), token="agent").refusal[:2] == (404, "port_unknown")
    assert world.call("POST", path({"key": "x"}), raw=question("web1"), token="agent").status == 400
    assert world.call("POST", path(port), raw=question("web1"), token="agent-n1").refusal[:2] == (403, "forbidden")


@pytest.mark.parametrize(
    "message", [b"", b"\0" * 11, b"\0\1\x80\0" + question("web1")[4:], question("a") + bytes(65536)]
)
def test_what_deserves_no_answer(world: World, port: dict[str, object], message: bytes) -> None:
    assert world.call("POST", path(port), raw=message, token="agent").refusal[:2] == (400, "bad_message")


def test_no_more_than_a_port_may(world: World, port: dict[str, object]) -> None:
    questions = Questions(build(NO_UPSTREAMS)[0], world.services.snapshot, rate=1, burst=2, clock=lambda: 0.0)
    world.app = make_app(replace(world.services, dns=questions, registry=CollectorRegistry()))
    said = [world.call("POST", path(port), raw=question("web1"), token="agent").status for _ in range(3)]
    assert said == [200, 200, 429]


def test_questions_are_in_the_metrics(world: World) -> None:
    """Whoever builds the controller registers them."""
    bench, registry = Bench(), CollectorRegistry()
    registry.register(DnsCollector(lambda: bench.server.counts, bench.forwarder))
    for name in ("web1", "web1", "nobody"):
        bench.ask(name)
    text = generate_latest(registry).decode()
    assert 'trunkline_dns_queries_total{outcome="dns_local",rcode="noerror"} 2.0' in text
    assert 'trunkline_dns_queries_total{outcome="dns_local",rcode="nxdomain"} 1.0' in text
    assert "trunkline_dns_under_way 0.0" in text and "trunkline_dns_upstreams_silent 0.0" in text
