"""What we encode, read by Open vSwitch's own decoder."""

from __future__ import annotations

import subprocess

import pytest

from flows import wire
from flows.compile import compile_node
from flows.ir import Controller, Ct, Flow, MeterConfig, Output, Resubmit, SetField, Stamp, Swap, matching, stamp_flows
from flows.pipeline import Table
from flows.protocols import NO_FRAGMENT
from tests.ipv6_world import ipv6_cloud


def test_open_vswitch_understands_every_flow() -> None:
    """A refused flow would be found by the first bundle, but here it is found by name."""
    for flow in [*compile_node(ipv6_cloud(), "n1").flows(), *stamp_flows(Stamp(0x1122334455667788))]:
        for message in (wire.encode_add(flow), wire.encode_delete(flow)):
            printed = subprocess.run(
                ["ovs-ofctl", "ofp-print", message.hex()], capture_output=True, text=True, check=True, timeout=10
            )
            assert "OFPT_FLOW_MOD" in printed.stdout and "error" not in printed.stdout + printed.stderr, (flow, printed)


def test_open_vswitch_understands_a_meter_of_the_controllers_own() -> None:
    flow = Flow(51, 7, (), (Controller(64, 9), Resubmit(52)), 5)
    printed = subprocess.run(
        ["ovs-ofctl", "ofp-print", wire.encode_add(flow).hex()], capture_output=True, text=True, check=True, timeout=10
    )
    assert "actions=controller(max_len=64,meter_id=9),resubmit(,52)" in printed.stdout


def test_open_vswitch_reads_how_a_connection_began_and_turns_one_round() -> None:
    began = {"ct_nw_proto": 17, "ct_nw_src": (0x0A140000, 0xFFFFFF00), "ct_nw_dst": 0x0A140001}
    began |= {"ct_tp_src": 4000, "ct_tp_dst": (0x1000, 0xF000)}
    fields = matching(eth_type=0x0800, ip_frag=NO_FRAGMENT, ct_state=(0x20, 0x30), **began)
    flow = Flow(18, 7, fields, (Ct(Table.EGRESS_POLICY, "reg8", commit=True, force=True),), 5)
    message = wire.encode_add(flow).hex()
    printed = subprocess.run(
        ["ovs-ofctl", "ofp-print", message], capture_output=True, text=True, check=True, timeout=10
    )
    shown = (
        "priority=7,ct_state=-inv+trk,ct_nw_src=10.20.0.0/24,ct_nw_dst=10.20.0.1,ct_nw_proto=17,ct_tp_src=4000,"
        "ct_tp_dst=0x1000/0xf000,ip,nw_frag=no"
    )
    assert shown in printed.stdout, printed.stdout
    assert "actions=ct(commit,force,table=18,zone=NXM_NX_REG8[0..15])" in printed.stdout, printed.stdout


def test_open_vswitch_reads_ipv6() -> None:
    """What Ryu does not know: how a connection began, fields of neighbour discovery, two fields that change places."""
    began = {"ct_ipv6_src": (0x20010DB8 << 96, 0xFFFFFFFF << 96), "ct_ipv6_dst": 1, "ct_nw_proto": 58}
    fields = matching(eth_type=0x86DD, ct_state=(0x20, 0x30), **began)
    told = SetField("nd_reserved", 0xE0000000), SetField("nd_options_type", 2), SetField("nd_tll", 0x02544C000001)
    flows = {
        Flow(58, 7, fields, (Swap("ipv6_src", "ipv6_dst"), Output(3)), 5): (
            "ct_ipv6_src=2001:db8::/32,ct_ipv6_dst=::1,ct_nw_proto=58,ipv6 cookie:0x5 actions=push:NXM_NX_IPV6_SRC[],"
            "push:NXM_NX_IPV6_DST[],pop:NXM_NX_IPV6_SRC[],pop:NXM_NX_IPV6_DST[],output:3"
        ),
        Flow(11, 7, matching(eth_type=0x86DD, ip_proto=58, icmpv6_type=136), told, 5): (
            "icmp6,icmp_type=136 cookie:0x5 actions=set_field:3758096384->nd_reserved,set_field:2->nd_options_type,"
            "set_field:02:54:4c:00:00:01->nd_tll"
        ),
    }
    for flow, shown in flows.items():
        printed = subprocess.run(
            ["ovs-ofctl", "ofp-print", wire.encode_add(flow).hex()],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
        assert shown in printed.stdout, printed.stdout


CONTROL = [
    (wire.bundle_open(1), "bundle_id=0x1 type=OPEN_REQUEST flags=atomic ordered"),
    (wire.bundle_commit(2), "COMMIT_REQUEST"),
    (wire.bundle_discard(3), "DISCARD_REQUEST"),
    (wire.barrier_request(4), "OFPT_BARRIER_REQUEST (OF1.4) (xid=0x4)"),
    (wire.stamp_request(5), "OFPST_FLOW request (OF1.4) (xid=0x5): table=250"),
    (
        wire.encode_meter(MeterConfig(30_001, 10_000, 4000)),
        "ADD meter=30001 kbps burst stats bands= type=drop rate=10000 burst_size=4000",
    ),
    (
        wire.encode_meter(MeterConfig(1, 50, 100, packets=True), modify=True),
        "MOD meter=1 pktps burst stats bands= type=drop rate=50 burst_size=100",
    ),
    (wire.delete_meter(7), "DEL meter=7"),
    (wire.meters_request(5), "OFPST_METER_CONFIG request (OF1.4) (xid=0x5): meter=all"),
    (wire.ct_flush_zone(7, 6), "NXT_CT_FLUSH_ZONE (OF1.4) (xid=0x6): zone_id=7"),
    (
        wire.ct_flush(65001, original_source=0x0A140005, xid=8),
        "NXT_CT_FLUSH (OF1.4) (xid=0x8): zone=65001 'ct_nw_src=10.20.0.5,ct_nw_dst=::,",
    ),
    (wire.ct_flush(30010, original_destination=0xCB007132), "zone=30010 'ct_nw_src=::,ct_nw_dst=203.0.113.50,"),
    (wire.ct_flush(30010, reply_destination=0xCB007132), "' 'ct_nw_src=::,ct_nw_dst=203.0.113.50,"),
    (wire.packet_out(3, bytes(60)), "in_port=CONTROLLER actions=output:3 data_len=60"),
    (
        wire.packet_out_resubmit(37, {"metadata": 9}, bytes(60)),
        "actions=set_field:0x9->metadata,resubmit(,37) data_len=60",
    ),
    (
        wire.packet_out_resubmit(32, {"metadata": 9, "reg6": 7}, bytes(60)),
        "actions=set_field:0x9->metadata,set_field:0x7->reg6,resubmit(,32) data_len=60",
    ),
    (wire.delete_ours(), "DEL table:255 priority=0 cookie:0x5400000000000000/0xff00000000000000"),
    (wire.delete_stamp(), "DEL table:250"),
    (wire.bundle_add(wire.delete_stamp(), 9), "OFPT_BUNDLE_ADD_MESSAGE (OF1.4) (xid=0x9)"),
]


@pytest.mark.parametrize(("message", "printed"), CONTROL, ids=lambda case: case[:24] if isinstance(case, str) else "")
def test_open_vswitch_understands_the_control_messages(message: bytes, printed: str) -> None:
    output = subprocess.run(["ovs-ofctl", "ofp-print", message.hex()], capture_output=True, text=True, timeout=10)
    assert printed in " ".join(output.stdout.split()) and "***" not in output.stdout
