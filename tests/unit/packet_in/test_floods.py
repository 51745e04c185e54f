"""A port that floods the controller is heard no more, about that and for a while."""

from __future__ import annotations

from controller.mutes import Mutes
from controller.packet_in.floods import HOT, PATIENCE, Floods, Mute
from controller.packet_in.outputs import Temporary
from flows.features.mute import muted
from flows.pipeline import PORT_PACKET_INS, Table
from flows.rules import COOKIE_OURS_MASK, Rule, decode_cookie
from tests.unit.packet_in import model
from tests.unit.packet_in.test_dispatch import DHCP, Bed
from tests.unit.packet_in.wire import Message

RATE = PORT_PACKET_INS[0]


def flood(
    floods: Floods, start: float, seconds: int, rates: dict[Rule, int] | None = None, key: int = 7
) -> list[tuple[float, Mute]]:
    """What is muted, and when, if so many packets a second come of a port."""
    found = []
    for second in range(seconds):
        for rule, rate in (rates or {Rule.PUNT_DHCP: RATE}).items():
            for index in range(rate):
                now = start + second + index / rate
                found += [(now, mute) for mute in floods.saw(rule, key, now)]
    return found


def test_a_flood_that_goes_on_is_muted_and_each_time_for_longer() -> None:
    floods = Floods(60)
    assert flood(floods, 0, PATIENCE + 1) == [(PATIENCE, Mute(Rule.PUNT_DHCP, 7, 60))]
    now, lengths = 0.0, [60]
    for _ in range(6):
        now += PATIENCE + 1 + lengths[-1]
        ((_, mute),) = flood(floods, now, PATIENCE + 1)
        lengths.append(mute.seconds)
    assert lengths == [60, 120, 240, 480, 960, 960, 960]
    ((_, mute),) = flood(floods, now + 960 + 700, PATIENCE + 1)
    assert mute.seconds == 60, "that was long ago"


def test_what_is_no_flood_is_heard() -> None:
    assert flood(Floods(60), 0, 60, {Rule.PUNT_DHCP: HOT - 1}) == []
    floods = Floods(60)
    for start in range(0, 60, PATIENCE):  # bursts with pauses
        assert flood(floods, start, PATIENCE - 1) == []
    assert flood(Floods(0), 0, 60) == [], "switched off"


def test_what_has_no_part_in_it_is_still_heard() -> None:
    rates = {Rule.PUNT_DHCP: 2, Rule.PUNT_TTL_EXPIRED: 24, Rule.PUNT_UNRESOLVED: 24}
    found = flood(Floods(60), 0, PATIENCE + 1, rates)
    assert {mute.rule for _, mute in found} == {Rule.PUNT_TTL_EXPIRED, Rule.PUNT_UNRESOLVED}


def test_ports_are_counted_apart() -> None:
    floods = Floods(60)
    for key in range(100):
        assert flood(floods, 0, 3, {Rule.PUNT_DHCP: HOT // 2}, key=key) == []


def test_the_answer_to_a_flood_is_a_flow_that_ends_by_itself() -> None:
    heard: list[tuple[str, Mute]] = []
    bed = Bed(muted=lambda node, mute: heard.append((node, mute)))
    sent = []
    for index in range(RATE * (PATIENCE + 1)):
        bed.now = index / RATE
        sent += [one for one in bed.dispatcher.handle(DHCP, 100, Message().frame()) if isinstance(one, Temporary)]
    assert sent == [Temporary(muted(Rule.PUNT_DHCP, 10), 60)] and heard == [("n1", Mute(Rule.PUNT_DHCP, 10, 60))]  # type: ignore[arg-type]
    flow = sent[0].flow
    assert decode_cookie(flow.cookie) == (Rule.DROP_FLOOD_DHCP, 10) and not flow.actions
    assert flow.table == Table.SERVICES and flow.cookie & COOKIE_OURS_MASK == 0x4D << 56, "a resync leaves it alone"
    assert int.from_bytes(sent[0].message()[28:30]) == 60, "hard_timeout"


def test_who_is_told_a_size_goes_on_being_told() -> None:
    assert muted(Rule.PUNT_TOO_LARGE, 7) is None and muted(Rule.PUNT_ON_LINK, 7) is None


def test_mutes_are_shown_until_they_end() -> None:
    now = [0.0]
    mutes = Mutes(model.cloud, lambda: now[0])
    mutes.muted("n1", Mute(Rule.PUNT_DHCP, 10, 60))
    now[0] = 20.0
    assert mutes.of_port("n1", 10) == {"punt_dhcp": 40} and mutes.of_port("n2", 10) == mutes.of_port("n1", 11) == {}
    shown = {sample.name: sample.value for family in mutes.collect() for sample in family.samples}
    assert shown == {"trunkline_ports_muted_total": 1, "trunkline_muted_ports": 1}
    now[0] = 60.0
    assert mutes.of_port("n1", 10) == {}
    shown = {sample.name: sample.value for family in mutes.collect() for sample in family.samples}
    assert shown == {"trunkline_ports_muted_total": 1, "trunkline_muted_ports": 0}
