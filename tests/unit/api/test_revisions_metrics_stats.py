from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ryu.app.ofctl_rest import StatsController
from ryu.ofproto import ofproto_v1_4, ofproto_v1_4_parser

from controller.api import stats
from tests.unit.api.world import World


def test_confirmed_revision(world: World) -> None:
    revision = world.network()["revision"]
    answer = {"revision": revision, "confirmed": True, "missing": []}
    assert world.ok("GET", f"/v1/revisions/{revision}?wait=5") == answer
    assert world.confirmed.waited == []


def test_unconfirmed_revision_names_the_nodes(world: World) -> None:
    revision = world.network()["revision"]
    world.confirmed.behind = ["n2", "n1"]
    reply = world.call("GET", f"/v1/revisions/{revision}")
    assert reply.refusal == (504, "revision_unconfirmed", None)
    assert reply.error["details"] == {"revision": revision, "missing": ["n1", "n2"]}
    assert world.confirmed.waited == []
    assert world.call("GET", f"/v1/revisions/{revision}?wait=2.5").status == 504
    assert world.confirmed.waited == [2.5]


def test_revision_of_the_future(world: World) -> None:
    assert world.call("GET", "/v1/revisions/99?wait=60").refusal == (404, "revision_unknown", None)


@pytest.mark.parametrize("wait", ["-1", "61", "nan", "inf", "1e1", "", "٣"])
def test_bad_wait(shared_world: World, wait: str) -> None:
    assert shared_world.call("GET", f"/v1/revisions/0?wait={wait}").refusal == (400, "invalid_field", "wait")


@pytest.mark.parametrize("revision", ["-1", "x", "1.0", str(1 << 63), "9" * 99])
def test_bad_revision(shared_world: World, revision: str) -> None:
    assert shared_world.call("GET", f"/v1/revisions/{revision}").refusal == (400, "invalid_field", "revision")


def test_metrics(world: World) -> None:
    port = world.port(world.network()["id"])
    world.port(port["network_id"])
    world.node()
    report = {"serial": 1, "uplinks": {"physnet1": 65001}, "interfaces": [{"iface_id": port["id"], "ofport": 100}]}
    world.ok("PUT", "/v1/nodes/n1/interfaces", report, "agent")
    world.active.add(port["id"])
    world.call("BREW", "/v1/nothing")
    reply = world.call("GET", "/metrics", token="reader")
    assert reply.headers["Content-Type"].startswith("text/plain")
    lines = reply.data.decode().splitlines()
    assert f"trunkline_revision {world.services.snapshot().revision}.0" in lines
    assert "trunkline_networks 1.0" in lines
    assert 'trunkline_nodes{state="live"} 1.0' in lines
    assert 'trunkline_ports{status="active"} 1.0' in lines
    assert 'trunkline_ports{status="bound"} 0.0' in lines
    assert 'trunkline_ports{status="unbound"} 1.0' in lines
    assert 'trunkline_node_live{node="n1"} 1.0' in lines
    network = f'name="blue",network="{port["network_id"]}"'
    assert f"trunkline_network_addresses{{{network}}} 256.0" in lines
    assert f"trunkline_network_addresses_used{{{network}}} 2.0" in lines
    assert 'trunkline_floating_ips{status="active"} 0.0' in lines
    assert 'trunkline_api_request_seconds_count{resource="port"} 2.0' in lines
    assert 'trunkline_api_requests_total{method="POST",resource="port",status="201"} 2.0' in lines
    assert 'trunkline_api_requests_total{method="other",resource="none",status="404"} 1.0' in lines


class Switch:
    """A switch that answers at once, by way of `deliver`."""

    def __init__(self, waiters: stats.Waiters) -> None:
        self.id = 1
        self.ofproto = ofproto_v1_4
        self.ofproto_parser = ofproto_v1_4_parser
        self._waiters = waiters

    def set_xid(self, message: Any) -> None:
        message.set_xid(7)

    def send_msg(self, _message: Any) -> None:
        body = [ofproto_v1_4_parser.OFPTableStats(table_id=0, active_count=3, lookup_count=5, matched_count=4)]
        for flags in (ofproto_v1_4.OFPMPF_REPLY_MORE, 0):
            reply = SimpleNamespace(datapath=self, xid=7, flags=flags, body=body)
            assert stats.deliver(self._waiters, reply)
        assert not stats.deliver(self._waiters, SimpleNamespace(datapath=self, xid=8, flags=0))


def test_stats_come_from_the_switch(world: World) -> None:
    world.datapaths[1] = Switch(world.services.stats_waiters)
    assert world.ok("GET", "/stats/switches", token="reader") == [1]
    tables = world.ok("GET", "/stats/table/1", token="reader")["1"]
    assert [table["active_count"] for table in tables] == [3, 3]
    assert world.services.stats_waiters == {1: {}}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/stats/desc/2", 404),
        ("/stats/flow/0x2", 404),
        ("/stats/flow/x", 400),
        ("/stats/flow/-1", 400),
        ("/stats/flow/18446744073709551616", 400),
        ("/stats/flow/0x", 400),
        ("/stats/flow/1_0", 400),
        ("/stats/flow/01", 400),
        ("/stats/flow/\u0661", 400),
        ("/stats/flow/0x\u0661", 400),
        ("/stats/flow/0X2", 400),
        ("/stats/flow/" + "1" * 5000, 400),
        ("/stats/port/2/00", 400),
        ("/stats/port/2/0", 404),
        ("/stats/port/2/0xffffffff", 404),
        ("/stats/port/2/ALL", 404),
        ("/stats/tablefeatures/2", 404),
        ("/stats/port/1/4294967296", 400),
        ("/stats/port/1/ANY", 400),
        ("/stats/flow/2?a=b", 400),
        ("/stats/flow", 404),
    ],
)
def test_bad_stats_requests(shared_world: World, path: str, status: int) -> None:
    reply = shared_world.call("GET", path)
    assert reply.status == status
    assert reply.error["code"]


def test_tablefeatures_is_not_served(world: World) -> None:
    world.datapaths[1] = Switch(world.services.stats_waiters)
    assert world.call("GET", "/stats/tablefeatures/1").refusal[0] == 404
    assert world.call("GET", "/stats/table/0x1").status == 200


def test_every_stats_path_is_ryus(world: World) -> None:
    for action in stats.ACTIONS.values():
        assert callable(getattr(StatsController, action))
