"""What zones say to a VM: whose it sees, aliases, what is not there, and the names of ports."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address

from controller.dns.zone_names import Found, lookup
from flows.model import Ipv6FixedIp
from flows.snapshot import Snapshot
from tests.unit.dns.cloud import BLUE, BLUE2, RED, port, snapshot, zone

ASKER = port(1, BLUE, "asker")
OTHER = port(2, RED, "other")


def told(there: Snapshot, name: str, type_: str = "A", asker: object = ASKER) -> list[str] | None:
    """ "TYPE DATA" of each record; None when no zone has the name within, ["nothing"] when there is no such name."""
    found = lookup(there, asker, name, type_)  # type: ignore[arg-type]
    if found is None:
        return None
    if not found.exists:
        assert not found.records
        return ["nothing"]
    beyond = [] if found.beyond is None else [f"beyond {found.beyond}"]
    return [f"{record.type} {record.data}" for record in found.records] + beyond


def test_a_private_zone_is_told_to_its_project_alone() -> None:
    there = snapshot(zone(1, "lab.example", "www.lab.example A 192.0.2.1"))
    assert told(there, "www.lab.example") == ["A 192.0.2.1"]
    assert told(there, "www.lab.example", asker=OTHER) is None
    assert told(there, "www.other.example") is told(there, "example") is None


def test_a_public_zone_is_told_to_all_and_a_private_one_wins() -> None:
    public = zone(1, "lab.example", "www.lab.example A 192.0.2.1", project=None, public=True)
    private = zone(2, "lab.example", "www.lab.example A 10.0.0.1")
    longer = zone(3, "dev.lab.example", "www.dev.lab.example A 10.0.0.3", project=None, public=True)
    there = snapshot(public, private, longer)
    assert told(there, "www.lab.example") == ["A 10.0.0.1"]
    assert told(there, "www.lab.example", asker=OTHER) == ["A 192.0.2.1"]
    assert told(there, "www.dev.lab.example") == ["A 10.0.0.3"]
    assert told(there, "ftp.dev.lab.example") == ["nothing"]


def test_what_is_there_without_such_a_record_and_what_is_not_there() -> None:
    there = snapshot(zone(1, "lab.example", "www.lab.example A 192.0.2.1", "www.lab.example TXT hello"))
    assert told(there, "www.lab.example", "AAAA") == []
    assert told(there, "www.lab.example", "ANY") == ["A 192.0.2.1", "TXT hello"]
    assert told(there, "lab.example", "MX") == []
    assert told(there, "ftp.lab.example", "AAAA") == ["nothing"]
    found = lookup(there, ASKER, "ftp.lab.example", "A")
    assert found is not None and found.zone.name == "lab.example"


def test_aliases_are_followed_in_all_zones_that_are_seen_and_no_further() -> None:
    there = snapshot(
        zone(1, "a.example", "x.a.example CNAME y.b.example", "out.a.example CNAME www.example.net"),
        zone(2, "b.example", "y.b.example CNAME z.a.example", "gone.b.example CNAME none.a.example", public=True),
        zone(3, "c.example", "loop.c.example CNAME loop2.c.example", "loop2.c.example CNAME loop.c.example"),
    )
    assert told(there, "x.a.example") == ["CNAME y.b.example", "CNAME z.a.example", "beyond z.a.example"]
    assert told(there, "x.a.example", "CNAME") == ["CNAME y.b.example"]
    assert told(there, "out.a.example") == ["CNAME www.example.net", "beyond www.example.net"]
    assert told(there, "gone.b.example") == ["CNAME none.a.example", "beyond none.a.example"]
    assert told(there, "y.b.example", asker=OTHER) == ["CNAME z.a.example", "beyond z.a.example"]
    loop = told(there, "loop.c.example")
    assert loop is not None and set(loop) == {"CNAME loop2.c.example", "CNAME loop.c.example"}


def test_d8_ports_have_names_in_the_zones_of_their_network() -> None:
    made = zone(1, "lab.example", "taken.lab.example TXT mine", on=(BLUE, BLUE2))
    six = (Ipv6FixedIp("subnet", IPv6Address("2001:db8::5")),)
    ports = (
        port(5, BLUE, "Web", device_id="7D5EA0A2", ipv6_addresses=six),
        port(6, BLUE2, "web", device_id="7D5EA0A2"),
        port(7, BLUE, "web"),
        port(8, BLUE, "taken", device_id="has blanks"),
        port(9, RED, "red"),
        port(10, BLUE, ""),
    )
    there = snapshot(made, ports=ports)
    both = ["A 10.20.0.5", "A 10.21.0.6"]
    assert told(there, "web.lab.example") == told(there, "7d5ea0a2.lab.example") == both
    assert told(there, "web.lab.example", "AAAA") == ["AAAA 2001:db8::5"]
    assert told(there, "web.lab.example", "TXT") == []
    assert told(there, "taken.lab.example") == []
    for name in ("red", "has blanks", "port-10", "x"):
        assert told(there, f"{name}.lab.example") == ["nothing"]
    # gone with its machine, and then it is the next one's
    first, second, *rest = ports
    left = snapshot(made, ports=tuple(rest))
    assert told(left, "web.lab.example") == ["A 10.20.0.7"]
    assert told(left, "7d5ea0a2.lab.example") == ["nothing"]


def test_d8_a_zone_names_only_ports_of_its_project() -> None:
    shared = replace(BLUE, project_id=None, shared=True)
    ports = (
        replace(port(5, shared, "mine"), project_id="blue"),
        replace(port(6, shared, "theirs"), project_id="red"),
    )
    of_project, of_all = (
        zone(1, "lab.example", on=(shared,)),
        zone(2, "all.example", project=None, public=True, on=(shared,)),
    )
    there = snapshot(of_project, of_all, ports=ports, networks=(shared,))
    assert told(there, "mine.lab.example", asker=ports[0]) == ["A 10.20.0.5"]
    assert told(there, "theirs.lab.example", asker=ports[0]) == ["nothing"]
    assert told(there, "theirs.all.example", asker=ports[0]) == ["A 10.20.0.6"]


def test_found_says_nothing_by_default() -> None:
    made = zone(1, "lab.example")
    assert Found(made, True) == Found(made, True, (), None)
