"""From the API's JSON to the bytes of OFFER and ACK, for each kind of client (nova-network C1)."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from controller.packet_in.dhcp import DhcpServer
from tests.unit.api import dhcp_golden
from tests.unit.api.dhcp_golden import ADDRESS, OTHERS, REAL, Client, golden
from tests.unit.api.world import World
from tests.unit.packet_in import wire
from tests.unit.packet_in.wire import Message, ip, take_apart

CLIENTS = {**REAL, **OTHERS}


@pytest.fixture(scope="module")
def world(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    path = tmp_path_factory.mktemp("golden") / "trunkline.db"
    path.write_bytes(empty_database.read_bytes())
    built = World(f"sqlite:///{path}")
    network = built.network(**dhcp_golden.NETWORK)
    fixed = [{"address": ADDRESS}]
    port = built.port(network["id"], mac="fa:16:3e:00:00:01", fixed_ips=fixed, **dhcp_golden.PORT)
    built.node("n1")
    seen = {"serial": 1, "uplinks": {"physnet1": 1}, "interfaces": [{"iface_id": port["id"], "ofport": 5}]}
    built.ok("PUT", "/v1/nodes/n1/interfaces", seen, "agent")
    yield built
    built.close()


def exchange(world: World, client: Client) -> tuple[bytes, bytes]:
    """The frames of OFFER and ACK."""
    snapshot, server = world.services.snapshot(), DhcpServer()
    (port,) = snapshot.ports.values()
    options = ((55, client.asks), *client.says)
    discover = Message(flags=client.flags, options=options)
    chosen = ((50, ip(ADDRESS)), (54, ip("10.41.0.1")), *options)
    request = Message(type=wire.REQUEST, flags=client.flags, options=chosen)
    answers = [server.answer(message.frame(), port, snapshot).frame for message in (discover, request)]
    assert answers[0] is not None and answers[1] is not None
    return answers[0], answers[1]


@pytest.mark.parametrize("name", CLIENTS)
def test_each_client_is_given_what_it_asks_for(world: World, name: str) -> None:
    client = CLIENTS[name]
    for kind, frame in zip((wire.OFFER, wire.ACK), exchange(world, client), strict=True):
        reply = take_apart(frame)
        assert reply.options == golden(kind, client, dict(client.says).get(61))
        assert (reply.yiaddr, reply.siaddr) == (IPv4Address(ADDRESS), IPv4Address("10.41.0.6"))
        assert reply.file == b"pxelinux.0" and reply.flags == client.flags
        assert (reply.destination == wire.EVERYBODY) == bool(client.flags)


# Ethernet, IPv4, UDP; BOOTP up to chaddr; the boot file; the cookie and the options
ACKS = {
    "pxe": (
        "ffffffffffff02544c0000010800 450001690000400040112f5b0a290001ffffffff 0043004401559234"
        "020106001234567800008000000000000a2900140a29000600000000 fa163e000001" + "00" * 74
        + "7078656c696e75782e30" + "00" * 118
        + "63825363 350105 36040a290001 330400000e10 0104ffffff00 03040a290001 06080a29000509090909 "
        "0c06676f6c64656e 0f0d636c6f75642e6578616d706c65 2b06010400000002 430a7078656c696e75782e30 3a0400000708 "
        "3b0400000c4e ff"
    ),
    "windows": (
        "fa163e00000102544c0000010800 450001bf00004000401124c80a2900010a290014 0043004401ab61c3"
        "020106001234567800000000000000000a2900140a29000600000000 fa163e000001" + "00" * 74
        + "7078656c696e75782e30" + "00" * 118
        + "63825363 350105 36040a290001 330400000e10 3d0701fa163e000001 0104ffffff00 03040a290001 "
        "06080a29000509090909 0f0d636c6f75642e6578616d706c65 2b06010400000002 2c040a290008 2e0108 "
        "771c05636c6f7564076578616d706c6500036c6162076578616d706c6500 790c10c0a80a290007000a290001 "
        "f90c10c0a80a290007000a290001 fc1c687474703a2f2f777061642e6578616d706c652f777061642e646174 3a0400000708 "
        "3b0400000c4e ff"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ACKS)
def test_byte_for_byte(world: World, name: str) -> None:
    _, ack = exchange(world, CLIENTS[name])
    assert ack.hex() == ACKS[name].replace(" ", "")
