"""What switches say of their flows, and which drops are made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import eventlet
import pytest

from controller.drops import FRESH_NODE, FRESH_PORT, Dropped, Drops
from controller.session_questions import NoAnswer
from flows.pipeline import Table, fragment_meter
from flows.rules import COOKIE_MUTED, COOKIE_OURS, Rule, cookie
from tests.unit.flows.test_statistics import reply, struct

FLOWS = [
    (4, cookie(Rule.DROP_SPOOFED, 7), 5),
    (4, cookie(Rule.DROP_SPOOFED, 7), 1),
    (4, cookie(Rule.DROP_SPOOFED, 8), 6),
    (4, cookie(Rule.ALLOW_IP, 7), 7),
    (22, cookie(Rule.LOG_EGRESS_DROPPED, 7), 2),
    (22, cookie(Rule.DROP_EGRESS, 8), 0),
    (16, cookie(Rule.DROP_PROVIDER_EGRESS, 3), 1),
    (16, cookie(Rule.DROP_PROVIDER_EGRESS, 7), 2),
    (2, cookie(Rule.DROP_EXTERNAL), 9),
    (6, cookie(Rule.DROP_UPLINK_GATEWAY, 7), 4),
    (Table.STAMP, cookie(Rule.DROP_SPOOFED, 7), 3),
]
MUTED = (12, cookie(Rule.DROP_FLOOD_DHCPV6, 7) - COOKIE_OURS + COOKIE_MUTED, 8)
METER = 9  # OFPMP_METER


class Switches:
    def __init__(self, meters: Callable[[], list[bytes]] = lambda: meters()) -> None:
        self.asked: list[str] = []
        self.meters = meters

    def ask(self, node: str, request: Callable[[int], bytes], timeout_s: float) -> list[bytes]:
        """What a switch would, with two flows in each part."""
        self.asked.append(node)
        eventlet.sleep(0.01)
        if node == "silent":
            raise NoAnswer("silence")
        if int.from_bytes(request(0)[8:10]) == METER:
            return self.meters()
        wanted, mask = struct.unpack_from("!QQ", request(0), 16 + 16)
        flows = [flow for flow in (*FLOWS, MUTED) if flow[1] & mask == wanted]
        packed = [
            struct.pack("!HBxIIHHHH4xQQQ", 56, table, 0, 0, 0, 0, 0, 0, value, packets, packets * 100) + bytes(8)
            for table, value, packets in flows
        ]
        return [reply(1, *packed[start : start + 2]) for start in range(0, len(packed), 2)]


def meters() -> list[bytes]:
    """Of the ports in zones 1 and 2, with 4 and 0 packets too many."""
    counts = ((fragment_meter(1), 4), (fragment_meter(2), 0))
    return [reply(9, struct.pack("!IH6xIQQIIQQ", number, 56, 0, 0, 0, 0, 0, packets, 0)) for number, packets in counts]


def no_meters() -> list[bytes]:
    raise NoAnswer("refused")


def fragments(found: Iterable[Dropped]) -> list[Dropped]:
    return [one for one in found if one.rule is Rule.DROP_FRAGMENTS]


def test_what_meters_drop_is_told_with_the_rest_and_not_as_a_counter_of_flows() -> None:
    drops = Drops(Switches().ask, owners=lambda _: {1: 7, 2: 8})
    expected = [Dropped("n1", Rule.DROP_FRAGMENTS, 7, 4, 0)]
    assert fragments(drops.of_port("n1", 7)) == expected and fragments(drops.of_port("n1", 8)) == []
    assert fragments(drops.of_nodes(["n1"])[0]) == expected and fragments(drops.counted("n1", 7)) == []


def test_a_switch_that_tells_of_flows_and_of_no_meters() -> None:
    drops = Drops(Switches(no_meters).ask, owners=lambda _: {1: 7})
    assert len(drops.of_port("n1", 7)) == 3
    found, silent = drops.of_nodes(["n1"])
    assert len(found) == 7 and silent == [] and fragments(found) == []


def test_of_a_port_what_is_about_ports() -> None:
    assert set(Drops(Switches().ask).of_port("n1", 7)) == {
        Dropped("n1", Rule.DROP_SPOOFED, 7, 6, 600),
        Dropped("n1", Rule.DROP_EGRESS, 7, 2, 200),
        Dropped("n1", Rule.DROP_FLOOD_DHCPV6, 7, 8, 800),
    }


def test_counters_of_a_port_are_told_before_they_count() -> None:
    (none,) = [one for one in Drops(Switches().ask).counted("n1", 8) if not one.packets]
    assert none == Dropped("n1", Rule.DROP_EGRESS, 8, 0, 0)
    assert none not in Drops(Switches().ask).of_port("n1", 8)


def test_of_nodes_everything() -> None:
    found, silent = Drops(Switches().ask).of_nodes(["silent", "n1"])
    assert silent == ["silent"]
    assert set(found) == {
        Dropped("n1", Rule.DROP_SPOOFED, 7, 6, 600),
        Dropped("n1", Rule.DROP_SPOOFED, 8, 6, 600),
        Dropped("n1", Rule.DROP_EGRESS, 7, 2, 200),
        Dropped("n1", Rule.DROP_PROVIDER_EGRESS, 0, 3, 300),
        Dropped("n1", Rule.DROP_EXTERNAL, 0, 9, 900),
        Dropped("n1", Rule.DROP_UPLINK_GATEWAY, 7, 4, 400),
        Dropped("n1", Rule.DROP_FLOOD_DHCPV6, 7, 8, 800),
    }


def test_many_ask_and_a_switch_is_asked_once() -> None:
    now, switches = [100.0], Switches()
    drops = Drops(switches.ask, clock=lambda: now[0])
    for thread in [eventlet.spawn(drops.of_nodes, ["n1", "n2"]) for _ in range(5)]:
        thread.wait()
    assert sorted(switches.asked) == ["n1", "n1", "n2", "n2"], "ours and what is muted"
    for thread in [eventlet.spawn(drops.of_port, "n1", 7) for _ in range(5)]:
        thread.wait()
    assert len(switches.asked) == 5
    now[0] += max(FRESH_NODE, FRESH_PORT)
    drops.of_port("n1", 7)
    drops.of_nodes(["n1"])
    assert len(switches.asked) == 8


def test_silence() -> None:
    with pytest.raises(NoAnswer):
        Drops(Switches().ask).of_port("silent", 7)
