"""A machine on the wire, behind a relay of the operator's (isc-dhcp-relay), gets its address from a node."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address

import pytest

from controller.client import Object
from controller.packet_in import frames as product
from controller.packet_in import outcomes as outcome
from etc.lab import netns
from etc.lab.dhcp_clients import Guest, start_client
from etc.lab.fabric import FAR_NETWORK_ROUTER, OUTSIDE_INTERFACE, OUTSIDE_ROUTER
from etc.lab.lab import Lab
from etc.lab.processes import Process, start, wait_until
from flows.pipeline import node_mac
from flows.rules import Rule
from tests.netns import frames
from tests.netns.cloud import make_outside
from tests.netns.frames import Tap, is_dhcp, sound
from tests.unit.packet_in import wire
from tests.unit.packet_in.wire import Message, take_apart

ADDRESS = IPv4Address("198.51.100.20")
LINK = FAR_NETWORK_ROUTER.ip
"""The relay's address on the machine's link."""

MANY = 3000


@dataclass
class Place:
    """`tap` sees what passes between the relay and the nodes, `far` is the machine's namespace."""

    lab: Lab
    network: Object
    port: Object
    server: IPv4Address
    tap: Tap
    guest: Guest
    machine: Process

    @property
    def far(self) -> str:
        return self.lab.fabric.far

    def lease(self) -> tuple[str, str] | None:
        found = self.lab.client.list_leases(port_id=self.port["id"])
        return (found[0]["address"], found[0]["state"]) if found else None

    def said(self, source: int, target: int) -> list[bytes]:
        return [frame for frame in self.tap.frames() if is_dhcp(frame, source, target)]

    def relayed(self, **fields: object) -> Message:
        """A DISCOVER as the relay hands it on; `fields` are what is not as it should be."""
        known: dict[str, object] = {
            "mac": product.mac_bytes(self.port["mac"]), "giaddr": LINK, "source": OUTSIDE_ROUTER.ip,
            "destination": self.server, "ports": (67, 67), "eth_source": b"\x02\0\0\0\0\xaa",
        }  # fmt: skip
        return Message(**{**known, **fields})  # type: ignore[arg-type]

    def send(self, *messages: Message) -> None:
        key = next(each["key"] for each in self.lab.client.list_nodes() if each["name"] == "n1")
        to_node = product.mac_bytes(node_mac(key))
        self.tap.send(*(to_node + sound(message.frame())[6:] for message in messages))


@pytest.fixture(scope="module")
def place(make_lab: Callable[..., Lab]) -> Iterator[Place]:
    lab = make_lab(nodes=1, physical_networks=("physnet1", "physnet-ext"))
    make_outside(lab)
    fields: Object = {
        "name": "machines", "kind": "vlan", "segment": 300, "physical_network": "physnet1",
        "gateway_mode": "external", "lease_time": 60, "dns_domain": "metal.example",
        "subnets": [{"cidr": str(FAR_NETWORK_ROUTER.network), "gateway": str(LINK)}],
        "dhcp_relays": [str(OUTSIDE_ROUTER.ip)],
    }  # fmt: skip
    network = lab.client.create_network(fields).object
    assert network
    far = lab.fabric.far
    mac = netns.query(far, "link", "show", "dev", "eth0")[0]["address"]
    made = lab.client.create_port(
        {"network_id": network["id"], "mac": mac, "hostname": "blade1", "fixed_ips": [{"address": str(ADDRESS)}]}
    )
    assert made.object
    lab.confirm(made.revision)
    server = IPv4Address(lab.client.get_node("n1")["external_addresses"][0]["address"])
    with ExitStack() as stack:
        tap = Tap(lab.fabric.outside, OUTSIDE_INTERFACE, outgoing=True)
        stack.callback(tap.close)
        command = ["dhcrelay", "-4", "-d", "-a", "--no-pid", "-id", "far0", "-iu", OUTSIDE_INTERFACE, str(server)]
        relay = start("dhcrelay", netns.command(lab.fabric.outside, command), lab.directory / "dhcrelay.log")
        stack.callback(relay.stop)
        relay.wait_for(lambda: "Socket/fallback" in relay.tail(20), 20, "the relay does not listen")
        netns.configure(far, "address flush dev eth0")
        guest = Guest(far, "eth0", "blade1", lab.directory / "blade1")
        guest.directory.mkdir()
        machine = start_client("udhcpc", guest)
        stack.callback(machine.stop)
        yield Place(lab, network, made.object, server, tap, guest, machine)


def test_a_machine_gets_its_lease_by_the_relay(place: Place) -> None:
    def addresses() -> list[str]:
        links = netns.query(place.far, "-4", "address", "show", "dev", "eth0")
        return [each["local"] for link in links for each in link.get("addr_info", [])]

    wait_until(lambda: addresses() == [str(ADDRESS)], 20, lambda: f"{addresses()}: {place.machine.tail(8)}")
    replies = [take_apart(frame) for frame in place.said(67, 67) if frame[42] == 2]
    assert [reply.type for reply in replies] == [wire.OFFER, wire.ACK]
    for reply in replies:
        assert (reply.source, reply.destination, reply.giaddr) == (place.server, LINK, LINK)
        assert reply.yiaddr == ADDRESS and reply.option(54) == place.server.packed
        assert reply.codes[-1] == 82 and reply.option(82)  # as the relay wrote it, or it would drop the answer
    given = place.guest.wait_lease()
    expected = {"hostname": "blade1", "domain": "metal.example", "router": str(LINK), "serverid": str(place.server)}
    assert {name: given.get(name) for name in expected} == expected
    wait_until(lambda: place.lease() == (str(ADDRESS), "bound"), 20, lambda: str(place.lease()))


def test_it_renews_and_gives_back_by_itself(place: Place) -> None:
    """By unicast, through the router. (This relay hands on a copy as well, which is answered as such.)"""
    place.tap.clear()
    place.machine.signal(signal.SIGUSR1)
    wait_until(lambda: place.said(67, 68), 20, "an answer")
    (reply,) = [take_apart(frame) for frame in place.said(67, 68)]
    assert (reply.type, reply.destination, reply.ciaddr) == (wire.ACK, ADDRESS, ADDRESS)
    place.machine.signal(signal.SIGUSR2)
    wait_until(lambda: place.lease() == (str(ADDRESS), "released"), 20, lambda: str(place.lease()))


STRANGERS: dict[str, dict[str, object]] = {
    "a relay that is none": {"source": IPv4Address("203.0.113.66")},
    "another node's address": {"destination": IPv4Address("203.0.113.77")},
}


@pytest.mark.parametrize("case", STRANGERS)
def test_from_anybody_else_it_is_dropped_at_the_node(place: Place, case: str) -> None:
    rule = {"a relay that is none": Rule.DROP_UNSOLICITED, "another node's address": Rule.DROP_EXTERNAL}[case]
    node = place.lab.nodes[0]
    before, heard = frames.drops(node)[rule, 0], frames.outcomes(place.lab).total()
    place.tap.clear()
    place.send(place.relayed(**STRANGERS[case]))
    wait_until(lambda: frames.drops(node)[rule, 0] > before, 20, "it is counted")
    assert frames.outcomes(place.lab).total() == heard
    answered_still(place)


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "unknown machine": ({"chaddr": b"\x02\0\0\0\0\x66"}, outcome.DHCP_NO_PORT),
    "another link": ({"giaddr": IPv4Address("10.1.2.3")}, outcome.DHCP_NO_NETWORK),
    "another's lease": (
        {"source": IPv4Address("198.51.100.21"), "ciaddr": ADDRESS, "giaddr": wire.ZERO, "type": wire.RELEASE},
        outcome.SPOOFED_SOURCE,
    ),
    "option 82 cut short": ({"options": ((82, b"\x01\x20x"),)}, outcome.DHCP_BAD_OPTIONS),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_relay_may_not_say_is_refused_by_name(place: Place, case: str) -> None:
    fields, expected = REFUSED[case]
    before = frames.outcomes(place.lab)[expected]
    place.tap.clear()
    place.send(place.relayed(**fields))
    wait_until(lambda: frames.outcomes(place.lab)[expected] > before, 20, lambda: str(frames.outcomes(place.lab)))
    answered_still(place)


def test_a_relay_that_floods_is_held_back(place: Place) -> None:
    """By its meter: a VM gets its lease meanwhile, and the relay is heard again afterwards."""
    before = frames.outcomes(place.lab)
    flat = {"name": "vms", "kind": "vlan", "segment": 301, "physical_network": "physnet1", "project_id": "a",
            "subnets": [{"cidr": "10.1.0.0/24"}]}  # fmt: skip
    made = place.lab.client.create_network(flat).object
    assert made
    place.send(*(place.relayed(chaddr=b"\x02\0\0\0" + number.to_bytes(2)) for number in range(MANY)))
    vm = place.lab.create_vm("vm", place.lab.nodes[0], made["id"])
    vm.wait_configured()
    refused = frames.outcomes(place.lab) - before
    assert 0 < refused[outcome.DHCP_NO_PORT] < MANY / 2
    answered_still(place)


def answered_still(place: Place) -> None:
    """The honest variant of a refused message is; nothing else was."""
    place.tap.clear()

    def offered() -> bool:
        place.send(place.relayed(xid=0x77))
        return any(frame[42] == 2 and take_apart(frame).xid == 0x77 for frame in place.said(67, 67))

    wait_until(offered, 20, "an OFFER", interval=0.3)
