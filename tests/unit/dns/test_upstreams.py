from __future__ import annotations

import os
from pathlib import Path

import pytest

from controller.dns import domain
from controller.dns.upstreams import HostServers, Servers, Upstream, parse_resolv_conf, parse_server, parse_servers


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("192.0.2.1", Upstream("192.0.2.1")),
        ("192.0.2.1#5353", Upstream("192.0.2.1", 5353)),
        ("2001:DB8::1", Upstream("2001:db8::1")),
        ("fe80::1%eth0", Upstream("fe80::1%eth0")),
    ],
)
def test_a_server(text: str, server: Upstream) -> None:
    assert parse_server(text) == server and parse_server(str(server)) == server


@pytest.mark.parametrize(
    "text", ["", "x", "192.0.2", "192.0.2.1:53", "192.0.2.1#0", "192.0.2.1#65536", "224.0.0.1", "0.0.0.0", "ns.example"]
)
def test_no_server(text: str) -> None:
    with pytest.raises(ValueError, match=".+"):
        parse_server(text)


def test_servers_in_general_and_by_zone() -> None:
    found = parse_servers(
        ["192.0.2.2", "/corp.example/10.in-addr.arpa/192.0.2.3", "192.0.2.1", "/corp.example/192.0.2.4"]
    )
    assert found.general == (Upstream("192.0.2.2"), Upstream("192.0.2.1"))
    corp = (Upstream("192.0.2.3"), Upstream("192.0.2.4"))
    assert found.zones == {domain.wire("corp.example"): corp, domain.wire("10.in-addr.arpa"): corp[:1]}
    assert parse_servers(["/secret/"]) == Servers((), {domain.wire("secret"): ()})
    assert parse_servers([]).zone_of(domain.wire("a.b")) is None


@pytest.mark.parametrize("text", ["/192.0.2.1", "//192.0.2.1", "/a..b/192.0.2.1", "/corp.example/x", "/./192.0.2.1"])
def test_no_servers_of_a_zone(text: str) -> None:
    with pytest.raises(ValueError, match=".+"):
        parse_servers([text])


def test_what_a_host_has_configured() -> None:
    text = "# comment\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 # x\nnameserver ns.example\nsearch a.example\n"
    assert parse_resolv_conf(text) == (Upstream("192.0.2.1"), Upstream("2001:db8::1"))
    assert len(parse_resolv_conf("nameserver 192.0.2.1\n" * 9)) == 3


def test_it_is_read_again_when_it_changes(tmp_path: Path) -> None:
    now = 0.0
    path = tmp_path / "resolv.conf"
    host = HostServers(path, lambda: now)
    assert host.servers() == ()
    path.write_text("nameserver 192.0.2.1\n")
    assert host.servers() == ()
    now += 2
    assert host.servers() == (Upstream("192.0.2.1"),)
    path.write_text("nameserver 192.0.2.2\n")
    os.utime(path, ns=(1, 1))
    now += 2
    assert host.servers() == (Upstream("192.0.2.2"),)
    path.unlink()
    now += 2
    assert host.servers() == ()
