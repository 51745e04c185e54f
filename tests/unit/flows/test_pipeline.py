"""The declaration of the pipeline, and the document made from it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from flows.ir import Ct, CtClear, Goto, Meter, SetField, drop, flow, matching
from flows.pipeline import (
    METERS,
    PORT_ZONES,
    SHARED_METER,
    Priority,
    Table,
    carried_port,
    carrier_address,
    dns_meter,
    egress_meter,
    fragment_meter,
    ingress_meter,
    ipv6_carrier_address,
    node_mac,
    packet_in_meter,
)
from flows.rules import Rule, cookie, decode_cookie, document
from flows.simulate import Switch


def test_the_document_is_fresh() -> None:
    written = Path(__file__).parents[3] / "docs" / "pipeline.md"
    assert written.read_text() == document(), "run: python -m flows.rules > docs/pipeline.md"


def test_only_what_drops_drops_normally() -> None:
    assert {rule for rule in Rule if rule.normal} <= {rule for rule in Rule if rule.drop}


def test_a_cookie_names_its_rule_and_object() -> None:
    for rule in Rule:
        assert decode_cookie(cookie(rule, 12345)) == (rule, 12345)
    assert decode_cookie(0x4C << 56) is None
    assert decode_cookie(cookie(Rule.ROUTE) | 0xFFFFFF << 32) is None


def test_rule_numbers_are_unique() -> None:
    assert len({rule.number for rule in Rule}) == len(Rule)


def test_macs_and_carriers_are_unique_to_their_key() -> None:
    assert node_mac(1) != node_mac(2)
    assert carrier_address(1) == 0x64400001
    for key in (1, (1 << 22) - 1):
        for carrier in (IPv4Address(carrier_address(key)), IPv6Address(ipv6_carrier_address(key))):
            assert carried_port(carrier) == key


@pytest.mark.parametrize("address", ["100.64.0.0", "100.128.0.1", "10.0.0.1"])
def test_what_is_no_carrier_of_ipv4(address: str) -> None:
    assert carried_port(IPv4Address(address)) is None


@pytest.mark.parametrize(
    "address", ["64:ff9b:1::", "64:ff9b::1", "64:ff9b:1::40:1", "64:ff9b:1:1::1", "::6440:1", "::1"]
)
def test_what_is_no_carrier_of_ipv6(address: str) -> None:
    assert carried_port(IPv6Address(address)) is None


_METERS_OF = (packet_in_meter, dns_meter, fragment_meter, egress_meter, ingress_meter)


def test_no_two_meters_have_one_number() -> None:
    made = [meter_of(zone) for meter_of in _METERS_OF for zone in PORT_ZONES]
    assert len(set(made)) == len(made) and set(made) | {SHARED_METER} <= set(METERS) and SHARED_METER not in made


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"nonsense": 1}, "no such field"),
        ({"eth_type": 0x10000}, "does not fit"),
        ({"ip_dst": (0x0A000001, 0xFF000000)}, "outside mask"),
        ({"ip_dst": -1}, "does not fit"),
    ],
)
def test_a_wrong_match_is_refused(fields: dict[str, int | tuple[int, int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        matching(**fields)


def test_a_match_is_the_same_in_any_order_and_a_full_mask_is_none() -> None:
    one = matching(ip_dst=(1, 0xFFFFFFFF), eth_type=0x800)
    assert one == matching(eth_type=0x800, ip_dst=1)


@pytest.mark.parametrize(
    ("state", "sound"),
    [((0x20, 0x20), False), ((0x20, 0x30), True), ((0x21, 0x21), True), ((0x30, 0x30), False), ((0, 0x20), False)],
)
def test_how_a_connection_began_is_matched_only_where_there_is_one(state: tuple[int, int], sound: bool) -> None:
    """As a switch would have it, which refuses such a flow."""
    match = matching(eth_type=0x0800, ct_state=state, ct_nw_proto=6)
    made = flow(Rule.EGRESS_GOES_ON, Priority.NORMAL, match, Goto(Table.ROUTE_OR_SWITCH))
    if sound:
        assert Switch([made])
        return
    with pytest.raises(ValueError, match="not that conntrack knows one"):
        Switch([made])


def test_a_flow_that_breaks_the_pipeline_is_refused() -> None:
    with pytest.raises(ValueError, match="does not lead forward"):
        flow(Rule.ROUTE, Priority.NORMAL, (), Goto(Table.CLASSIFY))
    again = Ct(Table.EGRESS_POLICY, 1, commit=True)
    turned = replace(again, force=True)
    for actions in ((again,), (CtClear(), again), (turned,)):
        with pytest.raises(ValueError, match="does not lead forward"):
            flow(Rule.EGRESS_TURNED, Priority.NORMAL, (), *actions)
    assert flow(Rule.EGRESS_TURNED, Priority.NORMAL, (), CtClear(), turned)
    with pytest.raises(ValueError, match="must come last"):
        flow(Rule.ROUTE, Priority.NORMAL, (), Goto(Table.ROUTING), Goto(Table.OUTPUT))
    with pytest.raises(ValueError, match="must come first"):
        flow(Rule.ROUTE, Priority.NORMAL, (), SetField("metadata", 1), Meter(1), Goto(Table.ROUTING))
    with pytest.raises(ValueError, match="a drop has no actions"):
        flow(Rule.ROUTE, Priority.NORMAL, ())
    with pytest.raises(ValueError, match="is about port"):
        drop(Rule.DROP_SPOOFED, Priority.MISS)
