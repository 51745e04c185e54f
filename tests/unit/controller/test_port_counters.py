"""Questions to a switch, and what the counters of its ports are made of."""

from __future__ import annotations

import time
from collections.abc import Callable

import eventlet
import pytest

from controller import receive
from controller.drops import FRESH_PORT, Drops
from controller.port_counters import FRESH, PortCollector, PortCounters, Traffic
from controller.session_questions import QUESTION_XIDS, NoAnswer, Questions
from flows import statistics
from flows.model import Port
from flows.rules import COOKIE_MUTED, COOKIE_OURS, Rule, cookie
from flows.snapshot import Snapshot
from tests.unit.flows.test_statistics import METERS, reply, struct
from tests.world import networks, node, port

MORE = 1


def part(xid: int, *, more: bool) -> bytes:
    return receive.HEADER.pack(5, 19, 16, xid) + struct.pack("!HH4x", 4, MORE if more else 0)


def test_an_answer_in_parts() -> None:
    asked: list[bytes] = []
    questions = Questions(lambda message: asked.append(message) or True)  # type: ignore[func-returns-value]
    waiting = eventlet.spawn(questions.ask, statistics.ports_request, 5.0)
    eventlet.sleep(0)
    xid = int.from_bytes(asked[0][4:8])
    assert xid == QUESTION_XIDS
    for more in (True, True, False):
        assert questions.answer(receive.MULTIPART_REPLY, xid, part(xid, more=more))
    assert len(waiting.wait()) == 3
    assert questions.answer(receive.MULTIPART_REPLY, xid, part(xid, more=False)), "late, and nobody's"
    assert not questions.answer(receive.MULTIPART_REPLY, QUESTION_XIDS - 1, part(1, more=False)), "the session's"


def test_no_answer_is_an_end() -> None:
    with pytest.raises(NoAnswer, match="closed"):
        Questions(lambda message: False).ask(statistics.ports_request, 5.0)
    questions = Questions(lambda message: True)
    with pytest.raises(NoAnswer, match="no answer in"):
        questions.ask(statistics.ports_request, 0.01)
    waiting = eventlet.spawn(questions.ask, statistics.ports_request, 5.0)
    eventlet.sleep(0)
    questions.close()
    with pytest.raises(NoAnswer, match="closed"):
        waiting.wait()
    refused = eventlet.spawn(questions.ask, statistics.ports_request, 5.0)
    eventlet.sleep(0)
    xid = QUESTION_XIDS + 2
    questions.answer(receive.ERROR, xid, receive.HEADER.pack(5, 1, 12, xid) + struct.pack("!HH", 1, 2))
    with pytest.raises(NoAnswer, match=r"refused: \(1, 2\)"):
        refused.wait()


class Switches:
    """Answers by node; one that is not there does not answer."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.silent: set[str] = set()

    def ask(self, node: str, request: Callable[[int], bytes], timeout_s: float) -> list[bytes]:
        kind = int.from_bytes(request(0)[8:10])
        self.asked.append(f"{node} {kind}")
        eventlet.sleep(0.01)  # as long as an answer takes, others may ask
        if node in self.silent:
            raise NoAnswer("silence")
        if kind == 4:
            return [reply(4, struct.pack("!H2xIII8Q", 80, 107, 0, 0, 10, 20, 1000, 2000, 3, 4, 0, 0))]
        if kind == 9:
            return [METERS]
        flows = [
            (cookie(Rule.DROP_SPOOFED, 7), 5),
            (cookie(Rule.DROP_SPOOFED, 8), 6),
            (cookie(Rule.ALLOW_IP, 7), 7),
            (cookie(Rule.DROP_NODE_MAC, 7), 8),  # of the network with that key
            (cookie(Rule.DROP_FLOOD_DHCP, 7) ^ COOKIE_OURS ^ COOKIE_MUTED, 9),
            (7, 10),
        ]
        entry = "!HBxIIHHHH4xQQQ"
        return [
            reply(
                1, *(struct.pack(entry, 56, 4, 0, 0, 0, 0, 0, 0, known, count, 0) + bytes(8) for known, count in flows)
            )
        ]


def counters_of(switches: Switches, clock: Callable[[], float] = time.monotonic) -> PortCounters:
    return PortCounters(switches.ask, Drops(switches.ask, clock), clock)


def one_port() -> Port:
    return port(7, networks()[1], 7, "n1")


def test_what_a_vm_has_received_is_what_the_switch_has_sent() -> None:
    counts = counters_of(Switches()).of_port(one_port())
    assert counts is not None and counts.node == "n1"
    assert counts.received == Traffic(20, 2000, 4) and counts.sent == Traffic(10, 1000, 3)
    assert counts.drops == {"drop_spoofed": 5, "drop_flood_dhcp": 9}
    assert counts.exceeded == {"packet_in": 0}  # meter 7; it has no others
    assert counters_of(Switches()).of_port(port(8, networks()[1], 8, None)) is None


def test_a_node_is_asked_once_however_many_want_to_know() -> None:
    now, switches = [0.0], Switches()
    counters = counters_of(switches, lambda: now[0])
    pool = eventlet.GreenPool()
    list(pool.imap(counters.of_node, ["n1"] * 20))
    assert switches.asked == ["n1 4", "n1 9"]
    now[0] = FRESH
    counters.of_node("n1")
    assert len(switches.asked) == 4


def test_a_port_is_asked_about_once_a_second_however_many_want_to_know() -> None:
    now, switches = [0.0], Switches()
    counters = counters_of(switches, lambda: now[0])
    others = port(8, networks()[1], 8, "n1")

    def flows_asked() -> int:
        pool = eventlet.GreenPool()
        found = list(pool.imap(counters.of_port, [one_port()] * 20))
        assert all(counts is not None and counts.drops["drop_spoofed"] == 5 for counts in found)
        return switches.asked.count("n1 1")

    assert flows_asked() == 1
    now[0] = FRESH_PORT / 2
    assert flows_asked() == 1
    asked_about_other = counters.of_port(others)
    assert asked_about_other is not None and asked_about_other.drops == {"drop_spoofed": 6}
    now[0] = FRESH_PORT
    assert flows_asked() == 3


def test_who_waits_together_hears_together_that_there_is_no_answer() -> None:
    switches = Switches()
    switches.silent.add("n1")
    counters = counters_of(switches)
    threads = [eventlet.spawn(counters.of_port, one_port()) for _ in range(20)]
    for thread in threads:
        with pytest.raises(NoAnswer, match="silence"):
            thread.wait()
    assert switches.asked == ["n1 4"]
    switches.silent.clear()
    assert counters.of_port(one_port()) is not None, "a silence is not remembered"


def test_metrics_leave_out_who_does_not_answer() -> None:
    switches = Switches()
    switches.silent.add("n2")
    ports = [one_port(), port(8, networks()[1], 8, "n2")]
    snapshot = Snapshot.build(1, networks(), ports, [node("n1"), node("n2")])
    collector = PortCollector(counters_of(switches), lambda: snapshot, lambda: iter(("n1", "n2")))
    shown = {
        (sample.name, *sample.labels.values()): sample.value
        for family in collector.collect()
        for sample in family.samples
    }
    assert shown["trunkline_port_packets_total", "port-7", "n1", "received"] == 20
    assert shown["trunkline_port_bytes_total", "port-7", "n1", "sent"] == 1000
    assert shown["trunkline_port_exceeded_total", "port-7", "n1", "packet_in"] == 0
    assert not any("n2" in labels for labels in shown)
