"""The host's own address for NAT: which one, what is in its way, and the flows that share it."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address

import pytest

from agent import nics
from agent.config import AgentConfig, PhysicalNetwork
from agent.host_address import NOBODY, HostAddresses, HostChoice, choices, choose, overlap
from agent.host_flows import MARK, MARK_MASK, cookie_of, wanted
from agent.report import node_report
from agent.state import OvsState

EXT = PhysicalNetwork("ext", "eth1")
ADDRESSES = nics.addresses
ONE, TWO = IPv4Address("203.0.113.9"), IPv4Address("203.0.113.10")


def config(*snat: tuple[str, str]) -> AgentConfig:
    return AgentConfig(
        node="n1",
        datapath_id="0000020000000001",
        controllers=("tcp:192.0.2.1:6653",),
        api_urls=("http://192.0.2.1:8080",),
        api_token="t",
        physical_networks=(PhysicalNetwork("lan", "eth0"), EXT),
        snat_addresses=snat,
    )


def test_only_hosts_addresses_are_chosen_here() -> None:
    assert choices(config(("lan", "198.51.100.1"), ("ext", "host"))) == (HostChoice(EXT, None),)
    assert choices(config(("ext", f"host:{ONE}"))) == (HostChoice(EXT, ONE),)
    assert choices(config(("lan", "198.51.100.1-198.51.100.9"))) == ()


@pytest.mark.parametrize(
    ("named", "present", "before", "chosen", "said"),
    [
        (None, [ONE], None, ONE, None),
        (None, [TWO], ONE, TWO, None),
        (None, [], None, None, "device br-ext holds no IPv4 address"),
        (None, [], ONE, ONE, "device br-ext holds no IPv4 address"),
        (None, [ONE, TWO], None, None, "snat_address = ext:host:ADDRESS"),
        (None, [ONE, TWO], TWO, TWO, "device br-ext holds 203.0.113.9, 203.0.113.10"),
        (ONE, [ONE, TWO], None, ONE, None),
        (ONE, [TWO], None, ONE, "does not hold 203.0.113.9"),
    ],
)
def test_the_address(
    named: IPv4Address | None,
    present: list[IPv4Address],
    before: IPv4Address | None,
    chosen: IPv4Address | None,
    said: str | None,
) -> None:
    address, problem = choose(HostChoice(EXT, named), present, before)
    assert address == chosen
    assert problem is None if said is None else problem is not None and said in problem and "\n" not in problem


@pytest.mark.parametrize(
    ("given", "kept", "wrong"),
    [
        (range(32768, 61000), [], False),
        (range(32768, 61440), [], False),
        (range(32768, 61441), [], True),
        (range(1024, 65536), [], True),
        (range(1024, 65536), [range(80, 81), range(61440, 65536)], False),
        (range(1024, 65536), [range(61441, 65536)], True),
        (range(62000, 62001), [range(62000, 62001)], False),
    ],
)
def test_the_hosts_own_ports_must_not_be_those_for_nat(given: range, kept: Sequence[range], wrong: bool) -> None:
    assert (overlap(given, kept) is not None) == wrong


def test_what_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    held: dict[str, tuple[IPv4Address, ...]] = {"br-ext": ()}
    monkeypatch.setattr(nics, "addresses", lambda device: held[device])
    monkeypatch.setattr(nics, "local_ports", lambda: (range(32768, 61000), ()))
    its = config(("lan", "198.51.100.1"), ("ext", "host"))
    hosts = HostAddresses(its)

    def reported() -> object:
        hosts.read()
        return node_report(its, OvsState(), "1", hosts.to_report()).body()["snat_addresses"]

    # not nothing: the node would take any address then
    assert reported() == {"lan": "198.51.100.1", "ext": f"host:{NOBODY}"} and len(hosts.problems) == 1
    held["br-ext"] = (ONE,)
    assert reported() == {"lan": "198.51.100.1", "ext": f"host:{ONE}"} and not hosts.problems
    held["br-ext"] = ()
    assert reported() == {"lan": "198.51.100.1", "ext": f"host:{ONE}"} and len(hosts.problems) == 1
    monkeypatch.setattr(nics, "local_ports", lambda: (range(32768, 65001), ()))
    reported()
    assert "the host takes ports 32768-65000" in hosts.problems[1]


def test_a_kernel_that_does_not_say_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nics, "addresses", lambda device: (ONE,))
    monkeypatch.setattr(nics, "local_ports", lambda: (range(32768, 61000), ()))
    known, named, new = (HostAddresses(config(("ext", choice))) for choice in ("host", f"host:{ONE}", "host"))
    assert known.read() == {"ext": ONE}

    def fails(*_: object) -> object:
        raise OSError(23, "Too many open files in system")

    monkeypatch.setattr("agent.nics.socket.socket", fails)
    monkeypatch.setattr(nics, "local_ports", fails)
    monkeypatch.setattr(nics, "addresses", ADDRESSES)
    assert (known.read(), named.read(), new.read()) == ({"ext": ONE}, {"ext": ONE}, {})
    for hosts in (known, named, new):
        assert len(hosts.problems) == 2 and all("Too many open files" in problem for problem in hosts.problems)


def test_what_the_kernel_says() -> None:
    assert IPv4Address("127.0.0.1") in nics.addresses("lo") and nics.addresses("no-such") == ()
    assert nics.mac("lo") == "00:00:00:00:00:00" and nics.mac("no-such") is None
    given, kept = nics.local_ports()
    assert 0 < given.start < given.stop <= 65536 and all(span.stop <= 65536 for span in kept)


def test_flows() -> None:
    flows = wanted(ONE, "02:00:00:00:00:01", 7, given_back=True)
    assert all(f"nw_dst={ONE}" in flow and "vlan_tci=0x0000/0x1fff" in flow for flow in flows)
    assert [flow.rpartition("actions=")[2] for flow in flows[:2]] == ["mod_dl_dst:02:00:00:00:00:01,LOCAL", "NORMAL"]
    assert {flow.rpartition("actions=")[2] for flow in flows[2:]} == {"output:7"}
    # while br-int gives nothing back, only what the host can have no use for is taken from it
    taken = wanted(ONE, "02:00:00:00:00:01", 7, given_back=False)[2:]
    assert len(taken) == 2 and all("tp_dst=0xf000/0xf000" in flow for flow in taken)
    assert set(taken) < set(flows)


def test_the_cookie_is_ours_and_tells_flows_apart() -> None:
    some, more = (wanted(ONE, "02:00:00:00:00:01", 7, given_back=given_back) for given_back in (False, True))
    assert cookie_of(some) != cookie_of(more) == cookie_of(more)
    assert all(cookie_of(flows) & MARK_MASK == MARK for flows in (some, more))
