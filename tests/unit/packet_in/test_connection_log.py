"""What security groups want reported: names, ends, and no more than is good for a log."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from controller.packet_in import frames, outcomes
from controller.packet_in.connection_log import BURST, ConnectionLog, Event
from flows.rules import Rule
from flows.snapshot import Snapshot
from tests.ipv6_world import ipv6_cloud
from tests.world import cloud, egress, filtered, rule, security_group

GROUP = replace(security_group(6, egress(61), rule(62, 6, 22)), name="web")
CLIENT, SERVER = IPv4Address("10.20.0.11"), IPv4Address("10.20.0.10")


def snapshot() -> Snapshot:
    return filtered(cloud(), GROUP)


def frame(protocol: int = 6, payload: bytes = bytes.fromhex("0fa00016") + bytes(60), cut: int = 128) -> bytes:
    packet = frames.ipv4(CLIENT.packed, SERVER.packed, protocol, payload)
    return frames.ethernet(b"\x02" * 6, b"\x04" * 6, frames.ETHERTYPE_IPV4, packet)[:cut]


def logged(rule_: Rule, key: int, sent: bytes, times: int = 1) -> tuple[str, list[tuple[str, Event]]]:
    said: list[tuple[str, Event]] = []
    log = ConnectionLog("n1", lambda event, fields: said.append((event, fields)))
    outcome = ""
    for _ in range(times):
        outcome = log.log(rule_, key, sent, snapshot(), 100.0)
    return outcome, said


def test_a_connection_that_begins_is_named_by_its_rule() -> None:
    outcome, ((event, fields),) = logged(Rule.LOG_INGRESS_ACCEPTED, 62, frame(cut=60))
    assert (outcome, event) == (outcomes.CONNECTION_LOGGED, "connection_accepted")
    assert fields == {
        "node": "n1",
        "direction": "ingress",
        "security_group": "web",
        "security_group_id": "group-6",
        "rule_id": "rule-62",
        "port": "port-20",
        "port_id": "port-20",
        "protocol": "tcp",
        "source": str(CLIENT),
        "destination": str(SERVER),
        "source_port": 4000,
        "destination_port": 22,
    }


def test_ipv6_is_named_too() -> None:
    client, server = (ipv6_cloud().ports[f"port-{key}"].ipv6_addresses[0].address for key in (21, 20))
    for protocol, payload, shown in (
        (6, bytes.fromhex("0fa00016") + bytes(60), {"protocol": "tcp", "source_port": 4000, "destination_port": 22}),
        (58, bytes((128, 0)) + bytes(60), {"icmp_type": 128, "icmp_code": 0}),
    ):
        packet = frames.ipv6(client.packed, server.packed, protocol, payload)
        sent = frames.ethernet(b"\x02" * 6, b"\x04" * 6, frames.ETHERTYPE_IPV6, packet)[:64]
        said: list[Event] = []
        log = ConnectionLog("n1", lambda event, fields, said=said: said.append(fields))
        assert log.log(Rule.LOG_INGRESS_ACCEPTED, 62, sent, filtered(ipv6_cloud(), GROUP), 100.0) == (
            outcomes.CONNECTION_LOGGED
        )
        expected = {"port_id": "port-20", "source": str(client), "destination": str(server), **shown}
        assert {name: said[0][name] for name in expected} == expected


def test_what_is_refused_is_named_by_its_port() -> None:
    _, ((event, fields),) = logged(Rule.LOG_EGRESS_DROPPED, 21, frame(1, bytes([8, 0]) + bytes(60)))
    assert event == "connection_dropped"
    assert (fields["port_id"], fields["direction"], fields["icmp_type"]) == ("port-21", "egress", 8)
    assert "rule_id" not in fields and "source_port" not in fields


def test_a_flood_is_a_few_lines_and_a_number() -> None:
    outcome, said = logged(Rule.LOG_INGRESS_DROPPED, 20, frame(), times=200)
    assert outcome == outcomes.RATE_LIMITED
    assert len(said) == BURST
    again: list[tuple[str, Event]] = []
    log = ConnectionLog("n1", lambda event, fields: again.append((event, fields)))
    for now in (*[0.0] * 25, 10.0):
        log.log(Rule.LOG_INGRESS_DROPPED, 20, frame(), snapshot(), now)
    assert again[-1][1]["left_out"] == 5


def test_of_each_so_many_the_first_is_told_of() -> None:
    said: list[Event] = []
    log = ConnectionLog("n1", lambda event, fields: said.append(fields), sample=10)
    outcomes_ = [log.log(Rule.LOG_INGRESS_ACCEPTED, 62, frame(), snapshot(), 0.0) for _ in range(25)]
    assert [at for at, outcome in enumerate(outcomes_) if outcome == outcomes.CONNECTION_LOGGED] == [0, 10, 20]
    assert set(outcomes_) == {outcomes.CONNECTION_LOGGED, outcomes.SAMPLED_OUT}
    assert [fields.get("left_out", 0) for fields in said] == [0, 9, 9]


@pytest.mark.parametrize(
    ("key", "sent", "outcome"),
    [
        (99, frame(), outcomes.UNKNOWN_OBJECT),
        (62, b"", outcomes.MALFORMED),
        (62, frame()[:20], outcomes.MALFORMED),
        (62, frame(47, b""), outcomes.CONNECTION_LOGGED),
        (62, frame(6, b"\x01"), outcomes.CONNECTION_LOGGED),
    ],
)
def test_whatever_comes_is_named(key: int, sent: bytes, outcome: str) -> None:
    assert logged(Rule.LOG_INGRESS_ACCEPTED, key, sent)[0] == outcome
